//! A request as it is kept, and the row that everybody sees of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use skytower_api_client::action::{ActionOptions, ActionSpec};
use skytower_api_client::entity::{Outcome, Owner, Request, TargetResult};
use skytower_api_client::phase::phase_of;
use skytower_api_client::wire::Caller;
use skytower_api_client::{Entity, EpochMs, Key, Kind, Text};
use uuid::Uuid;

/// The origin of requests that were made here, and the source in front of their keys.
pub const ORIGIN: &str = "skytower";

/// One target of a request.
#[derive(Clone, Debug)]
pub struct Target {
    /// The row as it was when the request was accepted; none when there was no such row.
    pub row: Option<Arc<Entity>>,
    /// How it fares.
    pub result: TargetResult,
}

/// Where a handover is. Written to the journal before what it announces is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Certainly not sent: it may be sent, or withdrawn.
    Planned,
    /// Perhaps sent: it has to be looked up before anything else.
    Submitting,
    /// The source has it.
    Submitted,
    /// Nothing more will happen to it.
    Ended,
}

impl Stage {
    /// Every stage with its word in the journal.
    pub(super) const WORDS: [(Stage, &'static str); 4] = [
        (Stage::Planned, "planned"),
        (Stage::Submitting, "submitting"),
        (Stage::Submitted, "submitted"),
        (Stage::Ended, "ended"),
    ];

    /// The word in the journal.
    pub fn word(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(stage, _)| *stage == self);
        found.map_or("ended", |(_, word)| word)
    }
}

/// One call to a source.
#[derive(Clone, Debug)]
pub struct HandoverRecord {
    /// The source that carries it out; [`ORIGIN`] when this server does so itself.
    pub source: Text,
    /// Indices into the request's targets.
    pub targets: Vec<usize>,
    /// Where it is.
    pub stage: Stage,
    /// The source's own id for it.
    pub upstream: Option<Text>,
    /// When it was first tried.
    pub tried_at: Option<EpochMs>,
}

/// A request with everything that is known of it.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its id; rises with time.
    pub id: Uuid,
    /// What to do.
    pub action: &'static ActionSpec,
    /// What else the action needs to know.
    pub options: ActionOptions,
    /// Who asked.
    pub caller: Caller,
    /// Who may see it: see [`workspace_of`].
    pub workspace: Option<Text>,
    /// When it was accepted.
    pub created_at: EpochMs,
    /// When its last target was over.
    pub ended_at: Option<EpochMs>,
    /// Its targets.
    pub targets: Vec<Target>,
    /// How they are divided into calls.
    pub handovers: Vec<HandoverRecord>,
}

impl Record {
    /// The key of a request's row.
    pub fn key_of(id: Uuid) -> Key {
        Key::new(ORIGIN, Kind::Request, id)
    }

    /// Every target is over.
    pub fn is_over(&self) -> bool {
        self.targets
            .iter()
            .all(|target| target.result.outcome.is_over())
    }

