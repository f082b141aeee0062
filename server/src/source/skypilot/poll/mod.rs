//! When to ask SkyPilot what, and what to believe of its answers.
//!
//! One task for each list, with its own waits: a slow list delays no other. `requests` is the cheap
//! sign that something changed and wakes the list concerned. While the server cannot be reached only
//! `health` asks; the last good state stays.

mod board;
mod clusters;
mod escort;
mod focus;
mod health;
mod home;
mod infra;
#[doc(hidden)]
pub mod intake;
mod jobs;
mod ledger;
mod pace;
mod people;
mod requests;
mod serve;
mod tombstone;
mod veil;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use skytower_api_client::wire::{Caller, Change};
use skytower_api_client::{Entity, Key, Kind, Text};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::client::{CallError, Client};
use super::map::{Concerns, RequestRecord, Served};
use crate::hub::Hub;
use board::Board;
pub use pace::Pace;
use pace::wait;

/// A list that is looked at again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum List {
    Requests,
    Clusters,
    Jobs,
    Services,
    Pools,
    People,
    Infra,
}

impl List {
    const ALL: [List; 7] = [
        List::Requests,
        List::Clusters,
        List::Jobs,
        List::Services,
        List::Pools,
        List::People,
        List::Infra,
    ];

    const fn kind(self) -> Kind {
        match self {
            List::Requests => Kind::Request,
            List::Clusters => Kind::Cluster,
            List::Jobs => Kind::Job,
            List::Services => Kind::Service,
            List::Pools => Kind::Pool,
            List::People => Kind::User,
            List::Infra => Kind::Infra,
        }
    }

    const fn floor(self, pace: &Pace) -> Duration {
        match self {
            List::Requests => pace.requests,
            List::Clusters => pace.clusters,
            List::Jobs => pace.jobs,
            List::Services | List::Pools => pace.serve,
            List::People | List::Infra => pace.slow,
        }
    }

    const fn of(kind: Kind) -> Option<List> {
        Some(match kind {
            Kind::Request => List::Requests,
            Kind::Cluster => List::Clusters,
            Kind::Job => List::Jobs,
            Kind::Service | Kind::Replica => List::Services,
            Kind::Pool | Kind::Worker => List::Pools,
            Kind::User | Kind::Workspace => List::People,
            Kind::Infra => List::Infra,
            Kind::Source | Kind::ClusterJob | Kind::Event | Kind::Audit => return None,
        })
    }
}

/// How a look went.
enum Look {
    /// As it should.
    Done,
    /// Look again soon: what was seen is to be confirmed, or there is more.
    Again,
}

/// Asks, and writes what it learns into the hub.
#[derive(Debug)]
pub(super) struct Poller {
    name: Text,
    client: Client,
    hub: Arc<Hub>,
    pace: Pace,
    caller: watch::Sender<Option<Caller>>,
    board: Board,
    /// The server answers cheap calls.
    link: watch::Sender<bool>,
    wakes: BTreeMap<List, Notify>,
    /// Rows in front of somebody, with the number of refreshes asked for.
    focus: watch::Sender<BTreeMap<Key, u64>>,
    focus_calls: Semaphore,
    /// Recent requests that changed something: who did it.
    recent: Mutex<Vec<RequestRecord>>,
    /// Users and workspaces without their counts.
    people: Mutex<people::People>,
    job_fields: std::sync::atomic::AtomicBool,
    /// The server takes several types of events at once (0.11 takes one).
    event_types: std::sync::atomic::AtomicBool,
    health_wake: Notify,
    /// Until when managed jobs are followed closely.
    hurry: watch::Sender<Option<Instant>>,
}

