//! The state folder: who may read it, who holds it, and how clients find the server in it.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use skytower_api_client::credentials::Secret;

const LOCK: &str = "server.lock";
const TOKEN: &str = "token";
const CARD: &str = "server.json";
/// The log of a server in the background.
pub const LOG: &str = "server.log";

/// How long a lock may outlive the process that took it: what it was just starting when it was killed has a
/// copy of all that is open until it is executed.
const LEFT_PATIENCE: Duration = Duration::from_secs(5);
pub(crate) const LEFT_EVERY: Duration = Duration::from_millis(20);

/// There is a process of that number.
pub(crate) fn is_alive(pid: u32) -> bool {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(rustix::process::Pid::from_raw);
    pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok())
}

/// What is wrong with a state folder.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// Somebody else holds it.
    #[error("another skytower server{} holds the state folder {home}", holder(*.pid))]
    Held {
        /// The folder.
        home: PathBuf,
        /// The other server's process, where it wrote that down.
        pid: Option<u32>,
    },
    /// The token file is not one.
    #[error("{path} does not hold a token: delete it, and a new one is made at the next start")]
    Token {
        /// The file.
        path: PathBuf,
    },
    /// The file system says no.
    #[error("cannot {doing} {path}: {error}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(String::new, |pid| format!(" (process {pid})"))
}

fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> HomeError {
    let path = path.to_owned();
    move |error| HomeError::Io { doing, path, error }
}

/// A state folder that is held by this process.
#[derive(Debug)]
pub struct Home {
    path: PathBuf,
    token: TokenHash,
    /// The lock lasts as long as the file is open.
    _lock: File,
}

/// What a running server writes down for those who look for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Card {
    /// Its address.
    pub url: String,
    /// A second address, on loopback, where the first is for other machines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local: Option<String>,
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// The commit it was built from.
    pub commit: String,
    /// The fingerprint of the sources it was built from.
    #[serde(default)]
    pub build: String,
    /// The life of its state.
    pub epoch: String,
    /// What it watches; addresses hold no credentials.
    pub sources: Vec<CardSource>,
}

/// A source on a [`Card`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CardSource {
    /// Its name.
    pub name: String,
    /// Its address.
    pub url: String,
}

/// What is kept of the token: enough to know it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Is this the token. Takes the same time whatever the difference is.
    pub fn is(&self, token: &str) -> bool {
        let other = Self::of(token);
        let differences = self
            .0
            .iter()
            .zip(other.0)
            .fold(0, |all, (a, b)| std::hint::black_box(all | (a ^ b)));
        differences == 0
    }
}

impl Home {
    /// Makes the folder where it is not there, takes it for this process, and makes the token once.
    pub fn open(path: &Path) -> Result<Self, HomeError> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io("make the folder", path))?;
        // It may have been there with other rights.
        fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(io("close to others the folder", path))?;
        let lock = lock(path)?;
        Ok(Self {
            token: TokenHash::of(token(path)?.expose()),
            path: path.to_owned(),
            _lock: lock,
        })
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the token has to hash to.
    pub fn token(&self) -> TokenHash {
        self.token
    }

    /// Writes down where the server is.
    pub fn publish(&self, card: &Card) -> Result<(), HomeError> {
        // Our own type: nothing fails to serialise.
        let json = serde_json::to_string_pretty(card).unwrap_or_default();
        write_whole(&self.path.join(CARD), json.as_bytes())
    }

    /// Takes back what was written down.
    pub fn withdraw(&self) {
        if let Err(error) = fs::remove_file(self.path.join(CARD))
            && error.kind() != ErrorKind::NotFound
        {
            tracing::warn!(%error, "{CARD} could not be removed");
        }
    }
}

/// The card that a running server has written in `home`; none when there is none or it is garbled.
/// It may be left over from a server that was killed: only an answer at its address says otherwise.
pub fn card(home: &Path) -> Option<Card> {
    serde_json::from_slice(&fs::read(home.join(CARD)).ok()?).ok()
}

