//! What is asked only while somebody looks: a cluster's queue and events, a job's events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;
use serde_json::value::RawValue;
use skytower_api_client::wire::Change;
use skytower_api_client::{Entity, Key, Kind, Phase, Text};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ledger::records;
use super::pace::wait;
use super::{Poller, removal};
use crate::source::skypilot::client::CallError;
use crate::source::skypilot::map;

/// How many looks long the rows stay when nobody looks any more.
const LINGER: u32 = 2;
/// Events of one subject.
const EVENTS: usize = 100;

impl Poller {
    /// Keeps one task for each row that somebody looks at.
    pub(super) async fn focused(self: Arc<Self>) {
        let mut focus = self.focus.subscribe();
        let mut tasks = JoinSet::new();
        let mut running: BTreeMap<Key, CancellationToken> = BTreeMap::new();
        loop {
            let wanted: BTreeSet<Key> = focus.borrow_and_update().keys().cloned().collect();
            running.retain(|key, stop| {
                let keep = wanted.contains(key);
                if !keep {
                    stop.cancel();
                    // Whoever looked may act on what was seen: the rows stay a little longer.
                    let (poller, key) = (self.clone(), key.clone());
                    tasks.spawn(async move {
                        tokio::time::sleep(poller.pace.focus * LINGER).await;
                        if !poller.focus.borrow().contains_key(&key) {
                            poller.look_away(&key);
                        }
                        None
                    });
                }
                keep
            });
            for key in wanted {
                running.entry(key).or_insert_with_key(|key| {
                    let stop = CancellationToken::new();
                    let task = self.clone().look_closely(key.clone());
                    let stopped = stop.clone();
                    tasks.spawn(async move { stopped.run_until_cancelled(task).await });
                    stop
                });
            }
            while tasks.try_join_next().is_some() {}
            if focus.changed().await.is_err() {
                return;
            }
        }
    }

