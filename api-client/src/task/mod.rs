//! SkyPilot's task YAML, as far as the local engine can honour it.
//!
//! The client reads a file to show what it would start; the server reads the same text again before it
//! starts anything. A field that cannot be honoured is a [`Mistake`], never dropped.

mod names;
mod parse;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

pub use names::{is_cluster_name, is_task_name, is_variable_name};
pub use parse::{Given, parse};

use crate::text::Text;

/// A task file: one task, or the tasks of a pipeline in their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TaskFile {
    /// The name of the whole: the pipeline's, or that of its only task.
    pub name: Option<Text>,
    /// At least one.
    pub tasks: Vec<Task>,
}

/// One task. Field names are SkyPilot's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Task {
    /// What people call it.
    pub name: Option<Text>,
    /// The folder that is copied to every node, absolute. Commands run in it.
    pub workdir: Option<String>,
    /// How many nodes it runs on, at least 1.
    pub num_nodes: u32,
    /// What each node needs.
    pub resources: Resources,
    /// Environment variables; every one has a value.
    pub envs: BTreeMap<String, String>,
    /// Environment variables whose values are never shown.
    pub secrets: BTreeMap<String, String>,
    /// Where on a node (relative to its folder, or `~/…`) to what is copied there, absolute.
    pub file_mounts: BTreeMap<String, String>,
    /// Run once per node before the first run.
    pub setup: Option<String>,
    /// The commands; none for a cluster that only waits for jobs.
    pub run: Option<String>,
    /// It is a service.
    pub service: Option<ServiceSpec>,
}

impl Task {
    /// What it needs, in one line for the column `resources`, as SkyPilot writes it:
    /// `2x(gpus=A100:2, cpus=2, mem=4, ports=8080)`, nodes first. What the file does not say is left out; a
    /// file that says nothing needs `1x`. Memory is in gigabytes; of several ports, ranges are folded:
    /// `ports=8080,9000-9003`.
    pub fn resources_text(&self) -> Text {
        let needs = self.resources.needs();
        let nodes = self.num_nodes;
        if needs.is_empty() {
            format!("{nodes}x").into()
        } else {
            format!("{nodes}x({})", needs.join(", ")).into()
        }
    }
}

/// What a node needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// CPUs; `4+` counts as 4.
    pub cpus: Option<f64>,
    /// Gigabytes of memory.
    pub memory_gb: Option<f64>,
    /// Type and number of accelerators.
    pub accelerators: Option<(Text, u32)>,
    /// Ports that it listens on.
    pub ports: Vec<u16>,
    /// Autostop that the file asks for.
    pub autostop: Option<Autostop>,
    /// Managed jobs: how often it is started again after it failed by itself.
    pub max_restarts_on_errors: u32,
}

impl Resources {
    fn needs(&self) -> Vec<String> {
        let mut needs = Vec::new();
        if let Some((name, count)) = &self.accelerators {
            needs.push(format!("gpus={name}:{count}"));
        }
        if let Some(cpus) = self.cpus {
            needs.push(format!("cpus={}", short(cpus)));
        }
        if let Some(memory) = self.memory_gb {
            needs.push(format!("mem={}", short(memory)));
        }
        if !self.ports.is_empty() {
            needs.push(format!("ports={}", ranges(&self.ports).join(",")));
        }
        needs
    }
}

/// The number with two places behind the point, or as many as it takes to be more than zero.
fn short(number: f64) -> String {
    let rounded = (number * 100.0).round() / 100.0;
    if rounded > 0.0 { rounded } else { number }.to_string()
}

/// Ports that follow each other as one.
fn ranges(ports: &[u16]) -> Vec<String> {
    ports
        .chunk_by(|first, next| first.checked_add(1) == Some(*next))
        .filter_map(|run| match run {
            [] => None,
            [port] => Some(port.to_string()),
            [first, .., last] => Some(format!("{first}-{last}")),
        })
        .collect()
}

/// When an idle cluster ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Autostop {
    /// Idle minutes.
    pub idle_minutes: u32,
    /// Tear down instead of stop.
    pub down: bool,
}

/// How a service is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceSpec {
    /// How it is found out that a replica is ready.
    pub readiness_probe: Probe,
    /// The fewest replicas.
    pub min_replicas: u32,
    /// The most replicas; equal to the fewest where it does not scale.
    pub max_replicas: u32,
    /// Requests per second that one replica should get, where it scales.
    pub target_qps_per_replica: Option<f64>,
    /// Seconds of more load before replicas are added.
    pub upscale_delay_seconds: u32,
    /// Seconds of less load before replicas are taken away.
    pub downscale_delay_seconds: u32,
    /// The port that each replica listens on, on its own address.
    pub port: u16,
    /// How requests are spread.
    pub load_balancing_policy: LoadBalancing,
}

/// How requests are spread over replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoadBalancing {
    /// To the one with the fewest requests under way.
    #[default]
    LeastLoad,
    /// In turn.
    RoundRobin,
}

impl LoadBalancing {
    /// SkyPilot's word.
    pub const fn word(self) -> &'static str {
        match self {
            LoadBalancing::LeastLoad => "least_load",
            LoadBalancing::RoundRobin => "round_robin",
        }
    }
}

/// The readiness probe.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Probe {
    /// The path that is asked for; begins with `/`.
    pub path: String,
    /// Seconds that a new replica may take to become ready.
    pub initial_delay_seconds: u32,
    /// Seconds that an answer may take.
    pub timeout_seconds: u32,
    /// Sent as JSON with POST; GET when none.
    pub post_data: Option<String>,
    /// Sent along.
    pub headers: BTreeMap<String, String>,
}

impl Default for Probe {
    fn default() -> Self {
        Self {
            path: "/".to_owned(),
            // As SkyServe.
            initial_delay_seconds: 1200,
            timeout_seconds: 15,
            post_data: None,
            headers: BTreeMap::new(),
        }
    }
}

/// What is wrong in a task file, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// The file, as it was named.
    pub file: Text,
    /// The line, from 1; none when it is about the whole.
    pub line: Option<usize>,
    /// The field with its parents, `resources.use_spot`; none when it is not about one.
    pub field: Option<Text>,
    /// What is wrong, and what is possible here.
    pub message: Text,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(field) = &self.field {
            write!(f, ": {field}")?;
        }
        write!(f, ": {}", self.message)
    }
}

impl std::error::Error for Mistake {}