    /// The word for where it stands, from its targets.
    pub fn status(&self) -> &'static str {
        let any = |wanted: &dyn Fn(Outcome) -> bool| {
            self.targets
                .iter()
                .any(|target| wanted(target.result.outcome))
        };
        if !self.is_over() {
            let begun = any(&|outcome| outcome != Outcome::Waiting);
            return if begun { "RUNNING" } else { "PENDING" };
        }
        let good = any(&|outcome| matches!(outcome, Outcome::Done | Outcome::Unchanged));
        let bad = any(&|outcome| matches!(outcome, Outcome::Failed | Outcome::Unknown));
        let withdrawn = any(&|outcome| outcome == Outcome::Cancelled);
        match (good, bad, withdrawn) {
            (true, false, false) => "SUCCEEDED",
            (true, _, _) => "PARTLY",
            (false, true, _) => "FAILED",
            (false, false, _) => "CANCELLED",
        }
    }

    /// The row that everybody sees.
    pub fn row(&self) -> Request {
        let status = self.status();
        let first = self.targets.first().map(|target| &target.result.target);
        let target = match (first, self.targets.len()) {
            (None, _) => None,
            (Some(first), 1) => Some(first.clone()),
            (Some(first), n) => Some(Text::from(format!("{first} and {} more", n - 1))),
        };
        let complaint =
            |target: &&Target| matches!(target.result.outcome, Outcome::Failed | Outcome::Unknown);
        Request {
            key: Self::key_of(self.id),
            source: ORIGIN.into(),
            name: self.action.id.into(),
            owner: Some(Owner {
                id: caller_id(&self.caller),
                name: self.caller.name.clone(),
            }),
            workspace: self.workspace.clone(),
            status: status.into(),
            phase: phase_of(Kind::Request, status),
            why: self
                .targets
                .iter()
                .find(complaint)
                .or(self
                    .targets
                    .iter()
                    .find(|target| !target.result.outcome.is_over()))
                .and_then(|target| target.result.message.clone()),
            refuses: Vec::new(),
            origin: ORIGIN.into(),
            request_id: self.id.to_string().into(),
            action: self.action.id.into(),
            target,
            created_at: Some(self.created_at),
            ended_at: self.ended_at,
            results: self
                .targets
                .iter()
                .map(|target| target.result.clone())
                .collect(),
        }
    }
}

/// The id that stands for a caller in the journal.
pub fn caller_id(caller: &Caller) -> Text {
    caller.ids.first().unwrap_or(&caller.name).clone()
}

/// The workspace of a request's row, which decides who may see it. A row names all its targets, so
/// it must not be seen by anybody who may not see each of them: with targets in several private
/// workspaces it is shown only to those who see everything.
pub fn workspace_of<'a>(
    rows: impl Iterator<Item = &'a Entity>,
    is_private: impl Fn(&Text) -> bool,
) -> Option<Text> {
    let all: BTreeSet<&Text> = rows.filter_map(Entity::workspace).collect();
    if all.len() < 2 {
        return all.first().map(|only| (*only).clone());
    }
    let private: Vec<&str> = all
        .iter()
        .filter(|workspace| is_private(workspace))
        .map(|workspace| workspace.as_str())
        .collect();
    (!private.is_empty()).then(|| Text::from(private.join("+")))
}

/// What people call a row: `cluster/dev`, `job/12`, `replica/llm/1`.
pub fn label(row: &Entity) -> Text {
    let noun = row.kind().noun();
    Text::from(match row {
        Entity::Job(job) => format!("{noun}/{}", job.job_id),
        Entity::ClusterJob(job) => format!("{noun}/{}/{}", job.cluster, job.job_id),
        Entity::Replica(replica) => format!("{noun}/{}/{}", replica.service, replica.replica_id),
        Entity::Request(request) => {
            format!(
                "{noun}/{}",
                request.request_id.chars().take(8).collect::<String>()
            )
        }
        row => format!("{noun}/{}", row.name()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use skytower_api_client::entity::Cluster;

    fn cluster(workspace: &str) -> Entity {
        let workspace = Some(workspace.into());
        Entity::from(Cluster {
            workspace,
            ..Cluster::default()
        })
    }

    #[test]
    fn nobody_sees_a_request_whose_targets_they_may_not_see() {
        let private = |workspace: &Text| workspace.starts_with("secret");
        let seen = |names: &[&str]| {
            let rows: Vec<Entity> = names.iter().map(|name| cluster(name)).collect();
            workspace_of(rows.iter(), private)
        };
        assert_eq!(seen(&["a"]), Some("a".into()));
        assert_eq!(seen(&["a", "b"]), None);
        assert_eq!(seen(&["a", "secret-1"]), Some("secret-1".into()));
        assert_eq!(
            seen(&["secret-2", "secret-1"]),
            Some("secret-1+secret-2".into())
        );
    }
}
