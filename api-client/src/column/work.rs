//! Clusters, jobs, queues, requests and events.

use super::{
    Column, Cut, HIDDEN, KEY, Measure, NAME, OWNER, PHASE, SOURCE, STATUS, Value, WHY, WORKSPACE,
    cell,
};
use crate::entity::{Cluster, Job, Request};
use crate::human;
use crate::phase::Phase;
use crate::text::Text;

const INFRA_DOC: &str = "Where it runs: cloud and region.";
const GPUS_DOC: &str = "Accelerators over all nodes, number and type.";

/// `8×A100` of `A100:2` on four nodes; other accelerators as SkyPilot writes them.
fn gpus(total: Option<f64>, accelerators: Option<&Text>) -> Value {
    let kind = accelerators.and_then(|words| words.split(':').next());
    match (total, kind) {
        (Some(total), Some(kind)) if total > 0.0 && !kind.is_empty() => {
            format!("{total}×{kind}").into()
        }
        (Some(total), _) if total > 0.0 => Value::Number(total),
        _ => accelerators.into(),
    }
}

/// Gigabytes as SkyPilot writes them: `16`, `16+`.
fn gigabytes(words: Option<&Text>) -> Value {
    words
        .and_then(|words| super::cells::leading_number(words))
        .map_or(Value::None, Value::Gigabytes)
}

fn autostop(cluster: &Cluster) -> Value {
    let Some(minutes) = cluster.autostop else {
        return Value::None;
    };
    let span = human::age(minutes * 60_000);
    if cluster.autodown {
        format!("{span} (down)").into()
    } else {
        span.into()
    }
}

pub(super) const CLUSTERS: &[Column] = &[
    NAME,
    OWNER,
    WORKSPACE,
    Column::new(
        "infra",
        "INFRA",
        (11, 24),
        3,
        cell!(Cluster, row => row.infra.as_ref()),
        INFRA_DOC,
    )
    .aka(&["where"]),
    Column::new(
        "gpus",
        "GPUS",
        (6, 12),
        2,
        cell!(Cluster, row => gpus(row.gpus, row.accelerators.as_ref())),
        GPUS_DOC,
    )
    .aka(&["gpu", "accelerators"])
    .measures(Measure::Count)
    .left(),
    Column::new(
        "resources",
        "RESOURCES",
        (16, 32),
        7,
        cell!(Cluster, row => row.resources.as_ref()),
        "Its nodes and what each has, as SkyPilot writes it.",
    ),
    STATUS,
    Column::new(
        "autostop",
        "AUTOSTOP",
        (8, 12),
        5,
        cell!(Cluster, row => autostop(row)),
        "Idling time until it stops itself, or tears itself down.",
    )
    .measures(Measure::Time)
    .left(),
    Column::new(
        "launched",
        "LAUNCHED",
        (5, 8),
        2,
        cell!(Cluster, row => row.launched_at.map(Value::Moment)),
        "How long ago it was last launched.",
    )
    .aka(&["age"])
    .measures(Measure::Time),
    WHY,
    Column::new(
        "nodes",
        "NODES",
        (5, 5),
        HIDDEN,
        cell!(Cluster, row => row.nodes),
        "Number of nodes.",
    )
    .measures(Measure::Count),
    Column::new(
        "cpus",
        "CPUS",
        (4, 6),
        HIDDEN,
        cell!(Cluster, row => row.cpus.as_ref()),
        "vCPUs per node.",
    )
    .aka(&["cpu"])
    .measures(Measure::Count),
    Column::new(
        "memory",
        "MEMORY",
        (6, 8),
        HIDDEN,
        cell!(Cluster, row => gigabytes(row.memory.as_ref())),
        "Memory per node.",
    )
    .aka(&["mem"])
    .measures(Measure::Size),
    Column::new(
        "cloud",
        "CLOUD",
        (5, 12),
        HIDDEN,
        cell!(Cluster, row => row.cloud.as_ref()),
        "The cloud alone.",
    ),
    Column::new(
        "region",
        "REGION",
        (6, 16),
        HIDDEN,
        cell!(Cluster, row => row.region.as_ref()),
        "The region alone.",
    ),
    Column::new(
        "event",
        "LAST EVENT",
        (12, 60),
        HIDDEN,
        cell!(Cluster, row => row.last_event.as_ref()),
        "The last thing that happened to it.",
    ),
    Column::new(
        "node_names",
        "NODE NAMES",
        (10, 40),
        HIDDEN,
        cell!(Cluster, row => row.node_names.as_ref()),
        "Its nodes, as the infrastructure calls them.",
    )
    .aka(&["node"]),
    Column::new(
        "ended",
        "ENDED",
        (5, 5),
        HIDDEN,
        cell!(Cluster, row => row.ended_at.map(Value::Moment)),
        "How long ago it was torn down.",
    )
    .measures(Measure::Time),
    Column::new(
        "managed",
        "MANAGED",
        (7, 7),
        HIDDEN,
        cell!(Cluster, row => row.managed),
        "Launched for a managed job, a replica or a worker.",
    )
    .measures(Measure::Flag),
    Column::new(
        "controller",
        "CONTROLLER",
        (10, 10),
        HIDDEN,
        cell!(Cluster, row => row.controller),
        "A controller of jobs or services.",
    )
    .measures(Measure::Flag),
    PHASE,
    SOURCE,
    KEY,
];

