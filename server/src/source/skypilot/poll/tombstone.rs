//! What disappeared stays for a while as a row that says who took it down.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use skytower_api_client::wire::Change;
use skytower_api_client::{Entity, EpochMs, Key, Kind, Phase, Text};

use super::{Poller, removal};
use crate::source::skypilot::map::{RequestRecord, cluster_event};

const DEADLINE: Duration = Duration::from_secs(30);
/// A request that ended longer ago did not cause what was seen just now.
const CAUSE_WITHIN_MS: i64 = 180_000;

struct Epitaph {
    why: Text,
    at: Option<EpochMs>,
}

impl Poller {
    /// Turns the row of something that is not there any more into its tombstone.
    pub(super) async fn bury(&self, key: &Key) {
        let Some(row) = self.hub.get(key) else {
            return;
        };
        let now = EpochMs::now();
        let from_events = match &*row {
            Entity::Cluster(_) => self.last_words(&row).await,
            _ => None,
        };
        let epitaph = from_events
            .or_else(|| self.culprit(&row, now))
            .unwrap_or_else(|| Epitaph {
                why: "no longer listed by SkyPilot, which does not say why".into(),
                at: None,
            });
        let ended_at = Some(epitaph.at.unwrap_or(now));
        let why = Some(epitaph.why);
        let status = Text::from("TERMINATED");
        macro_rules! tombstone {
            ($row:expr) => {{
                let mut row = $row.clone();
                row.status = status;
                row.phase = Phase::Gone;
                row.why = why;
                row.ended_at = ended_at;
                row.into()
            }};
        }
        let tomb: Arc<Entity> = match &*row {
            Entity::Cluster(row) => tombstone!(row),
            Entity::Service(row) => tombstone!(row),
            Entity::Pool(row) => tombstone!(row),
            _ => return,
        };
        self.commit([Change::Upsert(tomb)]);
    }

    /// What SkyPilot noted last about a cluster; it keeps that after the cluster is gone.
    async fn last_words(&self, row: &Entity) -> Option<Epitaph> {
        let body = json!({
            "cluster_hash": row.key().id(),
            "event_type": "STATUS_CHANGE",
            "include_timestamps": true,
            "limit": 20,
        });
        let answer = self
            .client
            .ask("/cluster_events", body, DEADLINE)
            .await
            .ok()?;
        let records = super::ledger::records("/cluster_events", &answer).ok()?;
        let events = records
            .iter()
            .filter_map(|record| cluster_event(row, record).ok());
        let last = events
            .filter(|event| {
                let text = event.text.to_lowercase();
                [
                    "terminated",
                    "torn down",
                    "autodown",
                    "deleted",
                    "preempted",
                ]
                .iter()
                .any(|word| text.contains(word))
            })
            .max_by_key(|event| event.at)?;
        Some(Epitaph {
            why: last.text.clone(),
            at: Some(last.at),
        })
    }

    /// The request that took it down, as far as there is one.
    fn culprit(&self, row: &Entity, now: EpochMs) -> Option<Epitaph> {
        let verb = match row.kind() {
            Kind::Cluster => "down",
            Kind::Service => "serve.down",
            Kind::Pool => "jobs.pool_down",
            _ => return None,
        };
        // Requests on services and pools name the controller, not what they take down: another one's
        // may be of a private workspace.
        if row.kind() != Kind::Cluster && !self.all_workspaces_are_open() {
            return None;
        }
        let mut recent: Vec<RequestRecord> = self
            .recent()
            .iter()
            .filter(|request| request.verb() == verb)
            .filter(|request| {
                request
                    .ended()
                    .is_none_or(|ended| now.since(ended) < CAUSE_WITHIN_MS)
            })
            .filter(|request| {
                row.kind() != Kind::Cluster
                    || request.cluster_name.as_deref() == Some(row.name().as_str())
            })
            .cloned()
            .collect();
        recent.sort_by(|a, b| {
            let at = |request: &RequestRecord| request.created_at.unwrap_or(0.0);
            at(b).total_cmp(&at(a))
        });
        let request = recent.into_iter().next()?;
        let user = request.user_id.as_deref().unwrap_or("somebody");
        let user = self.user_name(user).unwrap_or_else(|| user.into());
        Some(Epitaph {
            why: format!(
                "terminated by user {user} (request ID: {})",
                request.request_id
            )
            .into(),
            at: request.ended(),
        })
    }

    /// Removes tombstones that have stood for long enough, with what they said.
    pub(super) fn forget_tombs(&self, kind: Kind) {
        let now = EpochMs::now();
        let old = self.rows(kind, |row| {
            let ended = match row {
                Entity::Cluster(row) => row.ended_at,
                Entity::Service(row) => row.ended_at,
                Entity::Pool(row) => row.ended_at,
                _ => None,
            }?;
            let stood = now.since(ended) >= self.pace.tombstone.as_millis() as i64;
            (row.phase() == Phase::Gone && stood)
                .then(|| (row.key().clone(), row.why().cloned().unwrap_or_default()))
        });
        self.commit(old.into_iter().filter_map(|(key, why)| removal(key, &why)));
    }
}
