//! The server's database: what must outlive it, and must not be seen half done.
//!
//! ```text
//! run(work) ──▶ the writing thread: BEGIN, a savepoint for each, COMMIT, fsync ──▶ answers
//! read(work) ─▶ connections of their own that cannot write, and never hold up the writer
//! ```
//!
//! One thread writes. What arrives while a commit is under way goes into the next one together, so
//! that many callers share one fsync.

mod error;
mod file;
mod read;
mod schema;
mod write;

use std::path::Path;
use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

pub use error::StoreError;
use read::Readers;
use write::{Done, Work};

/// The database's name in the state folder.
pub const FILE: &str = "skytower.db";

/// The server's database. Cheap to clone; closed when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Store {
    work: mpsc::Sender<Work>,
    readers: Arc<Readers>,
    commits: watch::Receiver<u64>,
}

impl Store {
    /// Opens (or makes) the database. The file is for the server's own eyes (0600).
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = file::open(path)?;
        let (work, queue) = mpsc::channel(write::BATCH);
        let (committed, commits) = watch::channel(0);
        std::thread::Builder::new()
            .name("database".to_owned())
            .spawn(move || {
                write::write(&connection, queue, &committed);
                // What was deleted may have been a secret, and the log beside the file still has it.
                let emptied = connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
                if let Err(error) = emptied {
                    tracing::warn!(%error, "the log of the database could not be emptied");
                }
                drop(connection);
                drop(committed);
            })
            .map_err(|error| StoreError::file(path, error))?;
        Ok(Self {
            work,
            readers: Arc::new(Readers::new(path)),
            commits,
        })
    }

    /// Waits until the database is closed, which it is soon after this and all clones of it are dropped. A process that
    /// ends before leaves a log beside the file.
    pub fn closed(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut commits = self.commits.clone();
        async move { while commits.changed().await.is_ok() {} }
    }

    /// Does a piece of work on the writing thread. It is one transaction: all of it is on disk
    /// when this answers well, and none of it otherwise. It is done also when nobody waits for the
    /// answer any more.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (work, told) = piece(work);
        self.work.send(work).await.map_err(|_| StoreError::Closed)?;
        told.await.map_err(|_| StoreError::Closed)?
    }

    /// As [`Store::run`], for a caller outside of the runtime, who may be held up: the command line.
    pub fn run_blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (work, told) = piece(work);
        self.work
            .blocking_send(work)
            .map_err(|_| StoreError::Closed)?;
        told.blocking_recv().map_err(|_| StoreError::Closed)?
    }

    /// Reads, perhaps for long, from one moment's state and without holding up the writer. Whatever
    /// [`Store::run`] has answered is seen.
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.readers.read(work).await
    }

    /// Tells that something was committed: whoever reads then sees it.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.clone()
    }
}

/// A piece of work, and where its outcome arrives once it is committed.
fn piece<T: Send + 'static>(
    work: impl FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
) -> (Work, oneshot::Receiver<Result<T, StoreError>>) {
    let (tell, told) = oneshot::channel();
    let work: Work = Box::new(move |connection| {
        let outcome = connection.and_then(|connection| write::in_savepoint(connection, work));
        Done {
            error: outcome.as_ref().err().cloned(),
            answer: Box::new(move |committed| {
                // Nobody waits any more: the work is done all the same.
                let _ = tell.send(outcome.and_then(|value| committed.map(|()| value)));
            }),
        }
    });
    (work, told)
}

#[cfg(test)]
mod tests;
