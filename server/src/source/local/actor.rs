//! The engine's thread: takes messages in, writes down what follows, then does it.
//!
//! ```text
//! message -> Engine (pure) -> database (fsync) -> answers, effects, rows
//! ```
//!
//! Nothing is answered, started or shown before it is on the disk. Any number of messages that wait
//! together cost one write.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use skytower_api_client::entity::Source;
use skytower_api_client::phase::phase_of;
use skytower_api_client::wire::{Change, Problem};
use skytower_api_client::{Entity, EpochMs, Key, Kind, Text};
use tokio::runtime::Handle as Runtime;
use tokio::sync::{oneshot, watch};

use super::core::{Effect, Engine, Event, Order};
use super::fail;
use super::logs::{self, LogPlan};
use super::machine::disk_is_low;
use super::order::order;
use super::rows;
use super::sandbox;
use super::state::UnitStage;
use super::store::{Accepted, Store};
use crate::balancer::{self, Backend, Backends, Prober};
use crate::hub::Hub;
use crate::keeper::{Ended, Found, Handle, Keepers, Lost};
use crate::source::{Detail, Found as Lookup, Handover, HandoverError};

/// How often the disk is looked at, and whatever else nobody announces.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often a balancer's word is read.
const STANDING_EVERY: Duration = Duration::from_millis(250);
/// Messages that are taken together.
const BATCH: usize = 4096;
/// How long it waits before it tries again to write.
const WRITE_AGAIN: Duration = Duration::from_secs(1);
/// Set aside so that what must be written can be, on a disk that others have filled.
const BALLAST: u64 = 8 * 1024 * 1024;

/// What the engine's thread is told.
pub(super) enum Message {
    Submit {
        handover: Box<Handover>,
        reply: oneshot::Sender<Result<Text, HandoverError>>,
    },
    Find {
        handover: Text,
        reply: oneshot::Sender<Result<Lookup, Problem>>,
    },
    /// What was said when an order was accepted.
    Said {
        upstream: Text,
        reply: oneshot::Sender<Option<Text>>,
    },
    Happened(Event),
    Focus {
        key: Key,
        looked_at: bool,
    },
    Detail {
        key: Key,
        reply: oneshot::Sender<Detail>,
    },
    Logs {
        key: Key,
        channel: crate::source::LogChannel,
        reply: oneshot::Sender<Option<LogPlan>>,
    },
    /// Something that is shown and does not come from the engine has changed.
    Look,
    Stop,
}

/// What others see of the engine at a glance.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Glance {
    pub busy: bool,
    pub labels: BTreeSet<Text>,
    pub workspaces: BTreeSet<Text>,
}

/// What the actor is made of.
pub(super) struct Parts {
    pub folder: PathBuf,
    pub program: PathBuf,
    pub hub: Arc<Hub>,
    pub store: Store,
    pub engine: Engine,
    pub keepers: Arc<Keepers>,
    pub runtime: Runtime,
    pub sender: Sender<Message>,
    pub glance: watch::Sender<Glance>,
    pub private: watch::Receiver<BTreeSet<Text>>,
    pub limits: Text,
}

type Answer = Box<dyn FnOnce() + Send>;

pub(super) struct Actor {
    parts: Parts,
    handles: HashMap<(u64, usize), Handle>,
    prober: Prober,
    focused: BTreeSet<Key>,
    published: BTreeMap<Key, Arc<Entity>>,
    said: HashMap<Text, Text>,
    looked_at: Option<EpochMs>,
    standings_at: Option<EpochMs>,
    stopping: bool,
}

