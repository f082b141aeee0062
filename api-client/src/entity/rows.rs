//! The row of each kind. Field names are SkyPilot's where it has the thing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::holdings::Holding;
use super::row;
use crate::key::Key;
use crate::kind::Kind;
use crate::policy::OwnedReach;
use crate::text::Text;
use crate::time::EpochMs;

row! {
    /// Something a server watches, and how fresh what it says is.
    Source {
        /// Its address, without credentials; none for the local engine.
        #[serde(skip_serializing_if = "Option::is_none")]
        url: Option<Text>,
        /// What it is: `skypilot` or `local`.
        flavour: Text,
        /// Its version, as it says.
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<Text>,
        /// Its API version, as it says.
        #[serde(skip_serializing_if = "Option::is_none")]
        api_version: Option<Text>,
        /// Its commit, as it says.
        #[serde(skip_serializing_if = "Option::is_none")]
        commit: Option<Text>,
        /// Its last error in one sentence; none when all is well.
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<Text>,
        /// What to do about the error.
        #[serde(skip_serializing_if = "Option::is_none")]
        hint: Option<Text>,
        /// How long its last cheap answer took, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        latency_ms: Option<i64>,
        /// Per kind: when it was last read with success.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        fetched_at: BTreeMap<Kind, EpochMs>,
        /// Per kind: why it could not be read the last time.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        errors: BTreeMap<Kind, Text>,
        /// Per kind: a state that is no error but explains what is (not) there, such as a stopped controller.
        #[serde(skip_serializing_if = "BTreeMap::is_empty")]
        notes: BTreeMap<Kind, Text>,
    }
}

row! {
    /// A SkyPilot cluster (`/status`).
    Cluster {
        /// `Slurm (lab)`: cloud and region, as SkyPilot writes them.
        #[serde(skip_serializing_if = "Option::is_none")]
        infra: Option<Text>,
        /// The cloud alone.
        #[serde(skip_serializing_if = "Option::is_none")]
        cloud: Option<Text>,
        /// The region alone.
        #[serde(skip_serializing_if = "Option::is_none")]
        region: Option<Text>,
        /// Number of nodes.
        nodes: u32,
        /// `1x(gpus=A100:2, ...)`.
        #[serde(skip_serializing_if = "Option::is_none")]
        resources: Option<Text>,
        /// The same in full.
        #[serde(skip_serializing_if = "Option::is_none")]
        resources_full: Option<Text>,
        /// vCPUs per node; may end in `+`.
        #[serde(skip_serializing_if = "Option::is_none")]
        cpus: Option<Text>,
        /// Gigabytes per node; may end in `+`.
        #[serde(skip_serializing_if = "Option::is_none")]
        memory: Option<Text>,
        /// Accelerators per node, `A100:2`.
        #[serde(skip_serializing_if = "Option::is_none")]
        accelerators: Option<Text>,
        /// Accelerators over all nodes.
        #[serde(skip_serializing_if = "Option::is_none")]
        gpus: Option<f64>,
        /// When it was last launched.
        #[serde(skip_serializing_if = "Option::is_none")]
        launched_at: Option<EpochMs>,
        /// Idle minutes until autostop; none when it is off.
        #[serde(skip_serializing_if = "Option::is_none")]
        autostop: Option<i64>,
        /// Autostop tears it down instead of stopping it.
        #[serde(skip_serializing_if = "is_false")]
        autodown: bool,
        /// Its nodes, as the infrastructure calls them.
        #[serde(skip_serializing_if = "Option::is_none")]
        node_names: Option<Text>,
        /// The last thing that happened to it, as SkyPilot noted it.
        #[serde(skip_serializing_if = "Option::is_none")]
        last_event: Option<Text>,
        /// When it was torn down (tombstones only).
        #[serde(skip_serializing_if = "Option::is_none")]
        ended_at: Option<EpochMs>,
        /// A controller of jobs or services: protected.
        #[serde(skip_serializing_if = "is_false")]
        controller: bool,
        /// Launched for a managed job, a replica or a worker.
        #[serde(skip_serializing_if = "is_false")]
        managed: bool,
    }
}