/// `12`, or `12/1` for a task of a pipeline or group.
pub(crate) fn job_number(job: &Job) -> Value {
    if job.task_id > 0 || job.group || (!job.job_name.is_empty() && job.job_name != job.name) {
        format!("{}/{}", job.job_id, job.task_id).into()
    } else {
        Value::Int(job.job_id)
    }
}

/// Milliseconds it ran; ticks while it runs.
fn job_duration(job: &Job, context: &super::Context) -> Value {
    match (job.ended_at, job.started_at) {
        (None, Some(started)) if matches!(job.phase, Phase::Running) => {
            Value::Span(context.now.since(started))
        }
        _ => match job.duration_s {
            Some(seconds) if seconds > 0.0 => Value::Span((seconds * 1000.0) as i64),
            _ => Value::None,
        },
    }
}

pub(super) const JOBS: &[Column] = &[
    Column::new(
        "id",
        "ID",
        (4, 10),
        0,
        cell!(Job, row => job_number(row)),
        "The managed job's number, and its task's in a pipeline.",
    )
    .aka(&["job"])
    .measures(Measure::Count)
    .cut(Cut::Never),
    NAME,
    OWNER,
    WORKSPACE,
    Column::new(
        "infra",
        "INFRA",
        (11, 24),
        4,
        cell!(Job, row => row.infra.as_ref()),
        INFRA_DOC,
    )
    .aka(&["where"]),
    Column::new(
        "gpus",
        "GPUS",
        (6, 12),
        2,
        cell!(Job, row => gpus(row.gpus, row.accelerators.as_ref())),
        GPUS_DOC,
    )
    .aka(&["gpu", "accelerators"])
    .measures(Measure::Count)
    .left(),
    STATUS,
    Column::new(
        "age",
        "AGE",
        (5, 5),
        1,
        cell!(Job, row => row.submitted_at.map(Value::Moment)),
        "How long ago it was submitted.",
    )
    .aka(&["submitted"])
    .measures(Measure::Time),
    Column::new(
        "duration",
        "DURATION",
        (5, 8),
        5,
        cell!(Job, row, context => job_duration(row, context)),
        "How long it ran.",
    )
    .measures(Measure::Time),
    Column::new(
        "recoveries",
        "RECOVERIES",
        (4, 10),
        9,
        cell!(Job, row => row.recoveries),
        "How often it was recovered.",
    )
    .aka(&["recovered"])
    .measures(Measure::Count),
    Column::new(
        "pool",
        "POOL",
        (6, 16),
        10,
        cell!(Job, row => row.pool.as_ref()),
        "The pool it runs in.",
    ),
    WHY,
    Column::new(
        "resources",
        "RESOURCES",
        (12, 32),
        HIDDEN,
        cell!(Job, row => row.resources.as_ref()),
        "What it asked for.",
    ),
    Column::new(
        "job_name",
        "JOB",
        (10, 32),
        HIDDEN,
        cell!(Job, row => &row.job_name),
        "The job's name, where the row is a task of it.",
    ),
    Column::new(
        "task",
        "TASK",
        (4, 4),
        HIDDEN,
        cell!(Job, row => row.task_id),
        "The task's number within the job.",
    )
    .measures(Measure::Count),
    Column::new(
        "cluster",
        "CLUSTER",
        (10, 32),
        HIDDEN,
        cell!(Job, row => row.cluster.as_ref()),
        "The cluster it runs on.",
    ),
    Column::new(
        "node_names",
        "NODE NAMES",
        (10, 40),
        HIDDEN,
        cell!(Job, row => row.node_names.as_ref()),
        "The nodes it runs on.",
    )
    .aka(&["node"]),
    Column::new(
        "schedule",
        "SCHEDULE",
        (8, 16),
        HIDDEN,
        cell!(Job, row => row.schedule_state.as_ref()),
        "What the jobs controller does with it.",
    )
    .aka(&["schedule_state"]),
    Column::new(
        "priority",
        "PRIORITY",
        (4, 8),
        HIDDEN,
        cell!(Job, row => row.priority),
        "Larger goes first.",
    )
    .measures(Measure::Count),
    Column::new(
        "started",
        "STARTED",
        (5, 7),
        HIDDEN,
        cell!(Job, row => row.started_at.map(Value::Moment)),
        "How long ago it first ran.",
    )
    .measures(Measure::Time),
    Column::new(
        "ended",
        "ENDED",
        (5, 5),
        HIDDEN,
        cell!(Job, row => row.ended_at.map(Value::Moment)),
        "How long ago it ended.",
    )
    .measures(Measure::Time),
    Column::new(
        "parent",
        "PARENT",
        (6, 8),
        HIDDEN,
        cell!(Job, row => row.parent_job_id),
        "The job that launched it.",
    )
    .measures(Measure::Count),
    PHASE,
    SOURCE,
    KEY,
];

