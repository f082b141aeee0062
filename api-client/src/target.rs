//! Targets: how people name one thing on a command line.
//!
//! `cluster/NAME` · `job/ID` · `job/ID/TASK` · `service/NAME` · `pool/NAME` · `replica/SERVICE/ID` ·
//! `worker/POOL/ID` · `queue/CLUSTER/ID` · `request/ID` (its beginning is enough), with `SOURCE:` in
//! front where two sources hold the same, or a bare word where only one thing is called so.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::entity::Entity;
use crate::kind::Kind;
use crate::nearest::nearest;
use crate::phase::Phase;
use crate::table::Table;

/// The first part of a target and the kind it means: `queue/…` besides the kinds' own words.
const WORDS: &[(&str, Kind)] = &[
    ("queue", Kind::ClusterJob),
    ("clu", Kind::Cluster),
    ("svc", Kind::Service),
    ("req", Kind::Request),
];

/// What a bare word may be.
const BARE: &[Kind] = &[Kind::Cluster, Kind::Job, Kind::Service, Kind::Pool];

/// Why a target could not be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// It is not written as a target is.
    #[error("{0}")]
    Malformed(String),
    /// There is no such thing.
    #[error("there is no {what}")]
    Unknown {
        /// What was looked for.
        what: String,
        /// The target that was probably meant.
        near: Option<String>,
    },
    /// There is more than one such thing.
    #[error("`{word}` may be {}", .candidates.join(" or "))]
    Ambiguous {
        /// What was written.
        word: String,
        /// Targets that name one each.
        candidates: Vec<String>,
    },
}

impl TargetError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            TargetError::Malformed(_) => Some(
                "a target is cluster/NAME, job/ID, service/NAME, pool/NAME, replica/SERVICE/ID, queue/CLUSTER/ID or request/ID"
                    .to_owned(),
            ),
            TargetError::Unknown { near, .. } => Some(match near {
                Some(near) => format!("did you mean {near}?"),
                None => "see what there is: skytower status, or the list of its kind".to_owned(),
            }),
            TargetError::Ambiguous { .. } => Some("say which one, as it stands here".to_owned()),
        }
    }

    /// The exit code of a command that fails by it.
    pub const fn exit_code(&self) -> u8 {
        match self {
            TargetError::Unknown { .. } => 5,
            TargetError::Malformed(_) | TargetError::Ambiguous { .. } => 2,
        }
    }
}

/// A target as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    word: String,
    source: Option<String>,
    kind: Option<Kind>,
    id: String,
}

impl Target {
    /// Reads a target. Whether there is such a thing is another question.
    pub fn parse(word: &str) -> Result<Self, TargetError> {
        let malformed = |why: &str| TargetError::Malformed(format!("`{word}` {why}"));
        let (source, rest) = match word.split_once(':') {
            Some((source, rest)) if !source.contains('/') => {
                if source.is_empty() {
                    return Err(malformed("has no source in front of its `:`"));
                }
                (Some(source.to_owned()), rest)
            }
            _ => (None, word),
        };
        let (kind, id) = match rest.split_once('/') {
            None => (None, rest),
            Some((noun, id)) => match kind_of(noun) {
                Some(kind) => (Some(kind), id),
                None => return Err(malformed("begins with no kind that is known")),
            },
        };
        let parts = id.split('/').count();
        if id.is_empty() || id.split('/').any(str::is_empty) {
            return Err(malformed("names nothing"));
        }
        let (least, most) = match kind {
            Some(Kind::Replica | Kind::Worker | Kind::ClusterJob) => (2, 2),
            Some(Kind::Job) => (1, 2),
            // Nodes and events have ids of their own making.
            Some(Kind::Infra | Kind::Event) => (1, usize::MAX),
            _ => (1, 1),
        };
        if parts < least {
            let owner = match kind {
                Some(Kind::ClusterJob) => "needs its cluster and its number: queue/CLUSTER/ID",
                Some(Kind::Worker) => "needs its pool and its number: worker/POOL/ID",
                _ => "needs its service and its number: replica/SERVICE/ID",
            };
            return Err(malformed(owner));
        }
        if parts > most {
            return Err(malformed("has too many parts"));
        }
        Ok(Self {
            word: word.to_owned(),
            source,
            kind,
            id: id.to_owned(),
        })
    }

