//! Why the database could not be opened, read or written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::accounts::RowsError;

/// The server's database could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// `SQLite` or the disk said no.
    #[error("the server's database could not be read or written: {0}")]
    Database(Arc<rusqlite::Error>),
    /// The file could not be made.
    #[error("the server's database {path} could not be opened: {reason}")]
    File {
        /// Which file.
        path: PathBuf,
        /// The system's word.
        reason: Arc<std::io::Error>,
    },
    /// What stands there makes no sense.
    #[error("the server's database is damaged ({0}): move it away, or restore it from a copy")]
    Damaged(String),
    /// Written by a newer version.
    #[error(
        "the server's database was written by a newer skytower (schema {version}, this one knows {known}): upgrade skytower, or move the file away"
    )]
    Newer {
        /// What was found.
        version: usize,
        /// What is known.
        known: usize,
    },
    /// The writing thread has ended.
    #[error("the server's database is closed")]
    Closed,
}

impl StoreError {
    pub(super) fn file(path: &Path, reason: std::io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            reason: Arc::new(reason),
        }
    }

    /// What was read makes no sense.
    pub(crate) fn damaged(error: impl std::fmt::Display) -> Self {
        Self::Damaged(error.to_string())
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(Arc::new(error))
    }
}

impl From<RowsError> for StoreError {
    fn from(error: RowsError) -> Self {
        match error {
            RowsError::Database(error) => Self::Database(error),
            RowsError::Damaged(what) => Self::Damaged(what),
        }
    }
}
