//! Clusters (`/status`) and the jobs in their queues (`/queue`).

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use skytower_api_client::entity::{Cluster, ClusterJob};
use skytower_api_client::phase::phase_of;
use skytower_api_client::{Key, Kind, Phase, Text};

use super::refusal::refusals;
use super::values::{accelerators, accelerators_in, infra, moment, nodes_in, owner, word};
use super::{read, without};

#[derive(Default, Deserialize)]
#[serde(default)]
struct ClusterRecord {
    name: Option<String>,
    cluster_hash: Option<String>,
    launched_at: Option<f64>,
    status: Option<String>,
    autostop: Option<i64>,
    to_down: Option<bool>,
    user_hash: Option<String>,
    user_name: Option<String>,
    workspace: Option<String>,
    nodes: Option<u32>,
    cloud: Option<String>,
    region: Option<String>,
    cpus: Option<String>,
    memory: Option<String>,
    accelerators: Option<Value>,
    resources_str: Option<String>,
    resources_str_full: Option<String>,
    node_names: Option<String>,
    init_kind: Option<String>,
    init_status_reason: Option<String>,
    last_event: Option<String>,
    is_managed: Option<bool>,
}

/// A cluster that runs the controller of jobs or services.
pub(super) fn is_controller(name: &str) -> bool {
    name.starts_with("sky-jobs-controller-") || name.starts_with("sky-serve-controller-")
}

/// A cluster of `/status`.
pub(in crate::source::skypilot) fn cluster(source: &Text, raw: &RawValue) -> Result<Cluster, Text> {
    let record: ClusterRecord = read(raw)?;
    let name = word(record.name).ok_or_else(|| without("name"))?;
    // A name is used again after `sky down`; the hash is not.
    let hash = word(record.cluster_hash).unwrap_or_else(|| name.clone());
    let status = word(record.status).unwrap_or_else(|| "UNKNOWN".into());
    let unhealthy = record.init_kind.as_deref() == Some("unhealthy");
    let phase = match phase_of(Kind::Cluster, &status) {
        Phase::Starting if unhealthy => Phase::Degraded,
        phase => phase,
    };
    let cloud = word(record.cloud);
    let region = word(record.region);
    let resources = word(record.resources_str);
    let resources_full = word(record.resources_str_full);
    let shown = resources_full.as_ref().or(resources.as_ref());
    let nodes = record.nodes.or_else(|| nodes_in(shown?)).unwrap_or(1);
    let mut gpus = accelerators(record.accelerators.as_ref());
    if gpus.text.is_none()
        && let Some(shown) = shown
    {
        gpus = accelerators_in(shown);
    }
    let in_container = shown.is_some_and(|shown| shown.contains("docker:"));
    let last_event = word(record.last_event);
    Ok(Cluster {
        key: Key::new(source, Kind::Cluster, &hash),
        source: source.clone(),
        owner: owner(record.user_hash, record.user_name),
        workspace: word(record.workspace),
        phase,
        why: word(record.init_status_reason),
        refuses: refusals(cloud.as_deref(), in_container),
        restricted: false,
        infra: infra(cloud.as_ref(), region.as_ref()),
        cloud,
        region,
        nodes,
        resources,
        resources_full,
        cpus: word(record.cpus),
        memory: word(record.memory),
        gpus: gpus.over(nodes),
        accelerators: gpus.text,
        launched_at: moment(record.launched_at),
        autostop: record.autostop.filter(|minutes| *minutes >= 0),
        autodown: record.to_down.unwrap_or(false),
        node_names: word(record.node_names),
        last_event,
        ended_at: None,
        controller: is_controller(&name),
        managed: record.is_managed.unwrap_or(false),
        status,
        name,
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct QueueRecord {
    job_id: Option<i64>,
    job_name: Option<String>,
    username: Option<String>,
    user_hash: Option<String>,
    submitted_at: Option<f64>,
    start_at: Option<f64>,
    end_at: Option<f64>,
    resources: Option<String>,
    status: Option<String>,
}

/// A job in the queue of `cluster`.
pub(in crate::source::skypilot) fn queue(
    cluster: &Cluster,
    raw: &RawValue,
) -> Result<ClusterJob, Text> {
    let record: QueueRecord = read(raw)?;
    let job_id = record.job_id.ok_or_else(|| without("job_id"))?;
    let status = word(record.status).unwrap_or_else(|| "UNKNOWN".into());
    Ok(ClusterJob {
        key: Key::new(
            &cluster.source,
            Kind::ClusterJob,
            format_args!("{}/{job_id}", cluster.key.id()),
        ),
        source: cluster.source.clone(),
        name: word(record.job_name).unwrap_or_default(),
        owner: owner(record.user_hash, record.username),
        workspace: cluster.workspace.clone(),
        phase: phase_of(Kind::ClusterJob, &status),
        status,
        why: None,
        refuses: Vec::new(),
        restricted: cluster.restricted,
        cluster_key: cluster.key.clone(),
        cluster: cluster.name.clone(),
        job_id,
        submitted_at: moment(record.submitted_at),
        started_at: moment(record.start_at),
        ended_at: moment(record.end_at),
        resources: word(record.resources),
    })
}