impl Poller {
    pub(super) fn new(name: Text, client: Client, hub: Arc<Hub>, pace: Pace) -> Self {
        let board = Board::new(
            name.clone(),
            client.url().clone(),
            hub.clone(),
            pace.publish,
        );
        Self {
            name,
            client,
            hub,
            pace,
            caller: watch::Sender::new(None),
            board,
            link: watch::Sender::new(false),
            wakes: List::ALL.map(|list| (list, Notify::new())).into(),
            focus: watch::Sender::new(BTreeMap::new()),
            focus_calls: Semaphore::new(4),
            recent: Mutex::default(),
            people: Mutex::default(),
            job_fields: std::sync::atomic::AtomicBool::new(true),
            event_types: std::sync::atomic::AtomicBool::new(true),
            health_wake: Notify::new(),
            hurry: watch::Sender::new(None),
        }
    }

    pub(super) fn name(&self) -> &Text {
        &self.name
    }

    pub(super) fn caller(&self) -> watch::Receiver<Option<Caller>> {
        self.caller.subscribe()
    }

    pub(super) fn focus(&self, key: &Key, looked_at: bool) {
        self.focus.send_if_modified(|focus| {
            if looked_at {
                focus.insert(key.clone(), 0).is_none()
            } else {
                focus.remove(key).is_some()
            }
        });
    }

    pub(super) fn refresh(&self, key: &Key) {
        self.focus.send_if_modified(|focus| {
            focus
                .get_mut(key)
                .map(|refreshes| *refreshes += 1)
                .is_some()
        });
        match key.kind() {
            Some(Kind::Source) => {
                self.health_wake.notify_one();
                self.wake_all();
            }
            Some(kind) => {
                if let Some(list) = List::of(kind) {
                    self.wake(list);
                }
            }
            None => {}
        }
    }

    fn wake(&self, list: List) {
        if let Some(wake) = self.wakes.get(&list) {
            wake.notify_one();
        }
    }

    fn wake_all(&self) {
        for list in List::ALL {
            self.wake(list);
        }
    }

    /// Looks again at what the end of a request may have changed.
    fn concern(&self, concerns: &[Concerns], cluster: Option<&str>) {
        for concern in concerns {
            match concern {
                Concerns::Clusters => self.wake(List::Clusters),
                Concerns::Jobs => self.wake(List::Jobs),
                Concerns::Services => self.wake(List::Services),
                Concerns::Pools => self.wake(List::Pools),
                Concerns::People => self.wake(List::People),
                Concerns::Infra => self.wake(List::Infra),
                Concerns::Queue => self.refresh_queue(cluster),
            }
        }
    }

    fn refresh_queue(&self, cluster: Option<&str>) {
        let named = |key: &Key| {
            let row = self.hub.get(key);
            row.is_some_and(|row| cluster.is_none_or(|name| *row.name() == *name))
        };
        self.focus.send_if_modified(|focus| {
            let mut any = false;
            for (key, refreshes) in focus.iter_mut() {
                if key.kind() == Some(Kind::Cluster) && named(key) {
                    *refreshes += 1;
                    any = true;
                }
            }
            any
        });
    }

