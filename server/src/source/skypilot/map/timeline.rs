//! What happened to a cluster (`/cluster_events`) or a job (`/jobs/events`).

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use skytower_api_client::entity::Event;
use skytower_api_client::{Entity, EpochMs, Key, Kind, Text};
use xxhash_rust::xxh3::xxh3_64;

use super::values::word;
use super::{read, without};

/// So begins the reason of an event that says `CANCELLING` while the job still runs: somebody asked for it
/// (`CANCEL_REQUESTED_EVENT_REASON_PREFIX` in `sky/jobs/state.py`).
const CANCEL_REQUESTED: &str = "Cancellation requested";

#[derive(Default, Deserialize)]
#[serde(default)]
struct ClusterEventRecord {
    reason: Option<String>,
    transitioned_at: Option<f64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct JobEventRecord {
    task_id: Option<i64>,
    new_status: Option<String>,
    code: Option<String>,
    reason: Option<String>,
    timestamp: Option<Value>,
}

fn event(subject: &Entity, at: EpochMs, text: Text) -> Event {
    let mark = xxh3_64(text.as_bytes()) as u32;
    let id = subject.key();
    Event {
        key: Key::new(
            id.source(),
            Kind::Event,
            format_args!("{}/{}/{mark:08x}", id.id(), at.0),
        ),
        source: subject.source().clone(),
        name: text.clone(),
        owner: subject.owner().cloned(),
        workspace: subject.workspace().cloned(),
        restricted: subject.restricted(),
        subject: id.clone(),
        at,
        text,
        ..Event::default()
    }
}

/// An event of a cluster.
pub(in crate::source::skypilot) fn cluster_event(
    subject: &Entity,
    raw: &RawValue,
) -> Result<Event, Text> {
    let record: ClusterEventRecord = read(raw)?;
    let at = record
        .transitioned_at
        .ok_or_else(|| without("transitioned_at"))?;
    let text = word(record.reason).ok_or_else(|| without("reason"))?;
    Ok(event(subject, EpochMs::from_seconds(at), text))
}

/// An event of a task; none when it is of another task of the job.
pub(in crate::source::skypilot) fn job_event(
    subject: &Entity,
    raw: &RawValue,
) -> Result<Option<Event>, Text> {
    let record: JobEventRecord = read(raw)?;
    let task = subject.as_job().map(|job| job.task_id);
    if record.task_id.is_some() && record.task_id != task {
        return Ok(None);
    }
    let at = record
        .timestamp
        .as_ref()
        .and_then(timestamp)
        .ok_or_else(|| without("timestamp"))?;
    let status = word(record.new_status).unwrap_or_default();
    let reason = word(record.reason).or_else(|| word(record.code));
    let text = match reason {
        Some(reason) if status.is_empty() => reason,
        Some(reason) => format!("{status}: {reason}").into(),
        None => status,
    };
    Ok(Some(event(subject, at, text)))
}

/// The status that the newest of these events (they come newest first) gave to a task; none when they say
/// nothing about it.
pub(in crate::source::skypilot) fn job_status(task: i64, events: &[&RawValue]) -> Option<Text> {
    let only_asked_for = |record: &JobEventRecord| {
        let reason = record.reason.as_deref().unwrap_or_default();
        reason.starts_with(CANCEL_REQUESTED)
    };
    events
        .iter()
        .filter_map(|raw| read::<JobEventRecord>(raw).ok())
        .filter(|record| record.task_id.is_none_or(|of| of == task))
        .filter(|record| !only_asked_for(record))
        .find_map(|record| word(record.new_status))
}

/// An ISO time: with an offset on Postgres, naive and local to the server on `SQLite`. Servers of
/// several people run in UTC; nothing in the answer says otherwise.
fn timestamp(raw: &Value) -> Option<EpochMs> {
    if let Some(seconds) = raw.as_f64() {
        return Some(EpochMs::from_seconds(seconds));
    }
    let raw = raw.as_str()?;
    if let Ok(at) = raw.parse::<jiff::Timestamp>() {
        return Some(EpochMs(at.as_millisecond()));
    }
    let naive = raw.parse::<jiff::civil::DateTime>().ok()?;
    let at = jiff::tz::TimeZone::UTC.to_timestamp(naive).ok()?;
    Some(EpochMs(at.as_millisecond()))
}
