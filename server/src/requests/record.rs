//! A request as it is kept, and the row that everybody sees of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use skytower_api_client::action::{ActionOptions, ActionSpec};
use skytower_api_client::entity::{Outcome, Owner, Request, TargetResult};
use skytower_api_client::phase::phase_of;
use skytower_api_client::policy::{Reach, qualified, unqualified};
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

    /// What the request is about: the workspaces of all that it names or starts.
    fn about(&self) -> About {
        let mut about = About::default();
        for row in self.targets.iter().filter_map(|target| target.row.as_ref()) {
            about.add(row.reach());
            // What it is said to have become names what was started.
            if let (Some(start), Kind::Source) = (&self.options.start, row.kind()) {
                about
                    .within
                    .insert(qualified(row.source(), &start.workspace()));
            }
        }
        about
    }

    /// The row of it. It names all that it is about, so it is not for anybody who may not see each of
    /// them.
    pub fn row(&self) -> Request {
        let status = self.status();
        let first = self.targets.first().map(|target| &target.result.target);
        let target = match (first, self.targets.len()) {
            (None, _) => None,
            (Some(first), 1) => Some(first.clone()),
            (Some(first), n) => Some(Text::from(format!("{first} and {} more", n - 1))),
        };
        let About { within, restricted } = self.about();
        let only = within.first().filter(|_| within.len() == 1);
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
            workspace: only
                .and_then(|name| unqualified(name))
                .map(|(_, name)| name.into()),
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
            restricted,
            origin: ORIGIN.into(),
            request_id: self.id.to_string().into(),
            action: self.action.id.into(),
            target,
            created_at: Some(self.created_at),
            ended_at: self.ended_at,
            within: within.into_iter().collect(),
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

/// Who has to be able to see what, to be shown a request.
#[derive(Debug, Default)]
struct About {
    /// Each of these workspaces, qualified.
    within: BTreeSet<Text>,
    /// And what is for administrators only.
    restricted: bool,
}

impl About {
    fn add(&mut self, reach: Reach<'_>) {
        match reach {
            Reach::Everybody => {}
            Reach::Workspace { source, name } => {
                self.within.insert(qualified(source, name));
            }
            Reach::Each(all) => self.within.extend(all.iter().cloned()),
            // That one of several is enough cannot be said of a request.
            Reach::Any(_) | Reach::Administrators | Reach::Audit => self.restricted = true,
        }
    }
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
    use skytower_api_client::action::{self, Start};
    use skytower_api_client::entity::{Cluster, Source};

    fn cluster(source: &str, workspace: &str) -> Entity {
        Entity::from(Cluster {
            key: Key::new(source, Kind::Cluster, workspace),
            source: source.into(),
            workspace: Some(workspace.into()),
            ..Cluster::default()
        })
    }

    fn request(rows: Vec<Entity>, options: ActionOptions) -> Request {
        let target = |row: Entity| Target {
            result: TargetResult {
                key: row.key().clone(),
                target: label(&row),
                owner: None,
                outcome: Outcome::Done,
                message: None,
                upstream: None,
            },
            row: Some(Arc::new(row)),
        };
        let record = Record {
            id: Uuid::nil(),
            action: &action::ACTIONS[0],
            options,
            caller: Caller::default(),
            created_at: EpochMs(0),
            ended_at: None,
            targets: rows.into_iter().map(target).collect(),
            handovers: Vec::new(),
        };
        record.row()
    }

    #[test]
    fn a_request_is_within_every_workspace_of_what_it_names() {
        let about = |rows| {
            let row = request(rows, ActionOptions::default());
            let within: Vec<_> = row.within.iter().map(ToString::to_string).collect();
            (within.join(" "), row.workspace, row.restricted)
        };
        let one = about(vec![cluster("lab", "red")]);
        assert_eq!(one, ("lab/red".into(), Some("red".into()), false));
        // Two sources may have one of the same name.
        let both = about(vec![cluster("lab", "red"), cluster("prod", "red")]);
        assert_eq!(both, ("lab/red prod/red".into(), None, false));
        let mut astray = cluster("lab", "red");
        astray.restrict(true);
        let some = about(vec![astray, cluster("lab", "blue")]);
        assert_eq!(some, ("lab/blue".into(), Some("blue".into()), true));
        let nowhere = Entity::from(Cluster::default());
        assert_eq!(about(vec![nowhere]), (String::new(), None, false));
    }

    #[test]
    fn what_is_started_is_where_it_is_started() {
        let source = || {
            Entity::from(Source {
                key: Key::new("local", Kind::Source, "local"),
                source: "local".into(),
                ..Source::default()
            })
        };
        let within = |start: Start| {
            let options = ActionOptions {
                start: Some(Box::new(start)),
                ..ActionOptions::default()
            };
            request(vec![source()], options).within
        };
        let secret = Start {
            workspace: Some("secret".into()),
            ..Start::default()
        };
        assert_eq!(within(secret), [Text::from("local/secret")]);
        assert_eq!(within(Start::default()), [Text::from("local/default")]);
    }
}
