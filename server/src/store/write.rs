//! The writing thread.

use rusqlite::Connection;
use tokio::sync::{mpsc, watch};

use super::StoreError;

/// The most pieces of work in one commit, and the most that wait.
pub(super) const BATCH: usize = 256;

/// Does its work on the connection, or takes the reason why it is not even tried.
pub(super) type Work = Box<dyn FnOnce(Result<&Connection, StoreError>) -> Done + Send>;

/// Work that was done, or tried, and is not committed yet.
pub(super) struct Done {
    /// Tells the outcome, given how the commit went.
    pub(super) answer: Box<dyn FnOnce(Result<(), StoreError>) + Send>,
    /// Why it failed, when it did.
    pub(super) error: Option<StoreError>,
}

/// One piece of work must not take the others of its commit down with it.
pub(super) fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    connection.execute_batch("SAVEPOINT work")?;
    let outcome = work(connection);
    // A disk without room ends the whole transaction, with all its savepoints.
    if connection.is_autocommit() {
        return outcome.and(Err(lost()));
    }
    if outcome.is_err() {
        connection.execute_batch("ROLLBACK TO work")?;
    }
    connection.execute_batch("RELEASE work")?;
    outcome
}

fn lost() -> StoreError {
    StoreError::Database(std::sync::Arc::new(rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_ABORT_ROLLBACK),
        None,
    )))
}

/// Writes until nobody is left who could want something written.
pub(super) fn write(
    connection: &Connection,
    mut queue: mpsc::Receiver<Work>,
    commits: &watch::Sender<u64>,
) {
    while let Some(first) = queue.blocking_recv() {
        if let Err(error) = connection.execute_batch("BEGIN IMMEDIATE") {
            let refused = first(Err(error.into()));
            (refused.answer)(Ok(()));
            continue;
        }
        let mut next = Some(first);
        let mut answers = Vec::new();
        let mut broken = None;
        while let Some(work) = next.take() {
            let done = work(Ok(connection));
            answers.push(done.answer);
            // Work that came after would be committed by itself, and its answer would be wrong.
            if connection.is_autocommit() {
                broken = Some(done.error.unwrap_or_else(lost));
                break;
            }
            if answers.len() < BATCH {
                next = queue.try_recv().ok();
            }
        }
        let committed = match broken {
            Some(error) => Err(error),
            None => connection.execute_batch("COMMIT").map_err(StoreError::from),
        };
        if committed.is_err() && !connection.is_autocommit() {
            // It holds what was not promised.
            if let Err(error) = connection.execute_batch("ROLLBACK") {
                tracing::error!(%error, "a transaction could not be taken back");
            }
        }
        if committed.is_ok() {
            commits.send_modify(|commits| *commits += 1);
        }
        for answer in answers {
            answer(committed.clone());
        }
    }
}
