//! What this machine has.

use std::collections::BTreeSet;
use std::path::Path;

use skytower_api_client::Text;
use skytower_api_client::task::Task;

/// CPUs that a job takes which asks for none, as in SkyPilot.
const CPUS_UNASKED: f64 = 0.5;
/// Below this much free disk nothing is started.
const DISK_FLOOR: u64 = 64 * 1024 * 1024;

/// What this machine has for tasks.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Machine {
    pub host: Text,
    pub cpus: f64,
    pub memory_gb: f64,
    /// Their type; none when there are none.
    pub accelerator: Option<Text>,
    pub accelerators: u32,
}

impl Machine {
    /// Looks around.
    pub(super) fn here() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim();
        let cards = std::fs::read_dir("/dev")
            .map(|entries| {
                let names = entries.flatten().map(|entry| entry.file_name());
                names
                    .filter(|name| is_card(&name.to_string_lossy()))
                    .count()
            })
            .unwrap_or_default();
        let accelerator = (cards > 0).then(|| Text::from(card_type()));
        Self {
            host: Text::from(if host.is_empty() {
                "this machine"
            } else {
                host
            }),
            cpus: std::thread::available_parallelism().map_or(1.0, |n| n.get() as f64),
            memory_gb: memory_gb().unwrap_or(1.0),
            accelerator,
            accelerators: cards as u32,
        }
    }

    /// Why this can never run here.
    pub(super) fn impossible(&self, task: &Task) -> Option<String> {
        let nodes = f64::from(task.num_nodes.max(1));
        let need = Need::of(task);
        if need.cpus * nodes > self.cpus {
            return Some(format!(
                "it needs {} CPUs and this machine has {}",
                number(need.cpus * nodes),
                number(self.cpus)
            ));
        }
        if need.memory_gb * nodes > self.memory_gb {
            return Some(format!(
                "it needs {} GB of memory and this machine has {}",
                number(need.memory_gb * nodes),
                number(self.memory_gb)
            ));
        }
        let (kind, count) = task.resources.accelerators.as_ref()?;
        if count * task.num_nodes.max(1) > self.accelerators {
            return Some(match &self.accelerator {
                None => format!("it needs {kind}:{count} and this machine has no accelerators"),
                Some(here) => format!(
                    "it needs {kind}:{} and this machine has {here}:{}",
                    count * task.num_nodes.max(1),
                    self.accelerators
                ),
            });
        }
        let here = self.accelerator.as_deref().unwrap_or_default();
        (!here.eq_ignore_ascii_case(kind))
            .then(|| format!("it needs {kind} and this machine has {here}"))
    }
}

/// What one node of a task takes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Need {
    pub cpus: f64,
    pub memory_gb: f64,
    pub accelerators: u32,
}

impl Need {
    pub(super) fn of(task: &Task) -> Self {
        let resources = &task.resources;
        Self {
            cpus: resources.cpus.unwrap_or(CPUS_UNASKED),
            memory_gb: resources.memory_gb.unwrap_or_default(),
            accelerators: resources.accelerators.as_ref().map_or(0, |(_, n)| *n),
        }
    }
}

/// What is taken, added up.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Taken {
    pub cpus: f64,
    pub memory_gb: f64,
    pub accelerators: BTreeSet<u32>,
}

impl Taken {
    pub(super) fn add(&mut self, task: &Task, cards: &[Vec<u32>]) {
        let (need, nodes) = (Need::of(task), f64::from(task.num_nodes.max(1)));
        self.cpus += need.cpus * nodes;
        self.memory_gb += need.memory_gb * nodes;
        self.accelerators.extend(cards.iter().flatten());
    }

    /// The accelerators for each node; or why it has to wait.
    pub(super) fn fits(&self, task: &Task, machine: &Machine) -> Result<Vec<Vec<u32>>, String> {
        let (need, count) = (Need::of(task), task.num_nodes.max(1));
        let nodes = f64::from(count);
        // Sums of tenths are not exact.
        let slack = 1e-6;
        if self.cpus + need.cpus * nodes > machine.cpus + slack {
            return Err(format!(
                "waits for CPUs: needs {}, {} of {} are free",
                number(need.cpus * nodes),
                number((machine.cpus - self.cpus).max(0.0)),
                number(machine.cpus)
            ));
        }
        if self.memory_gb + need.memory_gb * nodes > machine.memory_gb + slack {
            return Err(format!(
                "waits for memory: needs {} GB, {} of {} GB are free",
                number(need.memory_gb * nodes),
                number((machine.memory_gb - self.memory_gb).max(0.0)),
                number(machine.memory_gb)
            ));
        }
        let mut free = (0..machine.accelerators).filter(|card| !self.accelerators.contains(card));
        let mut cards = Vec::new();
        for _ in 0..count {
            let node: Vec<u32> = free.by_ref().take(need.accelerators as usize).collect();
            if node.len() < need.accelerators as usize {
                return Err(format!(
                    "waits for accelerators: needs {}, {} of {} are free",
                    need.accelerators * count,
                    machine
                        .accelerators
                        .saturating_sub(self.accelerators.len() as u32),
                    machine.accelerators
                ));
            }
            cards.push(node);
        }
        Ok(cards)
    }
}

