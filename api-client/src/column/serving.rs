//! Services with their replicas, pools with their workers.

use super::{
    Column, Cut, HIDDEN, KEY, Measure, NAME, OWNER, PHASE, SOURCE, STATUS, Value, WHY, WORKSPACE,
    cell,
};

/// `2/3`: ready, of those wanted or else of those there.
fn ready_of(ready: u32, total: u32, target: Option<u32>) -> String {
    format!("{ready}/{}", target.unwrap_or(total))
}

/// The versions that serve, or the latest: `7`, `7,8` while rolling.
fn versions(active: &[i64], latest: Option<i64>) -> Value {
    if active.is_empty() {
        return latest.into();
    }
    let words: Vec<String> = active.iter().map(ToString::to_string).collect();
    words.join(",").into()
}

const ID_DOC: &str = "Its number.";

pub(super) const SERVICES: &[Column] = &[
    NAME,
    OWNER,
    WORKSPACE,
    Column::new(
        "replicas",
        "REPLICAS",
        (5, 8),
        0,
        cell!(Service, row => ready_of(row.replicas_ready, row.replicas_total, row.replicas_target)),
        "Replicas that are ready, of those wanted.",
    )
    .aka(&["ready"])
    .measures(Measure::Count),
    Column::new(
        "version",
        "VERSION",
        (3, 7),
        4,
        cell!(Service, row => versions(&row.active_versions, row.version)),
        "The versions that serve now.",
    )
    .measures(Measure::Count),
    STATUS,
    Column::new(
        "endpoint",
        "ENDPOINT",
        (18, 48),
        3,
        cell!(Service, row => row.endpoint.as_ref()),
        "Its address.",
    )
    .aka(&["url"])
    .cut(Cut::Middle),
    Column::new(
        "uptime",
        "UPTIME",
        (5, 6),
        1,
        cell!(Service, row => row.ready_since.map(Value::Moment)),
        "How long ago it first became ready.",
    )
    .aka(&["age"])
    .measures(Measure::Time),
    Column::new(
        "resources",
        "RESOURCES",
        (12, 32),
        7,
        cell!(Service, row => row.resources.as_ref()),
        "What a replica asks for.",
    ),
    WHY,
    Column::new(
        "policy",
        "POLICY",
        (12, 32),
        HIDDEN,
        cell!(Service, row => row.policy.as_ref()),
        "How it scales.",
    ),
    Column::new(
        "balancing",
        "BALANCING",
        (10, 20),
        HIDDEN,
        cell!(Service, row => row.load_balancing.as_ref()),
        "How it balances.",
    ),
    Column::new(
        "ended",
        "ENDED",
        (5, 5),
        HIDDEN,
        cell!(Service, row => row.ended_at.map(Value::Moment)),
        "How long ago it was torn down.",
    )
    .measures(Measure::Time),
    PHASE,
    SOURCE,
    KEY,
];

const QUIET_NAME: Column = Column {
    priority: HIDDEN,
    ..NAME
};
const QUIET_OWNER: Column = Column {
    priority: HIDDEN,
    ..OWNER
};
const QUIET_WORKSPACE: Column = Column {
    priority: HIDDEN,
    ..WORKSPACE
};

