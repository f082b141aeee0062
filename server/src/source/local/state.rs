//! What the engine knows: plain values, written to its database one record at a time.
//!
//! Whatever runs is a [`Work`]: a task on its nodes, once. Queues, managed jobs and services make works
//! and look at how they end; they never touch a process.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use skytower_api_client::task::{Autostop, Task};
use skytower_api_client::{EpochMs, Text};

use crate::keeper::Exit;

/// Whose something is, and since when.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Belongs {
    /// Its owner's name, which is the id too.
    pub owner: Text,
    /// Its workspace.
    pub workspace: Text,
    /// The mark by which it can be cleared away.
    #[serde(default)]
    pub label: Option<Text>,
    /// Once it is over it is forgotten at once.
    #[serde(default)]
    pub cleared: bool,
    /// When it was asked for.
    pub created_at: EpochMs,
    /// The text it was made from, without the values of its secrets.
    #[serde(default)]
    pub yaml: String,
    /// The command that would make it again.
    #[serde(default)]
    pub entrypoint: Text,
}

impl Belongs {
    /// It is somebody else's, where this one need not be able to see it.
    pub(super) fn is_apart_from(&self, other: &Self) -> bool {
        self.owner != other.owner && self.workspace != other.workspace
    }
}

/// Something that happened, for people.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Happening {
    pub at: EpochMs,
    pub text: Text,
}

/// How many happenings are kept of one thing.
const HAPPENINGS: usize = 50;

/// What happened to one thing, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Story(pub Vec<Happening>);

impl Story {
    pub(super) fn add(&mut self, at: EpochMs, text: impl Into<Text>) {
        self.0.push(Happening {
            at,
            text: text.into(),
        });
        let surplus = self.0.len().saturating_sub(HAPPENINGS);
        self.0.drain(..surplus);
    }
}

/// What a cluster is on its way to, or has come to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ClusterStage {
    /// Takes jobs.
    #[default]
    Up,
    /// Its jobs are being ended; then it is stopped.
    Stopping,
    /// Keeps its files and takes no jobs.
    Stopped,
    /// Its jobs are being ended; then its files are removed.
    Downing,
    /// Its files are removed; it is remembered for a while.
    Gone,
}

/// A sandbox with a queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Cluster {
    pub name: Text,
    pub belongs: Belongs,
    pub stage: ClusterStage,
    /// Why it is as it is: who stopped it, or took it down.
    pub why: Option<Text>,
    /// What it was launched with: its size and what each node has.
    pub task: Task,
    /// Addresses of its nodes.
    pub addresses: Vec<u32>,
    pub launched_at: EpochMs,
    pub autostop: Option<Autostop>,
    /// The number of its next job.
    pub next_job: i64,
    /// When it last had something to do.
    pub active_at: EpochMs,
    pub ended_at: Option<EpochMs>,
    #[serde(default)]
    pub story: Story,
}

/// A job in a cluster's queue.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct ClusterJob {
    pub cluster: Text,
    pub id: i64,
    pub name: Text,
    pub belongs: Belongs,
    pub work: u64,
}

/// Where one task of a managed job is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum TaskStage {
    /// Earlier tasks have not ended, or it is not started yet.
    #[default]
    Pending,
    /// It has a work.
    Going,
    /// It waits until it is started again.
    Recovering,
    Succeeded,
    Failed,
    FailedSetup,
    FailedPrechecks,
    FailedNoResource,
    Cancelled,
}

impl TaskStage {
    /// For people, in what happened.
    pub(super) const fn words(self) -> &'static str {
        match self {
            TaskStage::Pending => "Pending",
            TaskStage::Going => "Running",
            TaskStage::Recovering => "Recovering",
            TaskStage::Succeeded => "Succeeded",
            TaskStage::Failed => "Failed",
            TaskStage::FailedSetup => "Failed in its setup",
            TaskStage::FailedPrechecks => "Failed before it began",
            TaskStage::FailedNoResource => "Failed for lack of resources",
            TaskStage::Cancelled => "Cancelled",
        }
    }

    pub(super) fn is_over(self) -> bool {
        !matches!(
            self,
            TaskStage::Pending | TaskStage::Going | TaskStage::Recovering
        )
    }
}

