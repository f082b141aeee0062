//! The tables of the journal, and how older ones become the present ones.

use rusqlite::Connection;

use super::JournalError;

/// One step per version: the journal of version `n` has taken the first `n` steps. Never edit a
/// step that was released; add one.
const STEPS: &[&str] = &["
    CREATE TABLE requests (
        id TEXT PRIMARY KEY,
        caller_id TEXT NOT NULL,
        idempotency_key TEXT,
        fingerprint BLOB NOT NULL,
        action TEXT NOT NULL,
        options TEXT NOT NULL,
        caller TEXT NOT NULL,
        workspace TEXT,
        created_at INTEGER NOT NULL,
        ended_at INTEGER,
        status TEXT NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX requests_by_idempotency_key ON requests (caller_id, idempotency_key)
        WHERE idempotency_key IS NOT NULL;
    CREATE INDEX requests_unfinished ON requests (id) WHERE ended_at IS NULL;
    CREATE INDEX requests_by_end ON requests (ended_at) WHERE ended_at IS NOT NULL;
    CREATE TABLE targets (
        request TEXT NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
        position INTEGER NOT NULL,
        row TEXT,
        result TEXT NOT NULL,
        PRIMARY KEY (request, position)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE handovers (
        request TEXT NOT NULL REFERENCES requests (id) ON DELETE CASCADE,
        number INTEGER NOT NULL,
        source TEXT NOT NULL,
        targets TEXT NOT NULL,
        stage TEXT NOT NULL CHECK (stage IN ('planned', 'submitting', 'submitted', 'ended')),
        upstream TEXT,
        tried_at INTEGER,
        PRIMARY KEY (request, number)
    ) STRICT, WITHOUT ROWID;
"];

/// Prepares a connection and brings its tables up to date.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), JournalError> {
    // FULL: a 202 promises that the request survives a power cut, not only a crash.
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;
         PRAGMA busy_timeout = 5000; PRAGMA trusted_schema = OFF;",
    )?;
    let version: usize = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > STEPS.len() {
        return Err(JournalError::Newer {
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
        Err(JournalError::Damaged(verdict))
    }
}