impl Actor {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            parts,
            handles: HashMap::new(),
            prober: Prober::default(),
            focused: BTreeSet::new(),
            published: BTreeMap::new(),
            said: HashMap::new(),
            looked_at: None,
            standings_at: None,
            stopping: false,
        }
    }

    /// Runs until it is told to stop. What it started goes on.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        self.parts.engine.resume();
        self.tidy();
        loop {
            let wait = self.patience();
            let mut batch = Vec::new();
            match messages.recv_timeout(wait) {
                Ok(message) => batch.push(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while batch.len() < BATCH
                && let Ok(message) = messages.try_recv()
            {
                batch.push(message);
            }
            self.step(batch);
            if self.stopping {
                return;
            }
        }
    }

    fn patience(&self) -> Duration {
        if self.looked_at.is_none() {
            return Duration::ZERO;
        }
        let now = EpochMs::now();
        let until = |at: EpochMs| Duration::from_millis(at.since(now).max(0) as u64);
        let alarm = self.parts.engine.alarm().map_or(LOOK_EVERY, until);
        alarm.clamp(Duration::from_millis(10), LOOK_EVERY)
    }

    fn step(&mut self, batch: Vec<Message>) {
        let now = EpochMs::now();
        self.parts.engine.now = now;
        let disk = self.look_around(now);
        let mut answers: Vec<Answer> = Vec::new();
        let mut accepted = Vec::new();
        for message in batch {
            self.take(message, &mut answers, &mut accepted);
        }
        // Only a server that was given an order is ended on purpose: it has to be able to start.
        let fail_at = |place: &str, ordered: bool| {
            if ordered {
                fail::at(place);
            }
        };
        let ordered = !accepted.is_empty();
        fail_at("engine.ordered", ordered);
        let effects = self.parts.engine.settle(now);
        let changed = !self.parts.engine.state.dirty.is_empty();
        if changed || !accepted.is_empty() {
            self.write(&accepted);
            self.parts.engine.state.dirty.clear();
        }
        fail_at("engine.written", ordered);
        for answer in answers {
            answer();
        }
        fail_at("engine.answered", ordered);
        for effect in effects {
            self.carry_out(effect);
        }
        fail_at("engine.carried_out", ordered);
        if changed || self.published.is_empty() {
            self.publish();
        }
        fail_at("engine.shown", ordered);
        // Last: who sees that the engine is well sees all that it has.
        if let Some((low, first)) = disk {
            self.publish_source(low, first);
        }
    }

    /// What nobody announces. Says whether there is room on the disk when it has looked, and whether
    /// that was the first time.
    fn look_around(&mut self, now: EpochMs) -> Option<(Option<Text>, bool)> {
        let mut disk = None;
        // Asked every time: it costs nothing beside a write, and a disk fills up in a moment.
        let low = disk_is_low(&self.parts.folder);
        self.parts.engine.take(Event::Disk(low.clone()));
        let due = |at: Option<EpochMs>, every: Duration| {
            at.is_none_or(|at| now.since(at) >= every.as_millis() as i64)
        };
        if due(self.looked_at, LOOK_EVERY) {
            let first = self.looked_at.is_none();
            self.looked_at = Some(now);
            if low.is_none() {
                self.set_ballast_aside();
            }
            self.take_notes();
            disk = Some((low, first));
        }
        if due(self.standings_at, STANDING_EVERY) {
            self.standings_at = Some(now);
            let services = self.parts.engine.state.services.values();
            let names: Vec<Text> = services
                .filter(|service| service.ended_at.is_none())
                .map(|service| service.name.clone())
                .collect();
            for service in names {
                if let Some(standing) = balancer::read_standing(&self.balancer_folder(&service)) {
                    self.parts.engine.take(Event::Stands { service, standing });
                }
            }
        }
        disk
    }

    /// What keepers have to say of tasks that run.
    fn take_notes(&mut self) {
        let units: Vec<(u64, usize)> = self.handles.keys().copied().collect();
        for (work, unit) in units {
            let there = self.parts.engine.state.works.get(&work);
            let note = there.and_then(|there| self.parts.keepers.note(&there.unit_name(unit)));
            let note = note.map(Text::from);
            self.parts.engine.take(Event::Noted { work, unit, note });
        }
    }

    fn take(&mut self, message: Message, answers: &mut Vec<Answer>, accepted: &mut Vec<Accepted>) {
        match message {
            Message::Submit { handover, reply } => {
                let result = self.submit(&handover, accepted);
                answers.push(Box::new(move || {
                    let _ = reply.send(result);
                }));
            }
            Message::Find { handover, reply } => {
                let found = self.parts.store.accepted(&handover);
                let _ = reply.send(match found {
                    Ok(Some((upstream, _))) => Ok(Lookup::Accepted(upstream)),
                    Ok(None) => Ok(Lookup::NotThere),
                    Err(error) => Err(Problem::new("engine", 503, Text::from(error.to_string()))),
                });
            }
            Message::Said { upstream, reply } => {
                let _ = reply.send(self.said.get(&upstream).cloned());
            }
            Message::Happened(event) => {
                if let Event::Ended { work, unit, .. } = &event {
                    self.handles.remove(&(*work, *unit));
                }
                self.parts.engine.take(event);
            }
            Message::Focus { key, looked_at } => {
                if looked_at {
                    self.focused.insert(key);
                } else {
                    self.focused.remove(&key);
                }
                answers.push(Box::new(|| {}));
                self.publish();
            }
            Message::Detail { key, reply } => {
                let _ = reply.send(logs::detail(&self.parts.engine.state, &key));
            }
            Message::Logs {
                key,
                channel,
                reply,
            } => {
                let plan = logs::plan(&self.parts.engine.state, &self.parts.keepers, &key, channel);
                let _ = reply.send(plan);
            }
            Message::Look => self.publish(),
            Message::Stop => self.stopping = true,
        }
    }

    fn submit(
        &mut self,
        handover: &Handover,
        accepted: &mut Vec<Accepted>,
    ) -> Result<Text, HandoverError> {
        // After a crash it may be handed over again before anybody looked it up.
        if let Ok(Some((upstream, _))) = self.parts.store.accepted(&handover.id) {
            return Ok(upstream);
        }
        let mut command = order(handover).map_err(HandoverError::Refused)?;
        if let Order::ServeUp { port, .. } = &mut command.order {
            let taken = self.parts.engine.state.services.values();
            let taken: Vec<u16> = taken
                .filter(|service| service.ended_at.is_none())
                .map(|service| service.port)
                .collect();
            *port = free_port(&taken).ok_or_else(|| {
                let detail = "no port from 30001 to 31000 is free for the load balancer";
                HandoverError::Refused(Problem::new("refused", 409, detail))
            })?;
        }
        let done = self
            .parts
            .engine
            .order(command)
            .map_err(HandoverError::Refused)?;
        let upstream = Text::new(done.key.as_str());
        if let Some(message) = &done.message {
            self.said.insert(upstream.clone(), message.clone());
        }
        accepted.push(Accepted {
            handover: handover.id.clone(),
            upstream: upstream.clone(),
            message: done.message,
        });
        Ok(upstream)
    }

    /// Writes until it is written: nothing goes on before.
    fn write(&mut self, accepted: &[Accepted]) {
        let mut complained = false;
        loop {
            let Err(error) = self.parts.store.save(&self.parts.engine.state, accepted) else {
                return;
            };
            let relieved = std::fs::remove_file(self.ballast()).is_ok();
            if !complained {
                tracing::error!(%error, "the engine cannot write its state; it waits until it can");
                complained = true;
            }
            if !relieved {
                self.publish_source(
                    Some(Text::from(format!("cannot write its state: {error}"))),
                    false,
                );
                std::thread::sleep(WRITE_AGAIN);
            }
        }
    }

    fn ballast(&self) -> PathBuf {
        self.parts.folder.join("ballast")
    }

    fn set_ballast_aside(&self) {
        let path = self.ballast();
        if path.exists() {
            return;
        }
        let mut only_ours = std::fs::OpenOptions::new();
        only_ours
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600);
        let made = only_ours.open(&path).and_then(|file| {
            let flags = rustix::fs::FallocateFlags::empty();
            rustix::fs::fallocate(&file, flags, 0, BALLAST).map_err(Into::into)
        });
        if let Err(error) = made {
            tracing::debug!(%error, "no ballast could be set aside");
        }
    }

    fn balancer_folder(&self, service: &str) -> PathBuf {
        self.parts
            .folder
            .join(format!("services/{service}/balancer"))
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Prepare(work) => self.prepare(work),
            Effect::Start { work, unit } => self.start(work, unit),
            Effect::Stop { work, unit } => {
                if let Some(handle) = self.handles.get(&(work, unit)) {
                    handle.stop();
                }
            }
            Effect::TellBalancer(service) => self.tell_balancer(&service),
            Effect::Probe { service, replica } => self.probe(service, replica),
            Effect::RemoveFolder(folder) => self.remove_folder(&folder),
            Effect::RemoveUnit(unit) => self.remove_unit(unit),
        }
    }

    fn happened(&self) -> impl Fn(Event) + Send + 'static {
        let sender = self.parts.sender.clone();
        move |event| {
            // The engine may have stopped: what happened is found again when it starts.
            let _ = sender.send(Message::Happened(event));
        }
    }

    fn prepare(&self, id: u64) {
        let Some(work) = self.parts.engine.state.works.get(&id) else {
            return;
        };
        let (engine, folder) = (
            self.parts.folder.clone(),
            self.parts.folder.join(&work.folder),
        );
        let (task, nodes, files) = (work.task.clone(), work.addresses.len(), work.with_files);
        let happened = self.happened();
        self.parts.runtime.spawn_blocking(move || {
            let result = if files {
                sandbox::prepare(&engine, &folder, nodes, &task)
            } else {
                std::fs::create_dir_all(&folder)
                    .map_err(|error| format!("cannot make {}: {error}", folder.display()))
            };
            let result = result.map_err(Text::from);
            happened(Event::Prepared { work: id, result });
        });
    }

    fn start(&mut self, id: u64, number: usize) {
        let Some(work) = self.parts.engine.state.works.get(&id) else {
            return;
        };
        let name = work.unit_name(number);
        let spec = super::environment::spec(
            &self.parts.engine.state,
            &self.parts.folder,
            &self.parts.program,
            work,
            number,
        );
        let stop = work.stop.is_some();
        let found = self.parts.keepers.look(&name, spec.generation);
        let handle = match found {
            Found::Running(handle) => handle,
            Found::Ended(exit) => return self.over(id, number, UnitStage::Ended(exit)),
            Found::Lost(lost) => return self.sweep(id, number, name, lost),
            // It may have run before the power went, and have been forgotten with it.
            Found::NeverStarted if work.boot != self.parts.engine.boot => {
                let why = Text::from("the machine was restarted");
                return self.over(id, number, UnitStage::Lost(why));
            }
            // A keeper that was on its way when the server before this one died never gets to start it.
            Found::NeverStarted
                if stop && self.parts.keepers.call_off(&name, 1).is_ok_and(|off| off) =>
            {
                let why = Text::from("it was called off before it began");
                return self.over(id, number, UnitStage::Lost(why));
            }
            Found::NeverStarted => match self.parts.keepers.start(&spec) {
                Ok(handle) => handle,
                Err(error) => {
                    let why = Text::from(format!("it could not be started: {error}"));
                    return self.over(id, number, UnitStage::Lost(why));
                }
            },
        };
        if stop {
            handle.stop();
        }
        self.handles.insert((id, number), handle.clone());
        let (happened, keepers) = (self.happened(), self.parts.keepers.clone());
        self.parts.runtime.spawn(async move {
            if handle.started().await.is_ok() {
                happened(Event::Began {
                    work: id,
                    unit: number,
                });
            }
            let stage = match handle.ended().await {
                Ended::Exit(exit) => UnitStage::Ended(exit),
                Ended::Lost(lost) => lost_stage(&keepers, &name, lost).await,
            };
            happened(Event::Ended {
                work: id,
                unit: number,
                stage,
            });
        });
    }

    fn over(&self, work: u64, unit: usize, stage: UnitStage) {
        let happened = self.happened();
        happened(Event::Ended { work, unit, stage });
    }

    fn sweep(&self, work: u64, unit: usize, name: String, lost: Lost) {
        let (happened, keepers) = (self.happened(), self.parts.keepers.clone());
        self.parts.runtime.spawn(async move {
            let stage = lost_stage(&keepers, &name, lost).await;
            happened(Event::Ended { work, unit, stage });
        });
    }

    fn tell_balancer(&self, name: &Text) {
        let Some(service) = self.parts.engine.state.services.get(name) else {
            return;
        };
        let net = self.parts.engine.state.counters.net;
        let port_of = |id: i64| {
            let replica = service.replicas.iter().find(|replica| replica.id == id)?;
            let task = service.versions.get(&replica.version)?;
            Some(task.service.as_ref()?.port)
        };
        let backends = service.told.iter().filter_map(|(id, address)| {
            let address = super::core::address(net, *address);
            Some(Backend {
                id: id.to_string(),
                address: SocketAddr::new(IpAddr::V4(address), port_of(*id)?),
            })
        });
        let policy = service
            .versions
            .get(&service.version)
            .and_then(|task| task.service.as_ref())
            .map(|spec| spec.load_balancing_policy)
            .unwrap_or_default();
        let told = Backends {
            revision: service.revision,
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), service.port),
            policy,
            backends: backends.collect(),
        };
        let folder = self.balancer_folder(name);
        let written = std::fs::create_dir_all(&folder)
            .and_then(|()| balancer::write_backends(&folder, &told));
        if let Err(error) = written {
            tracing::error!(%error, service = %name, "the load balancer could not be told");
        }
    }

    fn probe(&self, service: Text, replica: i64) {
        let there = self.parts.engine.state.services.get(&service);
        let Some((address, probe)) = there.and_then(|there| {
            let replica = there.replicas.iter().find(|r| r.id == replica)?;
            let spec = there.versions.get(&replica.version)?.service.as_ref()?;
            let ip = super::core::address(self.parts.engine.state.counters.net, replica.address);
            let address = SocketAddr::new(IpAddr::V4(ip), spec.port);
            Some((address, spec.readiness_probe.clone()))
        }) else {
            return;
        };
        let (happened, prober) = (self.happened(), self.prober);
        self.parts.runtime.spawn(async move {
            let result = prober.probe(address, &probe).await.map_err(Text::from);
            happened(Event::Probed {
                service,
                replica,
                result,
            });
        });
    }

    fn remove_unit(&self, unit: String) {
        let keepers = self.parts.keepers.clone();
        self.parts.runtime.spawn_blocking(move || {
            if let Err(error) = keepers.remove(&unit) {
                tracing::warn!(%error, unit, "what a unit left could not be removed");
            }
        });
    }

    /// Out of the way at once, so that its name can be used again; gone a little later.
    fn remove_folder(&self, folder: &str) {
        let path = self.parts.folder.join(folder);
        if !path.exists() {
            return;
        }
        let trash = self.parts.folder.join("trash");
        let away = trash.join(uuid::Uuid::new_v4().to_string());
        let mut only_ours = std::fs::DirBuilder::new();
        let only_ours = only_ours.recursive(true).mode(0o700);
        let moved = only_ours
            .create(&trash)
            .and_then(|()| std::fs::rename(&path, &away));
        if let Err(error) = moved {
            tracing::warn!(%error, folder, "a folder could not be moved away");
            return;
        }
        self.parts.runtime.spawn_blocking(move || {
            if let Err(error) = sandbox::remove(&away) {
                tracing::warn!(%error, "a folder could not be removed");
            }
        });
    }

    /// Removes what a crash left of things that are not there any more.
    fn tidy(&self) {
        let state = &self.parts.engine.state;
        let mut wanted: BTreeSet<String> = BTreeSet::new();
        for cluster in state.clusters.values() {
            if cluster.ended_at.is_none() {
                wanted.insert(format!("clusters/{}", cluster.name));
            }
        }
        for work in state.works.values().filter(|work| !work.is_over()) {
            wanted.insert(work.folder.clone());
        }
        for service in state.services.values() {
            if service.ended_at.is_none() {
                wanted.insert(format!("services/{}", service.name));
            }
        }
        for kind in ["clusters", "jobs", "services"] {
            for name in names_in(&self.parts.folder.join(kind)) {
                let folder = format!("{kind}/{name}");
                if !wanted.contains(&folder) {
                    self.remove_folder(&folder);
                }
            }
        }
        let trash = self.parts.folder.join("trash");
        self.parts
            .runtime
            .spawn_blocking(move || sandbox::remove(&trash));
        let works = state.works.values();
        let known: BTreeSet<String> = works
            .flat_map(|work| (0..work.units.len()).map(|unit| work.unit_name(unit)))
            .collect();
        // Listed before anything new is started.
        for unit in names_in(&self.parts.folder.join("units")) {
            if !known.contains(&unit) {
                self.remove_unit(unit);
            }
        }
    }

    /// Shows what changed.
    fn publish(&mut self) {
        let mut rows = rows::all(&self.parts.engine, &self.parts.private.borrow());
        for key in &self.focused {
            let Some(subject) = rows.get(key).cloned() else {
                continue;
            };
            for event in rows::events(&self.parts.engine.state, &subject) {
                rows.insert(event.key.clone(), Arc::new(event.into()));
            }
        }
        let mut changes = Vec::new();
        for (key, row) in &rows {
            if self.published.get(key) != Some(row) {
                changes.push(Change::Upsert(row.clone()));
            }
        }
        for (key, row) in &self.published {
            if !rows.contains_key(key) {
                changes.push(Change::Remove {
                    kind: row.kind(),
                    key: key.clone(),
                    reason: "it is over".into(),
                });
            }
        }
        if !changes.is_empty() {
            self.parts.hub.commit(changes);
        }
        self.published = rows;
        let glance = Glance {
            busy: self.parts.engine.is_busy(),
            labels: self.parts.engine.labels(),
            workspaces: self
                .published
                .values()
                .filter_map(|row| row.workspace().cloned())
                .collect(),
        };
        self.parts.glance.send_if_modified(|now| {
            let changed = *now != glance;
            *now = glance;
            changed
        });
    }

    fn publish_source(&self, low: Option<Text>, first: bool) {
        let error = low.map(|low| Text::from(low.trim_start_matches("waits for ").to_owned()));
        let status = if error.is_some() { "stale" } else { "healthy" };
        let row = source_row(status, error, None, Some(self.parts.limits.clone()));
        let now = EpochMs::now();
        // Times alone wake nobody.
        let same = !first
            && self.parts.hub.get(&row.key).is_some_and(|there| {
                there
                    .as_source()
                    .is_some_and(|there| there.error == row.error && there.status == row.status)
            });
        if !same {
            let row = Source {
                fetched_at: rows::looked_at(now),
                ..row
            };
            self.parts
                .hub
                .commit([Change::Upsert(Arc::new(row.into()))]);
        }
    }
}