/// One task of a managed job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct JobTask {
    pub name: Text,
    pub task: Task,
    pub stage: TaskStage,
    pub why: Option<Text>,
    /// The present attempt, or the last one.
    pub work: Option<u64>,
    /// Earlier attempts, whose logs are kept.
    #[serde(default)]
    pub earlier: Vec<u64>,
    pub recoveries: i64,
    /// Restarts after errors of its own.
    pub restarts: u32,
    /// Not started again before.
    pub again_at: Option<EpochMs>,
    pub started_at: Option<EpochMs>,
    pub ended_at: Option<EpochMs>,
    /// Milliseconds that earlier attempts ran.
    #[serde(default)]
    pub ran_ms: i64,
}

/// A managed job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Job {
    pub id: i64,
    pub name: Text,
    pub belongs: Belongs,
    pub tasks: Vec<JobTask>,
    /// Who cancelled it.
    pub cancelled: Option<Text>,
    #[serde(default)]
    pub story: Story,
}

impl Job {
    pub(super) fn is_over(&self) -> bool {
        self.tasks.iter().all(|task| task.stage.is_over())
    }

    pub(super) fn ended_at(&self) -> Option<EpochMs> {
        if !self.is_over() {
            return None;
        }
        let last = self.tasks.iter().filter_map(|task| task.ended_at).max();
        Some(last.unwrap_or(self.belongs.created_at))
    }
}

/// Why a replica is not wanted any more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ReplicaStage {
    /// It serves, or is on its way to.
    #[default]
    Wanted,
    /// It gets no new requests; once those under way are over it is stopped.
    Draining,
    /// It is being stopped.
    Stopping,
    /// It ended, as somebody wanted.
    Ended,
    Failed,
    FailedInitialDelay,
    FailedProbing,
}

/// One replica of a service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Replica {
    pub id: i64,
    pub version: i64,
    pub stage: ReplicaStage,
    pub work: u64,
    pub address: u32,
    pub launched_at: EpochMs,
    /// Its program runs since.
    pub began_at: Option<EpochMs>,
    /// It answered its probe the last time.
    pub ready: bool,
    /// It answered its probe at least once.
    pub was_ready: bool,
    /// It has not answered since.
    pub silent_since: Option<EpochMs>,
    /// What the last probe said.
    pub why: Option<Text>,
    pub draining_since: Option<EpochMs>,
    pub ended_at: Option<EpochMs>,
}

/// A service.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Service {
    pub name: Text,
    pub belongs: Belongs,
    /// The task of each version that still has replicas, and of the latest.
    pub versions: BTreeMap<i64, Task>,
    pub version: i64,
    pub port: u16,
    pub next_replica: i64,
    /// Replicas wanted, between the fewest and the most.
    pub target: u32,
    pub balancer: u64,
    pub replicas: Vec<Replica>,
    /// The revision of the backends that the balancer was told.
    pub revision: u64,
    pub told: Vec<(i64, u32)>,
    pub ready_since: Option<EpochMs>,
    /// Who takes it down.
    pub down: Option<Text>,
    pub ended_at: Option<EpochMs>,
    /// New replicas that failed one after the other without ever being ready.
    pub failures: u32,
    /// No replica is launched before.
    pub again_at: Option<EpochMs>,
    /// The load would want this many since.
    #[serde(default)]
    pub scaling: Option<(u32, EpochMs)>,
    #[serde(default)]
    pub story: Story,
}

/// What a work is for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) enum Purpose {
    #[default]
    Nothing,
    ClusterJob {
        cluster: Text,
        id: i64,
    },
    JobTask {
        job: i64,
        task: usize,
    },
    Replica {
        service: Text,
        id: i64,
    },
    Balancer {
        service: Text,
    },
}

/// Where a work is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) enum Stage {
    /// For what it needs; why.
    #[default]
    Waiting,
    /// Its files are being copied.
    Preparing,
    /// Its setup commands run.
    Setup,
    /// Its commands run.
    Run,
    Ended(End),
}

/// How a work ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum End {
    Succeeded,
    /// Why, for people.
    Failed(Text),
    FailedSetup(Text),
    /// Its files could not be copied.
    FailedFiles(Text),
    /// Somebody wanted it to.
    Stopped,
    /// Through no fault of its own.
    Lost(Text),
}

/// One kept process of a work.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Unit {
    pub node: usize,
    pub setup: bool,
    pub stage: UnitStage,
}