    /// Watches until `stop`.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        self.board.tick();
        let mut tasks = JoinSet::new();
        tasks.spawn(self.clone().health());
        tasks.spawn(self.clone().focused());
        tasks.spawn(self.clone().census());
        tasks.spawn(self.clone().escort());
        for list in List::ALL {
            tasks.spawn(self.clone().watch(list));
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                // A task ends only by a panic. What it watched would stand still unnoticed.
                Some(ended) = tasks.join_next() => {
                    tracing::error!(source = %self.name, ?ended, "a part of the watch ended");
                    self.board.failed(Kind::Source, "a part of the watch failed: restart skytower".into());
                }
            }
        }
        tasks.shutdown().await;
    }

    async fn watch(self: Arc<Self>, list: List) {
        let mut failures = 0;
        let mut books = Books::default();
        let mut link = self.link.subscribe();
        let mut watchers = self.hub.watchers();
        loop {
            if link.wait_for(|up| *up).await.is_err() {
                return;
            }
            let wake = self.wakes.get(&list);
            if let Some(wake) = wake {
                // Whoever asked before this look began is served by it.
                let _ = wake.notified().now_or_never();
            }
            let started = Instant::now();
            let looked = self.look(list, &mut books).await;
            let took = started.elapsed();
            let floor = list.floor(&self.pace);
            // Taken once: whoever comes after this cuts the long wait that nobody's watching made.
            let unwatched = *watchers.borrow_and_update() == 0;
            let slower = if unwatched {
                self.pace.unwatched.max(1)
            } else {
                1
            };
            let mut pause = match looked {
                Ok(Look::Done) => {
                    failures = 0;
                    wait(floor, took, 0, slower)
                }
                Ok(Look::Again) => {
                    failures = 0;
                    self.pace.gap
                }
                Err(error) => {
                    failures += 1;
                    self.blame(list, &error);
                    wait(floor, took, failures, slower)
                }
            };
            // A wake does not cut the wait below the gap: whoever asks often is served once.
            tokio::time::sleep(self.pace.gap.min(pause)).await;
            pause = pause.saturating_sub(self.pace.gap);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = async { match wake { Some(wake) => wake.notified().await, None => std::future::pending().await } } => {}
                _ = watchers.wait_for(|count| *count > 0), if unwatched => {}
            }
        }
    }

    async fn look(&self, list: List, books: &mut Books) -> Result<Look, CallError> {
        match list {
            List::Requests => self.look_at_requests(books).await,
            List::Clusters => self.look_at_clusters(books).await,
            List::Jobs => self.look_at_jobs(books).await,
            List::Services => self.look_at_served(Served::Service, books).await,
            List::Pools => self.look_at_served(Served::Pool, books).await,
            List::People => self.look_at_people().await,
            List::Infra => self.look_at_infra().await,
        }
    }

    /// Says why a list could not be read. Its rows stay.
    fn blame(&self, list: List, error: &CallError) {
        let kind = list.kind();
        match error {
            CallError::Unreachable { .. }
            | CallError::Lost { .. }
            | CallError::NeedsAuth { .. }
            | CallError::VersionMismatch(_) => {
                // Not this list's fault: let the probe say what it is.
                self.health_wake.notify_one();
                if list == List::Requests {
                    return;
                }
            }
            _ => {}
        }
        if error.is_failure("ClusterNotUpError") || error.is_failure("ClusterDoesNotExist") {
            self.board.noted(
                kind,
                format!(
                    "the controller of {} is not up: the last known state is shown",
                    kind.plural()
                )
                .into(),
            );
            return;
        }
        if matches!(list, List::Services | List::Pools)
            && error.to_string().contains("network error")
        {
            self.board.noted(
                kind,
                format!(
                    "{} unknown: the SkyPilot API server found no network",
                    kind.plural()
                )
                .into(),
            );
            return;
        }
        self.board.failed(kind, self.words_for_all(error));
    }

    /// The keys of this source's rows of a kind that are not gone already.
    fn there(&self, kind: Kind) -> Vec<Key> {
        self.rows(kind, |row| {
            (row.phase() != skytower_api_client::Phase::Gone).then(|| row.key().clone())
        })
    }

    fn rows<T>(&self, kind: Kind, mut pick: impl FnMut(&Entity) -> Option<T>) -> Vec<T> {
        self.hub.read(|table| {
            table
                .rows(kind)
                .filter(|row| *row.source() == self.name)
                .filter_map(|row| pick(row))
                .collect()
        })
    }

    fn recent(&self) -> MutexGuard<'_, Vec<RequestRecord>> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The name of a user, as far as it was seen.
    fn user_name(&self, id: &str) -> Option<Text> {
        let row = self.hub.get(&Key::new(&self.name, Kind::User, id))?;
        Some(row.name().clone())
    }
}

/// What the tasks remember between two looks; each uses its own part.
#[derive(Debug, Default)]
struct Books {
    ledger: ledger::Ledger,
    requests: requests::Requests,
    jobs: jobs::Jobs,
    homes: home::Homes,
}

fn removal(key: Key, reason: &Text) -> Option<Change> {
    Some(Change::Remove {
        kind: key.kind()?,
        key,
        reason: reason.clone(),
    })
}
