//! Users (`/users`) and workspaces (`/workspaces`). Their counts are filled in from what the hub sees.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::value::RawValue;
use skytower_api_client::entity::{Owner, User, Workspace};
use skytower_api_client::phase::phase_of;
use skytower_api_client::{Key, Kind, Text};

use super::values::{moment, word};
use super::{read, without};

#[derive(Default, Deserialize)]
#[serde(default)]
struct UserRecord {
    id: Option<String>,
    name: Option<String>,
    created_at: Option<f64>,
    role: Option<String>,
    user_type: Option<String>,
}

/// A user; none for SkyPilot's internal ones.
pub(in crate::source::skypilot) fn user(
    source: &Text,
    raw: &RawValue,
) -> Result<Option<User>, Text> {
    let record: UserRecord = read(raw)?;
    let id = word(record.id).ok_or_else(|| without("id"))?;
    if id.starts_with("skypilot-system") {
        return Ok(None);
    }
    let name = word(record.name).unwrap_or_else(|| id.clone());
    Ok(Some(User {
        key: Key::new(source, Kind::User, &id),
        source: source.clone(),
        name: name.clone(),
        owner: Some(Owner {
            id: id.clone(),
            name,
        }),
        role: word(record.role),
        user_type: word(record.user_type)
            .or_else(|| id.starts_with("sa-").then(|| Text::from("sa"))),
        created_at: moment(record.created_at),
        user_id: id,
        ..User::default()
    }))
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct WorkspaceRecord {
    private: Option<bool>,
    read_only: Option<bool>,
}

/// All workspaces of an answer.
pub(in crate::source::skypilot) fn workspaces(
    source: &Text,
    raw: &RawValue,
) -> Result<Vec<Workspace>, Text> {
    let records: BTreeMap<String, Box<RawValue>> = read(raw)?;
    let row = |(name, record): (String, Box<RawValue>)| {
        let record: WorkspaceRecord = read(&record).unwrap_or_default();
        let private = record.private.unwrap_or(false);
        let read_only = record.read_only.unwrap_or(false);
        let status = match (private, read_only) {
            (_, true) => "read_only",
            (true, _) => "private",
            _ => "public",
        };
        let name = Text::from(name);
        Workspace {
            key: Key::new(source, Kind::Workspace, &name),
            source: source.clone(),
            workspace: Some(name.clone()),
            name,
            status: status.into(),
            phase: phase_of(Kind::Workspace, status),
            private,
            read_only,
            ..Workspace::default()
        }
    };
    Ok(records.into_iter().map(row).collect())
}
