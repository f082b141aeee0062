//! Users and workspaces, and how much of what each has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use skytower_api_client::entity::{Holding, Holdings, User, Workspace};
use skytower_api_client::policy::OwnedReach;
use skytower_api_client::wire::Change;
use skytower_api_client::{Entity, Key, Kind, Text};

use super::ledger::records;
use super::veil::{is_astray, is_open, turned};
use super::{Look, Poller, removal};
use crate::source::skypilot::client::CallError;
use crate::source::skypilot::map;

/// Users and workspaces as SkyPilot lists them, without counts.
#[derive(Debug, Default)]
pub(super) struct People {
    users: BTreeMap<Text, User>,
    workspaces: BTreeMap<Text, Workspace>,
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
            Err(error) => self
                .board
                .failed(Kind::Workspace, self.words_for_all(&error)),
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
            let open = people.are_open();
            let mut by_user: BTreeMap<Text, Belongings> = BTreeMap::new();
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
                        let theirs = by_user.entry(owner.id.clone()).or_default();
                        theirs.name.clone_from(&owner.name);
                        theirs.add(row, open);
                    }
                }
            }
            let mut changes = Vec::new();
            let users: BTreeSet<Text> =
                people.users.keys().chain(by_user.keys()).cloned().collect();
            for id in users {
                let theirs = by_user.remove(&id).unwrap_or_default();
                let listed = people.users.get(&id).cloned();
                let is_listed = listed.is_some();
                let mut user = listed.unwrap_or_else(|| unlisted(&self.name, &id, &theirs.name));
                user.set_holdings(theirs.parts(), is_listed);
                changes.push(Change::Upsert(user.into()));
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
            if open != is_open(table, &self.name) {
                changes.extend(turned(table, &self.name, open));
            }
            changes
        });
    }
}

impl People {
    /// Every workspace is for everybody. Not before they have been read.
    fn are_open(&self) -> bool {
        !self.workspaces.is_empty() && !self.workspaces.values().any(|row| row.private)
    }
}

/// What somebody has, by who may know of it.
#[derive(Default)]
struct Belongings {
    name: Text,
    parts: BTreeMap<OwnedReach, Holdings>,
}

impl Belongings {
    fn add(&mut self, row: &Entity, open: bool) {
        let reach = match (is_astray(row), open) {
            // The row says so too, from this look on.
            (true, true) => OwnedReach::Everybody,
            (true, false) => OwnedReach::Administrators,
            (false, _) => row.reach().into(),
        };
        self.parts.entry(reach).or_default().add(row);
    }

    fn parts(self) -> impl Iterator<Item = Holding> {
        let parts = self.parts.into_iter();
        parts.map(|(reach, has)| Holding { reach, has })
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