row! {
    /// One task of a managed job (`/jobs/queue/v2`).
    Job {
        /// The managed job; the tasks of a pipeline or group share it.
        job_id: i64,
        /// The task within the job, from 0.
        task_id: i64,
        /// The job's name (the row's name is the task's in a pipeline).
        job_name: Text,
        /// When its controller took it up.
        #[serde(skip_serializing_if = "Option::is_none")]
        submitted_at: Option<EpochMs>,
        /// When it first ran.
        #[serde(skip_serializing_if = "Option::is_none")]
        started_at: Option<EpochMs>,
        /// When it ended.
        #[serde(skip_serializing_if = "Option::is_none")]
        ended_at: Option<EpochMs>,
        /// Seconds it ran, without gaps of recovery,.
        #[serde(skip_serializing_if = "Option::is_none")]
        duration_s: Option<f64>,
        /// How often it was recovered.
        #[serde(skip_serializing_if = "is_zero")]
        recoveries: i64,
        /// What it asked for.
        #[serde(skip_serializing_if = "Option::is_none")]
        resources: Option<Text>,
        /// Where it runs.
        #[serde(skip_serializing_if = "Option::is_none")]
        infra: Option<Text>,
        /// Accelerators it has or asked for, `A100:2`.
        #[serde(skip_serializing_if = "Option::is_none")]
        accelerators: Option<Text>,
        /// Their number over all nodes.
        #[serde(skip_serializing_if = "Option::is_none")]
        gpus: Option<f64>,
        /// Its pool, when it runs in one.
        #[serde(skip_serializing_if = "Option::is_none")]
        pool: Option<Text>,
        /// What the jobs controller does with it.
        #[serde(skip_serializing_if = "Option::is_none")]
        schedule_state: Option<Text>,
        /// The cluster it runs on.
        #[serde(skip_serializing_if = "Option::is_none")]
        cluster: Option<Text>,
        /// The cluster's nodes.
        #[serde(skip_serializing_if = "Option::is_none")]
        node_names: Option<Text>,
        /// Larger goes first.
        #[serde(skip_serializing_if = "Option::is_none")]
        priority: Option<i64>,
        /// It is one of a group that runs side by side (not one after the other).
        #[serde(skip_serializing_if = "is_false")]
        group: bool,
        /// In a group: the task whose end decides.
        #[serde(skip_serializing_if = "Option::is_none")]
        primary: Option<bool>,
        /// Batches done, for batch jobs.
        #[serde(skip_serializing_if = "Option::is_none")]
        batches_done: Option<i64>,
        /// Batches in all, for batch jobs.
        #[serde(skip_serializing_if = "Option::is_none")]
        batches_total: Option<i64>,
        /// The job that launched it, when a job did.
        #[serde(skip_serializing_if = "Option::is_none")]
        parent_job_id: Option<i64>,
    }
}

row! {
    /// A job in a cluster's queue (`/queue`), polled while somebody looks.
    ClusterJob {
        /// The cluster's key.
        cluster_key: Key,
        /// The cluster's name.
        cluster: Text,
        /// Its number in the cluster's queue.
        job_id: i64,
        /// When it was submitted.
        #[serde(skip_serializing_if = "Option::is_none")]
        submitted_at: Option<EpochMs>,
        /// When it started.
        #[serde(skip_serializing_if = "Option::is_none")]
        started_at: Option<EpochMs>,
        /// When it ended.
        #[serde(skip_serializing_if = "Option::is_none")]
        ended_at: Option<EpochMs>,
        /// What it uses.
        #[serde(skip_serializing_if = "Option::is_none")]
        resources: Option<Text>,
    }
}

row! {
    /// A SkyServe service (`/serve/status`).
    Service {
        /// The latest version.
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<i64>,
        /// The versions that serve now.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        active_versions: Vec<i64>,
        /// When it first became ready.
        #[serde(skip_serializing_if = "Option::is_none")]
        ready_since: Option<EpochMs>,
        /// Its address, as the source gives it.
        #[serde(skip_serializing_if = "Option::is_none")]
        endpoint: Option<Text>,
        /// Replicas that are ready.
        replicas_ready: u32,
        /// Replicas that are there, failed ones excepted.
        replicas_total: u32,
        /// Replicas wanted; none while the controller is out of reach.
        #[serde(skip_serializing_if = "Option::is_none")]
        replicas_target: Option<u32>,
        /// How it scales.
        #[serde(skip_serializing_if = "Option::is_none")]
        policy: Option<Text>,
        /// How it balances.
        #[serde(skip_serializing_if = "Option::is_none")]
        load_balancing: Option<Text>,
        /// What a replica asks for.
        #[serde(skip_serializing_if = "Option::is_none")]
        resources: Option<Text>,
        /// When it was torn down (tombstones only).
        #[serde(skip_serializing_if = "Option::is_none")]
        ended_at: Option<EpochMs>,
    }
}

