//! Who is connected: strangers until somebody has signed in, then the connections of a user.
//!
//! Places are few, so that nobody can take all there are: a stranger that is slow makes room for the
//! next one, and what cannot be let in is closed at once instead of being left to wait.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use skytower_api_client::Text;
use skytower_api_client::wire::Problem;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::proxy;
use crate::config::{Config, ProxyConfig};

/// A stranger has this long to itself; after that it goes when another one wants its place.
const UNDISTURBED: Duration = Duration::from_secs(1);
/// That somebody was turned away is logged this often.
const WARN_EVERY: Duration = Duration::from_mins(1);

/// Everybody who is connected. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Strangers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connections: usize,
    strangers: usize,
    per_user: usize,
    messages_per_second: u32,
    proxy: Option<ProxyConfig>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    /// By their order of arrival.
    strangers: BTreeMap<u64, Waiting>,
    users: HashMap<Text, usize>,
    arrived: u64,
    turned_away: u64,
    warned: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    go: CancellationToken,
}

/// Whoever is at the other end of a connection: requests carry it among their extensions, and the
/// socket has it as long as it is open. Its place is free again when the last one is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Peer(Arc<Visit>);

#[derive(Debug)]
struct Visit {
    all: Strangers,
    address: SocketAddr,
    here: SocketAddr,
    /// It is our proxy's, which has many people's requests on one connection.
    proxied: bool,
    number: u64,
    go: CancellationToken,
    upgraded: AtomicBool,
    /// Whose it is; who asked last where it is several people's.
    user: Mutex<Option<Text>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Strangers {
    pub(crate) fn new(config: &Config) -> Self {
        Self(Arc::new(Inner {
            connections: config.limits.connections(),
            strangers: config.limits.strangers(),
            // Without accounts whoever holds the token is one user, however many people that is.
            per_user: if config.accounts {
                config.limits.connections_per_user
            } else {
                usize::MAX
            },
            messages_per_second: config.limits.messages_per_second,
            proxy: config.proxy.clone(),
            counts: Mutex::default(),
        }))
    }

    /// Somebody connects from `address` to `here`. None when there is no place: then it is closed.
    pub(crate) fn arrive(
        &self,
        address: SocketAddr,
        here: SocketAddr,
        now: Instant,
    ) -> Option<Peer> {
        let inner = &*self.0;
        let proxied = proxy::is_trusted(address.ip(), inner.proxy.as_ref());
        let mut counts = lock(&inner.counts);
        let full = counts.all >= inner.connections
            || (!proxied && counts.strangers.len() >= inner.strangers);
        if full && !counts.make_room(now) {
            counts.turn_away(now);
            return None;
        }
        counts.all += 1;
        counts.arrived += 1;
        let number = counts.arrived;
        let go = CancellationToken::new();
        if !proxied {
            let waiting = Waiting {
                since: now,
                go: go.clone(),
            };
            counts.strangers.insert(number, waiting);
        }
        drop(counts);
        Some(Peer(Arc::new(Visit {
            all: self.clone(),
            address,
            here,
            proxied,
            number,
            go,
            upgraded: AtomicBool::new(false),
            user: Mutex::default(),
        })))
    }
}

impl Counts {
    /// The one that has been a stranger for longest goes, when it had its time.
    fn make_room(&mut self, now: Instant) -> bool {
        match self.strangers.first_entry() {
            Some(first) if now.saturating_duration_since(first.get().since) >= UNDISTURBED => {
                first.remove().go.cancel();
                true
            }
            _ => false,
        }
    }

    fn turn_away(&mut self, now: Instant) {
        self.turned_away += 1;
        let quiet = |warned| now.saturating_duration_since(warned) < WARN_EVERY;
        if !self.warned.is_some_and(quiet) {
            let times = std::mem::take(&mut self.turned_away);
            self.warned = Some(now);
            tracing::warn!(
                times,
                connections = self.all,
                strangers = self.strangers.len(),
                "connections were closed at once: there are too many"
            );
        }
    }