    async fn look_closely(self: Arc<Self>, key: Key) {
        let mut focus = self.focus.subscribe();
        let mut link = self.link.subscribe();
        let mut failures = 0;
        let mut refreshes = 0;
        loop {
            if link.wait_for(|up| *up).await.is_err() {
                return;
            }
            let started = Instant::now();
            let worked = match self.hub.get(&key) {
                Some(row) => {
                    // Few at a time: each costs SkyPilot a connection to the cluster.
                    let Ok(_permit) = self.focus_calls.acquire().await else {
                        return;
                    };
                    self.look_at_one(&row).await
                }
                None => true,
            };
            failures = if worked { 0 } else { failures + 1 };
            let pause = wait(self.pace.focus, started.elapsed(), failures, 1);
            let asked =
                focus.wait_for(|focus| focus.get(&key).is_some_and(|count| *count != refreshes));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                asked = asked => {
                    if let Ok(focus) = asked {
                        refreshes = focus.get(&key).copied().unwrap_or_default();
                    }
                }
            }
        }
    }

    async fn look_at_one(&self, row: &Entity) -> bool {
        match row {
            Entity::Cluster(cluster) => {
                let events = self.cluster_events(row).await;
                let queue = if matches!(cluster.phase, Phase::Running | Phase::Stopping) {
                    self.cluster_queue(row).await
                } else {
                    Ok(())
                };
                self.report(Kind::Event, &events);
                self.report(Kind::ClusterJob, &queue);
                events.is_ok() && queue.is_ok()
            }
            Entity::Job(_) => {
                let events = self.job_events(row).await;
                self.report(Kind::Event, &events);
                events.is_ok()
            }
            _ => true,
        }
    }

    fn report(&self, kind: Kind, outcome: &Result<(), CallError>) {
        match outcome {
            Ok(()) => self.board.read(kind, None),
            Err(error) => self.board.noted(kind, self.words_for_all(error)),
        }
    }

    async fn cluster_queue(&self, row: &Entity) -> Result<(), CallError> {
        let Some(cluster) = row.as_cluster() else {
            return Ok(());
        };
        let path = "/queue";
        let mut body = json!({"cluster_name": cluster.name.as_str(), "all_users": true, "skip_finished": false});
        if let Some(workspace) = &cluster.workspace {
            body["override_skypilot_config"] = json!({"active_workspace": workspace.as_str()});
        }
        let answer = self.client.ask(path, body, self.pace.deadline).await?;
        let records = records(path, &answer)?;
        let rows: Vec<Arc<Entity>> = records
            .iter()
            .filter_map(|record| map::queue(cluster, record).ok())
            .map(Arc::<Entity>::from)
            .collect();
        let complete = rows.len() == records.len();
        let keys: BTreeSet<Key> = rows.iter().map(|row| row.key().clone()).collect();
        self.commit(rows.into_iter().map(Change::Upsert));
        if complete {
            self.remove_of(row.key(), Kind::ClusterJob, &keys, "no longer in the queue");
        }
        Ok(())
    }

    async fn cluster_events(&self, row: &Entity) -> Result<(), CallError> {
        let several = self.event_types.load(Ordering::Relaxed);
        match self.cluster_events_of(row, several).await {
            Err(error) if several && error.to_string().contains("ClusterEventType") => {
                self.event_types.store(false, Ordering::Relaxed);
                self.cluster_events_of(row, false).await
            }
            outcome => outcome,
        }
    }

    async fn cluster_events_of(&self, row: &Entity, several: bool) -> Result<(), CallError> {
        let types = if several {
            "STATUS_CHANGE,LAUNCH_PROGRESS"
        } else {
            "STATUS_CHANGE"
        };
        let body = json!({
            "cluster_hash": row.key().id(),
            "event_type": types,
            "include_timestamps": true,
            "limit": EVENTS,
        });
        self.events("/cluster_events", body, row, |record| {
            map::cluster_event(row, record).map(Some)
        })
        .await
    }

    async fn job_events(&self, row: &Entity) -> Result<(), CallError> {
        let Some(job) = row.as_job() else {
            return Ok(());
        };
        let body = json!({
            "job_id": job.job_id,
            "task_id": job.task_id,
            "limit": EVENTS,
            "include_cluster_events": true,
        });
        self.events("/jobs/events", body, row, |record| {
            map::job_event(row, record)
        })
        .await
    }

    async fn events(
        &self,
        path: &str,
        body: serde_json::Value,
        row: &Entity,
        decode: impl Fn(&RawValue) -> Result<Option<skytower_api_client::entity::Event>, Text>,
    ) -> Result<(), CallError> {
        let answer = self.client.ask(path, body, self.pace.deadline).await?;
        let rows: Vec<Arc<Entity>> = records(path, &answer)?
            .iter()
            .filter_map(|record| decode(record).ok().flatten())
            .map(Arc::<Entity>::from)
            .collect();
        let keys: BTreeSet<Key> = rows.iter().map(|row| row.key().clone()).collect();
        self.commit(rows.into_iter().map(Change::Upsert));
        self.remove_of(row.key(), Kind::Event, &keys, "too many to show");
        Ok(())
    }

    /// Nobody looks any more: what would go stale unnoticed goes.
    fn look_away(&self, key: &Key) {
        for kind in [Kind::Event, Kind::ClusterJob] {
            self.remove_of(key, kind, &BTreeSet::new(), "nobody looks");
        }
    }

    fn remove_of(&self, subject: &Key, kind: Kind, keep: &BTreeSet<Key>, reason: &str) {
        let gone = self.rows(kind, |row| {
            let of = match row {
                Entity::Event(row) => &row.subject,
                Entity::ClusterJob(row) => &row.cluster_key,
                _ => return None,
            };
            (of == subject && !keep.contains(row.key())).then(|| row.key().clone())
        });
        let reason = Text::from(reason);
        self.commit(gone.into_iter().filter_map(|key| removal(key, &reason)));
    }
}
