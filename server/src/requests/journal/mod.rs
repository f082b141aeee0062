//! The journal: what was promised, on disk before it is promised.
//!
//! One thread owns the database. What arrives while a commit is under way goes into the next one
//! together, so that many callers share one fsync.

mod rows;
mod schema;

use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::Connection;
use skytower_api_client::entity::TargetResult;
use skytower_api_client::{EpochMs, Text};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::record::{Record, Stage};

/// The most pieces of work in one commit, and the most that wait.
const BATCH: usize = 256;

/// How long finished requests are kept.
pub const KEEP_FOR_MS: i64 = 7 * 24 * 3600 * 1000;
/// How many finished requests are kept.
pub const KEEP: usize = 10_000;

/// The journal could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// `SQLite` or the disk said no.
    #[error("the journal of requests could not be read or written: {0}")]
    Database(Arc<rusqlite::Error>),
    /// The file could not be made.
    #[error("the journal of requests {path} could not be opened: {reason}")]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's word.
        reason: Arc<std::io::Error>,
    },
    /// What stands there makes no sense.
    #[error("the journal of requests is damaged ({0}): move it away, or restore it from a copy")]
    Damaged(String),
    /// Written by a newer version.
    #[error(
        "the journal of requests was written by a newer skytower (schema {version}, this one knows {known}): upgrade skytower, or move the file away"
    )]
    Newer {
        /// What was found.
        version: usize,
        /// What is known.
        known: usize,
    },
    /// The writing thread has ended.
    #[error("the journal of requests is closed")]
    Closed,
}

impl From<rusqlite::Error> for JournalError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

type Answer = Box<dyn FnOnce(Result<(), JournalError>) + Send>;
type Work = Box<dyn FnOnce(&Connection) -> Answer + Send>;

/// The journal. Cheap to clone; closed when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Journal {
    work: mpsc::Sender<Work>,
}

/// A request that is to be accepted.
#[derive(Clone, Debug)]
pub struct Acceptance {
    /// The request with its plan.
    pub record: Record,
    /// The caller's own name for it.
    pub idempotency_key: Option<String>,
    /// A digest of what was asked for.
    pub fingerprint: Vec<u8>,
}

/// What is new about a request.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Which request.
    pub request: Uuid,
    /// Targets with new results.
    pub results: Vec<(usize, TargetResult)>,
    /// Handovers that ended.
    pub ended: Vec<usize>,
    /// Its status now.
    pub status: &'static str,
    /// When its last target was over.
    pub ended_at: Option<EpochMs>,
}

/// What became of an acceptance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    /// It is on disk.
    New,
    /// The same was accepted before, under this id.
    Before(Uuid),
    /// The idempotency key was used for something else.
    KeyReused,
}

