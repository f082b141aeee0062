//! Services with replicas (`/serve/status`) and pools with workers (`/jobs/pool_status`).

use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;
use skytower_api_client::entity::{Pool, Replica, Service, Worker};
use skytower_api_client::phase::phase_of;
use skytower_api_client::{Entity, Key, Kind, Phase, Text};

use super::values::{infra, moment, owner, word};
use super::{read, without};

/// Which of the two lists a record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::source::skypilot) enum Served {
    /// A service and its replicas.
    Service,
    /// A pool and its workers.
    Pool,
}

impl Served {
    /// The kind of the whole.
    pub(in crate::source::skypilot) const fn whole(self) -> Kind {
        match self {
            Served::Service => Kind::Service,
            Served::Pool => Kind::Pool,
        }
    }

    /// The kind of its parts.
    pub(in crate::source::skypilot) const fn part(self) -> Kind {
        match self {
            Served::Service => Kind::Replica,
            Served::Pool => Kind::Worker,
        }
    }
}

/// A service or pool, and its replicas or workers.
#[derive(Debug)]
pub(in crate::source::skypilot) struct Unit {
    /// Its row.
    pub(in crate::source::skypilot) whole: Arc<Entity>,
    /// The rows of its parts.
    pub(in crate::source::skypilot) parts: Vec<Arc<Entity>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct UnitRecord {
    name: Option<String>,
    status: Option<String>,
    uptime: Option<f64>,
    policy: Option<String>,
    version: Option<i64>,
    active_versions: Vec<i64>,
    requested_resources_str: Option<String>,
    load_balancing_policy: Option<String>,
    hash: Option<String>,
    user_hash: Option<String>,
    user_name: Option<String>,
    target_num_replicas: Option<u32>,
    endpoint: Option<String>,
    replica_info: Vec<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct PartRecord {
    replica_id: Option<i64>,
    name: Option<String>,
    status: Option<String>,
    version: Option<i64>,
    endpoint: Option<String>,
    is_spot: Option<bool>,
    launched_at: Option<f64>,
    cloud: Option<String>,
    region: Option<String>,
    infra: Option<String>,
    resources_str: Option<String>,
    status_detail: Option<String>,
    used_by: Option<UsedBy>,
}

/// A list since 0.12, one id before.
#[derive(Deserialize)]
#[serde(untagged)]
enum UsedBy {
    Several(Vec<i64>),
    One(i64),
}

impl UsedBy {
    fn ids(self) -> Vec<i64> {
        match self {
            UsedBy::Several(mut ids) => {
                ids.sort_unstable();
                ids
            }
            UsedBy::One(id) => vec![id],
        }
    }
}

/// A service or pool with its parts.
pub(in crate::source::skypilot) fn served(
    source: &Text,
    which: Served,
    raw: &RawValue,
) -> Result<Unit, Text> {
    let record: UnitRecord = read(raw)?;
    let name = word(record.name).ok_or_else(|| without("name"))?;
    let id = word(record.hash).unwrap_or_else(|| name.clone());
    let key = Key::new(source, which.whole(), &id);
    let status = word(record.status).unwrap_or_else(|| "UNKNOWN".into());
    let owner = owner(record.user_hash, record.user_name);
    let mut parts = Vec::new();
    let (mut ready, mut total) = (0, 0);
    for part in &record.replica_info {
        let Ok(part) = read::<PartRecord>(part) else {
            continue;
        };
        let Some(number) = part.replica_id else {
            continue;
        };
        let part_status = word(part.status).unwrap_or_else(|| "UNKNOWN".into());
        let phase = phase_of(which.part(), &part_status);
        ready += u32::from(part_status == "READY");
        // As `sky serve status` counts: failed replicas stay listed as history.
        total += u32::from(phase != Phase::Failed);
        let part_key = Key::new(source, which.part(), format_args!("{id}/{number}"));
        let part_name = word(part.name).unwrap_or_else(|| format!("{name}-{number}").into());
        let place = word(part.infra)
            .or_else(|| infra(word(part.cloud).as_ref(), word(part.region).as_ref()));
        parts.push(match which {
            Served::Service => Replica {
                key: part_key,
                source: source.clone(),
                name: part_name,
                owner: owner.clone(),
                workspace: None,
                status: part_status,
                phase,
                why: word(part.status_detail),
                refuses: Vec::new(),
                restricted: false,
                service_key: key.clone(),
                service: name.clone(),
                replica_id: number,
                version: part.version,
                endpoint: word(part.endpoint),
                launched_at: moment(part.launched_at),
                infra: place,
                resources: word(part.resources_str),
                spot: part.is_spot.unwrap_or(false),
            }
            .into(),
            Served::Pool => Worker {
                key: part_key,
                source: source.clone(),
                name: part_name,
                owner: owner.clone(),
                workspace: None,
                status: part_status,
                phase,
                why: word(part.status_detail),
                refuses: Vec::new(),
                restricted: false,
                pool_key: key.clone(),
                pool: name.clone(),
                worker_id: number,
                launched_at: moment(part.launched_at),
                infra: place,
                resources: word(part.resources_str),
                used_by: part.used_by.map(UsedBy::ids).unwrap_or_default(),
            }
            .into(),
        });
    }
    let phase = phase_of(which.whole(), &status);
    let whole = match which {
        Served::Service => Service {
            key,
            source: source.clone(),
            name,
            owner,
            workspace: None,
            status,
            phase,
            why: None,
            refuses: Vec::new(),
            restricted: false,
            version: record.version,
            active_versions: record.active_versions,
            ready_since: moment(record.uptime),
            endpoint: word(record.endpoint),
            replicas_ready: ready,
            replicas_total: total,
            replicas_target: record.target_num_replicas,
            policy: word(record.policy),
            load_balancing: word(record.load_balancing_policy),
            resources: word(record.requested_resources_str),
            ended_at: None,
        }
        .into(),
        Served::Pool => Pool {
            key,
            source: source.clone(),
            name,
            owner,
            workspace: None,
            status,
            phase,
            why: None,
            refuses: Vec::new(),
            restricted: false,
            version: record.version,
            ready_since: moment(record.uptime),
            workers_ready: ready,
            workers_total: total,
            workers_target: record.target_num_replicas,
            policy: word(record.policy),
            resources: word(record.requested_resources_str),
            ended_at: None,
        }
        .into(),
    };
    Ok(Unit { whole, parts })
}
