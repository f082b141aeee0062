//! The log of a server in the background.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// A log file of this size becomes `server.log.1`; with it the log takes at most twice as much.
const LIMIT: u64 = 4 * 1024 * 1024;

/// Writes the log into the state folder from now on. `SKYTOWER_LOG` chooses what is noted.
pub(crate) fn start(home: &Path) {
    let filter = EnvFilter::try_from_env("SKYTOWER_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let log = Rotating::new(home.join(crate::home::LOG));
    // Fails when the process has a log already: then that one is used.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(log)
        .try_init();
}

#[derive(Clone)]
struct Rotating(Arc<Mutex<Open>>);

struct Open {
    path: PathBuf,
    file: Option<File>,
    size: u64,
}

impl Rotating {
    fn new(path: PathBuf) -> Self {
        Self(Arc::new(Mutex::new(Open {
            path,
            file: None,
            size: 0,
        })))
    }
}

impl Open {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.size > LIMIT {
            self.file = None;
            fs::rename(&self.path, self.path.with_extension("log.1"))?;
        }
        let file = if let Some(file) = &mut self.file {
            file
        } else {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(&self.path)?;
            self.size = file.metadata()?.len();
            self.file.insert(file)
        };
        file.write_all(line)?;
        self.size += line.len() as u64;
        Ok(())
    }
}

impl Write for Rotating {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(line)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Rotating {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_log_is_bounded_and_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(crate::home::LOG);
        let mut log = Rotating::new(path.clone());
        let line = vec![b'x'; 64 * 1024];
        for _ in 0..(3 * LIMIT / line.len() as u64) {
            log.write_all(&line).unwrap();
        }
        let sizes: Vec<u64> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().len())
            .collect();
        assert_eq!(sizes.len(), 2);
        assert!(sizes.iter().all(|size| *size <= LIMIT + line.len() as u64));
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
}
