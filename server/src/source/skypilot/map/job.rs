//! Managed jobs (`/jobs/queue/v2`): one row per task.

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use skytower_api_client::entity::Job;
use skytower_api_client::phase::phase_of;
use skytower_api_client::{Key, Kind, Text};

use super::values::{accelerators, accelerators_in, infra, moment, nodes_in, owner, word};
use super::{read, without};

/// What is asked of jobs that are not over. Not `job_duration`, which would change every row at
/// every look: a client counts it from the start.
pub(in crate::source::skypilot) const LIVE_FIELDS: &[&str] = &[
    "job_id",
    "task_id",
    "job_name",
    "task_name",
    "workspace",
    "status",
    "schedule_state",
    "resources",
    "cluster_resources",
    "cloud",
    "region",
    "infra",
    "recovery_count",
    "details",
    "failure_reason",
    "user_name",
    "user_hash",
    "submitted_at",
    "start_at",
    "end_at",
    "priority",
    "pool",
    "current_cluster_name",
    "accelerators",
    "node_names",
    "execution",
    "is_job_group",
    "is_primary_in_job_group",
    "parent_job_id",
    "batch_total_batches",
    "batch_completed_batches",
];

/// What is asked of jobs that are over.
pub(in crate::source::skypilot) const FINAL_FIELDS: &[&str] = {
    const COUNT: usize = LIVE_FIELDS.len() + 1;
    const FIELDS: [&str; COUNT] = {
        let mut fields = ["job_duration"; COUNT];
        let mut i = 0;
        while i < LIVE_FIELDS.len() {
            fields[i] = LIVE_FIELDS[i];
            i += 1;
        }
        fields
    };
    &FIELDS
};

#[derive(Default, Deserialize)]
#[serde(default)]
struct JobRecord {
    job_id: Option<i64>,
    task_id: Option<i64>,
    job_name: Option<String>,
    task_name: Option<String>,
    job_duration: Option<f64>,
    workspace: Option<String>,
    status: Option<String>,
    schedule_state: Option<String>,
    resources: Option<String>,
    cluster_resources: Option<String>,
    cloud: Option<String>,
    region: Option<String>,
    infra: Option<String>,
    recovery_count: Option<i64>,
    details: Option<String>,
    failure_reason: Option<String>,
    user_name: Option<String>,
    user_hash: Option<String>,
    submitted_at: Option<f64>,
    start_at: Option<f64>,
    end_at: Option<f64>,
    priority: Option<i64>,
    pool: Option<String>,
    current_cluster_name: Option<String>,
    accelerators: Option<Value>,
    node_names: Option<String>,
    execution: Option<String>,
    is_job_group: Option<bool>,
    is_primary_in_job_group: Option<bool>,
    parent_job_id: Option<i64>,
    batch_total_batches: Option<i64>,
    batch_completed_batches: Option<i64>,
}

/// A task of a managed job.
pub(in crate::source::skypilot) fn job(source: &Text, raw: &RawValue) -> Result<Job, Text> {
    let record: JobRecord = read(raw)?;
    let job_id = record.job_id.ok_or_else(|| without("job_id"))?;
    let task_id = record.task_id.unwrap_or(0);
    let status = word(record.status).unwrap_or_else(|| "UNKNOWN".into());
    let phase = phase_of(Kind::Job, &status);
    let job_name = word(record.job_name).unwrap_or_else(|| format!("job {job_id}").into());
    let details = word(record.details);
    let failure = word(record.failure_reason);
    let why = if phase.is_over() {
        failure.or(details)
    } else {
        details.or(failure)
    };
    let requested = word(record.resources);
    let held = word(record.cluster_resources);
    let nodes = [&held, &requested]
        .into_iter()
        .find_map(|resources| nodes_in(resources.as_deref()?))
        .unwrap_or(1);
    let mut gpus = accelerators(record.accelerators.as_ref());
    for resources in [&held, &requested].into_iter().flatten() {
        if gpus.text.is_none() {
            gpus = accelerators_in(resources);
        }
    }
    let place = word(record.infra)
        .or_else(|| infra(word(record.cloud).as_ref(), word(record.region).as_ref()));
    Ok(Job {
        key: Key::new(source, Kind::Job, format_args!("{job_id}/{task_id}")),
        source: source.clone(),
        name: word(record.task_name).unwrap_or_else(|| job_name.clone()),
        owner: owner(record.user_hash, record.user_name),
        workspace: word(record.workspace),
        why,
        refuses: Vec::new(),
        restricted: false,
        job_id,
        task_id,
        job_name,
        submitted_at: moment(record.submitted_at),
        started_at: moment(record.start_at),
        ended_at: moment(record.end_at),
        duration_s: record
            .job_duration
            .filter(|seconds| phase.is_over() && *seconds > 0.0),
        recoveries: record.recovery_count.unwrap_or(0),
        resources: requested,
        infra: place,
        gpus: gpus.over(nodes),
        accelerators: gpus.text,
        pool: word(record.pool),
        schedule_state: word(record.schedule_state),
        cluster: word(record.current_cluster_name),
        node_names: word(record.node_names),
        priority: record.priority,
        group: record.is_job_group.unwrap_or(false)
            || record.execution.as_deref() == Some("parallel"),
        primary: record.is_primary_in_job_group,
        batches_done: record.batch_completed_batches,
        batches_total: record.batch_total_batches,
        parent_job_id: record.parent_job_id,
        status,
        phase,
    })
}
