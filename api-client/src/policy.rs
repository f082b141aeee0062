//! Who may see and do what: pure functions that the server enforces and clients explain with.

mod reach;
mod view;

pub use reach::{OwnedReach, Reach, qualified, unqualified};
pub use view::View;

use crate::action::{ActionOptions, ActionSpec};
use crate::entity::Entity;
use crate::text::Text;
use crate::wire::{Caller, Role};

/// What the owner guard says about acting on other people's things.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OthersPolicy {
    /// Like one's own.
    Allow,
    /// Only with an explicit second step.
    #[default]
    Confirm,
    /// Not at all, administrators excepted.
    Deny,
}

/// What a server forbids whoever asks, by its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Rules {
    /// The owner guard.
    pub others: OthersPolicy,
    /// Nothing is changed through this server.
    pub read_only: bool,
}

impl Rules {
    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// May somebody do something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allowed,
    /// Yes, after an explicit second step, because it belongs to somebody else.
    OwnerGuard {
        /// Whose it is.
        owner: Text,
    },
    /// No.
    Denied {
        /// Why, for people.
        reason: Text,
    },
}

/// Is this row the caller's own.
pub fn is_mine(caller: &Caller, row: &Entity) -> bool {
    row.owner()
        .is_some_and(|owner| caller.ids.contains(&owner.id))
}

/// In a row's refusals: the part of `cluster.autostop` that stops; tearing down when idle remains possible.
pub const AUTOSTOP_TO_STOP: &str = "cluster.autostop.stop";

/// Why `caller` may only look, whatever it is that would be done; none when it may act.
pub fn only_looks(caller: &Caller) -> Option<Text> {
    if caller.rules.read_only {
        return Some("this server is read-only: nothing is changed through it".into());
    }
    (caller.role == Role::Viewer).then(|| {
        let limited = caller.limited.clone();
        limited.unwrap_or_else(|| "your role is viewer: you may look, not act".into())
    })
}

/// May `caller` do `action` with `options` to `row`, as far as rights, the row's state and its source's
/// abilities go.
pub fn may(caller: &Caller, action: &ActionSpec, options: &ActionOptions, row: &Entity) -> Verdict {
    let denied = |reason: String| Verdict::Denied {
        reason: reason.into(),
    };
    if let Some(reason) = only_looks(caller) {
        return denied(reason.to_string());
    }
    if let Some(places) = &caller.acts_at
        && !places.contains(row.source())
    {
        return denied(format!(
            "you are signed in with an account that `{}` does not know, so you may only look there: \
             sign in with the credentials that you use for it",
            row.source()
        ));
    }
    if action.kind != row.kind() {
        return denied(format!("`{}` is not for a {}", action.id, row.kind()));
    }
    if let Some(refusal) = row.refuses().iter().find(|refusal| {
        let to_stop = options.idle_minutes.is_some() && !options.down;
        refusal.action == action.id
            || refusal.action == AUTOSTOP_TO_STOP && action.id == "cluster.autostop" && to_stop
    }) {
        let mut reason = refusal.reason.to_string();
        if refusal.action == AUTOSTOP_TO_STOP {
            reason += " Tearing it down when idle is possible (--down).";
        }
        return denied(reason);
    }
    if let Err(reason) = (action.applies)(row) {
        return denied(reason);
    }
    let owner = match row.owner() {
        Some(owner) if !is_mine(caller, row) => {
            if owner.name.is_empty() {
                owner.id.clone()
            } else {
                owner.name.clone()
            }
        }
        _ => return Verdict::Allowed,
    };
    match caller.rules.others {
        OthersPolicy::Allow => Verdict::Allowed,
        OthersPolicy::Deny if caller.role != Role::Admin => denied(format!(
            "it belongs to {owner}, and this server forbids acting on other people's things"
        )),
        OthersPolicy::Confirm | OthersPolicy::Deny => Verdict::OwnerGuard { owner },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::action;
    use crate::entity::{Cluster, Refusal};
    use crate::phase::Phase;

    #[test]
    fn what_a_cloud_cannot_stop_may_still_tear_itself_down() {
        let cluster = Entity::from(Cluster {
            phase: Phase::Running,
            refuses: vec![Refusal {
                action: AUTOSTOP_TO_STOP.into(),
                reason: "No stopping here.".into(),
            }],
            ..Cluster::default()
        });
        let verdict = |idle_minutes, down| {
            let options = ActionOptions {
                idle_minutes,
                down,
                ..ActionOptions::default()
            };
            let autostop = action("cluster.autostop").unwrap();
            let caller = Caller {
                role: Role::User,
                rules: Rules {
                    others: OthersPolicy::Allow,
                    ..Rules::default()
                },
                ..Caller::default()
            };
            may(&caller, autostop, &options, &cluster)
        };
        let Verdict::Denied { reason } = verdict(Some(30), false) else {
            panic!("it would be asked for in vain");
        };
        assert!(reason.contains("No stopping here.") && reason.contains("--down"));
        assert_eq!(verdict(Some(30), true), Verdict::Allowed);
        assert_eq!(verdict(None, false), Verdict::Allowed);
    }
}
