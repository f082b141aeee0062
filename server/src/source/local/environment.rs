//! What a task is started with: its command and its environment. Nothing else is inherited.

use std::collections::BTreeMap;
use std::path::Path;

use super::sandbox::{self, WORKDIR};
use super::state::{Purpose, State, Work};
use crate::keeper::{Limits, Spec};

/// What tasks see of the server's own environment.
const INHERITED: &[&str] = &["PATH", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "TMPDIR"];
/// From SIGTERM to SIGKILL.
const GRACE_MS: u64 = 10_000;
/// Bytes of log kept of one unit.
const LOG_CAP: u64 = 256 * 1024 * 1024;
/// Processes that one unit may have where that can be limited.
const PROCESSES: u64 = 4096;

/// How a unit of a work is to be kept.
pub(super) fn spec(state: &State, engine: &Path, program: &Path, work: &Work, unit: usize) -> Spec {
    let (node, setup) = work
        .units
        .get(unit)
        .map_or((0, false), |unit| (unit.node, unit.setup));
    let name = work.unit_name(unit);
    let folder = engine.join(&work.folder);
    if let Purpose::Balancer { .. } = work.purpose {
        return Spec {
            unit: name,
            generation: 1,
            command: vec![
                program.to_string_lossy().into_owned(),
                "__balancer".to_owned(),
                folder.to_string_lossy().into_owned(),
            ],
            folder,
            env: inherited(),
            grace_ms: GRACE_MS,
            log_cap: LOG_CAP,
            limits: Limits::default(),
        };
    }
    let home = sandbox::node(&folder, node);
    let script = if setup {
        &work.task.setup
    } else {
        &work.task.run
    };
    let mut env = inherited();
    env.extend(work.env.clone());
    env.extend(names(state, program, work, node, &home));
    env.extend(work.task.envs.clone());
    env.extend(work.task.secrets.clone());
    Spec {
        unit: name,
        generation: 1,
        command: vec![
            shell().to_owned(),
            "-c".to_owned(),
            script.clone().unwrap_or_default(),
        ],
        folder: home.join(WORKDIR),
        env,
        grace_ms: GRACE_MS,
        log_cap: LOG_CAP,
        limits: Limits {
            memory_bytes: work
                .task
                .resources
                .memory_gb
                .map(|gb| (gb * 1024.0 * 1024.0 * 1024.0) as u64),
            cpus: work.task.resources.cpus,
            processes: Some(PROCESSES),
        },
    }
}

fn inherited() -> BTreeMap<String, String> {
    let mut env: BTreeMap<String, String> = INHERITED
        .iter()
        .filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?)))
        .collect();
    env.entry("PATH".to_owned())
        .or_insert_with(|| "/usr/local/bin:/usr/bin:/bin".to_owned());
    env
}

/// SkyPilot's variables, and where the node is.
fn names(
    state: &State,
    program: &Path,
    work: &Work,
    node: usize,
    home: &Path,
) -> BTreeMap<String, String> {
    let addresses: Vec<String> = work
        .addresses
        .iter()
        .map(|number| super::core::address(state.counters.net, *number).to_string())
        .collect();
    let nodes = work.addresses.len().max(1);
    let cards = work.accelerators.get(node).cloned().unwrap_or_default();
    let per_node = cards.len();
    let cards: Vec<String> = cards.iter().map(ToString::to_string).collect();
    let task_id = match &work.purpose {
        Purpose::ClusterJob { cluster, id } => format!("sky-{}_{cluster}_{id}", work.id),
        Purpose::JobTask { job, task } => format!("sky-managed-{}_{job}-{task}", work.id),
        Purpose::Replica { service, id } => format!("sky-{}_{service}-{id}", work.id),
        Purpose::Balancer { .. } | Purpose::Nothing => format!("sky-{}", work.id),
    };
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: String| env.insert(name.to_owned(), value);
    set("HOME", home.to_string_lossy().into_owned());
    set("SHELL", shell().to_owned());
    set("SKYPILOT_NODE_RANK", node.to_string());
    set("SKYPILOT_NODE_IPS", addresses.join("\n"));
    set("SKYPILOT_NUM_NODES", nodes.to_string());
    set("SKYPILOT_NUM_GPUS_PER_NODE", per_node.to_string());
    set("SKYPILOT_TASK_ID", task_id);
    set("SKYTOWER_BIN", program.to_string_lossy().into_owned());
    // Programs that print as they go are worth more when one sees it.
    set("PYTHONUNBUFFERED", "1".to_owned());
    if per_node > 0 {
        set("CUDA_VISIBLE_DEVICES", cards.join(","));
    }
    env
}

/// The shell of all commands: SkyPilot's where there is one.
fn shell() -> &'static str {
    let bash = "/bin/bash";
    if Path::new(bash).exists() {
        bash
    } else {
        "/bin/sh"
    }
}