/// Where a unit is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) enum UnitStage {
    /// It is to be started, and perhaps it was.
    #[default]
    Wanted,
    /// Its keeper has it.
    Running,
    Ended(Exit),
    /// Its keeper is gone and what was left of it was ended; why.
    Lost(Text),
}

impl Unit {
    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, UnitStage::Ended(_) | UnitStage::Lost(_))
    }
}

/// A task on its nodes, once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Work {
    pub id: u64,
    pub purpose: Purpose,
    pub task: Task,
    /// Its setup runs first.
    pub with_setup: bool,
    /// Its files are copied first.
    pub with_files: bool,
    /// The folder that holds one folder per node, relative to the engine's.
    pub folder: String,
    pub addresses: Vec<u32>,
    /// Names for the environment.
    pub env: BTreeMap<String, String>,
    pub stage: Stage,
    pub units: Vec<Unit>,
    /// The life of the machine in which its present units were asked for.
    #[serde(default)]
    pub boot: Text,
    /// Accelerators that it holds on each node, by number.
    #[serde(default)]
    pub accelerators: Vec<Vec<u32>>,
    /// Why it waits.
    pub why: Option<Text>,
    /// What there is to say of its units while they run.
    #[serde(default)]
    pub noted: Vec<(usize, Text)>,
    /// It is to end; why.
    pub stop: Option<Text>,
    pub submitted_at: EpochMs,
    pub started_at: Option<EpochMs>,
    pub ended_at: Option<EpochMs>,
}

impl Work {
    pub(super) fn is_over(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }

    /// It holds CPUs and whatever else it asked for.
    pub(super) fn holds(&self) -> bool {
        matches!(self.stage, Stage::Preparing | Stage::Setup | Stage::Run)
    }

    /// The name of one of its units, unique for ever.
    pub(super) fn unit_name(&self, number: usize) -> String {
        format!("w{}-{number}", self.id)
    }
}

/// Everything.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    pub clusters: BTreeMap<Text, Cluster>,
    pub cluster_jobs: BTreeMap<(Text, i64), ClusterJob>,
    pub jobs: BTreeMap<i64, Job>,
    pub services: BTreeMap<Text, Service>,
    pub works: BTreeMap<u64, Work>,
    pub counters: Counters,
    /// Records that changed since they were last written.
    pub dirty: BTreeSet<Record>,
}

/// Numbers that are never given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Counters {
    pub job: i64,
    pub work: u64,
    pub address: u32,
    /// The second number of all addresses here: two engines on one machine rarely have the same.
    pub net: u8,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            job: 1,
            work: 1,
            address: 1,
            net: 64,
        }
    }
}

/// The name of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Record {
    Counters,
    Cluster(Text),
    ClusterJob(Text, i64),
    Job(i64),
    Service(Text),
    Work(u64),
}

macro_rules! changing {
    ($($name:ident $map:ident $key:ty, $record:expr => $value:ty;)+) => {
        impl State {
            $(
                /// To be changed: it will be written.
                pub(super) fn $name(&mut self, key: &$key) -> Option<&mut $value> {
                    let value = self.$map.get_mut(key)?;
                    self.dirty.insert($record(key));
                    Some(value)
                }
            )+
        }
    };
}

changing! {
    cluster_mut clusters Text, |key: &Text| Record::Cluster(key.clone()) => Cluster;
    job_mut jobs i64, |key: &i64| Record::Job(*key) => Job;
    service_mut services Text, |key: &Text| Record::Service(key.clone()) => Service;
    work_mut works u64, |key: &u64| Record::Work(*key) => Work;
}

impl State {
    /// A new work, waiting.
    pub(super) fn add_work(&mut self, mut work: Work) -> u64 {
        work.id = self.counters.work;
        self.counters.work += 1;
        let id = work.id;
        self.dirty.insert(Record::Counters);
        self.dirty.insert(Record::Work(id));
        self.works.insert(id, work);
        id
    }

    /// Addresses that nothing else here has.
    pub(super) fn take_addresses(&mut self, number: usize) -> Vec<u32> {
        self.dirty.insert(Record::Counters);
        (0..number)
            .map(|_| {
                let address = self.counters.address;
                // 127.x.0.1 to 127.x.255.254 are some 65,000: by then the first are free again.
                self.counters.address = address % 65_000 + 1;
                address
            })
            .collect()
    }
}
