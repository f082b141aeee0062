//! Those that answer requests, and which of them gets the next.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use skytower_api_client::task::LoadBalancing;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::board::Board;
use super::files::{Backend, Backends, Standing};
use super::note;

/// A replica that failed is passed over for so long.
const REST: Duration = Duration::from_secs(2);
/// A replica has to accept a connection within this time. Longer than the kernel takes to knock a
/// second time on a door that was crowded.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A connection that nobody used for so long is closed. Not longer: a replica that serves one
/// connection at a time answers nobody else meanwhile, its readiness probe included.
const KEEP: Duration = Duration::from_secs(2);
/// As many are kept for each replica.
const KEPT: usize = 32;
/// The head of a request or an answer may be this large.
pub(super) const HEAD: usize = 64 * 1024;
/// How often those that had failed are asked again while nobody else is there.
const AGAIN: Duration = Duration::from_millis(100);

/// What goes to a replica: as it comes from the client, or whole where it is short.
pub(super) type Outgoing = Either<Incoming, Full<Bytes>>;
pub(super) type Sender = SendRequest<Outgoing>;

/// All replicas.
pub(super) struct Pool {
    policy: Cell<LoadBalancing>,
    revision: Cell<u64>,
    members: RefCell<Vec<Rc<Member>>>,
    /// Get no more requests, and have some under way.
    leaving: RefCell<Vec<Rc<Member>>>,
    /// Who is the first to be considered.
    turn: Cell<usize>,
    came: Notify,
    pub(super) board: Rc<Board>,
}

impl Pool {
    pub(super) fn new() -> Self {
        Self {
            policy: Cell::default(),
            revision: Cell::new(0),
            members: RefCell::default(),
            leaving: RefCell::default(),
            turn: Cell::new(0),
            came: Notify::new(),
            board: Rc::new(Board::new()),
        }
    }

    /// Goes by `backends` from now on. Those that are in it as before keep all they have.
    pub(super) fn apply(&self, backends: &Backends) {
        self.revision.set(backends.revision);
        self.policy.set(backends.policy);
        let mut before = self.members.take();
        let mut now = Vec::with_capacity(backends.backends.len());
        for backend in &backends.backends {
            if let Some(at) = before.iter().position(|member| member.is(backend)) {
                now.push(before.remove(at));
            } else if !now.iter().any(|member: &Rc<Member>| member.is(backend)) {
                note(format_args!(
                    "replica {} at {} gets requests",
                    backend.id, backend.address
                ));
                now.push(Rc::new(Member::new(backend, self.board.clone())));
                self.came.notify_waiters();
            }
        }
        self.members.replace(now);
        for member in &before {
            note(format_args!(
                "replica {} at {} gets no more requests ({} under way)",
                member.id,
                member.address,
                member.in_flight.get()
            ));
            member.gone.set(true);
            member.idle.take();
        }
        self.leaving.borrow_mut().append(&mut before);
        self.board.changed.notify_one();
    }

    /// Gives the next request to a replica that was not `tried` for it. One that failed lately comes
    /// last.
    pub(super) fn lease(&self, tried: &[Rc<Member>]) -> Option<Lease> {
        let members = self.members.borrow();
        let now = Instant::now();
        let first = self.turn.get();
        let policy = self.policy.get();
        let (at, chosen) = (0..members.len())
            .map(|step| (first + step) % members.len())
            .map(|at| (at, &members[at]))
            .filter(|(_, member)| !tried.iter().any(|one| Rc::ptr_eq(one, member)))
            // Of equal ones the first: they take turns when nothing tells them apart.
            .min_by_key(|(_, member)| {
                let load = match policy {
                    LoadBalancing::LeastLoad => member.in_flight.get(),
                    LoadBalancing::RoundRobin => 0,
                };
                (member.rests(now), load)
            })?;
        self.turn.set(at + 1);
        Some(Lease::new(chosen.clone()))
    }

    /// Waits until it makes sense to ask for a lease again: somebody came, or a moment passed. False
    /// when it is `until` now.
    pub(super) async fn wait(&self, until: Instant) -> bool {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        tokio::select! {
            () = self.came.notified() => {}
            () = sleep(left.min(AGAIN)) => {}
        }
        true
    }

