//! Which workspace a service or pool is in. SkyPilot does not say; it says it of the clusters that
//! replicas and workers run on, and all of one service are launched in the workspace that it is in.
//!
//! A name alone proves nothing: somebody else's cluster may be called as a replica is. What a replica says
//! of its launch is read from the row of its cluster where the API server runs the controller itself, so
//! that cluster is the one that a controller launched (`is_managed`), at the same second, for the same
//! owner. A controller on a machine of its own keeps its clusters to itself: then nothing is found.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use skytower_api_client::entity::{Cluster, Job};
use skytower_api_client::wire::Change;
use skytower_api_client::{Entity, EpochMs, Key, Kind, Table, Text};
use tokio::time::Instant;

use super::Poller;
use super::ledger::records;
use crate::source::skypilot::client::CallError;
use crate::source::skypilot::map::{self, Served};

const DEADLINE: Duration = Duration::from_secs(30);
/// A longer name of a managed job is cut in the name of its cluster
/// (`JOBS_CLUSTER_NAME_PREFIX_LENGTH` in `sky/jobs/constants.py`).
const WHOLE_JOB_NAME: usize = 25;

/// A replica or worker that says when its cluster was launched.
#[derive(Debug)]
struct Part {
    whole: Key,
    key: Key,
    /// Replicas and workers are called as their clusters.
    cluster: Text,
    owner: Text,
    number: i64,
    launched_at: EpochMs,
}

/// The launch of a part's cluster.
type Launch = (Key, EpochMs);

/// What is known of one service or pool, for as long as it lives.
#[derive(Debug, Default)]
struct Home {
    /// The workspaces of all clusters that were found. Several: it may be in any of them.
    places: BTreeSet<Text>,
    /// Launches whose clusters were found.
    found: BTreeMap<Key, EpochMs>,
}

/// Where the services or pools of one list are.
#[derive(Debug, Default)]
pub(super) struct Homes {
    known: BTreeMap<Key, Home>,
    /// What was looked for the last time, and when.
    asked: BTreeSet<Launch>,
    asked_at: Option<Instant>,
    /// Why that did not work.
    failure: Option<Text>,
}

impl Homes {
    /// The workspace of a service or pool.
    fn of(&self, whole: &Key) -> Option<&Text> {
        let places = &self.known.get(whole)?.places;
        places.first().filter(|_| places.len() == 1)
    }

    /// The row in the workspace in which it is.
    pub(super) fn placed(&self, mut row: Arc<Entity>) -> Arc<Entity> {
        let workspace = whole_of(&row).and_then(|whole| self.of(whole));
        if row.workspace() != workspace {
            Arc::make_mut(&mut row).set_workspace(workspace.cloned());
        }
        row
    }

    /// It is gone. Another one begins anew, whatever it is called.
    pub(super) fn forget(&mut self, whole: &Key) {
        self.known.remove(whole);
    }

    /// Forgets the launches of parts that are gone. Where they were counts.
    pub(super) fn keep(&mut self, whole: &Key, parts: &[Key]) {
        if let Some(home) = self.known.get_mut(whole) {
            home.found.retain(|part, _| parts.contains(part));
        }
    }

    /// The parts whose clusters were not found yet.
    fn sought(&self, table: &Table, source: &Text, which: Served) -> Vec<Part> {
        let rows = table.rows(which.part());
        rows.filter(|row| row.source() == source)
            .filter_map(|row| part(row))
            .filter(|part| {
                let home = self.known.get(&part.whole);
                let found = home.and_then(|home| home.found.get(&part.key));
                found != Some(&part.launched_at)
            })
            .collect()
    }

    /// Whether to look for them now: they are others than the last time, or that was a while ago.
    fn is_due(&self, sought: &[Part], every: Duration) -> bool {
        let mut launches = sought.iter().map(Part::launch);
        launches.any(|launch| !self.asked.contains(&launch))
            || !sought.is_empty() && self.asked_at.is_none_or(|at| at.elapsed() >= every)
    }

    /// Learns where the parts are that were looked for.
    fn learn(&mut self, sought: &[Part], clusters: &[Cluster], jobs: &[&Job]) {
        for part in sought {
            if jobs.iter().any(|job| part.may_be_on_the_cluster_of(job)) {
                continue;
            }
            for cluster in clusters.iter().filter(|cluster| part.is_on(cluster)) {
                if let Some(workspace) = &cluster.workspace {
                    let home = self.known.entry(part.whole.clone()).or_default();
                    home.places.insert(workspace.clone());
                    home.found.insert(part.key.clone(), part.launched_at);
                }
            }
        }
    }

    /// The rows of a list that are elsewhere than they say: of services or pools, of their parts, and of
    /// what happened to either.
    fn moved(&self, table: &Table, source: &Text, which: Served) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut subjects = BTreeMap::new();
        for kind in [which.whole(), which.part()] {
            for row in table.rows(kind).filter(|row| row.source() == source) {
                let Some(home) = whole_of(row).and_then(|whole| self.known.get_key_value(whole))
                else {
                    continue;
                };
                let workspace = self.of(home.0);
                subjects.insert(row.key(), workspace);
                if row.workspace() != workspace {
                    changes.push(Change::Upsert(self.placed(row.clone())));
                }
            }
        }
        for row in table.rows(Kind::Event) {
            let subject = row.as_event().map(|event| &event.subject);
            if let Some(workspace) = subject.and_then(|subject| subjects.get(subject))
                && row.workspace() != *workspace
            {
                let mut row = row.clone();
                Arc::make_mut(&mut row).set_workspace(workspace.cloned());
                changes.push(Change::Upsert(row));
            }
        }
        changes
    }
}