row! {
    /// A replica of a service.
    Replica {
        /// The service's key.
        service_key: Key,
        /// The service's name.
        service: Text,
        /// Its number within the service.
        replica_id: i64,
        /// The version it serves.
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<i64>,
        /// Its address.
        #[serde(skip_serializing_if = "Option::is_none")]
        endpoint: Option<Text>,
        /// When it was launched.
        #[serde(skip_serializing_if = "Option::is_none")]
        launched_at: Option<EpochMs>,
        /// Where it runs.
        #[serde(skip_serializing_if = "Option::is_none")]
        infra: Option<Text>,
        /// What it has.
        #[serde(skip_serializing_if = "Option::is_none")]
        resources: Option<Text>,
        /// On spot machines.
        #[serde(skip_serializing_if = "is_false")]
        spot: bool,
    }
}

row! {
    /// A pool of workers (`/jobs/pool_status`).
    Pool {
        /// The latest version.
        #[serde(skip_serializing_if = "Option::is_none")]
        version: Option<i64>,
        /// When it first became ready.
        #[serde(skip_serializing_if = "Option::is_none")]
        ready_since: Option<EpochMs>,
        /// Workers that are ready.
        workers_ready: u32,
        /// Workers that are there, failed ones excepted.
        workers_total: u32,
        /// Workers wanted.
        #[serde(skip_serializing_if = "Option::is_none")]
        workers_target: Option<u32>,
        /// How it scales.
        #[serde(skip_serializing_if = "Option::is_none")]
        policy: Option<Text>,
        /// What a worker asks for.
        #[serde(skip_serializing_if = "Option::is_none")]
        resources: Option<Text>,
        /// When it was torn down (tombstones only).
        #[serde(skip_serializing_if = "Option::is_none")]
        ended_at: Option<EpochMs>,
    }
}

row! {
    /// A worker of a pool.
    Worker {
        /// The pool's key.
        pool_key: Key,
        /// The pool's name.
        pool: Text,
        /// Its number within the pool.
        worker_id: i64,
        /// When it was launched.
        #[serde(skip_serializing_if = "Option::is_none")]
        launched_at: Option<EpochMs>,
        /// Where it runs.
        #[serde(skip_serializing_if = "Option::is_none")]
        infra: Option<Text>,
        /// What it has.
        #[serde(skip_serializing_if = "Option::is_none")]
        resources: Option<Text>,
        /// Managed jobs that use it.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        used_by: Vec<i64>,
    }
}

row! {
    /// A person or a service account (`/users`). The counts are of what the server sees.
    User {
        /// The source's user id.
        user_id: Text,
        /// `admin`, `user` or `viewer`, where the source says.
        #[serde(skip_serializing_if = "Option::is_none")]
        role: Option<Text>,
        /// `basic`, `sa`, `sso`, `legacy` or `system`, where the source says.
        #[serde(skip_serializing_if = "Option::is_none")]
        user_type: Option<Text>,
        /// When the source first saw it.
        #[serde(skip_serializing_if = "Option::is_none")]
        created_at: Option<EpochMs>,
        /// Clusters that are up or coming up.
        clusters: u32,
        /// Managed jobs that run or wait.
        jobs: u32,
        /// Of those, the ones that wait.
        jobs_pending: u32,
        /// Managed jobs that failed, among those the server still shows.
        jobs_failed: u32,
        /// Services that are not down.
        services: u32,
        /// Accelerators held by clusters.
        gpus: f64,
        /// What they have besides, by who may know of it: the counts above are of what everybody may
        /// see, and each is sent the sum of what it may see. Never sent as it is.
        #[serde(skip)]
        holdings: Vec<Holding>,
        /// Who may know that there is such a person, where that is known only from what they have; empty
        /// where everybody may know. Never sent.
        #[serde(skip)]
        known_by: Vec<OwnedReach>,
    }
}

row! {
    /// A workspace (`/workspaces`).
    Workspace {
        /// Only for its members.
        private: bool,
        /// The source's own credentials may only look.
        read_only: bool,
        /// Clusters in it.
        clusters: u32,
        /// Managed jobs in it that run or wait.
        jobs: u32,
    }
}