/// The engine's own row.
pub(super) fn source_row(
    status: &str,
    error: Option<Text>,
    hint: Option<Text>,
    note: Option<Text>,
) -> Source {
    use skytower_api_client::action::LOCAL;
    Source {
        key: Key::new(LOCAL, Kind::Source, LOCAL),
        source: LOCAL.into(),
        name: LOCAL.into(),
        status: status.into(),
        phase: phase_of(Kind::Source, status),
        why: error.clone(),
        flavour: "local".into(),
        version: Some(crate::server::VERSION.into()),
        commit: Some(crate::server::COMMIT.into()),
        error,
        hint,
        notes: note.map(|note| (Kind::Source, note)).into_iter().collect(),
        ..Source::default()
    }
}

async fn lost_stage(keepers: &Keepers, name: &str, lost: Lost) -> UnitStage {
    let survivors = keepers.sweep(name).await;
    if survivors.is_empty() {
        return UnitStage::Lost(Text::from(lost.why));
    }
    let left: Vec<String> = survivors.iter().map(ToString::to_string).collect();
    UnitStage::Lost(Text::from(format!(
        "{}; processes {} would not end",
        lost.why,
        left.join(", ")
    )))
}

fn free_port(taken: &[u16]) -> Option<u16> {
    // The first port that a balancer takes, as SkyServe.
    (30001..31001).find(|port| {
        !taken.contains(port) && TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok()
    })
}

fn names_in(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}