/// The token that signs its clients in.
pub fn read_token(home: &Path) -> Result<Secret, HomeError> {
    let path = home.join(TOKEN);
    let text = fs::read_to_string(&path).map_err(io("read", &path))?;
    let token = text.trim();
    if token.len() == 64 && token.bytes().all(|b| b.is_ascii_hexdigit()) {
        Ok(Secret::new(token))
    } else {
        Err(HomeError::Token { path })
    }
}

/// Locks a file with this process's number in it; or says whose number is in it.
pub(crate) fn try_lock(path: &Path) -> std::io::Result<Result<File, Option<u32>>> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {
            file.set_len(0)?;
            writeln!(file, "{}", std::process::id())?;
            Ok(Ok(file))
        }
        Err(rustix::io::Errno::WOULDBLOCK) => {
            let mut text = String::new();
            file.read_to_string(&mut text)?;
            Ok(Err(text.trim().parse().ok()))
        }
        Err(error) => Err(error.into()),
    }
}

fn lock(home: &Path) -> Result<File, HomeError> {
    let path = home.join(LOCK);
    let deadline = Instant::now() + LEFT_PATIENCE;
    loop {
        let pid = match try_lock(&path).map_err(io("lock", &path))? {
            Ok(file) => return Ok(file),
            Err(pid) => pid,
        };
        if pid.is_none_or(is_alive) || Instant::now() > deadline {
            return Err(HomeError::Held {
                home: home.to_owned(),
                pid,
            });
        }
        std::thread::sleep(LEFT_EVERY);
    }
}

fn token(home: &Path) -> Result<Secret, HomeError> {
    let path = home.join(TOKEN);
    match fs::symlink_metadata(&path) {
        Ok(_) => {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
                .map_err(io("close to others", &path))?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let mut random = [0; 32];
            File::open("/dev/urandom")
                .and_then(|mut source| source.read_exact(&mut random))
                .map_err(io("read", Path::new("/dev/urandom")))?;
            let mut hex = String::new();
            for byte in random {
                let _ = write!(hex, "{byte:02x}");
            }
            write_whole(&path, hex.as_bytes())?;
        }
        Err(error) => return Err(io("look at", &path)(error)),
    }
    read_token(home)
}

/// Whoever reads the file finds the old content or the new one, never a part.
fn write_whole(path: &Path, content: &[u8]) -> Result<(), HomeError> {
    let draft = path.with_extension("new");
    let _ = fs::remove_file(&draft);
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&draft)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&draft, path))
        .map_err(io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_home_is_for_its_owner_alone_and_its_token_is_made_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b");
        let home = Home::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join(TOKEN)), 0o600);
        let token = read_token(&path).unwrap();
        assert!(home.token().is(token.expose()));
        assert!(!home.token().is(""));
        drop(home);
        fs::set_permissions(path.join(TOKEN), fs::Permissions::from_mode(0o644)).unwrap();
        let again = Home::open(&path).unwrap();
        assert!(again.token().is(token.expose()));
        assert_eq!(mode(&path.join(TOKEN)), 0o600);
    }

    #[test]
    fn a_home_has_one_holder_who_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let error = Home::open(folder.path()).unwrap_err().to_string();
        assert!(
            error.contains(&format!("process {}", std::process::id())),
            "{error}"
        );
        drop(home);
        assert!(Home::open(folder.path()).is_ok());
    }

    #[test]
    fn a_token_that_is_none_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(TOKEN), "").unwrap();
        assert!(matches!(
            Home::open(folder.path()),
            Err(HomeError::Token { .. })
        ));
    }

    #[test]
    fn the_card_is_closed_to_others_and_goes_with_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let home = Home::open(folder.path()).unwrap();
        let written = Card {
            url: "http://127.0.0.1:1".to_owned(),
            local: None,
            pid: 7,
            version: "0".to_owned(),
            build: "b".into(),
            commit: "c".to_owned(),
            epoch: "e".to_owned(),
            sources: Vec::new(),
        };
        home.publish(&written).unwrap();
        assert_eq!(card(folder.path()), Some(written));
        assert_eq!(mode(&folder.path().join(CARD)), 0o600);
        home.withdraw();
        assert_eq!(card(folder.path()), None);
    }
}