    /// As it was written.
    pub fn word(&self) -> &str {
        &self.word
    }

    /// The kinds among which it has to be looked for.
    pub fn kinds(&self) -> Vec<Kind> {
        match self.kind {
            Some(kind) => vec![kind],
            None => BARE.to_vec(),
        }
    }

    /// The first part of the id: the cluster of `queue/CLUSTER/ID`.
    pub fn parent(&self) -> Option<&str> {
        self.id.split_once('/').map(|(parent, _)| parent)
    }

    /// The number in front of `job/ID` and `job/ID/TASK`, and of a bare number.
    pub fn number(&self) -> Option<i64> {
        self.id.split('/').next()?.parse().ok()
    }

    /// Finds it among the rows of [`Target::kinds`]; more than one row only for the tasks of one
    /// job. What is gone is found only when nothing that is there bears the name.
    pub fn find(&self, rows: &[Arc<Entity>]) -> Result<Vec<Arc<Entity>>, TargetError> {
        let mut hits: Vec<&Arc<Entity>> = rows.iter().filter(|row| self.is(row)).collect();
        if hits.iter().any(|row| row.phase() != Phase::Gone) {
            hits.retain(|row| row.phase() != Phase::Gone);
        }
        let named_job = self.kind != Some(Kind::Job) || self.id.parse::<i64>().is_err();
        if named_job && hits.iter().any(|row| !is_ended_job(row)) {
            // A name is used again and again: what goes on is meant, not what ended.
            hits.retain(|row| !is_ended_job(row));
        }
        let mut things = BTreeMap::<(String, String), Vec<Arc<Entity>>>::new();
        for row in hits {
            // Two gone clusters of one name are two things.
            let thing = match row.kind() {
                Kind::Job => String::new(),
                _ => row.key().to_string(),
            };
            let name = format!("{}:{}", row.source(), self.whole(row));
            things
                .entry((name, thing))
                .or_default()
                .push(Arc::clone(row));
        }
        if things.len() > 1 {
            let one_source = things
                .values()
                .flatten()
                .all(|row| row.source() == things_source(&things));
            let mut candidates: Vec<String> = things
                .keys()
                .map(|(name, _)| match name.split_once(':') {
                    Some((_, bare)) if one_source => bare.to_owned(),
                    _ => name.clone(),
                })
                .collect();
            let distinct = candidates.len();
            candidates.dedup();
            if candidates.len() < distinct {
                // Only their keys tell them apart: the most recent one is last.
                let newest = things.into_values().next_back();
                return Ok(newest.unwrap_or_default());
            }
            return Err(TargetError::Ambiguous {
                word: self.word.clone(),
                candidates,
            });
        }
        things.into_values().next().ok_or_else(|| {
            let names: Vec<String> = rows
                .iter()
                .filter(|row| row.phase() != Phase::Gone)
                .map(|row| self.whole(row))
                .collect();
            let what = match self.kind {
                Some(kind) => format!("{} `{}`", spoken(kind), self.id),
                None => format!("cluster, job, service or pool `{}`", self.id),
            };
            let ids: Vec<&str> = names
                .iter()
                .filter_map(|name| name.split_once('/').map(|(_, id)| id))
                .collect();
            let near = nearest(&self.id, ids.iter().copied()).and_then(|near| {
                let at = ids.iter().position(|id| *id == near)?;
                names.get(at).cloned()
            });
            TargetError::Unknown { what, near }
        })
    }

    /// As [`Target::find`], in a whole state.
    pub fn find_in(&self, table: &Table) -> Result<Vec<Arc<Entity>>, TargetError> {
        let rows: Vec<Arc<Entity>> = self
            .kinds()
            .into_iter()
            .flat_map(|kind| table.rows(kind).cloned())
            .collect();
        self.find(&rows)
    }