impl Journal {
    /// Opens (or makes) the journal. The file is for the server's own eyes (0600).
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let failed = |error: std::io::Error| JournalError::File {
            path: path.to_owned(),
            reason: Arc::new(error),
        };
        // Made before SQLite does, which would follow the umask; its companions inherit the mode.
        std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(path)
            .and_then(|file| file.set_permissions(std::fs::Permissions::from_mode(0o600)))
            .map_err(failed)?;
        let mut connection = Connection::open(path)?;
        schema::prepare(&mut connection)?;
        let (work, queue) = mpsc::channel(BATCH);
        std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || write(&connection, queue))
            .map_err(failed)?;
        Ok(Self { work })
    }

    /// Does a piece of work on the writing thread; answers once it is committed.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (tell, told) = oneshot::channel();
        let work: Work = Box::new(move |connection| {
            let outcome = in_savepoint(connection, work);
            Box::new(move |committed| {
                // Nobody waits any more: the work is done all the same.
                let _ = tell.send(committed.and(outcome));
            })
        });
        self.work
            .send(work)
            .await
            .map_err(|_| JournalError::Closed)?;
        told.await.map_err(|_| JournalError::Closed)?
    }

    /// Writes a new request down, unless its idempotency key was used before.
    pub async fn accept(&self, acceptance: Acceptance) -> Result<Accepted, JournalError> {
        self.run(move |connection| rows::accept(connection, &acceptance))
            .await
    }

    /// What was accepted under an idempotency key, when something was.
    pub async fn before(
        &self,
        caller_id: Text,
        idempotency_key: String,
        fingerprint: Vec<u8>,
    ) -> Result<Option<Accepted>, JournalError> {
        self.run(move |connection| {
            rows::before(connection, &caller_id, &idempotency_key, &fingerprint)
        })
        .await
    }

    /// A request; none when there is none (any more).
    pub async fn get(&self, id: Uuid) -> Result<Option<Record>, JournalError> {
        self.run(move |connection| rows::get(connection, id)).await
    }

    /// All requests that have not ended, oldest first.
    pub async fn unfinished(&self) -> Result<Vec<Record>, JournalError> {
        self.run(rows::unfinished).await
    }

    /// The last `limit` requests that ended after `after`, newest first.
    pub async fn finished(
        &self,
        after: EpochMs,
        limit: usize,
    ) -> Result<Vec<Record>, JournalError> {
        self.run(move |connection| rows::finished(connection, after, limit))
            .await
    }

    /// Moves a handover from one stage to the next, if it is (still) in the first. False when
    /// somebody else was quicker: it was withdrawn.
    pub async fn advance(
        &self,
        request: Uuid,
        number: usize,
        from: Stage,
        to: Stage,
        upstream: Option<Text>,
        tried_at: Option<EpochMs>,
    ) -> Result<bool, JournalError> {
        self.run(move |connection| {
            rows::advance(
                connection,
                request,
                number,
                (from, to),
                upstream.as_ref(),
                tried_at,
            )
        })
        .await
    }

    /// Writes down the results, the ended handovers and, where all is over, the end of a request.
    pub async fn save(&self, progress: Progress) -> Result<(), JournalError> {
        self.run(move |connection| rows::save(connection, &progress))
            .await
    }

    /// Ends the handovers of a request that are only planned; returns their numbers.
    pub async fn withdraw(&self, request: Uuid) -> Result<Vec<usize>, JournalError> {
        self.run(move |connection| rows::withdraw(connection, request))
            .await
    }

    /// Forgets finished requests that are too old or too many.
    pub async fn prune(&self, now: EpochMs) -> Result<usize, JournalError> {
        self.run(move |connection| rows::prune(connection, EpochMs(now.0 - KEEP_FOR_MS), KEEP))
            .await
    }
}

/// One piece of work must not take the others of its commit down with it.
fn in_savepoint<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T, JournalError>,
) -> Result<T, JournalError> {
    connection.execute_batch("SAVEPOINT work")?;
    let outcome = work(connection);
    if outcome.is_err() {
        connection.execute_batch("ROLLBACK TO work")?;
    }
    connection.execute_batch("RELEASE work")?;
    outcome
}

fn write(connection: &Connection, mut queue: mpsc::Receiver<Work>) {
    while let Some(first) = queue.blocking_recv() {
        let begun = connection.execute_batch("BEGIN IMMEDIATE");
        if let Err(error) = begun {
            let error = JournalError::from(error);
            // The work is refused without having been tried.
            (first(connection))(Err(error));
            // Whatever it did outside of a transaction is not to stay.
            let _ = connection.execute_batch("ROLLBACK");
            continue;
        }
        let mut answers = vec![first(connection)];
        while answers.len() < BATCH {
            let Ok(next) = queue.try_recv() else { break };
            answers.push(next(connection));
        }
        let committed = connection
            .execute_batch("COMMIT")
            .map_err(JournalError::from);
        if committed.is_err() {
            // A failed commit may have rolled back by itself.
            let _ = connection.execute_batch("ROLLBACK");
        }
        for answer in answers {
            answer(committed.clone());
        }
    }
}

#[cfg(test)]
mod tests;
