//! SkyPilot's API requests (`/api/status`): who does what to which cluster.

use serde::Deserialize;
use serde_json::value::RawValue;
use skytower_api_client::entity::{Owner, Request};
use skytower_api_client::phase::phase_of;
use skytower_api_client::{EpochMs, Key, Kind, Phase, Text};

use super::cluster::is_controller;
use super::values::{moment, word};
use super::{read, without};

/// What a request's end may have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source::skypilot) enum Concerns {
    /// Clusters.
    Clusters,
    /// The queue of the cluster it names.
    Queue,
    /// Managed jobs.
    Jobs,
    /// Services.
    Services,
    /// Pools.
    Pools,
    /// Users and workspaces.
    People,
    /// The infrastructure.
    Infra,
}

/// Requests that change something, and what: looked at again as soon as one ends.
const CHANGES: &[(&str, &[Concerns])] = &[
    ("launch", &[Concerns::Clusters, Concerns::Queue]),
    ("exec", &[Concerns::Queue]),
    ("stop", &[Concerns::Clusters]),
    ("down", &[Concerns::Clusters]),
    ("start", &[Concerns::Clusters]),
    ("autostop", &[Concerns::Clusters]),
    ("cancel", &[Concerns::Queue]),
    ("jobs.launch", &[Concerns::Jobs, Concerns::Pools]),
    ("jobs.launch_controller", &[Concerns::Jobs]),
    ("jobs.launch_cluster", &[Concerns::Jobs]),
    ("jobs.cancel", &[Concerns::Jobs, Concerns::Pools]),
    ("jobs.pool_apply", &[Concerns::Pools]),
    ("jobs.pool_down", &[Concerns::Pools]),
    ("serve.up", &[Concerns::Services]),
    ("serve.update", &[Concerns::Services]),
    ("serve.down", &[Concerns::Services]),
    ("serve.terminate_replica", &[Concerns::Services]),
    ("serve.launch_controller", &[Concerns::Services]),
    ("serve.launch_replica", &[Concerns::Services]),
    ("workspaces.create", &[Concerns::People]),
    ("workspaces.update", &[Concerns::People]),
    ("workspaces.delete", &[Concerns::People]),
    ("check", &[Concerns::Infra]),
];

/// Requests that only look. Polling makes thousands of them, skytower's own included.
const READS: &[&str] = &[
    "status",
    "queue",
    "logs",
    "endpoints",
    "job_status",
    "cost_report",
    "cluster_events",
    "hook_logs",
    "download_logs",
    "jobs.queue",
    "jobs.queue_v2",
    "jobs.events",
    "jobs.logs",
    "jobs.wait",
    "jobs.download_logs",
    "jobs.pool_status",
    "jobs.pool_logs",
    "jobs.pool_sync_down_logs",
    "serve.status",
    "serve.logs",
    "serve.sync_down_logs",
    "enabled_clouds",
    "enabled_clouds_batch",
    "all_contexts",
    "kubernetes_node_info",
    "realtime_kubernetes_gpu_availability",
    "realtime_slurm_gpu_availability",
    "slurm_node_info",
    "slurm_cluster_names",
    "status_kubernetes",
    "list_accelerators",
    "list_accelerator_counts",
    "optimize",
    "validate",
    "storage_ls",
    "volume_list",
    "workspaces.get",
    "workspaces.get_config",
    "recipes.list",
    "recipes.get",
];

/// What is asked for. Everything else would come back as a dummy.
pub(in crate::source::skypilot) const FIELDS: &[&str] = &[
    "request_id",
    "name",
    "status",
    "user_id",
    "cluster_name",
    "created_at",
    "finished_at",
    "status_msg",
];

/// A request as `/api/status` lists it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(in crate::source::skypilot) struct RequestRecord {
    pub(in crate::source::skypilot) request_id: String,
    pub(in crate::source::skypilot) name: String,
    pub(in crate::source::skypilot) status: String,
    pub(in crate::source::skypilot) user_id: Option<String>,
    pub(in crate::source::skypilot) cluster_name: Option<String>,
    pub(in crate::source::skypilot) created_at: Option<f64>,
    pub(in crate::source::skypilot) finished_at: Option<f64>,
    pub(in crate::source::skypilot) status_msg: Option<String>,
}

impl RequestRecord {
    /// Reads a record.
    pub(in crate::source::skypilot) fn read(raw: &RawValue) -> Result<Self, Text> {
        let record: Self = read(raw)?;
        if record.request_id.is_empty() {
            return Err(without("request_id"));
        }
        Ok(record)
    }

    /// Nothing more will happen to it.
    pub(in crate::source::skypilot) fn is_over(&self) -> bool {
        self.phase().is_over()
    }

    /// Its name without `sky.`.
    pub(in crate::source::skypilot) fn verb(&self) -> &str {
        self.name.strip_prefix("sky.").unwrap_or(&self.name)
    }

    /// When it was made.
    pub(in crate::source::skypilot) fn began(&self) -> Option<EpochMs> {
        moment(self.created_at)
    }

    /// When it ended.
    pub(in crate::source::skypilot) fn ended(&self) -> Option<EpochMs> {
        moment(self.finished_at).filter(|_| self.is_over())
    }

    fn phase(&self) -> Phase {
        phase_of(Kind::Request, &self.status)
    }
}

/// It tells nobody anything: a daemon, or a look.
pub(in crate::source::skypilot) fn is_noise(record: &RequestRecord) -> bool {
    let internal = record
        .user_id
        .as_deref()
        .is_some_and(|user| user.starts_with("skypilot-system"));
    internal || !record.name.starts_with("sky.") || READS.contains(&record.verb())
}

/// What its end may have changed.
pub(in crate::source::skypilot) fn concerns(record: &RequestRecord) -> &'static [Concerns] {
    CHANGES
        .iter()
        .find(|(name, _)| *name == record.verb())
        .map_or(&[], |(_, concerns)| concerns)
}

/// Its row, which does not say in which workspace it is. `named` knows the names of users.
pub(in crate::source::skypilot) fn request(
    source: &Text,
    record: &RequestRecord,
    named: impl Fn(&str) -> Option<Text>,
) -> Request {
    let status = Text::new(&record.status);
    let action = Text::new(&record.name);
    // Requests on jobs and services name the controller's cluster, which tells people nothing.
    let target = word(record.cluster_name.clone()).filter(|name| !is_controller(name));
    Request {
        key: Key::new(source, Kind::Request, &record.request_id),
        source: source.clone(),
        name: action.clone(),
        owner: word(record.user_id.clone()).map(|id| Owner {
            name: named(&id).unwrap_or_else(|| id.clone()),
            id,
        }),
        workspace: None,
        phase: record.phase(),
        status,
        why: word(record.status_msg.clone()),
        refuses: Vec::new(),
        restricted: false,
        origin: "skypilot".into(),
        request_id: Text::new(&record.request_id),
        action,
        target,
        created_at: record.began(),
        ended_at: record.ended(),
        within: Vec::new(),
        results: Vec::new(),
    }
}