    /// The target of a row; of the whole job unless a task was asked for.
    fn whole(&self, row: &Entity) -> String {
        match row {
            Entity::Job(job) if self.kind == Some(Kind::Job) && self.id.contains('/') => {
                format!("job/{}/{}", job.job_id, job.task_id)
            }
            row => of(row),
        }
    }

    fn is(&self, row: &Entity) -> bool {
        let allowed = match self.kind {
            Some(kind) => row.kind() == kind,
            None => BARE.contains(&row.kind()),
        };
        let here = self
            .source
            .as_ref()
            .is_none_or(|source| **row.source() == **source);
        let id = self.id.as_str();
        let pair = |parent: &str, number: i64| {
            id.split_once('/')
                .is_some_and(|(first, second)| first == parent && second == number.to_string())
        };
        allowed
            && here
            && match row {
                Entity::Job(job) => match id.split_once('/') {
                    Some((number, task)) => {
                        number == job.job_id.to_string() && task == job.task_id.to_string()
                    }
                    None if id.bytes().all(|b| b.is_ascii_digit()) => id == job.job_id.to_string(),
                    None => *job.name == *id || *job.job_name == *id,
                },
                Entity::Replica(replica) => pair(&replica.service, replica.replica_id),
                Entity::Worker(worker) => pair(&worker.pool, worker.worker_id),
                Entity::ClusterJob(job) => pair(&job.cluster, job.job_id),
                Entity::Request(request) => request.request_id.starts_with(id),
                Entity::Audit(entry) => entry.seq.to_string() == id,
                Entity::User(user) => *user.name == *id || *user.user_id == *id,
                Entity::Infra(_) | Entity::Event(_) => row.key().id() == id || *row.name() == *id,
                row => *row.name() == *id,
            }
    }
}

fn things_source(things: &BTreeMap<(String, String), Vec<Arc<Entity>>>) -> &crate::Text {
    static NONE: std::sync::LazyLock<crate::Text> = std::sync::LazyLock::new(Default::default);
    things
        .values()
        .flatten()
        .next()
        .map_or(&NONE, |row| row.source())
}

fn is_ended_job(row: &Entity) -> bool {
    row.kind() == Kind::Job && row.phase().is_over()
}

fn kind_of(noun: &str) -> Option<Kind> {
    WORDS
        .iter()
        .find(|(word, _)| *word == noun)
        .map(|(_, kind)| *kind)
        .or_else(|| noun.parse().ok())
}

fn spoken(kind: Kind) -> &'static str {
    match kind {
        Kind::ClusterJob => "cluster job",
        Kind::Infra => "node",
        Kind::Audit => "audit entry",
        kind => kind.noun(),
    }
}

