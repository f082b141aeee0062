//! Decides what happens next. Pure: no clock, no disk, no process; [`Event`]s in, [`Effect`]s out.
//!
//! Every change marks its record; the actor writes those down before it carries out any effect, and an
//! effect that was lost in a crash follows from the state again ([`Engine::resume`]).

mod admit;
mod clusters;
mod command;
mod forget;
mod jobs;
mod services;
mod works;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use skytower_api_client::{EpochMs, Text};

pub(super) use command::{Command, Order};
pub(super) use services::{FAILURES_TOO_MANY, address};

use super::machine::Machine;
use super::state::{State, UnitStage};
use crate::balancer::Standing;

/// Something that happened outside.
#[derive(Debug)]
pub(super) enum Event {
    /// The files of a work are on its nodes, or why not.
    Prepared { work: u64, result: Result<(), Text> },
    /// A unit's program runs.
    Began { work: u64, unit: usize },
    /// A unit is over, and nothing of it is left but what its exit names.
    Ended {
        work: u64,
        unit: usize,
        stage: UnitStage,
    },
    /// What there is to say of a unit while it runs.
    Noted {
        work: u64,
        unit: usize,
        note: Option<Text>,
    },
    /// What a replica's probe said.
    Probed {
        service: Text,
        replica: i64,
        result: Result<(), Text>,
    },
    /// What a service's balancer says of itself.
    Stands { service: Text, standing: Standing },
    /// There is (again) room on the disk, or why nothing may start.
    Disk(Option<Text>),
}

/// Something to be done outside. All of them may be repeated.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Effect {
    /// Copy the files of a work to its nodes.
    Prepare(u64),
    /// Start a unit.
    Start { work: u64, unit: usize },
    /// End a unit.
    Stop { work: u64, unit: usize },
    /// Tell a service's balancer its backends.
    TellBalancer(Text),
    /// Ask a replica whether it is ready.
    Probe { service: Text, replica: i64 },
    /// Remove a folder, relative to the engine's.
    RemoveFolder(String),
    /// Remove what a unit left: its log and marks.
    RemoveUnit(String),
}

/// The engine's mind.
#[derive(Debug)]
pub(super) struct Engine {
    pub state: State,
    pub machine: Machine,
    /// The present life of the machine.
    pub boot: Text,
    pub now: EpochMs,
    effects: Vec<Effect>,
    /// Works that are not over.
    live: BTreeSet<u64>,
    /// Managed jobs that are not over.
    live_jobs: BTreeSet<i64>,
    /// Units that were told to end since this process began.
    told: BTreeSet<(u64, usize)>,
    /// When a replica was last asked, and whether its answer is outstanding.
    asked: BTreeMap<(Text, i64), (EpochMs, bool)>,
    standings: BTreeMap<Text, Standing>,
    disk: Option<Text>,
    changed: bool,
}

/// More rounds than any chain of consequences is long.
const ROUNDS: usize = 1000;

impl Engine {
    pub(super) fn new(state: State, machine: Machine, boot: Text, now: EpochMs) -> Self {
        let live = state.works.values().filter(|work| !work.is_over());
        let live = live.map(|work| work.id).collect();
        let live_jobs = state.jobs.values().filter(|job| !job.is_over());
        let live_jobs = live_jobs.map(|job| job.id).collect();
        Self {
            state,
            machine,
            boot,
            now,
            effects: Vec::new(),
            live,
            live_jobs,
            told: BTreeSet::new(),
            asked: BTreeMap::new(),
            standings: BTreeMap::new(),
            disk: None,
            changed: true,
        }
    }

    /// What a process that just took over has to do (again).
    pub(super) fn resume(&mut self) {
        for id in &self.live {
            let Some(work) = self.state.works.get(id) else {
                continue;
            };
            if work.stage == super::state::Stage::Preparing {
                self.effects.push(Effect::Prepare(*id));
            }
            for (number, unit) in work.units.iter().enumerate() {
                // A running one is found again by starting it: it never runs twice.
                if !unit.is_over() {
                    self.effects.push(Effect::Start {
                        work: *id,
                        unit: number,
                    });
                }
            }
        }
        let services = self.state.services.values();
        let told = services.map(|service| Effect::TellBalancer(service.name.clone()));
        self.effects.extend(told);
    }

    /// Takes an event in.
    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Prepared { work, result } => self.prepared(work, result),
            Event::Began { work, unit } => self.began(work, unit),
            Event::Ended { work, unit, stage } => self.ended(work, unit, stage),
            Event::Probed {
                service,
                replica,
                result,
            } => self.probed(&service, replica, result),
            Event::Stands { service, standing } => {
                self.standings.insert(service, standing);
            }
            Event::Noted { work, unit, note } => self.noted(work, unit, note),
            Event::Disk(low) => self.disk = low,
        }
    }

    /// Draws every consequence at this moment, and hands out what is to be done.
    pub(super) fn settle(&mut self, now: EpochMs) -> Vec<Effect> {
        self.now = now;
        for _ in 0..ROUNDS {
            self.changed = false;
            self.step_works();
            self.step_clusters();
            self.step_jobs();
            self.step_services();
            self.admit();
            if !self.changed {
                break;
            }
        }
        self.forget();
        self.live
            .retain(|id| self.state.works.get(id).is_some_and(|work| !work.is_over()));
        self.live_jobs
            .retain(|id| self.state.jobs.get(id).is_some_and(|job| !job.is_over()));
        let state = &self.state;
        self.told
            .retain(|(work, _)| state.works.get(work).is_some_and(|work| !work.is_over()));
        std::mem::take(&mut self.effects)
    }

    /// Something runs, waits or is watched: the engine has to stay.
    pub(super) fn is_busy(&self) -> bool {
        use super::state::ClusterStage as Cluster;
        !self.live.is_empty()
            || !self.live_jobs.is_empty()
            || self.state.services.values().any(|s| s.ended_at.is_none())
            || self.state.clusters.values().any(|cluster| {
                matches!(cluster.stage, Cluster::Stopping | Cluster::Downing)
                    || cluster.stage == Cluster::Up && cluster.autostop.is_some()
            })
    }

    /// The moment at which something is due without an event, when there is one.
    pub(super) fn alarm(&self) -> Option<EpochMs> {
        let clusters = self
            .state
            .clusters
            .values()
            .filter_map(|c| self.idle_alarm(c));
        let jobs = self.live_jobs.iter().filter_map(|id| {
            let tasks = &self.state.jobs.get(id)?.tasks;
            tasks.iter().filter_map(|task| task.again_at).min()
        });
        let services = self
            .state
            .services
            .values()
            .filter(|service| service.ended_at.is_none())
            .map(|_| EpochMs(self.now.0 + 500));
        clusters.chain(jobs).chain(services).min()
    }

    fn work_is_over(&self, id: u64) -> bool {
        self.state
            .works
            .get(&id)
            .is_none_or(super::state::Work::is_over)
    }

    /// Asks a work to end. It does when all its processes have.
    fn stop_work(&mut self, id: u64, why: &Text) {
        let stops = self
            .state
            .works
            .get(&id)
            .is_some_and(|work| !work.is_over() && work.stop.is_none());
        if stops && let Some(work) = self.state.work_mut(&id) {
            work.stop = Some(why.clone());
            self.changed = true;
        }
    }
}