    fn leaves(&mut self, user: &Text) {
        if let Some(count) = self.users.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                self.users.remove(user);
            }
        }
    }
}

impl Peer {
    /// Where it comes from: a client, or a proxy.
    pub(crate) fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The server's end of it.
    pub(crate) fn here(&self) -> SocketAddr {
        self.0.here
    }

    /// How many messages it may send in a second as a websocket.
    pub(crate) fn messages_per_second(&self) -> u32 {
        self.0.all.0.messages_per_second
    }

    /// Somebody has signed in on it: it is a stranger no longer, and counts as one of the user's
    /// connections. Again by the same user changes nothing.
    pub(crate) fn known(&self, user: &Text) -> Result<(), Problem> {
        let visit = &*self.0;
        let mut mine = lock(&visit.user);
        if mine.as_ref() == Some(user) {
            return Ok(());
        }
        let inner = &visit.all.0;
        let mut counts = lock(&inner.counts);
        if counts.users.get(user).copied().unwrap_or(0) >= inner.per_user {
            let sentence = format!("{user} has {} connections already", inner.per_user);
            return Err(Problem::new("too_many_connections", 429, sentence).hint(
                "close some, or raise `connections_per_user` in the server's configuration",
            ));
        }
        *counts.users.entry(user.clone()).or_default() += 1;
        if let Some(before) = mine.replace(user.clone()) {
            counts.leaves(&before);
        }
        counts.strangers.remove(&visit.number);
        Ok(())
    }

    /// Nobody has signed in on it yet.
    pub(crate) fn is_stranger(&self) -> bool {
        lock(&self.0.all.0.counts)
            .strangers
            .contains_key(&self.0.number)
    }

    /// An answer was given. What a proxy sends next may be somebody else's.
    pub(crate) fn answered(&self) {
        let visit = &*self.0;
        if visit.proxied
            && !self.is_upgraded()
            && let Some(user) = lock(&visit.user).take()
        {
            lock(&visit.all.0.counts).leaves(&user);
        }
    }

    /// It is a websocket from now on.
    pub(crate) fn upgrade(&self) {
        self.0.upgraded.store(true, Relaxed);
    }

    /// It is a websocket.
    pub(crate) fn is_upgraded(&self) -> bool {
        self.0.upgraded.load(Relaxed)
    }

