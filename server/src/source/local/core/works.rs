//! Works: files, then setup on every node, then the commands on every node; together or not at all.

use skytower_api_client::{EpochMs, Text};

use super::{Effect, Engine};
use crate::keeper;
use crate::source::local::state::{End, Purpose, Stage, Unit, UnitStage, Work};

impl Engine {
    pub(super) fn prepared(&mut self, id: u64, result: Result<(), Text>) {
        let (now, boot) = (self.now, self.boot.clone());
        let Some(work) = self.state.works.get(&id) else {
            return;
        };
        if work.stage != Stage::Preparing {
            return;
        }
        let Some(work) = self.state.work_mut(&id) else {
            return;
        };
        match result {
            Err(why) => end(work, End::FailedFiles(why), now),
            Ok(()) if work.stop.is_some() => end(work, End::Stopped, now),
            Ok(()) => begin(work, &boot),
        }
        self.changed = true;
        self.start_wanted(id);
    }

    pub(super) fn began(&mut self, id: u64, unit: usize) {
        let there = self
            .state
            .works
            .get(&id)
            .and_then(|work| work.units.get(unit));
        if there.is_none_or(|unit| unit.stage != UnitStage::Wanted) {
            return;
        }
        let now = self.now;
        if let Some(work) = self.state.work_mut(&id) {
            work.units[unit].stage = UnitStage::Running;
            work.started_at.get_or_insert(now);
            self.changed = true;
        }
    }

    pub(super) fn ended(&mut self, id: u64, unit: usize, stage: UnitStage) {
        let there = self
            .state
            .works
            .get(&id)
            .and_then(|work| work.units.get(unit));
        if there.is_none_or(Unit::is_over) {
            return;
        }
        if let Some(work) = self.state.work_mut(&id) {
            if let UnitStage::Ended(exit) = &stage {
                work.started_at.get_or_insert(EpochMs(exit.started_at_ms));
            }
            work.units[unit].stage = stage;
            self.changed = true;
        }
    }

    /// For people, while it runs: it has stopped itself, or its log is cut.
    pub(super) fn noted(&mut self, id: u64, unit: usize, note: Option<Text>) {
        let Some(work) = self.state.works.get(&id).filter(|work| work.holds()) else {
            return;
        };
        let note = note.map(|note| match work.units.get(unit) {
            Some(there) if work.addresses.len() > 1 => {
                Text::from(format!("node {}: {note}", there.node))
            }
            _ => note,
        });
        let other = work
            .noted
            .iter()
            .find(|(n, _)| *n == unit)
            .map(|(_, text)| text);
        if other != note.as_ref()
            && let Some(work) = self.state.work_mut(&id)
        {
            work.noted.retain(|(n, _)| *n != unit);
            work.noted.extend(note.map(|note| (unit, note)));
            self.changed = true;
        }
    }

    pub(super) fn step_works(&mut self) {
        let live: Vec<u64> = self.live.iter().copied().collect();
        for id in live {
            if self.work_is_over(id) {
                continue;
            }
            self.step_work(id);
            let cluster = self.state.works.get(&id).and_then(|work| {
                let Purpose::ClusterJob { cluster, .. } = &work.purpose else {
                    return None;
                };
                work.is_over().then(|| cluster.clone())
            });
            if let Some(cluster) = cluster {
                self.cluster_was_active(&cluster);
            }
        }
    }

    fn step_work(&mut self, id: u64) {
        let Some(work) = self.state.works.get(&id) else {
            return;
        };
        let setup = match work.stage {
            Stage::Waiting if work.stop.is_some() => {
                let now = self.now;
                if let Some(work) = self.state.work_mut(&id) {
                    end(work, End::Stopped, now);
                }
                self.changed = true;
                return;
            }
            Stage::Waiting | Stage::Preparing | Stage::Ended(_) => return,
            Stage::Setup => true,
            Stage::Run => false,
        };
        let present = || {
            let units = work.units.iter().enumerate();
            units.filter(move |(_, unit)| unit.setup == setup)
        };
        let broken = present().any(|(_, unit)| unit.is_over() && !went_well(unit));
        if work.stop.is_some() || broken {
            // They are a gang: what is left of it waits for nobody.
            let rest: Vec<usize> = present()
                .filter(|(_, unit)| !unit.is_over())
                .map(|(number, _)| number)
                .collect();
            for unit in rest {
                if self.told.insert((id, unit)) {
                    self.effects.push(Effect::Stop { work: id, unit });
                }
            }
        }
        let Some(work) = self.state.works.get(&id) else {
            return;
        };
        let units = || work.units.iter().filter(|unit| unit.setup == setup);
        if !units().all(Unit::is_over) {
            return;
        }
        let outcome = outcome(work, setup);
        let (now, boot) = (self.now, self.boot.clone());
        if let Some(work) = self.state.work_mut(&id) {
            match outcome {
                None => {
                    work.stage = Stage::Run;
                    add_units(work, false, &boot);
                }
                Some(ended) => end(work, ended, now),
            }
        }
        self.changed = true;
        self.start_wanted(id);
    }