pub(super) const CLUSTER_JOBS: &[Column] = &[
    Column::new(
        "id",
        "ID",
        (4, 8),
        0,
        cell!(ClusterJob, row => row.job_id),
        "Its number in the cluster's queue.",
    )
    .aka(&["job"])
    .measures(Measure::Count)
    .cut(Cut::Never),
    NAME,
    OWNER,
    Column::new(
        "cluster",
        "CLUSTER",
        (8, 24),
        HIDDEN,
        cell!(ClusterJob, row => &row.cluster),
        "The cluster whose queue it is in.",
    ),
    STATUS,
    Column::new(
        "age",
        "AGE",
        (5, 5),
        1,
        cell!(ClusterJob, row => row.submitted_at.map(Value::Moment)),
        "How long ago it was submitted.",
    )
    .aka(&["submitted"])
    .measures(Measure::Time),
    Column::new(
        "duration",
        "DURATION",
        (5, 8),
        3,
        cell!(ClusterJob, row, context => match (row.started_at, row.ended_at) {
            (Some(started), Some(ended)) => Value::Span(ended.since(started)),
            (Some(started), None) if !row.phase.is_over() => {
                Value::Span(context.now.since(started))
            }
            _ => Value::None,
        }),
        "How long it ran.",
    )
    .measures(Measure::Time),
    Column::new(
        "resources",
        "RESOURCES",
        (10, 32),
        4,
        cell!(ClusterJob, row => row.resources.as_ref()),
        "What it uses.",
    ),
    WHY,
    WORKSPACE_HIDDEN,
    PHASE,
    SOURCE,
    KEY,
];

const WORKSPACE_HIDDEN: Column = Column {
    priority: HIDDEN,
    ..WORKSPACE
};

fn request_result(request: &Request) -> Value {
    Value::Status(request.phase, request.status.clone())
}

pub(super) const REQUESTS: &[Column] = &[
    Column::new(
        "time",
        "TIME",
        (8, 12),
        0,
        cell!(Request, row => row.created_at.map(Value::Clock)),
        "When it was made; compared as an age in filters.",
    )
    .aka(&["age", "created"])
    .measures(Measure::Time)
    .left()
    .cut(Cut::Never),
    Column {
        title: "WHO",
        ..OWNER
    },
    Column::new(
        "action",
        "WHAT",
        (12, 24),
        0,
        cell!(Request, row => &row.action),
        "What was asked for.",
    )
    .aka(&["what"]),
    Column::new(
        "target",
        "TARGET",
        (12, 40),
        2,
        cell!(Request, row => row.target.as_ref()),
        "What it concerns.",
    ),
    Column::new(
        "status",
        "RESULT",
        (7, 12),
        0,
        cell!(Request, row => request_result(row)),
        "How it stands or ended.",
    )
    .aka(&["result", "state"])
    .cut(Cut::Never),
    Column::new(
        "took",
        "TOOK",
        (5, 5),
        4,
        cell!(Request, row, context => match (row.created_at, row.ended_at) {
            (Some(created), Some(ended)) => Value::Span(ended.since(created)),
            (Some(created), None) if !row.phase.is_over() => {
                Value::Span(context.now.since(created))
            }
            _ => Value::None,
        }),
        "How long it took.",
    )
    .aka(&["duration"])
    .measures(Measure::Time),
    // Cut at the end: its beginning is what commands take.
    Column::new(
        "id",
        "ID",
        (8, 12),
        5,
        cell!(Request, row => &row.request_id),
        "Its id at its origin.",
    ),
    WHY,
    Column::new(
        "origin",
        "ORIGIN",
        (8, 8),
        HIDDEN,
        cell!(Request, row => &row.origin),
        "`skytower` for its own actions, `skypilot` for API requests.",
    ),
    Column {
        priority: HIDDEN,
        ..NAME
    },
    WORKSPACE_HIDDEN,
    PHASE,
    SOURCE,
    KEY,
];

pub(super) const EVENTS: &[Column] = &[
    Column::new(
        "time",
        "TIME",
        (8, 12),
        0,
        cell!(Event, row => Value::Clock(row.at)),
        "When it happened; compared as an age in filters.",
    )
    .aka(&["age"])
    .measures(Measure::Time)
    .left()
    .cut(Cut::Never),
    Column::new(
        "subject",
        "SUBJECT",
        (12, 32),
        1,
        cell!(Event, row => row
            .subject
            .kind()
            .map(|kind| format!("{kind}/{}", row.subject.id()))),
        "The cluster or job it happened to.",
    )
    .aka(&["target"])
    .cut(Cut::Middle),
    Column::new(
        "text",
        "WHAT",
        (20, 100),
        0,
        cell!(Event, row => &row.text),
        "What happened, as SkyPilot noted it.",
    )
    .aka(&["what"]),
    Column {
        priority: HIDDEN,
        ..STATUS
    },
    Column {
        priority: HIDDEN,
        ..NAME
    },
    Column {
        priority: HIDDEN,
        ..OWNER
    },
    WORKSPACE_HIDDEN,
    PHASE,
    SOURCE,
    KEY,
];
