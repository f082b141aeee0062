//! The tables, and how older ones become the present ones.

use rusqlite::Connection;

use super::StoreError;
use crate::{accounts, audit, requests};

/// One step per version: the database of version `n` has taken the first `n` steps. Each stands next
/// to what it is for. Never edit a step that was released; add one at the end.
const STEPS: &[&str] = &[
    requests::journal::SCHEMA,
    audit::SCHEMA,
    accounts::rows::SCHEMA,
];

/// Prepares a connection and brings its tables up to date.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), StoreError> {
    // FULL: a 202 promises that the request survives a power cut, not only a crash.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
         PRAGMA busy_timeout = 5000; PRAGMA trusted_schema = OFF;",
    )?;
    let version: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > STEPS.len() {
        return Err(StoreError::Newer {
            version,
            known: STEPS.len(),
        });
    }
    for (i, step) in STEPS.iter().enumerate().skip(version) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", i + 1)?;
        transaction.commit()?;
    }
    let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
    if verdict == "ok" {
        Ok(())
    } else {
        Err(StoreError::Damaged(verdict))
    }
}