    /// Asks for the units that were just added.
    pub(super) fn start_wanted(&mut self, id: u64) {
        let Some(work) = self.state.works.get(&id).filter(|work| work.holds()) else {
            return;
        };
        for (number, unit) in work.units.iter().enumerate() {
            let effect = Effect::Start {
                work: id,
                unit: number,
            };
            if unit.stage == UnitStage::Wanted && !self.effects.contains(&effect) {
                self.effects.push(effect);
            }
        }
    }
}

/// From its files to its first commands.
fn begin(work: &mut Work, boot: &Text) {
    let setup = work.with_setup && work.task.setup.is_some();
    work.stage = if setup { Stage::Setup } else { Stage::Run };
    add_units(work, setup, boot);
}

fn add_units(work: &mut Work, setup: bool, boot: &Text) {
    work.boot = boot.clone();
    let runs = setup || work.task.run.is_some();
    let nodes = if runs { work.addresses.len() } else { 0 };
    work.units.extend((0..nodes).map(|node| Unit {
        node,
        setup,
        stage: UnitStage::Wanted,
    }));
}

fn end(work: &mut Work, how: End, now: EpochMs) {
    work.stage = Stage::Ended(how);
    work.ended_at = Some(now);
    work.why = None;
    work.noted.clear();
}

fn went_well(unit: &Unit) -> bool {
    matches!(&unit.stage, UnitStage::Ended(exit) if exit.end == keeper::End::Code(0))
}

/// What the end of all units of a phase means; none when the next phase follows.
fn outcome(work: &Work, setup: bool) -> Option<End> {
    let units = || work.units.iter().filter(|unit| unit.setup == setup);
    if units().all(went_well) {
        return match (setup, &work.stop) {
            (true, None) => None,
            (true, Some(_)) => Some(End::Stopped),
            (false, _) => Some(End::Succeeded),
        };
    }
    let left: Vec<String> = units()
        .filter_map(|unit| match &unit.stage {
            UnitStage::Ended(exit) => Some(&exit.survivors),
            _ => None,
        })
        .flatten()
        .map(ToString::to_string)
        .collect();
    if work.stop.is_some() && left.is_empty() {
        return Some(End::Stopped);
    }
    let lost = units().find_map(|unit| match &unit.stage {
        UnitStage::Lost(why) => Some(why.clone()),
        _ => None,
    });
    if let Some(why) = lost {
        return Some(End::Lost(why));
    }
    // The first that broke by itself: the others were only told to end.
    let first = units()
        .filter(|unit| !went_well(unit))
        .filter_map(|unit| match &unit.stage {
            UnitStage::Ended(exit) => Some((unit.node, exit)),
            _ => None,
        })
        .min_by_key(|(node, exit)| (exit.stopped, exit.ended_at_ms, *node));
    let mut why = first.map_or_else(String::new, |(node, exit)| {
        let reason = exit_reason(exit);
        if work.addresses.len() > 1 {
            format!("node {node}: {reason}")
        } else {
            reason
        }
    });
    if !left.is_empty() {
        why = format!("{why}; processes {} would not end", left.join(", "));
    }
    let why = Text::from(why);
    Some(if setup {
        End::FailedSetup(why)
    } else {
        End::Failed(why)
    })
}

/// For people: how a process ended.
pub(in crate::source::local) fn exit_reason(exit: &keeper::Exit) -> String {
    let mut reason = match &exit.end {
        keeper::End::Code(code) => match code {
            126 => "exit code 126: a command could not be executed".to_owned(),
            127 => "exit code 127: a command was not found".to_owned(),
            code => format!("exit code {code}"),
        },
        keeper::End::Signal(signal) => format!("ended by {}", signal_name(*signal)),
        keeper::End::NotStarted { reason } => reason.clone(),
    };
    if let Some(note) = &exit.note {
        reason = format!("{reason}; {note}");
    }
    reason
}

fn signal_name(number: i32) -> String {
    let name = match number {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        24 => "SIGXCPU",
        25 => "SIGXFSZ",
        _ => return format!("signal {number}"),
    };
    format!("signal {number} ({name})")
}
