//! What is written and read: one function per piece of work.

use std::str::FromStr;
use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension, Row, params};
use skytower_api_client::{Entity, EpochMs, Text, action};
use uuid::Uuid;

use super::{Acceptance, Accepted, Progress};
use crate::audit;
use crate::requests::record::{HandoverRecord, Record, Stage, Target, caller_id};
use crate::store::StoreError;

fn json(value: &impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(StoreError::damaged)
}

pub(super) fn before(
    connection: &Connection,
    caller_id: &str,
    idempotency_key: &str,
    fingerprint: &[u8],
) -> Result<Option<Accepted>, StoreError> {
    let found = connection
        .query_row(
            "SELECT id, fingerprint FROM requests WHERE caller_id = ? AND idempotency_key = ?",
            params![caller_id, idempotency_key],
            |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)),
        )
        .optional()?;
    let Some((id, known)) = found else {
        return Ok(None);
    };
    Ok(Some(if known == fingerprint {
        Accepted::Before(Uuid::from_str(&id).map_err(StoreError::damaged)?)
    } else {
        Accepted::KeyReused
    }))
}

pub(super) fn accept(connection: &Connection, new: &Acceptance) -> Result<Accepted, StoreError> {
    let record = &new.record;
    let caller_id = caller_id(&record.caller);
    if let Some(key) = &new.idempotency_key
        && let Some(before) = before(connection, &caller_id, key, &new.fingerprint)?
    {
        return Ok(before);
    }
    let id = record.id.to_string();
    connection.execute(
        "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        params![
            id,
            caller_id.as_str(),
            new.idempotency_key,
            new.fingerprint,
            record.action.id,
            json(&record.options)?,
            json(&record.caller)?,
            for_older_servers(record),
            record.created_at.0,
            record.ended_at.map(|at| at.0),
            record.status(),
        ],
    )?;
    let mut insert = connection.prepare_cached("INSERT INTO targets VALUES (?, ?, ?, ?)")?;
    for (position, target) in record.targets.iter().enumerate() {
        let row = target.row.as_deref().map(json).transpose()?;
        insert.execute(params![id, position, row, json(&target.result)?])?;
    }
    let mut insert =
        connection.prepare_cached("INSERT INTO handovers VALUES (?, ?, ?, ?, ?, ?, ?)")?;
    for (number, handover) in record.handovers.iter().enumerate() {
        insert.execute(params![
            id,
            number,
            handover.source.as_str(),
            json(&handover.targets)?,
            handover.stage.word(),
            handover.upstream.as_ref().map(Text::as_str),
            handover.tried_at.map(|at| at.0),
        ])?;
    }
    for entry in &new.audit {
        audit::append(connection, entry)?;
    }
    if record.ended_at.is_some() {
        forget_start(connection, &id)?;
    }
    Ok(Accepted::New)
}

/// What a request was to start is needed until it has ended, and may hold secrets. That it was the same
/// as another one is known by its fingerprint.
fn forget_start(connection: &Connection, id: &str) -> Result<(), StoreError> {
    let mut update = connection.prepare_cached(
        "UPDATE requests SET options = json_remove(options, '$.start.yaml', '$.start.envs', '$.start.secrets')
         WHERE id = ? AND options ->> '$.start' IS NOT NULL",
    )?;
    update.execute([id])?;
    Ok(())
}

/// Who may see a request follows from its targets. An older server looks at this alone: it finds the name
/// of no workspace there, and shows the request to nobody from whom anything is kept.
fn for_older_servers(record: &Record) -> Option<String> {
    let row = record.row();
    let within: Vec<&str> = row.within.iter().map(Text::as_str).collect();
    (row.restricted || !within.is_empty()).then(|| within.join("+"))
}

const COLUMNS: &str = "id, action, options, caller, created_at, ended_at";

struct Head {
    id: String,
    action: String,
    options: String,
    caller: String,
    created_at: i64,
    ended_at: Option<i64>,
}

fn head(row: &Row<'_>) -> rusqlite::Result<Head> {
    Ok(Head {
        id: row.get(0)?,
        action: row.get(1)?,
        options: row.get(2)?,
        caller: row.get(3)?,
        created_at: row.get(4)?,
        ended_at: row.get(5)?,
    })
}

fn whole(connection: &Connection, head: &Head) -> Result<Record, StoreError> {
    let action = action::action(&head.action)
        .ok_or_else(|| StoreError::damaged(format!("unknown action {}", head.action)))?;
    let mut targets = Vec::new();
    let mut select = connection
        .prepare_cached("SELECT row, result FROM targets WHERE request = ? ORDER BY position")?;
    let mut found = select.query([&head.id])?;
    while let Some(row) = found.next()? {
        let snapshot: Option<String> = row.get(0)?;
        let snapshot = snapshot
            .map(|json| Entity::decode(action.kind, &json).map(Arc::new))
            .transpose()
            .map_err(StoreError::damaged)?;
        let result: String = row.get(1)?;
        targets.push(Target {
            row: snapshot,
            result: serde_json::from_str(&result).map_err(StoreError::damaged)?,
        });
    }
    let mut handovers = Vec::new();
    let mut select = connection.prepare_cached(
        "SELECT source, targets, stage, upstream, tried_at FROM handovers WHERE request = ? ORDER BY number",
    )?;
    let mut found = select.query([&head.id])?;
    while let Some(row) = found.next()? {
        let members: String = row.get(1)?;
        let members: Vec<usize> = serde_json::from_str(&members).map_err(StoreError::damaged)?;
        if members.iter().any(|i| *i >= targets.len()) {
            return Err(StoreError::damaged(
                "a handover names a target that is not there",
            ));
        }
        let word: String = row.get(2)?;
        let stage = Stage::WORDS.iter().find(|(_, known)| *known == word);
        handovers.push(HandoverRecord {
            source: row.get::<_, String>(0)?.into(),
            targets: members,
            stage: stage
                .ok_or_else(|| StoreError::damaged(format!("unknown stage {word}")))?
                .0,
            upstream: row.get::<_, Option<String>>(3)?.map(Text::from),
            tried_at: row.get::<_, Option<i64>>(4)?.map(EpochMs),
        });
    }
    Ok(Record {
        id: Uuid::from_str(&head.id).map_err(StoreError::damaged)?,
        action,
        options: serde_json::from_str(&head.options).map_err(StoreError::damaged)?,
        caller: serde_json::from_str(&head.caller).map_err(StoreError::damaged)?,
        created_at: EpochMs(head.created_at),
        ended_at: head.ended_at.map(EpochMs),
        targets,
        handovers,
    })
}