row! {
    /// A node of the infrastructure (`/slurm_node_info`, `/kubernetes_node_info`), or an enabled cloud without nodes.
    Infra {
        /// `slurm/lab`, `kubernetes/ctx`, `aws`: as SkyPilot names it.
        infra: Text,
        /// Its partition or pool.
        #[serde(skip_serializing_if = "Option::is_none")]
        partition: Option<Text>,
        /// Type of its accelerators.
        #[serde(skip_serializing_if = "Option::is_none")]
        gpu_type: Option<Text>,
        /// Accelerators in all.
        #[serde(skip_serializing_if = "Option::is_none")]
        gpus_total: Option<i64>,
        /// Free accelerators; none when the source may not know.
        #[serde(skip_serializing_if = "Option::is_none")]
        gpus_free: Option<i64>,
        /// vCPUs in all.
        #[serde(skip_serializing_if = "Option::is_none")]
        cpus_total: Option<f64>,
        /// Free vCPUs.
        #[serde(skip_serializing_if = "Option::is_none")]
        cpus_free: Option<f64>,
        /// Memory in gigabytes.
        #[serde(skip_serializing_if = "Option::is_none")]
        memory_gb: Option<f64>,
        /// Free memory in gigabytes.
        #[serde(skip_serializing_if = "Option::is_none")]
        memory_free_gb: Option<f64>,
    }
}

/// How one target of a request fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Accepted, not handed over yet.
    #[default]
    Waiting,
    /// Handed over; the change was not seen yet.
    Submitted,
    /// The change was seen in the state.
    Done,
    /// It was so already: nothing to do.
    Unchanged,
    /// Refused beforehand, or failed.
    Failed,
    /// Withdrawn before it was handed over.
    Cancelled,
    /// Handed over, and what came of it cannot be known.
    Unknown,
}

impl Outcome {
    /// Nothing more will happen to this target.
    pub const fn is_over(self) -> bool {
        !matches!(self, Outcome::Waiting | Outcome::Submitted)
    }
}

/// One target of a request and its result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetResult {
    /// The row that was meant.
    pub key: Key,
    /// What people call it, `cluster/dev`.
    pub target: Text,
    /// Whose it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Text>,
    /// How it fared.
    pub outcome: Outcome,
    /// A sentence about it: what happened, or why not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Text>,
    /// The source's own request, once it was handed over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Text>,
}

row! {
    /// An asynchronous request. `origin` says whose: skytower's own action, or SkyPilot's API request.
    Request {
        /// `skytower` or `skypilot`.
        origin: Text,
        /// The request's id at its origin.
        request_id: Text,
        /// The action's id (`job.cancel`) or SkyPilot's name (`sky.launch`).
        action: Text,
        /// What it concerns, for people: a cluster, or the targets.
        #[serde(skip_serializing_if = "Option::is_none")]
        target: Option<Text>,
        /// When it was made.
        #[serde(skip_serializing_if = "Option::is_none")]
        created_at: Option<EpochMs>,
        /// When it ended.
        #[serde(skip_serializing_if = "Option::is_none")]
        ended_at: Option<EpochMs>,
        /// The workspaces of all that it names, qualified: whoever may not see each of them does not see
        /// the request. Empty where its own workspace says it all.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        within: Vec<Text>,
        /// Its targets with their results (skytower's own only).
        #[serde(skip_serializing_if = "Vec::is_empty")]
        results: Vec<TargetResult>,
    }
}

row! {
    /// Something that happened to a cluster or a job. Present while somebody looks at the subject.
    Event {
        /// The cluster or job.
        subject: Key,
        /// When it happened.
        at: EpochMs,
        /// What happened, as SkyPilot noted it.
        text: Text,
    }
}

row! {
    /// An entry of the server's audit; for administrators. Its name is the action, its owner who did it,
    /// its status what came of it, and its reason the details. It never changes.
    AuditEntry {
        /// Its number: one more than the entry before.
        seq: i64,
        /// When it was written.
        at: EpochMs,
        /// The role of whoever it was.
        #[serde(skip_serializing_if = "str::is_empty")]
        role: Text,
        /// How they had proved who they are: `password`, `token 1f2e…`, `local`.
        #[serde(skip_serializing_if = "str::is_empty")]
        proof: Text,
        /// From where.
        #[serde(skip_serializing_if = "str::is_empty")]
        address: Text,
        /// What was done: an action's id, or another word of the same form.
        action: Text,
        /// To what.
        #[serde(skip_serializing_if = "str::is_empty")]
        target: Text,
        /// The id of the request, where it was one.
        #[serde(skip_serializing_if = "str::is_empty")]
        request: Text,
        /// The hash of this entry and, by the one before, of all before it; hexadecimal.
        hash: Text,
    }
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_false(flag: &bool) -> bool {
    !*flag
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}
