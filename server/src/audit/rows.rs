//! What is written and read: one function per piece of work.

use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row, params};
use skytower_api_client::entity::{AuditEntry, Owner};
use skytower_api_client::phase::phase_of;
use skytower_api_client::{EpochMs, Key, Kind, Text};

use super::chain::{self, Broken, Hash, Head, Link};
use super::{Entries, Entry};
use crate::store::StoreError;

/// The source of what this server itself says.
const ORIGIN: &str = "skytower";
const COLUMNS: &str = "seq, at, actor, actor_name, role, proof, address, action, target, request, outcome, detail, previous, hash";

/// Writes an entry at the end of the audit, in the transaction of what it is about.
pub fn append(connection: &Connection, entry: &Entry) -> Result<Head, StoreError> {
    let last = head(connection)?;
    let (seq, words) = (last.seq + 1, entry.words());
    let hash = chain::hash(&last.hash, seq, entry.at.0, &words);
    let [
        actor,
        actor_name,
        role,
        proof,
        address,
        action,
        target,
        request,
        outcome,
        detail,
    ] = words;
    let mut insert = connection
        .prepare_cached("INSERT INTO audit VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")?;
    insert.execute(params![
        seq, entry.at.0, actor, actor_name, role, proof, address, action, target, request, outcome,
        detail, last.hash, hash,
    ])?;
    Ok(Head { seq, hash })
}

fn place(row: &Row<'_>) -> rusqlite::Result<Head> {
    Ok(Head {
        seq: row.get(0)?,
        hash: row.get::<_, Hash>(1)?,
    })
}

/// Where the audit ends.
pub(super) fn head(connection: &Connection) -> Result<Head, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")?;
    match select.query_row([], place).optional()? {
        Some(head) => Ok(head),
        None => anchor(connection),
    }
}

/// Before which entry the audit begins.
pub(super) fn anchor(connection: &Connection) -> Result<Head, StoreError> {
    Ok(connection.query_row("SELECT seq, hash FROM audit_anchor", [], place)?)
}

/// As [`anchor`], for a look at the last `most` entries.
pub(super) fn anchor_of_last(connection: &Connection, most: i64) -> Result<Head, StoreError> {
    let last = head(connection)?.seq;
    let found = connection.query_row(
        "SELECT seq, hash FROM audit WHERE seq = ?",
        [last - most],
        place,
    );
    match found.optional()? {
        Some(head) => Ok(head),
        None => anchor(connection),
    }
}

fn bytes(row: &Row<'_>, column: usize) -> rusqlite::Result<Vec<u8>> {
    Ok(row.get_ref(column)?.as_bytes()?.to_vec())
}

fn link(row: &Row<'_>) -> rusqlite::Result<Link> {
    let mut words: [Vec<u8>; 10] = Default::default();
    for (i, word) in words.iter_mut().enumerate() {
        *word = bytes(row, i + 2)?;
    }
    Ok(Link {
        seq: row.get(0)?,
        at: row.get(1)?,
        words,
        previous: bytes(row, 12)?,
        hash: bytes(row, 13)?,
    })
}

/// How far the chain can be followed, and over how many entries at most `most` were read.
pub(super) type Checked = (Result<Head, (Head, Broken)>, usize);

/// Follows the chain from `at`.
pub(super) fn check(connection: &Connection, at: Head, most: usize) -> Result<Checked, StoreError> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM audit WHERE seq > ? ORDER BY seq LIMIT ?"
    ))?;
    let mut read = 0;
    let links = select
        .query_map(params![at.seq, most], link)?
        .inspect(|_| read += 1);
    let verdict = chain::verify(at, links)?;
    Ok((verdict, read))
}

fn entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    let text = |column: usize| -> rusqlite::Result<Text> {
        Ok(String::from_utf8_lossy(row.get_ref(column)?.as_bytes()?)
            .into_owned()
            .into())
    };
    let seq: i64 = row.get(0)?;
    let (actor, action, status, detail) = (text(2)?, text(7)?, text(10)?, text(11)?);
    let name = text(3)?;
    Ok(AuditEntry {
        key: Key::new(ORIGIN, Kind::Audit, seq),
        source: ORIGIN.into(),
        name: action.clone(),
        owner: (!actor.is_empty() || !name.is_empty()).then_some(Owner { id: actor, name }),
        phase: phase_of(Kind::Audit, &status),
        status,
        why: (!detail.is_empty()).then_some(detail),
        seq,
        at: EpochMs(row.get(1)?),
        role: text(4)?,
        proof: text(5)?,
        address: text(6)?,
        action,
        target: text(8)?,
        request: text(9)?,
        hash: chain::hex(row.get_ref(13)?.as_bytes()?).into(),
        ..AuditEntry::default()
    })
}

fn select<'a>(connection: &'a Connection, which: &str) -> Result<CachedStatement<'a>, StoreError> {
    Ok(connection.prepare_cached(&format!("SELECT {COLUMNS} FROM audit {which}"))?)
}

/// The entries after one, oldest first.
pub(super) fn after(
    connection: &Connection,
    after: i64,
    most: usize,
) -> Result<Vec<AuditEntry>, StoreError> {
    let mut select = select(connection, "WHERE seq > ? ORDER BY seq LIMIT ?")?;
    let rows = select.query_map(params![after, most], entry)?;
    Ok(rows.collect::<rusqlite::Result<_>>()?)
}

/// Entries before one, newest first: see [`super::Audit::before`].
pub(super) fn before(
    connection: &Connection,
    before: i64,
    since: Option<EpochMs>,
    (limit, look_at): (usize, usize),
    matches: &dyn Fn(&AuditEntry) -> bool,
) -> Result<Entries, StoreError> {
    let mut select = select(connection, "WHERE seq < ? ORDER BY seq DESC LIMIT ?")?;
    let mut found = select.query_map(params![before, look_at], entry)?;
    let mut entries = Entries {
        rows: Vec::new(),
        next: None,
    };
    let mut looked_at = 0;
    while entries.rows.len() < limit {
        let Some(row) = found.next().transpose()? else {
            if looked_at < look_at {
                entries.next = None;
            }
            break;
        };
        looked_at += 1;
        if since.is_some_and(|since| row.at < since) {
            entries.next = None;
            break;
        }
        entries.next = Some(row.seq);
        if matches(&row) {
            entries.rows.push(row);
        }
    }
    // Nothing is before the first one that is kept.
    let first = anchor(connection)?.seq + 1;
    entries.next = entries.next.filter(|next| *next > first);
    Ok(entries)
}

/// Forgets up to `most` entries from before `before`; how many those were.
pub(super) fn forget(
    connection: &Connection,
    before: EpochMs,
    most: usize,
) -> Result<usize, StoreError> {
    let begin = anchor(connection)?;
    // From the oldest one on, as far as they are old: clocks are set back now and then.
    let mut select =
        connection.prepare_cached("SELECT seq, hash, at FROM audit ORDER BY seq LIMIT ?")?;
    let mut rows = select.query([most])?;
    let mut cut = begin;
    while let Some(row) = rows.next()? {
        if row.get::<_, i64>(2)? >= before.0 {
            break;
        }
        cut = place(row)?;
    }
    drop(rows);
    if cut == begin {
        return Ok(0);
    }
    // The anchor first: nothing goes that it does not stand for.
    connection.execute(
        "UPDATE audit_anchor SET seq = ?, hash = ?",
        params![cut.seq, cut.hash],
    )?;
    Ok(connection.execute("DELETE FROM audit WHERE seq <= ?", [cut.seq])?)
}
