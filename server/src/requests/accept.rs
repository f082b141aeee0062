//! What is asked for, checked against what there is and who asks. Pure: nothing is done here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skytower_api_client::action::{self, ActionSpec};
use skytower_api_client::entity::{Outcome, TargetResult};
use skytower_api_client::policy::{self, Reach, Verdict, View};
use skytower_api_client::rest::NewRequest;
use skytower_api_client::wire::{Caller, Problem, Role};
use skytower_api_client::{Entity, Key, Kind, Table, Text};

use super::record::{ORIGIN, Target, label};

/// The most targets of one request.
pub const MAX_TARGETS: usize = 1000;

/// What would be done.
#[derive(Debug)]
pub struct Checked {
    /// The action.
    pub action: &'static ActionSpec,
    /// Every target: `waiting` when it may be done, `failed` with the reason when not.
    pub targets: Vec<Target>,
    /// Others whose things are among the targets, with their numbers.
    pub others: BTreeMap<Text, usize>,
}

/// Checks a request. An error means that none of it is done.
pub fn check(table: &Table, caller: &Caller, new: &NewRequest) -> Result<Checked, Problem> {
    let Some(action) = action::action(&new.action) else {
        let known: Vec<&str> = action::ACTIONS.iter().map(|spec| spec.id).collect();
        return Err(invalid(format!("there is no action `{}`", new.action))
            .hint(format!("the actions are {}", known.join(", "))));
    };
    if let Some(reason) = policy::only_looks(caller) {
        let problem = Problem::new("forbidden", 403, reason);
        return Err(match (caller.rules.read_only, &caller.limited) {
            (true, _) => problem.hint("nothing was done; ask whoever runs it"),
            (_, Some(_)) => problem.hint("sign in with a token of another scope"),
            _ => problem.hint("ask an administrator for the role `user`"),
        });
    }
    if new.targets.is_empty() {
        return Err(
            invalid(format!("`{}` needs at least one target", action.id))
                .hint("name each row that is meant; an empty list never means all"),
        );
    }
    if new.targets.len() > MAX_TARGETS {
        return Err(invalid(format!(
            "{} targets are too many: one request takes at most {MAX_TARGETS}",
            new.targets.len()
        ))
        .hint("divide them over several requests"));
    }
    if let Some(key) = new
        .targets
        .iter()
        .find(|key| key.kind() != Some(action.kind))
    {
        return Err(invalid(format!(
            "`{}` is for a {}, and `{key}` is not one",
            action.id, action.kind
        )));
    }

    let view = View::of(caller, &[]);
    let visible = |row: &&Arc<Entity>| view.sees(row);
    if action.id == "source.clear" && !view.allows(Reach::Administrators) {
        // A label does not say where that is which it marks.
        let reason = "what was started with a label may be in a workspace that is not yours";
        return Err(Problem::new("forbidden", 403, reason)
            .hint("end your own things by their names, or ask an administrator"));
    }
    let mut seen = BTreeSet::new();
    let mut targets = Vec::new();
    let mut owners = BTreeMap::new();
    let mut found_any = false;
    for key in &new.targets {
        let row = table
            .get(key)
            .filter(visible)
            .map(|row| representative(table, &view, row));
        if !seen.insert(row.as_ref().map_or(key, |row| row.key()).clone()) {
            continue;
        }
        found_any |= row.is_some();
        let (outcome, message) = match &row {
            // What one may not see does not exist: no word differs between the two.
            None => (Outcome::Failed, Some(missing(key))),
            Some(row) => match policy::may(caller, action, &new.options, row) {
                Verdict::Allowed => (Outcome::Waiting, None),
                Verdict::Denied { reason } => (Outcome::Failed, Some(reason)),
                Verdict::OwnerGuard { owner } => {
                    *owners.entry(owner).or_default() += 1;
                    (Outcome::Waiting, None)
                }
            },
        };
        targets.push(Target {
            result: TargetResult {
                key: row.as_ref().map_or(key, |row| row.key()).clone(),
                target: row
                    .as_deref()
                    .map_or_else(|| Text::new(key.as_str()), label),
                owner: row
                    .as_ref()
                    .and_then(|row| row.owner())
                    .map(|owner| owner.name.clone()),
                outcome,
                message,
                upstream: None,
            },
            row,
        });
    }
    if !found_any {
        let first = targets
            .first()
            .map(|target| missing(&target.result.key))
            .unwrap_or_default();
        let detail = match targets.len() {
            1 => first.to_string(),
            n => format!("none of these {n} is there: {first}"),
        };
        return Err(Problem::new("not_found", 404, detail).hint(
            "it may have ended meanwhile, or be in a workspace that is not yours; list again",
        ));
    }
    if let Some(start) = &new.options.start {
        let others = start.owner.as_ref().filter(|owner| **owner != caller.name);
        // Whoever holds the server's own token may do so, as a demonstration does.
        if let Some(owner) =
            others.filter(|_| caller.acts_at.is_some() && caller.role != Role::Admin)
        {
            return Err(Problem::new(
                "forbidden",
                403,
                format!("what you start is yours, not {owner}'s"),
            )
            .hint("leave the owner out; only administrators start things for others"));
        }
        let places = targets.iter().filter_map(|target| target.row.as_ref());
        let places = places.filter(|row| row.kind() == Kind::Source);
        let workspace = start.workspace();
        for source in places.map(|row| row.source()) {
            let name = &workspace;
            if !view.allows(Reach::Workspace { source, name }) {
                return Err(Problem::new(
                    "not_found",
                    404,
                    format!("there is no workspace `{name}` at {source}"),
                )
                .hint("name one of those that GET /api/v1/workspaces lists; nothing was done"));
            }
        }
    }
    Ok(Checked {
        action,
        targets,
        others: owners,
    })
}

/// The owner guard's refusal: names whose things are among the targets.
pub fn unconfirmed(checked: &Checked) -> Problem {
    let owners: Vec<String> = checked
        .others
        .iter()
        .map(|(owner, n)| format!("{owner} ({n})"))
        .collect();
    let n: usize = checked.others.values().sum();
    let detail = match checked.targets.len() {
        1 => format!("it belongs to {}", owners.join(", ")),
        all => format!("{n} of these {all} belong to others: {}", owners.join(", ")),
    };
    Problem::new("others_unconfirmed", 409, detail)
        .hint("confirm it (`others_confirmed`), or leave them out; nothing was done")
}

fn invalid(detail: String) -> Problem {
    Problem::new("invalid_request", 422, detail)
}

fn missing(key: &Key) -> Text {
    let kind = key.kind().map_or("row", Kind::noun);
    Text::from(format!(
        "there is no {kind} `{}` at {} (any more)",
        key.id(),
        key.source()
    ))
}

/// The tasks of a managed job are cancelled together: one task that is still going stands for all.
fn representative(table: &Table, view: &View, row: &Arc<Entity>) -> Arc<Entity> {
    let Some(job) = row.as_job() else {
        return row.clone();
    };
    table
        .rows(Kind::Job)
        .filter(|other| other.source() == row.source())
        .filter(|other| {
            other
                .as_job()
                .is_some_and(|other| other.job_id == job.job_id)
        })
        .filter(|other| other.owner() == row.owner() && other.workspace() == row.workspace())
        .filter(|other| view.sees(other))
        .find(|other| !other.phase().is_over())
        .unwrap_or(row)
        .clone()
}

/// This row is a request that was made here, not one of a source.
pub(crate) fn is_own(row: &Entity) -> bool {
    row.as_request()
        .is_some_and(|request| request.origin == ORIGIN)
}
