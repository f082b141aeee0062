//! The engine's thread: takes messages in, writes down what follows, then does it.
//!
//! ```text
//! message -> Engine (pure) -> database (fsync) -> answers, effects, rows
//! ```
//!
//! Nothing is answered, started or shown before it is on the disk. Any number of messages that wait
//! together cost one write.

mod effects;
mod showing;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use skytower_api_client::wire::Problem;
use skytower_api_client::{Entity, EpochMs, Key, Text};
use tokio::runtime::Handle as Runtime;
use tokio::sync::{oneshot, watch};

use super::core::{Engine, Event, Order};
use super::fail;
use super::logs::{self, LogPlan};
use super::machine::disk_is_low;
use super::order::order;
use super::store::{Accepted, Store};
use crate::balancer::{self, Prober};
use crate::hub::Hub;
use crate::keeper::{Handle, Keepers};
use crate::source::{Detail, Found as Lookup, Handover, HandoverError};

use effects::free_port;
pub(super) use showing::source_row;

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
}
