//! People, workspaces, the infrastructure underneath, and the sources.

use super::{Column, Cut, HIDDEN, KEY, Measure, NAME, PHASE, SOURCE, STATUS, Value, WHY, cell};
use crate::entity::Source;

pub(super) const USERS: &[Column] = &[
    Column {
        title: "USER",
        ..NAME
    }
    .aka(&["user", "owner"]),
    Column::new(
        "role",
        "ROLE",
        (5, 8),
        3,
        cell!(User, row => row.role.as_ref()),
        "Admin, user or viewer.",
    ),
    Column::new(
        "type",
        "TYPE",
        (5, 8),
        5,
        cell!(User, row => row.user_type.as_ref()),
        "How it signs in.",
    ),
    Column::new(
        "clusters",
        "CLUSTERS",
        (4, 8),
        1,
        cell!(User, row => row.clusters),
        "Clusters that are up or coming up.",
    )
    .measures(Measure::Count),
    Column::new(
        "jobs",
        "JOBS",
        (4, 6),
        1,
        cell!(User, row => row.jobs),
        "Managed jobs that run or wait.",
    )
    .measures(Measure::Count),
    Column::new(
        "pending",
        "PENDING",
        (4, 7),
        2,
        cell!(User, row => row.jobs_pending),
        "Managed jobs that wait.",
    )
    .measures(Measure::Count),
    Column::new(
        "failed",
        "FAILED",
        (4, 6),
        2,
        cell!(User, row => row.jobs_failed),
        "Managed jobs that failed.",
    )
    .measures(Measure::Count),
    Column::new(
        "services",
        "SERVICES",
        (4, 8),
        2,
        cell!(User, row => row.services),
        "Services that are not down.",
    )
    .measures(Measure::Count),
    Column::new(
        "gpus",
        "GPUS",
        (4, 6),
        0,
        cell!(User, row => row.gpus),
        "Accelerators that its clusters hold.",
    )
    .aka(&["gpu"])
    .measures(Measure::Count),
    Column {
        priority: HIDDEN,
        ..STATUS
    },
    Column::new(
        "id",
        "ID",
        (8, 20),
        HIDDEN,
        cell!(User, row => &row.user_id),
        "The source's user id.",
    ),
    Column::new(
        "created",
        "CREATED",
        (5, 7),
        HIDDEN,
        cell!(User, row => row.created_at.map(Value::Moment)),
        "How long ago the source first saw it.",
    )
    .aka(&["age"])
    .measures(Measure::Time),
    PHASE,
    SOURCE,
    KEY,
];

pub(super) const WORKSPACES: &[Column] = &[
    Column {
        title: "WORKSPACE",
        ..NAME
    }
    .aka(&["workspace", "ws"]),
    STATUS,
    Column::new(
        "clusters",
        "CLUSTERS",
        (4, 8),
        1,
        cell!(Workspace, row => row.clusters),
        "Clusters in it.",
    )
    .measures(Measure::Count),
    Column::new(
        "jobs",
        "JOBS",
        (4, 6),
        1,
        cell!(Workspace, row => row.jobs),
        "Managed jobs in it that run or wait.",
    )
    .measures(Measure::Count),
    Column::new(
        "private",
        "PRIVATE",
        (7, 7),
        HIDDEN,
        cell!(Workspace, row => row.private),
        "Only for its members.",
    )
    .measures(Measure::Flag),
    Column::new(
        "read_only",
        "READ ONLY",
        (9, 9),
        HIDDEN,
        cell!(Workspace, row => row.read_only),
        "The source's own credentials may only look.",
    )
    .measures(Measure::Flag),
    WHY,
    PHASE,
    SOURCE,
    KEY,
];

/// `2/4`: free, of all; `?/4` when the source may not know what is free.
fn free_of(free: Option<f64>, total: Option<f64>) -> Value {
    match (free, total) {
        (_, None) => Value::None,
        (_, Some(total)) if total <= 0.0 => Value::None,
        (None, Some(total)) => format!("?/{total}").into(),
        (Some(free), Some(total)) => format!("{free}/{total}").into(),
    }
}