    pub(super) fn standing(&self, listen: SocketAddr) -> Standing {
        let mut leaving = self.leaving.borrow_mut();
        leaving.retain(|member| member.in_flight.get() > 0);
        let mut in_flight: BTreeMap<String, u32> = BTreeMap::new();
        for member in self.members.borrow().iter().chain(leaving.iter()) {
            *in_flight.entry(member.id.clone()).or_default() += member.in_flight.get();
        }
        Standing {
            revision: self.revision.get(),
            pid: std::process::id(),
            listen,
            in_flight,
            requests: self.board.requests(),
            failures: self.board.failures(),
            requests_per_second: self.board.requests_per_second(),
        }
    }

    /// Closes connections that nobody uses, for ever. Does nothing while there are none.
    pub(super) async fn tidy(&self) {
        loop {
            self.board.kept.notified().await;
            loop {
                sleep(KEEP / 2).await;
                let now = Instant::now();
                let members = self.members.borrow();
                let left: usize = members.iter().map(|member| member.tidy(now)).sum();
                if left == 0 {
                    break;
                }
            }
        }
    }
}

/// One replica.
pub(super) struct Member {
    id: String,
    address: SocketAddr,
    in_flight: Cell<u32>,
    /// Connections for the next requests, since when.
    idle: RefCell<Vec<(Sender, Instant)>>,
    /// It failed, and is passed over until then.
    rest: Cell<Option<Instant>>,
    /// It gets no more requests.
    gone: Cell<bool>,
    board: Rc<Board>,
}

impl Member {
    fn new(backend: &Backend, board: Rc<Board>) -> Self {
        Self {
            id: backend.id.clone(),
            address: backend.address,
            in_flight: Cell::new(0),
            idle: RefCell::default(),
            rest: Cell::new(None),
            gone: Cell::new(false),
            board,
        }
    }

    fn is(&self, backend: &Backend) -> bool {
        self.id == backend.id && self.address == backend.address
    }

    /// The replica's number.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    fn rests(&self, now: Instant) -> bool {
        self.rest.get().is_some_and(|until| now < until)
    }

    /// It did not answer as it should.
    pub(super) fn failed(&self, why: &str) {
        self.forget();
        let before = self.rest.replace(Some(Instant::now() + REST));
        if before.is_none() && !self.gone.get() {
            note(format_args!(
                "replica {} {why}: passed over for a moment",
                self.id
            ));
        }
    }

    /// It answered. Says nothing while it still rests: answers to some requests and none to others
    /// would fill the log.
    pub(super) fn answered(&self) {
        if self.rest.get().is_some() && !self.rests(Instant::now()) {
            self.rest.set(None);
            note(format_args!("replica {} answers again", self.id));
        }
    }

    /// A connection that was used before.
    pub(super) fn reuse(&self) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|(sender, _)| !sender.is_closed());
        // The freshest first, so that what is too many grows old.
        let at = idle.iter().rposition(|(sender, _)| sender.is_ready())?;
        Some(idle.remove(at).0)
    }

    /// Keeps a connection whose answer was read to its end.
    pub(super) fn keep(&self, sender: Sender) {
        let mut idle = self.idle.borrow_mut();
        if !self.gone.get() && !sender.is_closed() && idle.len() < KEPT {
            idle.push((sender, Instant::now()));
            self.board.kept.notify_one();
        }
    }

    /// Closes all connections that are kept.
    pub(super) fn forget(&self) {
        self.idle.take();
    }

    fn tidy(&self, now: Instant) -> usize {
        let mut idle = self.idle.borrow_mut();
        idle.retain(|(sender, since)| !sender.is_closed() && now.duration_since(*since) < KEEP);
        idle.len()
    }

    pub(super) async fn connect(&self) -> io::Result<Sender> {
        let stream = timeout(CONNECT_WITHIN, TcpStream::connect(self.address))
            .await
            .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = Builder::new()
            .max_buf_size(HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        // Ends with the sender, or with the connection; what breaks is told to who has a request on it.
        tokio::task::spawn_local(connection.with_upgrades());
        Ok(sender)
    }
}

/// A request under way on a replica, for as long as this is there.
pub(super) struct Lease(Rc<Member>);

impl Lease {
    fn new(member: Rc<Member>) -> Self {
        member.in_flight.set(member.in_flight.get() + 1);
        member.board.changed.notify_one();
        Self(member)
    }

    pub(super) fn member(&self) -> &Rc<Member> {
        &self.0
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
        self.0.board.changed.notify_one();
    }
}
