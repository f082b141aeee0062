//! What the engine and the balancer write down for each other.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use serde::{Deserialize, Serialize};
use skytower_api_client::task::LoadBalancing;

/// The file that the engine writes.
pub const BACKENDS: &str = "backends.json";
/// The file that the balancer writes.
pub const STANDING: &str = "balancer.json";

/// Where requests are to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backends {
    /// The engine's count of changes. The balancer only repeats it in [`Standing::revision`]: whatever
    /// was written last counts.
    pub revision: u64,
    /// Where the balancer listens. Port 0 takes a free one, which [`Standing::listen`] says.
    pub listen: SocketAddr,
    /// How requests are spread.
    pub policy: LoadBalancing,
    /// Those that get requests. One that is not here any more gets no new ones, and finishes what it has.
    pub backends: Vec<Backend>,
}

/// One that answers requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// The replica's number. The same number at another address is another backend.
    pub id: String,
    /// Where it listens.
    pub address: SocketAddr,
}

/// What the balancer has done. Left from an earlier one when no process `pid` runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Standing {
    /// Of the [`Backends`] that it goes by.
    pub revision: u64,
    /// Its process.
    pub pid: u32,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Requests (and upgraded connections) under way, by the replica's number. Replicas that get
    /// requests are here with zero too; one that was taken out is here until it has none left.
    pub in_flight: BTreeMap<String, u32>,
    /// Requests that came since the balancer was started.
    pub requests: u64,
    /// Of these, those that the balancer could not have answered: it said so with 502 or 503, or the
    /// answer was cut on the way. A replica's own errors are not counted.
    pub failures: u64,
    /// Requests that came within the last minute, by sixty.
    pub requests_per_second: f64,
}

impl Standing {
    /// How many requests a replica has under way; none too when it is not mentioned.
    pub fn in_flight_of(&self, id: &str) -> u32 {
        self.in_flight.get(id).copied().unwrap_or_default()
    }
}

/// Tells the balancer of `folder` where requests are to go, running or yet to be started. It notices
/// by itself.
pub fn write_backends(folder: &Path, backends: &Backends) -> io::Result<()> {
    write(&folder.join(BACKENDS), backends)
}

/// What the balancer of `folder` wrote last; none before it has begun.
pub fn read_standing(folder: &Path) -> Option<Standing> {
    serde_json::from_slice(&fs::read(folder.join(STANDING)).ok()?).ok()
}

pub(super) fn read_backends(folder: &Path) -> io::Result<Backends> {
    Ok(serde_json::from_slice(&fs::read(folder.join(BACKENDS))?)?)
}

pub(super) fn write_standing(folder: &Path, standing: &Standing) -> io::Result<()> {
    write(&folder.join(STANDING), standing)
}

/// Whoever reads the file finds the old content or the new one, never a part. Nothing is forced to the
/// disk: after a crash of the machine neither process is there, and both write anew.
fn write(path: &Path, content: &impl Serialize) -> io::Result<()> {
    let draft = path.with_extension("json.new");
    let json = serde_json::to_vec(content)?;
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&draft)?
        .write_all(&json)?;
    fs::rename(&draft, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_read_back_as_they_were_written() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read_standing(folder.path()), None);
        let json = r#"{"revision":7,"listen":"127.0.0.1:30001","policy":"round_robin",
            "backends":[{"id":"3","address":"127.83.0.5:8080"}]}"#;
        let backends: Backends = serde_json::from_str(json).unwrap();
        write_backends(folder.path(), &backends).unwrap();
        assert_eq!(read_backends(folder.path()).unwrap(), backends);
        let standing = Standing {
            revision: 7,
            pid: 12,
            listen: backends.listen,
            in_flight: [("3".to_owned(), 2)].into(),
            requests: 5,
            failures: 1,
            requests_per_second: 0.5,
        };
        write_standing(folder.path(), &standing).unwrap();
        assert_eq!(read_standing(folder.path()), Some(standing.clone()));
        assert_eq!(standing.in_flight_of("3"), 2);
        assert_eq!(standing.in_flight_of("4"), 0);
    }
}
