//! The infrastructure underneath: Slurm nodes, Kubernetes nodes, enabled clouds.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use skytower_api_client::entity::Infra;
use skytower_api_client::phase::phase_of;
use skytower_api_client::{Key, Kind, Phase, Text};

use super::values::word;
use super::{read, without};

#[derive(Default, Deserialize)]
#[serde(default)]
struct SlurmRecord {
    node_name: Option<String>,
    slurm_cluster_name: Option<String>,
    node_state: Option<String>,
    gpu_type: Option<String>,
    total_gpus: Option<i64>,
    free_gpus: Option<i64>,
    vcpu_count: Option<f64>,
    memory_gb: Option<f64>,
    free_vcpus: Option<f64>,
    free_alloc_memory_gb: Option<f64>,
    partition: Option<String>,
}

/// Slurm shortens its states and marks them: `alloc`, `mix-`, `down*`.
fn slurm_phase(state: &str) -> Phase {
    let plain = state
        .split('+')
        .next()
        .unwrap_or(state)
        .trim_end_matches(|c: char| !c.is_ascii_alphabetic())
        .to_lowercase();
    let long = match plain.as_str() {
        "alloc" | "comp" | "completing" => "allocated",
        "mix" => "mixed",
        "drng" | "drain" => "draining",
        "drained" => "drained",
        "fail" | "failing" | "inval" | "error" | "unk" => "down",
        other => other,
    };
    phase_of(Kind::Infra, long)
}

/// A node of `/slurm_node_info`.
pub(in crate::source::skypilot) fn slurm_node(
    source: &Text,
    raw: &RawValue,
) -> Result<Infra, Text> {
    let record: SlurmRecord = read(raw)?;
    let name = word(record.node_name).ok_or_else(|| without("node_name"))?;
    let infra = match word(record.slurm_cluster_name) {
        Some(cluster) => Text::from(format!("slurm/{cluster}")),
        None => "slurm".into(),
    };
    let status = word(record.node_state).unwrap_or_else(|| "UNKNOWN".into());
    Ok(Infra {
        key: Key::new(source, Kind::Infra, format_args!("{infra}/{name}")),
        source: source.clone(),
        name,
        phase: slurm_phase(&status),
        status,
        infra,
        partition: word(record.partition),
        gpu_type: word(record.gpu_type),
        gpus_total: record.total_gpus,
        gpus_free: record.free_gpus,
        cpus_total: record.vcpu_count,
        cpus_free: record.free_vcpus,
        memory_gb: record.memory_gb,
        memory_free_gb: record.free_alloc_memory_gb,
        ..Infra::default()
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct KubernetesAnswer {
    node_info_dict: BTreeMap<String, Box<RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct KubernetesRecord {
    accelerator_type: Option<String>,
    total: BTreeMap<String, i64>,
    free: BTreeMap<String, i64>,
    cpu_count: Option<f64>,
    memory_gb: Option<f64>,
    cpu_free: Option<f64>,
    memory_free_gb: Option<f64>,
    is_ready: Option<bool>,
    is_cordoned: Option<bool>,
}

/// The nodes of `/kubernetes_node_info` in one context, `kubernetes/ctx`.
pub(in crate::source::skypilot) fn kubernetes_nodes(
    source: &Text,
    infra: &str,
    raw: &RawValue,
) -> Result<Vec<Infra>, Text> {
    let answer: KubernetesAnswer = read(raw)?;
    let infra = Text::from(infra);
    let row = |(name, record): (String, Box<RawValue>)| {
        let record: KubernetesRecord = read(&record).unwrap_or_default();
        let status = match (record.is_ready, record.is_cordoned) {
            (Some(false), _) => "not_ready",
            (_, Some(true)) => "cordoned",
            _ => "ready",
        };
        // −1: the source may not list pods, so it does not know.
        let known = |map: &BTreeMap<String, i64>| map.values().copied().find(|count| *count >= 0);
        let positive = |number: Option<f64>| number.filter(|number| *number >= 0.0);
        let name = Text::from(name);
        Infra {
            key: Key::new(source, Kind::Infra, format_args!("{infra}/{name}")),
            source: source.clone(),
            name,
            status: status.into(),
            phase: phase_of(Kind::Infra, status),
            infra: infra.clone(),
            gpu_type: word(record.accelerator_type),
            gpus_total: known(&record.total),
            gpus_free: known(&record.free),
            cpus_total: positive(record.cpu_count),
            cpus_free: positive(record.cpu_free),
            memory_gb: positive(record.memory_gb),
            memory_free_gb: positive(record.memory_free_gb),
            ..Infra::default()
        }
    };
    Ok(answer.node_info_dict.into_iter().map(row).collect())
}

/// An enabled cloud whose nodes cannot be listed.
pub(in crate::source::skypilot) fn enabled_cloud(source: &Text, name: &str) -> Infra {
    let name = Text::new(name.to_lowercase());
    Infra {
        key: Key::new(source, Kind::Infra, &name),
        source: source.clone(),
        status: "enabled".into(),
        phase: phase_of(Kind::Infra, "enabled"),
        infra: name.clone(),
        name,
        ..Infra::default()
    }
}
