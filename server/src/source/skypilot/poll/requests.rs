//! SkyPilot's requests: who does what, almost free to ask, and the sign to look at a list again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use skytower_api_client::entity::Request;
use skytower_api_client::policy::qualified;
use skytower_api_client::wire::Change;
use skytower_api_client::{Entity, EpochMs, Key, Kind, Text};
use tokio::time::Instant;

use super::ledger::records;
use super::{Books, Look, Poller, removal};
use crate::source::skypilot::client::{CallError, escape};
use crate::source::skypilot::map::{self, RequestRecord};

/// Requests in one look. Most are reads of others; changes among them are rare.
const WINDOW: usize = 200;
/// Requests in the first look: far enough back to show what was done in the last hour.
const FIRST_WINDOW: usize = 5000;
/// Requests asked for by id in one call: the address has to stay short.
const IDS_AT_ONCE: usize = 20;
/// Finished requests that are kept for people to see.
const KEPT: usize = 200;
const KEPT_MS: i64 = 3_600_000;
/// Between two tries to complete rows that do not say all yet.
const COMPLETE_EVERY: std::time::Duration = std::time::Duration::from_secs(2);
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);

#[derive(Debug, Default)]
pub(super) struct Requests {
    /// Requests that are not over, by id.
    open: BTreeMap<String, RequestRecord>,
    /// Ids of those that are over and were acted upon.
    over: BTreeSet<String>,
    /// Ids of those whose row says all that it ever will.
    settled: BTreeSet<String>,
    /// Those that are over and whose rows do not say all yet: users and clusters may be read later.
    incomplete: BTreeMap<String, RequestRecord>,
    completed_at: Option<Instant>,
    started: bool,
}

/// A cluster of some name, from its launch until it was gone.
struct Life {
    workspace: Option<Text>,
    from: Option<EpochMs>,
    until: Option<EpochMs>,
}

/// Clusters by their names, which are given again when one is gone.
#[derive(Default)]
struct Clusters(HashMap<Text, Vec<Life>>);

impl Clusters {
    /// The workspaces that a request may be in. What ended before a cluster was launched, or began when
    /// it was gone, was about another one of its name.
    fn places(&self, name: &str, record: &RequestRecord) -> BTreeSet<Option<Text>> {
        let lives = self.0.get(name).into_iter().flatten();
        let (began, ended) = (record.began(), record.ended());
        let of_then = |life: &&Life| {
            let too_early = life.from.zip(ended).is_some_and(|(from, end)| end < from);
            let too_late = life.until.zip(began).is_some_and(|(gone, at)| at > gone);
            !too_early && !too_late
        };
        let places = lives.filter(of_then);
        places.map(|life| life.workspace.clone()).collect()
    }
}

