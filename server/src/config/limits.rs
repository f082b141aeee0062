//! How much a client may ask for, and how long it may take.

use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

use super::ConfigError;

/// File descriptors that are not for connections: the state, the engine, what is watched and logs.
const RESERVE: u64 = 256;
/// Connections where the operating system sets no limit.
const UNLIMITED: u64 = 65_536;

/// How much strangers and clients may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections in all; what the limit on file descriptors leaves room for when none.
    pub connections: Option<usize>,
    /// Connections of one user.
    pub connections_per_user: usize,
    /// Connections that have not signed in yet; a quarter of all when none.
    pub strangers: Option<usize>,
    /// Messages from one watching client in a second; three times as many at once.
    pub messages_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: None,
            connections_per_user: 64,
            strangers: None,
            messages_per_second: 100,
        }
    }
}

impl Limits {
    /// Connections in all.
    pub fn connections(&self) -> usize {
        self.connections
            .unwrap_or_else(|| room(getrlimit(Resource::Nofile).current))
    }

    /// Connections that have not signed in yet.
    pub fn strangers(&self) -> usize {
        let all = self.connections();
        self.strangers.unwrap_or(all / 4).clamp(1, all)
    }

    /// How many connections there is room for, where more are allowed than that.
    pub fn short_of(&self) -> Option<usize> {
        let room = room(getrlimit(Resource::Nofile).current);
        self.connections
            .is_some_and(|all| all > room)
            .then_some(room)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let limits = [
            ("connections", self.connections == Some(0)),
            ("connections_per_user", self.connections_per_user == 0),
            ("strangers", self.strangers == Some(0)),
            ("messages_per_second", self.messages_per_second == 0),
        ];
        match limits.iter().find(|(_, nobody)| *nobody) {
            Some((name, _)) => Err(ConfigError::Limit(name)),
            None => Ok(()),
        }
    }
}

/// What a limit on file descriptors leaves for connections.
fn room(descriptors: Option<u64>) -> usize {
    let all = descriptors.unwrap_or(UNLIMITED).min(UNLIMITED);
    (all - RESERVE.min(all / 2)).max(1) as usize
}

/// How long each step of a connection may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// The handshake of TLS.
    pub handshake: Duration,
    /// The head of a request, and the next one on the same connection.
    pub head: Duration,
    /// Until somebody has signed in, everything together.
    pub stranger: Duration,
    /// One message to a watching client, until it has taken it.
    pub write: Duration,
    /// How often the files of a certificate are looked at.
    pub certificate: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            stranger: Duration::from_mins(1),
            write: Duration::from_secs(30),
            certificate: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_everything_else() {
        assert_eq!(room(Some(1024)), 768);
        assert_eq!(room(Some(256)), 128);
        assert_eq!(room(Some(0)), 1);
        assert_eq!(room(None), (UNLIMITED - RESERVE) as usize);
        assert_eq!(room(Some(u64::MAX)), room(None));
    }

    #[test]
    fn strangers_are_a_quarter_and_never_more_than_all() {
        let limits = |connections, strangers| Limits {
            connections: Some(connections),
            strangers,
            ..Limits::default()
        };
        assert_eq!(limits(100, None).strangers(), 25);
        assert_eq!(limits(2, None).strangers(), 1);
        assert_eq!(limits(10, Some(50)).strangers(), 10);
    }
}
