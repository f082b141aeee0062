//! From SkyPilot's answers to rows. Pure; an unknown status is shown as it came.
//!
//! A record is one element of an answer's list. A field of a wrong type is left out; a record that
//! does not even say what it is about is an error, and its old row stays.

mod cluster;
mod job;
mod node;
mod people;
mod refusal;
mod request;
mod serve;
mod timeline;
mod values;

#[cfg(test)]
mod tests;

pub(super) use cluster::{cluster, queue};
pub(super) use job::{FINAL_FIELDS, LIVE_FIELDS, job};
pub(super) use node::{enabled_cloud, kubernetes_nodes, slurm_node};
pub(super) use people::{user, workspaces};
pub(super) use request::{
    Concerns, FIELDS as REQUEST_FIELDS, RequestRecord, concerns, is_noise, request,
};
pub(super) use serve::{Served, Unit, served};
pub(super) use timeline::{cluster_event, job_event, job_status};

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use skytower_api_client::Text;

/// Reads a record; fields that have changed their type are left out rather than losing the record.
pub(super) fn read<T: DeserializeOwned>(raw: &RawValue) -> Result<T, Text> {
    if let Ok(record) = serde_json::from_str(raw.get()) {
        return Ok(record);
    }
    let fields: Map<String, Value> =
        serde_json::from_str(raw.get()).map_err(|_| Text::from("a record is no object"))?;
    let readable = |name: &String, value: &Value| {
        let alone = Map::from_iter([(name.clone(), value.clone())]);
        serde_json::from_value::<T>(Value::Object(alone)).is_ok()
    };
    let fields: Map<String, Value> = fields
        .into_iter()
        .filter(|(name, value)| readable(name, value))
        .collect();
    serde_json::from_value(Value::Object(fields)).map_err(|_| Text::from("a record is unreadable"))
}

fn without(what: &str) -> Text {
    Text::from(format!("a record has no {what}"))
}