impl Poller {
    pub(super) async fn look_at_requests(&self, books: &mut Books) -> Result<Look, CallError> {
        let started = Instant::now();
        let window = if books.requests.started {
            WINDOW
        } else {
            FIRST_WINDOW
        };
        let mut window = self
            .ask_for_requests(&format!("all_status=true&limit={window}"))
            .await?;
        self.board.up(started.elapsed());
        let book = &mut books.requests;
        let listed: BTreeSet<&str> = window.iter().map(|r| r.request_id.as_str()).collect();
        let unlisted: Vec<String> = book
            .open
            .keys()
            .filter(|id| !listed.contains(id.as_str()))
            .cloned()
            .collect();
        // Pushed out of the window by newer ones, or forgotten by a restart.
        for ids in unlisted.chunks(IDS_AT_ONCE) {
            match self.ask_for_these(ids).await {
                Ok(found) => window.extend(found),
                // One unknown id must not take the others with it.
                Err(CallError::NotFound(_)) => {
                    for id in ids {
                        match self.ask_for_these(std::slice::from_ref(id)).await {
                            Ok(found) => window.extend(found),
                            Err(CallError::NotFound(_)) => {}
                            Err(error) => return Err(error),
                        }
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let complete_due = book
            .completed_at
            .is_none_or(|at| at.elapsed() >= COMPLETE_EVERY.min(self.pace.slow));
        if complete_due {
            book.completed_at = Some(Instant::now());
        }
        let mut listed: BTreeSet<String> = window.iter().map(|r| r.request_id.clone()).collect();
        for (id, record) in &book.incomplete {
            if listed.insert(id.clone()) && complete_due {
                window.push(record.clone());
            }
        }
        let mut changes = Vec::new();
        let forgotten = "SkyPilot was restarted and has forgotten it".into();
        book.open.retain(|id, _| {
            let there = listed.contains(id);
            if !there {
                let key = Key::new(&self.name, Kind::Request, id);
                changes.extend(removal(key, &forgotten));
            }
            there
        });
        book.over.retain(|id| listed.contains(id));
        book.settled.retain(|id| listed.contains(id));
        let now = EpochMs::now();
        let ours = self.handed_over();
        // They may have been seen, ended and settled before it was known whose they are.
        for id in &ours {
            let key = Key::new(&self.name, Kind::Request, id);
            if self.hub.get(&key).is_some() {
                changes.extend(removal(key, &"it is one of skytower's".into()));
            }
        }
        let clusters = std::cell::LazyCell::new(|| self.clusters());
        let mut ended = Vec::new();
        for record in window {
            if map::is_noise(&record)
                || book.settled.contains(&record.request_id)
                || !complete_due && book.incomplete.contains_key(&record.request_id)
            {
                continue;
            }
            let is_ours = ours.contains(record.request_id.as_str());
            let over = record.is_over();
            let old = record
                .ended()
                .is_some_and(|ended| now.since(ended) > KEPT_MS);
            let mut is_news = false;
            if over {
                book.open.remove(&record.request_id);
                // What ended before the first look is in the lists already.
                is_news = book.over.insert(record.request_id.clone()) && book.started;
                if is_news {
                    ended.push(record.clone());
                }
            } else {
                book.open.insert(record.request_id.clone(), record.clone());
            }
            if record.verb() == "jobs.cancel" && book.started && (!over || is_news) {
                self.hurry();
            }
            self.remember(&record);
            let (row, complete) = self.request_row(&record, &clusters);
            if over && (complete || old || is_ours) {
                book.incomplete.remove(&record.request_id);
                book.settled.insert(record.request_id.clone());
            } else if over {
                book.incomplete
                    .insert(record.request_id.clone(), record.clone());
            }
            if !is_ours && !old {
                changes.push(Change::Upsert(row.into()));
            }
        }
        book.started = true;
        self.commit(changes);
        self.board.read(Kind::Request, None);
        self.drop_old_requests(now);
        for record in ended {
            self.concern(map::concerns(&record), record.cluster_name.as_deref());
        }
        Ok(Look::Done)
    }

    async fn ask_for_these(&self, ids: &[String]) -> Result<Vec<RequestRecord>, CallError> {
        let ids: Vec<String> = ids
            .iter()
            .map(|id| format!("request_ids={}", escape(id)))
            .collect();
        self.ask_for_requests(&format!("all_status=true&{}", ids.join("&")))
            .await
    }

    async fn ask_for_requests(&self, query: &str) -> Result<Vec<RequestRecord>, CallError> {
        let fields: Vec<String> = map::REQUEST_FIELDS
            .iter()
            .map(|field| format!("fields={field}"))
            .collect();
        let path = format!("/api/status?{query}&{}", fields.join("&"));
        let answer = self.client.get(&path, DEADLINE).await?;
        Ok(records("/api/status", &answer)?
            .iter()
            .filter_map(|record| RequestRecord::read(record).ok())
            .collect())
    }

    /// The row, and whether it says all that it can: whose it is by name, and in which workspace.
    fn request_row(&self, record: &RequestRecord, clusters: &Clusters) -> (Request, bool) {
        let places = record
            .cluster_name
            .as_deref()
            .map_or_else(BTreeSet::new, |name| clusters.places(name, record));
        let mut row = map::request(&self.name, record, |id| self.user_name(id));
        match places.len() {
            0 => {}
            1 => row.workspace = places.first().cloned().flatten(),
            // Of clusters that were called the same it may be any. With one that is nowhere it is too.
            _ if places.contains(&None) => {}
            _ => {
                let all = places.iter().flatten();
                row.within = all.map(|name| qualified(&self.name, name)).collect();
            }
        }
        let placed = row.workspace.is_some() || !row.within.is_empty();
        let named = row
            .owner
            .as_ref()
            .is_none_or(|owner| owner.id != owner.name);
        // The cluster of a launch is listed a moment later.
        let waits = row.target.is_some() && !placed && !self.all_workspaces_are_open();
        (row, named && !waits)
    }

    /// SkyPilot's ids of what skytower's own requests became: those are shown once, as skytower's.
    fn handed_over(&self) -> BTreeSet<Text> {
        self.hub.read(|table| {
            let requests = table.rows(Kind::Request).filter_map(|row| row.as_request());
            requests
                .flat_map(|request| &request.results)
                .filter(|result| *result.key.source() == *self.name)
                .filter_map(|result| result.upstream.clone())
                .collect()
        })
    }

    /// The clusters that are known: listed, or behind a job, replica or worker.
    fn clusters(&self) -> Clusters {
        let mut known = Clusters::default();
        for kind in [Kind::Worker, Kind::Replica, Kind::Job, Kind::Cluster] {
            let lives = self.rows(kind, |row| {
                let name = match row {
                    Entity::Job(job) => job.cluster.as_ref()?,
                    // Replicas and workers are called as their clusters.
                    row => row.name(),
                };
                let workspace = row.workspace().cloned();
                let (from, until) = match row {
                    Entity::Cluster(row) => (row.launched_at, row.ended_at),
                    // Before that, and without it, the name may have been another one's.
                    Entity::Replica(row) => (row.launched_at, None),
                    Entity::Worker(row) => (row.launched_at, None),
                    _ => (None, None),
                };
                let of_a_service = matches!(row.kind(), Kind::Replica | Kind::Worker);
                let (workspace, from) = match (workspace, from) {
                    (Some(_), None) | (None, _) if of_a_service => (None, None),
                    known => known,
                };
                let life = Life {
                    workspace,
                    from,
                    until,
                };
                Some((name.clone(), life))
            });
            for (name, life) in lives {
                known.0.entry(name).or_default().push(life);
            }
        }
        known
    }

    fn remember(&self, record: &RequestRecord) {
        if map::concerns(record).is_empty() {
            return;
        }
        let mut recent = self.recent();
        recent.retain(|known| known.request_id != record.request_id);
        recent.push(record.clone());
        let surplus = recent.len().saturating_sub(KEPT);
        recent.drain(..surplus);
    }

    fn drop_old_requests(&self, now: EpochMs) {
        let mut finished = self.rows(Kind::Request, |row| {
            let request = row.as_request()?;
            (request.origin == "skypilot" && request.phase.is_over())
                .then(|| (request.ended_at.unwrap_or_default(), request.key.clone()))
        });
        finished.sort_unstable();
        let surplus = finished.len().saturating_sub(KEPT);
        let reason = "ended a while ago".into();
        let old = finished
            .into_iter()
            .enumerate()
            .filter(|(at, (ended, _))| *at < surplus || now.since(*ended) > KEPT_MS)
            .filter_map(|(_, (_, key))| removal(key, &reason));
        self.commit(old);
    }
}