    /// Waits until it has to go: to make room, or because nobody has signed in for so long.
    pub(crate) async fn has_to_go(&self, within: Duration) {
        if tokio::time::timeout(within, self.0.go.cancelled())
            .await
            .is_err()
            && !self.is_stranger()
        {
            self.0.go.cancelled().await;
        }
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let user = lock(&self.user).take();
        let mut counts = lock(&self.all.0.counts);
        counts.all -= 1;
        counts.strangers.remove(&self.number);
        if let Some(user) = user {
            counts.leaves(&user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    const HERE: &str = "127.0.0.1:46590";

    fn strangers(connections: usize, strangers: usize, per_user: usize) -> Strangers {
        Strangers::new(&Config {
            limits: Limits {
                connections: Some(connections),
                strangers: Some(strangers),
                connections_per_user: per_user,
                ..Limits::default()
            },
            proxy: Some(ProxyConfig {
                addresses: vec!["10.0.0.1".parse().unwrap()],
                ..ProxyConfig::default()
            }),
            accounts: true,
            ..Config::default()
        })
    }

    fn arrive(all: &Strangers, from: &str, now: Instant) -> Option<Peer> {
        all.arrive(from.parse().unwrap(), HERE.parse().unwrap(), now)
    }

    const CLIENT: &str = "192.0.2.1:1";
    const PROXY: &str = "10.0.0.1:1";

    #[test]
    fn who_signs_in_leaves_the_strangers_place_to_the_next_one() {
        let (all, now) = (strangers(3, 1, 9), Instant::now());
        let first = arrive(&all, CLIENT, now).unwrap();
        assert!(first.is_stranger() && arrive(&all, CLIENT, now).is_none());
        first.known(&"alice".into()).unwrap();
        assert!(!first.is_stranger());
        let second = arrive(&all, CLIENT, now).unwrap();
        second.known(&"bob".into()).unwrap();
        let third = arrive(&all, CLIENT, now).unwrap();
        third.known(&"carol".into()).unwrap();
        // Those who are known are never sent away, however long ago they came.
        let later = now + Duration::from_hours(1);
        assert!(arrive(&all, CLIENT, later).is_none());
        drop(second);
        assert!(arrive(&all, CLIENT, later).is_some());
    }

    #[test]
    fn a_slow_stranger_goes_when_another_one_comes() {
        let (all, now) = (strangers(9, 2, 9), Instant::now());
        let slow = arrive(&all, CLIENT, now).unwrap();
        let fresh = arrive(&all, CLIENT, now + UNDISTURBED / 2).unwrap();
        assert!(arrive(&all, CLIENT, now + UNDISTURBED * 9 / 10).is_none());
        let next = arrive(&all, CLIENT, now + UNDISTURBED).unwrap();
        assert!(slow.0.go.is_cancelled() && !fresh.0.go.is_cancelled());
        assert!(next.is_stranger() && !slow.is_stranger());
    }

    #[test]
    fn a_user_has_so_many_connections_and_each_counts_once() {
        let (all, now) = (strangers(99, 99, 2), Instant::now());
        let alice = Text::from("alice");
        let peers: Vec<_> = (0..3).map(|_| arrive(&all, CLIENT, now).unwrap()).collect();
        for _ in 0..5 {
            peers[0].known(&alice).unwrap();
            peers[1].known(&alice).unwrap();
        }
        let refused = peers[2].known(&alice).unwrap_err();
        assert_eq!(
            (refused.status, &*refused.code),
            (429, "too_many_connections")
        );
        assert!(peers[2].is_stranger());
        peers[2].known(&"bob".into()).unwrap();
        // A connection that becomes somebody else's is the first one's no longer.
        peers[0].known(&"bob".into()).unwrap();
        let fourth = arrive(&all, CLIENT, now).unwrap();
        fourth.known(&alice).unwrap();
        // The place is the connection's: it is free when the last hold on it is gone.
        let websocket = fourth.clone();
        drop(fourth);
        let fifth = arrive(&all, CLIENT, now).unwrap();
        assert!(fifth.known(&alice).is_err());
        drop(websocket);
        fifth.known(&alice).unwrap();
    }

    #[test]
    fn a_proxy_is_no_stranger_and_its_connection_is_whose_request_it_carries() {
        let (all, now) = (strangers(9, 1, 1), Instant::now());
        let alice = Text::from("alice");
        let _stranger = arrive(&all, CLIENT, now).unwrap();
        let (one, two) = (
            arrive(&all, PROXY, now).unwrap(),
            arrive(&all, PROXY, now).unwrap(),
        );
        assert!(!one.is_stranger());
        one.known(&alice).unwrap();
        assert!(two.known(&alice).is_err());
        one.answered();
        two.known(&alice).unwrap();
        two.upgrade();
        two.answered();
        assert!(one.known(&alice).is_err());
    }

    #[test]
    fn everything_is_given_back() {
        let (all, now) = (strangers(9, 9, 9), Instant::now());
        let peers: Vec<_> = (0..9)
            .map(|i| {
                let peer = arrive(&all, CLIENT, now).unwrap();
                if i % 2 == 0 {
                    peer.known(&format!("user {}", i % 3).into()).unwrap();
                }
                peer
            })
            .collect();
        drop(peers);
        let counts = lock(&all.0.counts);
        assert_eq!(
            (counts.all, counts.strangers.len(), counts.users.len()),
            (0, 0, 0)
        );
    }
}