/// Why nothing may be started for lack of disk.
pub(super) fn disk_is_low(folder: &Path) -> Option<Text> {
    let there = rustix::fs::statvfs(folder).ok()?;
    let free = there.f_bavail.saturating_mul(there.f_frsize);
    (free < DISK_FLOOR).then(|| {
        Text::from(format!(
            "waits for disk space: {} MB are free",
            free / 1_000_000
        ))
    })
}

/// Without a fraction where there is none.
pub(super) fn number(value: f64) -> String {
    let rounded = (value * 100.0).round() / 100.0;
    format!("{rounded}")
}

fn is_card(name: &str) -> bool {
    name.strip_prefix("nvidia")
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
}

/// `A100` out of `NVIDIA A100-SXM4-40GB`, as the driver calls the first card.
fn card_type() -> String {
    let first = std::fs::read_dir("/proc/driver/nvidia/gpus")
        .ok()
        .and_then(|entries| entries.flatten().next())
        .and_then(|entry| std::fs::read_to_string(entry.path().join("information")).ok());
    let model = first.as_deref().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("Model:"))?;
        Some(line.trim_start_matches("Model:").trim().to_owned())
    });
    let model = model.unwrap_or_default();
    let word = model
        .split([' ', '-'])
        .find(|word| word.chars().any(|c| c.is_ascii_digit()));
    word.unwrap_or("GPU").to_owned()
}

fn memory_gb() -> Option<f64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some((kib / 1024.0 / 1024.0 * 10.0).round() / 10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine() -> Machine {
        Machine {
            host: "here".into(),
            cpus: 2.0,
            memory_gb: 8.0,
            accelerator: Some("A100".into()),
            accelerators: 4,
        }
    }

    fn asking(cpus: f64, cards: u32, nodes: u32) -> Task {
        let mut task = Task {
            num_nodes: nodes,
            ..Task::default()
        };
        task.resources.cpus = Some(cpus);
        task.resources.accelerators = (cards > 0).then(|| ("A100".into(), cards));
        task
    }

    #[test]
    fn what_fits_gets_cards_that_are_free_and_what_does_not_is_told_why() {
        let mut taken = Taken::default();
        let two = asking(0.5, 1, 2);
        let cards = taken.fits(&two, &machine()).unwrap();
        assert_eq!(cards, [vec![0], vec![1]]);
        taken.add(&two, &cards);
        assert_eq!(
            taken.fits(&asking(1.0, 2, 1), &machine()).unwrap(),
            [vec![2, 3]]
        );
        assert_eq!(
            taken.fits(&asking(1.5, 0, 1), &machine()).unwrap_err(),
            "waits for CPUs: needs 1.5, 1 of 2 are free"
        );
        assert_eq!(
            taken.fits(&asking(0.1, 3, 1), &machine()).unwrap_err(),
            "waits for accelerators: needs 3, 2 of 4 are free"
        );
    }

    #[test]
    fn what_can_never_run_is_told_at_once() {
        let machine = machine();
        assert_eq!(machine.impossible(&asking(2.0, 0, 1)), None);
        assert_eq!(
            machine.impossible(&asking(2.0, 0, 2)).unwrap(),
            "it needs 4 CPUs and this machine has 2"
        );
        let mut other = asking(1.0, 1, 1);
        other.resources.accelerators = Some(("H100".into(), 1));
        assert_eq!(
            machine.impossible(&other).unwrap(),
            "it needs H100 and this machine has A100"
        );
    }

    #[test]
    fn tenths_add_up() {
        let mut taken = Taken::default();
        for _ in 0..20 {
            let task = asking(0.1, 0, 1);
            let cards = taken.fits(&task, &machine()).unwrap();
            taken.add(&task, &cards);
        }
        assert!(taken.fits(&asking(0.1, 0, 1), &machine()).is_err());
    }
}