/// A row that cannot be read (an action of another version) must not keep the server from starting.
fn readable(
    connection: &Connection,
    heads: impl Iterator<Item = rusqlite::Result<Head>>,
) -> Result<Vec<Record>, StoreError> {
    let mut records = Vec::new();
    for head in heads {
        let head = head?;
        let id = head.id.clone();
        match whole(connection, &head) {
            Ok(record) => records.push(record),
            Err(StoreError::Damaged(reason)) => {
                tracing::error!(request = %id, %reason, "a request in the journal cannot be read; it is left as it is");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(records)
}

pub(super) fn get(connection: &Connection, id: Uuid) -> Result<Option<Record>, StoreError> {
    let found = connection
        .query_row(
            &format!("SELECT {COLUMNS} FROM requests WHERE id = ?"),
            [id.to_string()],
            head,
        )
        .optional()?;
    found.map(|head| whole(connection, &head)).transpose()
}

pub(super) fn unfinished(connection: &Connection) -> Result<Vec<Record>, StoreError> {
    let mut select = connection.prepare(&format!(
        "SELECT {COLUMNS} FROM requests WHERE ended_at IS NULL ORDER BY id"
    ))?;
    let heads = select.query_map([], head)?;
    readable(connection, heads)
}

pub(super) fn finished(
    connection: &Connection,
    after: EpochMs,
    limit: usize,
) -> Result<Vec<Record>, StoreError> {
    let mut select = connection.prepare(&format!(
        "SELECT {COLUMNS} FROM requests WHERE ended_at > ? ORDER BY ended_at DESC LIMIT ?"
    ))?;
    let heads = select.query_map(params![after.0, limit], head)?;
    readable(connection, heads)
}

pub(super) fn advance(
    connection: &Connection,
    request: Uuid,
    number: usize,
    (from, to): (Stage, Stage),
    upstream: Option<&Text>,
    tried_at: Option<EpochMs>,
) -> Result<bool, StoreError> {
    let changed = connection.execute(
        "UPDATE handovers SET stage = ?, upstream = COALESCE(?, upstream), tried_at = COALESCE(?, tried_at)
         WHERE request = ? AND number = ? AND stage = ?",
        params![
            to.word(),
            upstream.map(Text::as_str),
            tried_at.map(|at| at.0),
            request.to_string(),
            number,
            from.word(),
        ],
    )?;
    Ok(changed == 1)
}

pub(super) fn save(connection: &Connection, progress: &Progress) -> Result<(), StoreError> {
    let id = progress.request.to_string();
    let mut update = connection
        .prepare_cached("UPDATE targets SET result = ? WHERE request = ? AND position = ?")?;
    for (position, result) in &progress.results {
        update.execute(params![json(result)?, id, position])?;
    }
    let mut update = connection
        .prepare_cached("UPDATE handovers SET stage = 'ended' WHERE request = ? AND number = ?")?;
    for number in &progress.ended {
        update.execute(params![id, number])?;
    }
    // Once: what is written late must not take an end back, nor tell of it again.
    let changed = connection.execute(
        "UPDATE requests SET status = ?, ended_at = ? WHERE id = ? AND ended_at IS NULL",
        params![progress.status, progress.ended_at.map(|at| at.0), id],
    )?;
    if let Some(entry) = progress.end.as_ref().filter(|_| changed == 1) {
        audit::append(connection, entry)?;
    }
    if progress.ended_at.is_some() {
        forget_start(connection, &id)?;
    }
    Ok(())
}

pub(super) fn withdraw(
    connection: &Connection,
    request: Uuid,
    audit: Option<&audit::Entry>,
) -> Result<Vec<usize>, StoreError> {
    let mut update = connection.prepare_cached(
        "UPDATE handovers SET stage = 'ended' WHERE request = ? AND stage = 'planned' RETURNING number",
    )?;
    let numbers = update.query_map([request.to_string()], |row| row.get(0))?;
    let numbers: Vec<usize> = numbers.collect::<rusqlite::Result<_>>()?;
    if let Some(entry) = audit.filter(|_| !numbers.is_empty()) {
        audit::append(connection, entry)?;
    }
    Ok(numbers)
}

pub(super) fn prune(
    connection: &Connection,
    before: EpochMs,
    keep: usize,
) -> Result<usize, StoreError> {
    let old = connection.execute("DELETE FROM requests WHERE ended_at < ?", [before.0])?;
    let many = connection.execute(
        "DELETE FROM requests WHERE id IN (
            SELECT id FROM requests WHERE ended_at IS NOT NULL ORDER BY ended_at DESC LIMIT -1 OFFSET ?)",
        [keep],
    )?;
    Ok(old + many)
}
