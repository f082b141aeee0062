//! Users and workspaces, and how much of what each has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use skytower_api_client::entity::{User, Workspace};
use skytower_api_client::phase::phase_of;
use skytower_api_client::wire::Change;
use skytower_api_client::{Entity, Key, Kind, Phase, Text};

use super::ledger::records;
use super::{Look, Poller, removal};
use crate::source::skypilot::client::CallError;
use crate::source::skypilot::map;

/// Users and workspaces as SkyPilot lists them, without counts.
#[derive(Debug, Default)]
pub(super) struct People {
    users: BTreeMap<Text, User>,
    workspaces: BTreeMap<Text, Workspace>,
}

#[derive(Default)]
struct Holdings {
    clusters: u32,
    jobs: u32,
    jobs_pending: u32,
    jobs_failed: u32,
    services: u32,
    gpus: f64,
}

impl Poller {
    fn people(&self) -> MutexGuard<'_, People> {
        self.people.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn look_at_people(&self) -> Result<Look, CallError> {
        let users = self.client.get("/users", self.pace.deadline).await;
        let users = users.as_deref().map_err(Clone::clone);
        match users.and_then(|answer| records("/users", answer)) {
            Ok(records) => {
                let users: BTreeMap<Text, User> = records
                    .iter()
                    .filter_map(|record| map::user(&self.name, record).ok().flatten())
                    .map(|user| (user.user_id.clone(), user))
                    .collect();
                if !users.is_empty() || records.is_empty() {
                    self.people().users = users;
                }
                self.board.read(Kind::User, None);
            }
            Err(error) => self.blame(super::List::People, &error),
        }
        let workspaces = self
            .client
            .ask_get("/workspaces", self.pace.deadline)
            .await
            .map(|answer| map::workspaces(&self.name, &answer));
        match workspaces {
            Ok(Ok(rows)) => {
                if !rows.is_empty() {
                    self.people().workspaces = rows
                        .into_iter()
                        .map(|row| (row.name.clone(), row))
                        .collect();
                }
                self.board.read(Kind::Workspace, None);
            }
            Ok(Err(reason)) => self.board.failed(Kind::Workspace, reason),
            Err(error) => self.board.failed(Kind::Workspace, error.to_string().into()),
        }
        self.count();
        Ok(Look::Done)
    }

    /// Counts again when the state has changed, but not at every change.
    pub(super) async fn census(self: Arc<Self>) {
        let mut changes = self.hub.changes();
        while changes.changed().await.is_ok() {
            self.count();
            changes.borrow_and_update();
            tokio::time::sleep(self.pace.gap.max(Duration::from_millis(20))).await;
        }
    }

    /// Writes users and workspaces with their counts.
    fn count(&self) {
        let people = self.people();
        self.hub.commit_with(|table| {
            let mut by_user: BTreeMap<Text, (Text, Holdings)> = BTreeMap::new();
            let mut by_workspace: BTreeMap<Text, (u32, u32)> = BTreeMap::new();
            for kind in [Kind::Cluster, Kind::Job, Kind::Service] {
                for row in table.rows(kind).filter(|row| *row.source() == self.name) {
                    let active = !row.phase().is_over();
                    if let Some(workspace) = row.workspace()
                        && active
                    {
                        let (clusters, jobs) = by_workspace.entry(workspace.clone()).or_default();
                        match kind {
                            Kind::Cluster => *clusters += 1,
                            Kind::Job => *jobs += 1,
                            _ => {}
                        }
                    }
                    if let Some(owner) = row.owner() {
                        let (name, holdings) = by_user.entry(owner.id.clone()).or_default();
                        name.clone_from(&owner.name);
                        holdings.add(row);
                    }
                }
            }
            let mut changes = Vec::new();
            let users: BTreeSet<Text> =
                people.users.keys().chain(by_user.keys()).cloned().collect();
            for id in users {
                let (name, holdings) = by_user.remove(&id).unwrap_or_default();
                let user = people
                    .users
                    .get(&id)
                    .cloned()
                    .unwrap_or_else(|| unlisted(&self.name, &id, &name));
                changes.push(Change::Upsert(holdings.of(user).into()));
            }
            for (name, workspace) in &people.workspaces {
                let (clusters, jobs) = by_workspace.get(name).copied().unwrap_or_default();
                let mut row = workspace.clone();
                row.clusters = clusters;
                row.jobs = jobs;
                changes.push(Change::Upsert(row.into()));
            }
            let named: BTreeSet<Key> = changes.iter().map(|change| change.key().clone()).collect();
            let reason = Text::from("no longer listed by SkyPilot");
            for kind in [Kind::User, Kind::Workspace] {
                let gone = table
                    .rows(kind)
                    .filter(|row| *row.source() == self.name && !named.contains(row.key()))
                    .filter_map(|row| removal(row.key().clone(), &reason));
                changes.extend(gone);
            }
            changes
        });
    }
}

/// SkyPilot's list leaves service accounts out; they own things all the same.
fn unlisted(source: &Text, id: &Text, name: &Text) -> User {
    User {
        key: Key::new(source, Kind::User, id),
        source: source.clone(),
        name: name.clone(),
        owner: Some(skytower_api_client::entity::Owner {
            id: id.clone(),
            name: name.clone(),
        }),
        user_id: id.clone(),
        user_type: id.starts_with("sa-").then(|| "sa".into()),
        ..User::default()
    }
}

impl Holdings {
    fn add(&mut self, row: &Entity) {
        let over = row.phase().is_over();
        match row {
            Entity::Cluster(cluster) if !over && cluster.phase != Phase::Stopped => {
                self.clusters += 1;
                self.gpus += cluster.gpus.unwrap_or(0.0);
            }
            Entity::Job(job) => {
                self.jobs += u32::from(!over);
                self.jobs_pending += u32::from(job.phase == Phase::Pending);
                self.jobs_failed += u32::from(job.phase == Phase::Failed);
            }
            Entity::Service(service) if service.phase != Phase::Gone => self.services += 1,
            _ => {}
        }
    }

    fn of(self, mut user: User) -> User {
        let status = if self.clusters + self.jobs + self.services > 0 {
            "active"
        } else {
            "idle"
        };
        user.status = status.into();
        user.phase = phase_of(Kind::User, status);
        user.clusters = self.clusters;
        user.jobs = self.jobs;
        user.jobs_pending = self.jobs_pending;
        user.jobs_failed = self.jobs_failed;
        user.services = self.services;
        user.gpus = self.gpus;
        user
    }
}