pub(super) const REPLICAS: &[Column] = &[
    Column::new(
        "service",
        "SERVICE",
        (8, 32),
        1,
        cell!(Replica, row => &row.service),
        "The service it belongs to.",
    ),
    Column::new(
        "id",
        "ID",
        (3, 6),
        0,
        cell!(Replica, row => row.replica_id),
        ID_DOC,
    )
    .measures(Measure::Count),
    Column::new(
        "version",
        "VERSION",
        (3, 7),
        3,
        cell!(Replica, row => row.version),
        "The version it serves.",
    )
    .measures(Measure::Count),
    STATUS,
    Column::new(
        "infra",
        "INFRA",
        (11, 24),
        4,
        cell!(Replica, row => row.infra.as_ref()),
        "Where it runs.",
    )
    .aka(&["where"]),
    Column::new(
        "resources",
        "RESOURCES",
        (12, 32),
        5,
        cell!(Replica, row => row.resources.as_ref()),
        "What it has.",
    ),
    Column::new(
        "launched",
        "LAUNCHED",
        (5, 8),
        2,
        cell!(Replica, row => row.launched_at.map(Value::Moment)),
        "How long ago it was launched.",
    )
    .aka(&["age"])
    .measures(Measure::Time),
    Column::new(
        "endpoint",
        "ENDPOINT",
        (20, 48),
        7,
        cell!(Replica, row => row.endpoint.as_ref()),
        "Its address.",
    )
    .aka(&["url"])
    .cut(Cut::Middle),
    WHY,
    Column::new(
        "spot",
        "SPOT",
        (4, 4),
        HIDDEN,
        cell!(Replica, row => row.spot),
        "On spot machines.",
    )
    .measures(Measure::Flag),
    QUIET_NAME,
    QUIET_OWNER,
    QUIET_WORKSPACE,
    PHASE,
    SOURCE,
    KEY,
];

pub(super) const POOLS: &[Column] = &[
    NAME,
    OWNER,
    WORKSPACE,
    Column::new(
        "workers",
        "WORKERS",
        (5, 8),
        0,
        cell!(Pool, row => ready_of(row.workers_ready, row.workers_total, row.workers_target)),
        "Workers that are ready, of those wanted.",
    )
    .aka(&["ready"])
    .measures(Measure::Count),
    Column::new(
        "version",
        "VERSION",
        (3, 7),
        4,
        cell!(Pool, row => row.version),
        "The latest version.",
    )
    .measures(Measure::Count),
    STATUS,
    Column::new(
        "uptime",
        "UPTIME",
        (5, 6),
        1,
        cell!(Pool, row => row.ready_since.map(Value::Moment)),
        "How long ago it first became ready.",
    )
    .aka(&["age"])
    .measures(Measure::Time),
    Column::new(
        "resources",
        "RESOURCES",
        (12, 32),
        5,
        cell!(Pool, row => row.resources.as_ref()),
        "What a worker asks for.",
    ),
    WHY,
    Column::new(
        "policy",
        "POLICY",
        (12, 32),
        HIDDEN,
        cell!(Pool, row => row.policy.as_ref()),
        "How it scales.",
    ),
    Column::new(
        "ended",
        "ENDED",
        (5, 5),
        HIDDEN,
        cell!(Pool, row => row.ended_at.map(Value::Moment)),
        "How long ago it was torn down.",
    )
    .measures(Measure::Time),
    PHASE,
    SOURCE,
    KEY,
];

pub(super) const WORKERS: &[Column] = &[
    Column::new(
        "pool",
        "POOL",
        (8, 32),
        1,
        cell!(Worker, row => &row.pool),
        "The pool it belongs to.",
    ),
    Column::new(
        "id",
        "ID",
        (3, 6),
        0,
        cell!(Worker, row => row.worker_id),
        ID_DOC,
    )
    .measures(Measure::Count),
    STATUS,
    Column::new(
        "used_by",
        "USED BY",
        (7, 20),
        2,
        cell!(Worker, row => row
            .used_by
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", ")),
        "The managed jobs that use it.",
    )
    .aka(&["job"]),
    Column::new(
        "infra",
        "INFRA",
        (11, 24),
        4,
        cell!(Worker, row => row.infra.as_ref()),
        "Where it runs.",
    )
    .aka(&["where"]),
    Column::new(
        "resources",
        "RESOURCES",
        (12, 32),
        5,
        cell!(Worker, row => row.resources.as_ref()),
        "What it has.",
    ),
    Column::new(
        "launched",
        "LAUNCHED",
        (5, 8),
        3,
        cell!(Worker, row => row.launched_at.map(Value::Moment)),
        "How long ago it was launched.",
    )
    .aka(&["age"])
    .measures(Measure::Time),
    WHY,
    QUIET_NAME,
    QUIET_OWNER,
    QUIET_WORKSPACE,
    PHASE,
    SOURCE,
    KEY,
];