/// The service or pool that a row is, or is a part of.
fn whole_of(row: &Entity) -> Option<&Key> {
    match row {
        Entity::Service(row) => Some(&row.key),
        Entity::Pool(row) => Some(&row.key),
        Entity::Replica(row) => Some(&row.service_key),
        Entity::Worker(row) => Some(&row.pool_key),
        _ => None,
    }
}

fn part(row: &Entity) -> Option<Part> {
    let (whole, named, number, launched_at) = match row {
        Entity::Replica(row) => {
            let id = row.replica_id;
            (&row.service_key, &row.service, id, row.launched_at)
        }
        Entity::Worker(row) => (&row.pool_key, &row.pool, row.worker_id, row.launched_at),
        _ => return None,
    };
    // Known by its name alone: the next of that name could not be told from it.
    if *whole.id() == **named {
        return None;
    }
    Some(Part {
        whole: whole.clone(),
        key: row.key().clone(),
        cluster: row.name().clone(),
        owner: row.owner()?.id.clone(),
        number,
        launched_at: launched_at?,
    })
}

impl Part {
    fn launch(&self) -> Launch {
        (self.key.clone(), self.launched_at)
    }

    /// It runs on this cluster.
    fn is_on(&self, cluster: &Cluster) -> bool {
        let owner = cluster.owner.as_ref();
        cluster.managed
            && cluster.name == self.cluster
            && cluster.launched_at == Some(self.launched_at)
            && owner.is_some_and(|owner| owner.id == self.owner)
    }

    /// The cluster of its name may have been launched for a managed job, which is called as the job and
    /// its number. Those in a pool run on workers.
    fn may_be_on_the_cluster_of(&self, job: &Job) -> bool {
        let owner = job.owner.as_ref();
        let called_so = |name: &Text| {
            let name = name.to_lowercase().replace(['.', '_'], "-");
            let number = self.number;
            name.len() > WHOLE_JOB_NAME || *self.cluster == *format!("{name}-{number}")
        };
        job.job_id == self.number
            && job.pool.is_none()
            && owner.is_none_or(|owner| owner.id == self.owner)
            && (called_so(&job.name) || called_so(&job.job_name))
    }
}

impl Poller {
    /// Looks for the clusters of replicas or workers that are not known yet. What to tell people when that
    /// does not work.
    pub(super) async fn find_homes(&self, which: Served, homes: &mut Homes) -> Option<Text> {
        let sought = self
            .hub
            .read(|table| homes.sought(table, &self.name, which));
        if sought.is_empty() {
            homes.failure = None;
        }
        // The clusters of managed jobs are told apart by the jobs.
        if !homes.is_due(&sought, self.pace.slow) || !self.board.knows(Kind::Job) {
            return homes.failure.clone();
        }
        homes.asked = sought.iter().map(Part::launch).collect();
        homes.asked_at = Some(Instant::now());
        let clusters = match self.ask_for_managed_clusters(&sought).await {
            Ok(clusters) => clusters,
            Err(error) => {
                let words = self.words_for_all(&error);
                let (parts, kind) = (which.part().plural(), which.whole().plural());
                let note = format!(
                    "the clusters of {parts} could not be read ({words}); {kind} whose workspace is not \
                     known are shown to administrators alone while a workspace is private"
                );
                homes.failure = Some(note.into());
                return homes.failure.clone();
            }
        };
        homes.failure = None;
        self.commit_with(|table| {
            let numbers: BTreeSet<i64> = sought.iter().map(|part| part.number).collect();
            let jobs: Vec<&Job> = table
                .rows(Kind::Job)
                .filter(|row| *row.source() == self.name)
                .filter_map(|row| row.as_job())
                .filter(|job| numbers.contains(&job.job_id))
                .collect();
            homes.learn(&sought, &clusters, &jobs);
            homes.moved(table, &self.name, which)
        });
        None
    }

    /// The clusters that the parts are called after, as far as a controller launched them. The list of
    /// clusters leaves those out, and shows them to whoever debugs: there is no other way to ask.
    async fn ask_for_managed_clusters(&self, parts: &[Part]) -> Result<Vec<Cluster>, CallError> {
        let names: BTreeSet<&str> = parts.iter().map(|part| part.cluster.as_str()).collect();
        let path = "/status";
        let body = json!({
            "cluster_names": names,
            "all_users": true,
            "summary_response": true,
            "env_vars": {"SKYPILOT_DEBUG": "1"},
        });
        let answer = self.client.ask(path, body, DEADLINE).await?;
        Ok(records(path, &answer)?
            .iter()
            .filter_map(|record| map::cluster(&self.name, record).ok())
            .filter(|cluster| cluster.managed)
            .collect())
    }
}

#[cfg(test)]
mod tests;
