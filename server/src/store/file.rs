//! The file of the database: where it is, and who may read it.

use std::fs::File;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::{StoreError, schema};

/// The file's name before it held more than requests.
const BEFORE: &str = "requests.db";
/// What `SQLite` keeps next to a database. The write-ahead log holds what was promised last.
const COMPANIONS: [&str; 2] = ["-wal", "-shm"];

/// Opens the database, ready to be written.
pub(super) fn open(path: &Path) -> Result<Connection, StoreError> {
    take_over(path).map_err(|error| StoreError::file(path, error))?;
    // Made before SQLite does, which would follow the umask; its companions inherit the mode.
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)
        .and_then(|file| file.set_permissions(std::fs::Permissions::from_mode(0o600)))
        .map_err(|error| StoreError::file(path, error))?;
    let mut connection = Connection::open(path)?;
    schema::prepare(&mut connection)?;
    Ok(connection)
}

/// Gives the file of an older version its present name.
fn take_over(path: &Path) -> std::io::Result<()> {
    let before = path.with_file_name(BEFORE);
    if path.try_exists()? || !before.try_exists()? {
        return Ok(());
    }
    // The companions first: a crash in between finds the file where it was, and goes on from there.
    for companion in COMPANIONS {
        let from = beside(&before, companion);
        if from.try_exists()? {
            std::fs::rename(from, beside(path, companion))?;
        }
    }
    std::fs::rename(&before, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

fn beside(path: &Path, companion: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(companion);
    PathBuf::from(name)
}