/// How a row is named as a target: `cluster/dev`, `job/12`, `queue/dev/3`.
pub fn of(row: &Entity) -> String {
    match row {
        Entity::Job(job) => format!("job/{}", job.job_id),
        Entity::Replica(replica) => format!("replica/{}/{}", replica.service, replica.replica_id),
        Entity::Worker(worker) => format!("worker/{}/{}", worker.pool, worker.worker_id),
        Entity::ClusterJob(job) => format!("queue/{}/{}", job.cluster, job.job_id),
        Entity::Request(request) => format!("request/{}", request.request_id),
        Entity::Infra(_) | Entity::Event(_) | Entity::Audit(_) => {
            format!("{}/{}", row.kind(), row.key().id())
        }
        row => format!("{}/{}", row.kind(), row.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entity::{Cluster, ClusterJob, Job, Replica, Request, Service};
    use crate::key::Key;

    fn cluster(source: &str, name: &str, phase: Phase) -> Arc<Entity> {
        Cluster {
            key: Key::new(source, Kind::Cluster, format!("{name}-{}", phase.word())),
            source: source.into(),
            name: name.into(),
            phase,
            ..Cluster::default()
        }
        .into()
    }

    fn job(id: i64, task: i64, name: &str, phase: Phase) -> Arc<Entity> {
        Job {
            key: Key::new("prod", Kind::Job, format!("{id}/{task}")),
            source: "prod".into(),
            name: name.into(),
            job_name: name.into(),
            job_id: id,
            task_id: task,
            phase,
            ..Job::default()
        }
        .into()
    }

    fn rows() -> Vec<Arc<Entity>> {
        vec![
            cluster("prod", "dev", Phase::Running),
            cluster("prod", "dev", Phase::Gone),
            cluster("prod", "train", Phase::Running),
            cluster("eu", "train", Phase::Running),
            job(12, 0, "pipeline", Phase::Succeeded),
            job(12, 1, "pipeline", Phase::Running),
            job(13, 0, "chat", Phase::Running),
            job(9, 0, "chat", Phase::Failed),
            Service {
                key: Key::new("prod", Kind::Service, "chat"),
                source: "prod".into(),
                name: "chat".into(),
                ..Service::default()
            }
            .into(),
            Replica {
                key: Key::new("prod", Kind::Replica, "chat/2"),
                source: "prod".into(),
                service: "chat".into(),
                replica_id: 2,
                ..Replica::default()
            }
            .into(),
            ClusterJob {
                key: Key::new("prod", Kind::ClusterJob, "dev/3"),
                source: "prod".into(),
                cluster: "dev".into(),
                job_id: 3,
                ..ClusterJob::default()
            }
            .into(),
            Request {
                key: Key::new("prod", Kind::Request, "abc123"),
                source: "prod".into(),
                request_id: "abc123".into(),
                ..Request::default()
            }
            .into(),
        ]
    }

    fn keys(word: &str) -> Vec<String> {
        let found = Target::parse(word).unwrap().find(&rows());
        let found = found.unwrap_or_else(|why| panic!("{word}: {why}"));
        found.iter().map(|row| row.key().to_string()).collect()
    }

    #[test]
    fn targets_are_found() {
        for (word, expected) in [
            ("cluster/dev", vec!["prod/cluster/dev-running"]),
            ("dev", vec!["prod/cluster/dev-running"]),
            ("eu:train", vec!["eu/cluster/train-running"]),
            ("eu:cluster/train", vec!["eu/cluster/train-running"]),
            ("job/12", vec!["prod/job/12/0", "prod/job/12/1"]),
            ("12", vec!["prod/job/12/1"]),
            ("job/12/0", vec!["prod/job/12/0"]),
            ("job/chat", vec!["prod/job/13/0"]),
            ("service/chat", vec!["prod/service/chat"]),
            ("replica/chat/2", vec!["prod/replica/chat/2"]),
            ("queue/dev/3", vec!["prod/cluster_job/dev/3"]),
            ("request/ab", vec!["prod/request/abc123"]),
        ] {
            assert_eq!(keys(word), expected, "{word}");
        }
    }

    #[test]
    fn what_is_not_clear_is_said() {
        let problem = |word: &str| {
            Target::parse(word)
                .and_then(|it| it.find(&rows()))
                .unwrap_err()
        };
        assert_eq!(
            problem("chat"),
            TargetError::Ambiguous {
                word: "chat".to_owned(),
                candidates: vec!["job/13".to_owned(), "service/chat".to_owned()],
            }
        );
        assert_eq!(
            problem("cluster/train").to_string(),
            "`cluster/train` may be eu:cluster/train or prod:cluster/train"
        );
        let unknown = problem("cluster/trian");
        assert_eq!(unknown.to_string(), "there is no cluster `trian`");
        assert_eq!(
            unknown.hint().as_deref(),
            Some("did you mean cluster/train?")
        );
        assert_eq!(unknown.exit_code(), 5);
        for malformed in [
            "",
            "cluster/",
            "queue/3",
            "replica/x",
            "zebra/1",
            "cluster/a/b",
            ":x",
        ] {
            let problem = problem(malformed);
            assert!(matches!(problem, TargetError::Malformed(_)), "{malformed}");
            assert_eq!(problem.exit_code(), 2);
        }
    }
}