pub(super) const INFRA: &[Column] = &[
    Column {
        title: "NODE",
        ..NAME
    }
    .aka(&["node"]),
    Column::new(
        "infra",
        "INFRA",
        (10, 24),
        1,
        cell!(Infra, row => &row.infra),
        "The infrastructure it belongs to.",
    )
    .aka(&["where"]),
    Column::new(
        "partition",
        "PARTITION",
        (9, 20),
        4,
        cell!(Infra, row => row.partition.as_ref()),
        "Its partition or pool.",
    ),
    Column::new(
        "gpu_type",
        "GPU",
        (5, 16),
        2,
        cell!(Infra, row => row.gpu_type.as_ref()),
        "The type of its accelerators.",
    )
    .aka(&["gpu", "accelerators"]),
    Column::new(
        "gpus",
        "GPUS FREE",
        (9, 9),
        1,
        cell!(Infra, row => free_of(
            row.gpus_free.map(|n| n as f64),
            row.gpus_total.map(|n| n as f64),
        )),
        "Accelerators: free, of all.",
    )
    .aka(&["free"])
    .measures(Measure::Count),
    Column::new(
        "cpus",
        "CPUS FREE",
        (9, 9),
        3,
        cell!(Infra, row => free_of(row.cpus_free, row.cpus_total)),
        "vCPUs: free, of all.",
    )
    .aka(&["cpu"])
    .measures(Measure::Count),
    Column::new(
        "memory",
        "MEM FREE",
        (8, 8),
        5,
        cell!(Infra, row => row.memory_free_gb.map(Value::Gigabytes)),
        "Free memory.",
    )
    .aka(&["mem"])
    .measures(Measure::Size),
    STATUS,
    Column::new(
        "memory_total",
        "MEMORY",
        (6, 8),
        HIDDEN,
        cell!(Infra, row => row.memory_gb.map(Value::Gigabytes)),
        "Memory in all.",
    )
    .measures(Measure::Size),
    Column::new(
        "gpus_total",
        "GPUS",
        (4, 6),
        HIDDEN,
        cell!(Infra, row => row.gpus_total),
        "Accelerators in all.",
    )
    .measures(Measure::Count),
    WHY,
    PHASE,
    SOURCE,
    KEY,
];

fn latest_fetch(source: &Source) -> Value {
    source
        .fetched_at
        .values()
        .max()
        .map_or(Value::None, |at| Value::Moment(*at))
}

pub(super) const SOURCES: &[Column] = &[
    NAME,
    STATUS,
    Column::new(
        "flavour",
        "TYPE",
        (8, 10),
        3,
        cell!(Source, row => &row.flavour),
        "What it is: a SkyPilot API server or the local engine.",
    )
    .aka(&["type"]),
    Column::new(
        "version",
        "VERSION",
        (7, 12),
        2,
        cell!(Source, row => row.version.as_ref()),
        "Its version, as it says.",
    ),
    Column::new(
        "url",
        "URL",
        (16, 48),
        2,
        cell!(Source, row => row.url.as_ref()),
        "Its address.",
    )
    .aka(&["endpoint"])
    .cut(Cut::Middle),
    Column::new(
        "latency",
        "LATENCY MS",
        (5, 10),
        4,
        cell!(Source, row => row.latency_ms),
        "How long its last cheap answer took, in milliseconds.",
    )
    .measures(Measure::Count),
    Column::new(
        "age",
        "FETCHED",
        (5, 7),
        1,
        cell!(Source, row => latest_fetch(row)),
        "How long ago something was last read from it.",
    )
    .aka(&["fetched"])
    .measures(Measure::Time),
    Column::new(
        "error",
        "ERROR",
        (12, 80),
        5,
        cell!(Source, row => row.error.as_ref()),
        "Its last error.",
    )
    .aka(&["why"]),
    Column::new(
        "hint",
        "HINT",
        (12, 80),
        HIDDEN,
        cell!(Source, row => row.hint.as_ref()),
        "What to do about the error.",
    ),
    Column::new(
        "api_version",
        "API",
        (3, 5),
        HIDDEN,
        cell!(Source, row => row.api_version.as_ref()),
        "Its API version, as it says.",
    ),
    PHASE,
    SOURCE,
    KEY,
];
