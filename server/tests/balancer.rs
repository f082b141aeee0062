//! The load balancer of a local service: a real process, real connections, replicas that come, go and
//! die. And the prober, and the demo's service.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{any, get};
use futures_util::{SinkExt as _, StreamExt as _};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Pid, Signal, kill_process};
use skytower_api_client::task::{LoadBalancing, Probe};
use skytower_server::balancer::{
    BACKENDS, Backend, Backends, EXIT_PORT_TAKEN, Prober, Standing, read_standing, write_backends,
};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_tungstenite::tungstenite::Message;

/// Generous: this bounds a hang, it measures nothing.
const DEADLINE: Duration = Duration::from_mins(1);
const MIB: u64 = 1024 * 1024;
const LONG: u64 = 96 * MIB;

const PROGRAM: &str = env!("CARGO_BIN_EXE_skytower-server");

async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future)
        .await
        .expect("it hangs")
}

/// Asks again and again until there is something.
async fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(found) = ask() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(DEADLINE, asking)
        .await
        .unwrap_or_else(|_| panic!("never: {what}"))
}

/// An address of its own for each replica, as the engine gives them.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    let octet = NEXT.fetch_add(1, Ordering::Relaxed);
    SocketAddr::from(([127, 83, std::process::id() as u8, octet], 0))
}

/// Where nobody listens.
fn refusing_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind(free_address()).unwrap();
    listener.local_addr().unwrap()
}

struct Seen {
    name: String,
    /// Requests that came.
    requests: AtomicU64,
    /// What waits at the gate goes on when it is open.
    gate: watch::Sender<bool>,
    received: AtomicU64,
    /// Connections that are open.
    connections: AtomicU64,
}

impl Seen {
    async fn at_the_gate(&self) {
        let _ = self.gate.subscribe().wait_for(|open| *open).await;
    }
}

/// A replica that the test plays. Closing a connection resets it, as a killed process does.
struct Replica {
    id: String,
    address: SocketAddr,
    seen: Arc<Seen>,
    accepting: JoinHandle<()>,
}

impl Replica {
    async fn start(id: impl ToString) -> Self {
        let id = id.to_string();
        let listener = TcpListener::bind(free_address()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen {
            name: format!("replica {id}"),
            requests: AtomicU64::new(0),
            gate: watch::Sender::new(false),
            received: AtomicU64::new(0),
            connections: AtomicU64::new(0),
        });
        let router = Router::new()
            .route("/gate", any(gate))
            .route("/half", any(half))
            .route("/work", any(work))
            .route("/long", get(long))
            .route("/sink", any(sink))
            .route("/headers", any(headers))
            .route("/ws", get(socket))
            .route(
                "/broken",
                any(async || (StatusCode::INTERNAL_SERVER_ERROR, "mine")),
            )
            .fallback(name)
            .layer(axum::middleware::from_fn_with_state(seen.clone(), count))
            .with_state(seen.clone());
        let open = seen.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                socket2::SockRef::from(&stream)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
                let service = TowerToHyperService::new(router.clone());
                let open = open.clone();
                connections.spawn(async move {
                    open.connections.fetch_add(1, Ordering::SeqCst);
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                    open.connections.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self {
            id,
            address,
            seen,
            accepting,
        }
    }

    fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::SeqCst)
    }

    async fn has_connections(&self, count: u64) {
        until(&format!("{count} connections"), || {
            (self.seen.connections.load(Ordering::SeqCst) == count).then_some(())
        })
        .await;
    }

    async fn has_seen(&self, requests: u64) {
        until(&format!("{requests} requests"), || {
            (self.requests() >= requests).then_some(())
        })
        .await;
    }

    fn open_the_gate(&self) {
        self.seen.gate.send_replace(true);
    }

    /// As a process that is killed: nobody listens, what is open is reset.
    async fn kill(self) {
        self.accepting.abort();
        let _ = self.accepting.await;
    }
}

async fn count(
    State(seen): State<Arc<Seen>>,
    request: Request,
    next: axum::middleware::Next,
) -> Response {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    next.run(request).await
}

async fn name(State(seen): State<Arc<Seen>>) -> String {
    seen.name.clone()
}

/// Takes a moment, so that some are always under way.
async fn work(State(seen): State<Arc<Seen>>, body: Bytes) -> String {
    tokio::time::sleep(Duration::from_millis(3)).await;
    format!("{} {}", seen.name, body.len())
}

async fn gate(State(seen): State<Arc<Seen>>) -> String {
    seen.at_the_gate().await;
    seen.name.clone()
}

/// The second half of the answer waits at the gate.
async fn half(State(seen): State<Arc<Seen>>) -> Response {
    let halves = futures_util::stream::unfold(0, move |at| {
        let seen = seen.clone();
        async move {
            match at {
                0 => Some("first "),
                1 => {
                    seen.at_the_gate().await;
                    Some("second")
                }
                _ => None,
            }
            .map(|part| (Ok::<_, std::io::Error>(part), at + 1))
        }
    });
    ([("content-length", "12")], Body::from_stream(halves)).into_response()
}

async fn long() -> Response {
    let chunk = Bytes::from(vec![b'x'; 64 * 1024]);
    let count = LONG as usize / chunk.len();
    let chunks = futures_util::stream::iter((0..count).map(move |_| Ok::<_, ()>(chunk.clone())));
    Body::from_stream(chunks.map(|chunk| chunk.map_err(|()| std::io::Error::other("never"))))
        .into_response()
}

async fn sink(State(seen): State<Arc<Seen>>, body: Body) -> String {
    let mut body = body.into_data_stream();
    while let Some(chunk) = body.next().await {
        seen.received
            .fetch_add(chunk.unwrap().len() as u64, Ordering::SeqCst);
    }
    seen.received.load(Ordering::SeqCst).to_string()
}

async fn headers(headers: HeaderMap) -> Response {
    let lines = headers
        .iter()
        .map(|(name, value)| format!("{name}: {}\n", value.to_str().unwrap()))
        .collect::<String>();
    ([("keep-alive", "timeout=7"), ("x-own", "1")], lines).into_response()
}

async fn socket(State(seen): State<Arc<Seen>>, upgrade: WebSocketUpgrade) -> Response {
    upgrade.on_upgrade(async move |mut socket| {
        while let Some(Ok(message)) = socket.recv().await {
            if let Ok(text) = message.to_text()
                && !text.is_empty()
            {
                let answer = format!("{}: {text}", seen.name);
                if socket.send(answer.into()).await.is_err() {
                    break;
                }
            }
        }
    })
}

/// A balancer, ended with the test.
struct Balancer {
    child: Process,
    folder: TempDir,
    backends: Backends,
    address: SocketAddr,
    client: reqwest::Client,
}

impl Balancer {
    async fn start(policy: LoadBalancing, replicas: &[&Replica]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backends = Backends {
            revision: 1,
            listen: "127.0.0.1:0".parse().unwrap(),
            policy,
            backends: replicas.iter().copied().map(backend).collect(),
        };
        write_backends(folder.path(), &backends).unwrap();
        let child = spawn(folder.path());
        let mut balancer = Self {
            child,
            folder,
            address: backends.listen,
            backends,
            client: client(),
        };
        balancer.address = balancer.applied().await.listen;
        balancer
    }

    fn standing(&self) -> Option<Standing> {
        read_standing(self.folder.path()).filter(|standing| standing.pid == self.child.id())
    }

    async fn standing_with(&self, what: &str, is: impl Fn(&Standing) -> bool) -> Standing {
        until(what, || self.standing().filter(&is)).await
    }

    /// Once it goes by what was written last.
    async fn applied(&self) -> Standing {
        let revision = self.backends.revision;
        self.standing_with("what was written is gone by", |standing| {
            standing.revision == revision
        })
        .await
    }

    async fn set(&mut self, backends: Vec<Backend>) -> Standing {
        self.backends.backends = backends;
        self.backends.revision += 1;
        write_backends(self.folder.path(), &self.backends).unwrap();
        self.applied().await
    }

    async fn replicas(&mut self, replicas: &[&Replica]) -> Standing {
        self.set(replicas.iter().copied().map(backend).collect())
            .await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    async fn get(&self, path: &str) -> (u16, String) {
        answered(self.client.get(self.url(path))).await
    }

    fn later(&self, path: &str) -> JoinHandle<(u16, String)> {
        tokio::spawn(answered(self.client.get(self.url(path))))
    }

    fn signal(&self, signal: Signal) {
        kill_process(pid(&self.child), signal).unwrap();
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the balancer said:\n{}", self.log());
        }
    }
}

/// A process that ends with the test, whatever becomes of that.
struct Process(Child);

impl std::ops::Deref for Process {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl std::ops::DerefMut for Process {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn spawn(folder: &Path) -> Process {
    let child = Command::new(PROGRAM)
        .arg("__balancer")
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(File::create(folder.join("log")).unwrap())
        .stderr(File::create(folder.join("errors")).unwrap())
        .spawn()
        .unwrap();
    Process(child)
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

async fn exit_code(child: &mut Child) -> i32 {
    let status = until("the process ends", || child.try_wait().unwrap()).await;
    status
        .code()
        .unwrap_or_else(|| panic!("killed by a signal: {status}"))
}

fn backend(replica: &Replica) -> Backend {
    Backend {
        id: replica.id.clone(),
        address: replica.address,
    }
}

async fn answered(request: reqwest::RequestBuilder) -> (u16, String) {
    let answer = within(request.send()).await.unwrap();
    let status = answer.status().as_u16();
    (status, within(answer.text()).await.unwrap())
}

#[tokio::test]
async fn round_robin_takes_turns() {
    let replicas = [
        Replica::start(1).await,
        Replica::start(2).await,
        Replica::start(3).await,
    ];
    let [a, b, c] = &replicas;
    let balancer = Balancer::start(LoadBalancing::RoundRobin, &[a, b, c]).await;
    for _ in 0..12 {
        assert_eq!(balancer.get("/").await.0, 200);
    }
    assert_eq!(replicas.each_ref().map(Replica::requests), [4, 4, 4]);
    let standing = balancer
        .standing_with("all are counted", |s| s.requests == 12)
        .await;
    assert_eq!(standing.failures, 0);
    assert!((standing.requests_per_second - 12.0 / 60.0).abs() < 1e-9);
    balancer
        .standing_with("none under way", |s| {
            s.in_flight
                == ["1", "2", "3"]
                    .map(|id| (id.to_owned(), 0))
                    .into_iter()
                    .collect::<BTreeMap<_, _>>()
        })
        .await;
    // One line for each replica and one for itself, none for requests.
    assert_eq!(balancer.log().lines().count(), 4, "{}", balancer.log());
}

#[tokio::test]
async fn the_least_loaded_gets_the_next() {
    let (a, b) = (Replica::start("a").await, Replica::start("b").await);
    let balancer = Balancer::start(LoadBalancing::LeastLoad, &[&a, &b]).await;
    // With nothing under way both get some.
    for _ in 0..4 {
        balancer.get("/").await;
    }
    assert_eq!((a.requests(), b.requests()), (2, 2));
    let waiting = balancer.later("/gate");
    until("it is under way", || {
        (a.requests() + b.requests() == 5).then_some(())
    })
    .await;
    let (busy, free) = if a.requests() == 3 {
        (&a, &b)
    } else {
        (&b, &a)
    };
    balancer
        .standing_with("it is counted", |s| s.in_flight_of(&busy.id) == 1)
        .await;
    for _ in 0..5 {
        assert_eq!(balancer.get("/").await, (200, free.seen.name.clone()));
    }
    busy.open_the_gate();
    assert_eq!(waiting.await.unwrap(), (200, busy.seen.name.clone()));
}

/// Several connections ask all the time; every answer has to be one.
struct Crowd {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicU64>,
    clients: JoinSet<()>,
}

impl Crowd {
    fn start(balancer: &Balancer) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let answers = Arc::new(AtomicU64::new(0));
        let mut clients = JoinSet::new();
        for number in 0..6 {
            let (stop, answers) = (stop.clone(), answers.clone());
            let url = balancer.url("/work");
            clients.spawn(async move {
                let client = client();
                while !stop.load(Ordering::SeqCst) {
                    let (request, size) = match number % 3 {
                        0 => (client.put(&url).body("x".repeat(1000)), 1000),
                        1 => (client.delete(&url), 0),
                        _ => (client.get(&url), 0),
                    };
                    let (status, text) = answered(request).await;
                    assert_eq!(status, 200, "{text}");
                    assert!(text.ends_with(&format!(" {size}")), "{text}");
                    answers.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        Self {
            stop,
            answers,
            clients,
        }
    }

    async fn goes_on(&mut self) {
        let before = self.answers.load(Ordering::SeqCst);
        until("a hundred answers more", || {
            if let Some(ended) = self.clients.try_join_next() {
                ended.unwrap();
            }
            (self.answers.load(Ordering::SeqCst) >= before + 100).then_some(())
        })
        .await;
    }

    async fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_while_replicas_are_killed_and_replaced() {
    let mut replicas = vec![
        Replica::start(1).await,
        Replica::start(2).await,
        Replica::start(3).await,
    ];
    let all: Vec<&Replica> = replicas.iter().collect();
    let mut balancer = Balancer::start(LoadBalancing::LeastLoad, &all).await;
    let mut crowd = Crowd::start(&balancer);
    crowd.goes_on().await;

    // Killed with requests under way; the balancer does not know yet.
    replicas.remove(0).kill().await;
    crowd.goes_on().await;
    replicas.push(Replica::start(4).await);
    let all: Vec<&Replica> = replicas.iter().collect();
    balancer.replicas(&all).await;
    crowd.goes_on().await;

    // Each replaced by a newer version, as a rolling update does it.
    for id in 5..8 {
        let old = replicas.remove(0);
        replicas.push(Replica::start(id).await);
        let all: Vec<&Replica> = replicas.iter().collect();
        balancer.replicas(&all).await;
        balancer
            .standing_with("it is drained", |s| s.in_flight_of(&old.id) == 0)
            .await;
        old.kill().await;
        crowd.goes_on().await;
    }

    // Down to one, which is killed while its replacement is there already.
    replicas.truncate(1);
    let all: Vec<&Replica> = replicas.iter().collect();
    balancer.replicas(&all).await;
    crowd.goes_on().await;
    let last = Replica::start(9).await;
    balancer.replicas(&[&replicas[0], &last]).await;
    replicas.remove(0).kill().await;
    crowd.goes_on().await;
    balancer.replicas(&[&last]).await;
    crowd.goes_on().await;

    crowd.end().await;
    let standing = balancer
        .standing_with("all done", |s| s.in_flight_of("9") == 0)
        .await;
    assert_eq!(standing.failures, 0);
    assert!(balancer.log().contains("passed over"), "{}", balancer.log());
}

#[tokio::test]
async fn real_processes_are_killed_without_a_failed_request() {
    let (mut one, one_at) = hello(free_address(), "1");
    let (mut two, two_at) = hello(free_address(), "2");
    let mut balancer = Balancer::start(LoadBalancing::RoundRobin, &[]).await;
    let at = |id: &str, address| Backend {
        id: id.to_owned(),
        address,
    };
    balancer.set(vec![at("1", one_at), at("2", two_at)]).await;
    let both = [balancer.get("/").await.1, balancer.get("/").await.1];
    assert!(
        both.iter()
            .any(|line| line.starts_with("hello from replica 1, pid "))
            && both
                .iter()
                .any(|line| line.starts_with("hello from replica 2, pid ")),
        "{both:?}"
    );
    let requests: Vec<_> = (0..20).map(|_| balancer.later("/")).collect();
    one.kill().unwrap();
    one.wait().unwrap();
    for request in requests {
        assert_eq!(request.await.unwrap().0, 200);
    }
    for _ in 0..4 {
        let (status, line) = balancer.get("/").await;
        assert_eq!(status, 200);
        assert!(line.starts_with("hello from replica 2"), "{line}");
    }
    kill_process(pid(&two), Signal::TERM).unwrap();
    assert_eq!(exit_code(&mut two).await, 0);
}

#[tokio::test]
async fn a_request_that_was_cut_off_is_answered_by_another() {
    for path in ["/gate", "/half"] {
        let a = Replica::start("a").await;
        let mut balancer = Balancer::start(LoadBalancing::LeastLoad, &[&a]).await;
        let waiting = balancer.later(path);
        a.has_seen(1).await;
        let b = Replica::start("b").await;
        b.open_the_gate();
        balancer.replicas(&[&a, &b]).await;
        a.kill().await;
        let (status, text) = waiting.await.unwrap();
        assert_eq!(status, 200, "{path}: {text}");
        assert!(text == "replica b" || text == "first second", "{text}");
        assert_eq!(b.requests(), 1);
    }
}

#[tokio::test]
async fn what_was_sent_and_may_not_be_repeated_is_not() {
    let (a, b) = (Replica::start("a").await, Replica::start("b").await);
    let mut balancer = Balancer::start(LoadBalancing::LeastLoad, &[&a]).await;
    let post = balancer.client.post(balancer.url("/gate")).body("once");
    let waiting = tokio::spawn(answered(post));
    a.has_seen(1).await;
    balancer.replicas(&[&a, &b]).await;
    a.kill().await;
    let (status, text) = waiting.await.unwrap();
    assert_eq!(
        (status, text.as_str()),
        (
            502,
            "replica a closed the connection before it had answered; the request is not sent again, \
             because it may have been carried out\n"
        )
    );
    assert_eq!(b.requests(), 0);
    balancer
        .standing_with("the failure is counted", |s| s.failures == 1)
        .await;
}

#[tokio::test]
async fn what_was_refused_goes_elsewhere_whatever_it_is() {
    let b = Replica::start("b").await;
    let mut balancer = Balancer::start(LoadBalancing::RoundRobin, &[]).await;
    let refusing = Backend {
        id: "a".to_owned(),
        address: refusing_address(),
    };
    for _ in 0..3 {
        // New to the balancer each time: it is not passed over yet.
        balancer.set(vec![backend(&b)]).await;
        balancer.set(vec![refusing.clone(), backend(&b)]).await;
        for _ in 0..2 {
            // One body that is there, and one that comes bit by bit.
            let post = balancer.client.post(balancer.url("/work"));
            let (status, text) = answered(post.body("12345")).await;
            assert_eq!((status, text.as_str()), (200, "replica b 5"));
            let parts = futures_util::stream::iter(["12", "34"].map(Ok::<_, std::io::Error>));
            let post = balancer.client.post(balancer.url("/work"));
            let (status, text) = answered(post.body(reqwest::Body::wrap_stream(parts))).await;
            assert_eq!((status, text.as_str()), (200, "replica b 4"));
        }
    }
    let refusals = balancer.log();
    let refusals = refusals
        .lines()
        .filter(|line| *line == "replica a refused the connection: passed over for a moment")
        .count();
    assert_eq!(refusals, 3, "{}", balancer.log());
}

#[tokio::test]
async fn a_replica_that_was_taken_out_finishes_what_it_has() {
    let (a, b) = (Replica::start("a").await, Replica::start("b").await);
    let mut balancer = Balancer::start(LoadBalancing::LeastLoad, &[&a]).await;
    assert_eq!(balancer.get("/").await.0, 200);
    let waiting = balancer.later("/gate");
    a.has_seen(2).await;
    // Leaves a connection for the next.
    assert_eq!(balancer.get("/").await.0, 200);
    let standing = balancer.replicas(&[&b]).await;
    assert_eq!(standing.in_flight_of("a"), 1);
    // The one that is under way; none is kept for later.
    a.has_connections(1).await;
    for _ in 0..5 {
        assert_eq!(balancer.get("/").await, (200, "replica b".to_owned()));
    }
    assert_eq!(balancer.standing().unwrap().in_flight_of("a"), 1);
    a.open_the_gate();
    assert_eq!(waiting.await.unwrap(), (200, "replica a".to_owned()));
    balancer
        .standing_with("it is drained", |s| !s.in_flight.contains_key("a"))
        .await;
    assert_eq!(a.requests(), 3);
    a.has_connections(0).await;
    let log = balancer.log();
    assert!(log.contains("gets no more requests (1 under way)"), "{log}");
}

#[tokio::test]
async fn a_replica_that_fails_is_passed_over_for_a_while() {
    let hits = Arc::new(AtomicU64::new(0));
    let listener = TcpListener::bind(free_address()).await.unwrap();
    let failing = Backend {
        id: "a".to_owned(),
        address: listener.local_addr().unwrap(),
    };
    let counted = hits.clone();
    tokio::spawn(async move {
        while listener.accept().await.is_ok() {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    });
    let b = Replica::start("b").await;
    let mut balancer = Balancer::start(LoadBalancing::RoundRobin, &[]).await;
    let began = std::time::Instant::now();
    balancer.set(vec![failing, backend(&b)]).await;
    for _ in 0..40 {
        assert_eq!(balancer.get("/").await, (200, "replica b".to_owned()));
    }
    // It is tried again every two seconds at most; without that it would be every other time.
    let most = 1 + began.elapsed().as_secs() / 2;
    let hits = hits.load(Ordering::SeqCst);
    assert!((1..=most).contains(&hits), "{hits} of {most}");
    assert_eq!(balancer.standing().unwrap().failures, 0);
}

#[tokio::test]
async fn connections_are_kept_for_the_next_but_not_for_what_may_not_be_repeated() {
    let a = Replica::start("a").await;
    let balancer = Balancer::start(LoadBalancing::LeastLoad, &[&a]).await;
    for _ in 0..5 {
        assert_eq!(balancer.get("/").await.0, 200);
        let post = balancer.client.post(balancer.url("/headers")).body("x");
        let (_, headers) = answered(post).await;
        assert!(headers.contains("connection: close\n"), "{headers}");
    }
    // And the last one not for long.
    a.has_connections(0).await;
}

#[tokio::test]
async fn without_a_replica_it_says_so() {
    let mut balancer = Balancer::start(LoadBalancing::LeastLoad, &[]).await;
    let answer = within(balancer.client.get(balancer.url("/")).send())
        .await
        .unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "2");
    assert_eq!(
        within(answer.text()).await.unwrap(),
        "no replica of this service is ready: none is up at the moment\n"
    );
    balancer
        .set(vec![Backend {
            id: "7".to_owned(),
            address: refusing_address(),
        }])
        .await;
    let post = balancer.client.post(balancer.url("/")).body("x");
    assert_eq!(
        answered(post).await,
        (
            503,
            "no replica of this service is ready: replica 7 refused the connection\n".to_owned()
        )
    );
    let standing = balancer
        .standing_with("both are counted", |s| s.failures == 2)
        .await;
    assert_eq!(standing.requests, 2);
}

#[tokio::test]
async fn a_request_waits_for_a_replica_that_is_about_to_be_there() {
    let a = Replica::start("a").await;
    let mut balancer = Balancer::start(LoadBalancing::LeastLoad, &[]).await;
    // It waits for a moment only; a machine that is busy elsewhere may take longer than that.
    for attempt in 1.. {
        let waiting = balancer.later("/");
        balancer
            .standing_with("it came", |s| s.requests >= attempt)
            .await;
        balancer.replicas(&[&a]).await;
        let (status, text) = waiting.await.unwrap();
        if status == 200 {
            assert_eq!(text, "replica a");
            break;
        }
        assert!(attempt < 10, "{text}");
        balancer.replicas(&[]).await;
    }
}

#[tokio::test]
async fn a_websocket_passes_and_counts_as_under_way() {
    let (a, b) = (Replica::start("a").await, Replica::start("b").await);
    let mut balancer = Balancer::start(LoadBalancing::LeastLoad, &[&a]).await;
    let url = format!("ws://{}/ws", balancer.address);
    let (mut socket, _) = within(tokio_tungstenite::connect_async(url)).await.unwrap();
    let mut said = async |text: &str| {
        socket.send(Message::text(text)).await.unwrap();
        let answer = within(socket.next()).await.unwrap().unwrap();
        answer.into_text().unwrap().to_string()
    };
    assert_eq!(said("one").await, "replica a: one");
    let standing = balancer.replicas(&[&b]).await;
    assert_eq!(standing.in_flight_of("a"), 1);
    let long = "x".repeat(300_000);
    assert_eq!(said(&long).await, format!("replica a: {long}"));
    socket.close(None).await.unwrap();
    drop(socket);
    balancer
        .standing_with("it is drained", |s| s.in_flight_of("a") == 0)
        .await;
    // A request for an upgrade that is not one is answered as any other.
    let request = balancer
        .client
        .get(balancer.url("/headers"))
        .header("connection", "upgrade")
        .header("upgrade", "something");
    let (status, text) = answered(request).await;
    assert_eq!(status, 200);
    assert!(text.contains("upgrade: something"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_bodies_are_never_held_whole() {
    let a = Replica::start("a").await;
    let balancer = Balancer::start(LoadBalancing::LeastLoad, &[&a]).await;
    let chunk = Bytes::from(vec![b'y'; 64 * 1024]);
    let chunks = LONG as usize / chunk.len();
    let up = futures_util::stream::iter(
        (0..chunks).map(move |_| Ok::<_, std::io::Error>(chunk.clone())),
    );
    let post = balancer.client.post(balancer.url("/sink"));
    let (status, text) = answered(post.body(reqwest::Body::wrap_stream(up))).await;
    assert_eq!((status, text), (200, LONG.to_string()));
    let answer = within(balancer.client.get(balancer.url("/long")).send())
        .await
        .unwrap();
    let mut down = answer.bytes_stream();
    let mut received = 0;
    while let Some(chunk) = within(down.next()).await {
        received += chunk.unwrap().len() as u64;
    }
    assert_eq!(received, LONG);
    let status = fs::read_to_string(format!("/proc/{}/status", balancer.child.id())).unwrap();
    let most = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .and_then(|size| size.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .unwrap()
        * 1024;
    assert!(most < LONG / 2, "{} MiB", most / MIB);
}

#[tokio::test]
async fn an_answer_that_was_cut_off_on_its_way_is_seen_to_be() {
    let a = Replica::start("a").await;
    let balancer = Balancer::start(LoadBalancing::LeastLoad, &[&a]).await;
    // Not to be repeated, so it is passed on as it comes.
    let post = balancer.client.post(balancer.url("/half"));
    let mut answer = within(post.send()).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(within(answer.chunk()).await.unwrap().unwrap(), "first ");
    a.kill().await;
    assert!(within(answer.chunk()).await.is_err());
    balancer
        .standing_with("it is counted", |s| {
            s.failures == 1 && s.in_flight_of("a") == 0
        })
        .await;
}

#[tokio::test]
async fn a_client_that_leaves_frees_the_replica() {
    let a = Replica::start("a").await;
    let balancer = Balancer::start(LoadBalancing::LeastLoad, &[&a]).await;
    let waiting = balancer.later("/gate");
    a.has_seen(1).await;
    waiting.abort();
    let standing = balancer
        .standing_with("nothing is under way", |s| {
            s.requests == 1 && s.in_flight_of("a") == 0
        })
        .await;
    assert_eq!(standing.failures, 0);
}

#[tokio::test]
async fn headers_of_one_connection_stay_with_it() {
    let a = Replica::start("a").await;
    let balancer = Balancer::start(LoadBalancing::LeastLoad, &[&a]).await;
    let request = balancer
        .client
        .get(balancer.url("/headers?x=1"))
        .header("connection", "keep-alive, x-private")
        .header("x-private", "1")
        .header("x-forwarded-for", "10.0.0.1")
        .header("x-kept", "2")
        .header("host", "service.example");
    let answer = within(request.send()).await.unwrap();
    assert!(!answer.headers().contains_key("keep-alive"));
    assert_eq!(answer.headers()["x-own"], "1");
    let text = within(answer.text()).await.unwrap();
    assert!(
        text.contains("x-forwarded-for: 10.0.0.1, 127.0.0.1\n"),
        "{text}"
    );
    assert!(text.contains("x-kept: 2\n"), "{text}");
    assert!(text.contains("host: service.example\n"), "{text}");
    assert!(!text.contains("private"), "{text}");
    // A replica's own errors are its own.
    assert_eq!(balancer.get("/broken").await, (500, "mine".to_owned()));
    assert_eq!(balancer.standing().unwrap().failures, 0);
}

async fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(stream.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn old_and_odd_clients_are_served() {
    let a = Replica::start("a").await;
    let balancer = Balancer::start(LoadBalancing::LeastLoad, &[&a]).await;
    let answer = raw(balancer.address, "GET /headers HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
    assert!(
        answer.contains(&format!("\nhost: {}\n", a.address)),
        "{answer}"
    );
    let close = "Host: x\r\nConnection: close\r\n\r\n";
    let answer = raw(balancer.address, &format!("HEAD / HTTP/1.1\r\n{close}")).await;
    assert!(answer.contains("content-length: 9\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
    let absolute = format!("GET http://elsewhere/headers HTTP/1.1\r\n{close}");
    let answer = raw(balancer.address, &absolute).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("\nhost: x\n"), "{answer}");
    let answer = raw(
        balancer.address,
        &format!("CONNECT x:1 HTTP/1.1\r\n{close}"),
    )
    .await;
    assert!(answer.starts_with("HTTP/1.1 405 "), "{answer}");
}

#[tokio::test]
async fn it_ends_when_it_is_told_to_and_not_before_it_has_answered() {
    let a = Replica::start("a").await;
    let mut balancer = Balancer::start(LoadBalancing::LeastLoad, &[&a]).await;
    let address = balancer.address;
    // A connection on which nothing is asked does not hold it.
    let idle = TcpStream::connect(address).await.unwrap();
    let waiting = balancer.later("/gate");
    a.has_seen(1).await;
    balancer.signal(Signal::TERM);
    until("nobody is let in any more", || {
        std::net::TcpStream::connect(address).is_err().then_some(())
    })
    .await;
    a.open_the_gate();
    assert_eq!(waiting.await.unwrap(), (200, "replica a".to_owned()));
    assert_eq!(exit_code(&mut balancer.child).await, 0);
    let standing = read_standing(balancer.folder.path()).unwrap();
    assert_eq!(standing.requests, 1);
    assert_eq!(standing.in_flight_of("a"), 0);
    drop(idle);
}

#[tokio::test]
async fn a_port_that_is_taken_is_an_error_and_one_that_was_left_is_not() {
    let a = Replica::start("a").await;
    let mut first = Balancer::start(LoadBalancing::LeastLoad, &[&a]).await;
    assert_eq!(first.get("/").await.0, 200);
    let folder = tempfile::tempdir().unwrap();
    let mut backends = first.backends.clone();
    backends.listen = first.address;
    write_backends(folder.path(), &backends).unwrap();
    let mut second = spawn(folder.path());
    assert_eq!(exit_code(&mut second).await, i32::from(EXIT_PORT_TAKEN));
    assert_eq!(
        fs::read_to_string(folder.path().join("errors")).unwrap(),
        format!(
            "the load balancer cannot start: {} is taken by another program\n",
            first.address
        )
    );
    // Killed with connections open, and started again on the same port.
    first.child.kill().unwrap();
    first.child.wait().unwrap();
    first.backends.listen = first.address;
    write_backends(first.folder.path(), &first.backends).unwrap();
    first.child = spawn(first.folder.path());
    first.applied().await;
    // What the client keeps of the one that was killed is not the question.
    first.client = client();
    assert_eq!(first.get("/").await, (200, "replica a".to_owned()));
}

#[tokio::test]
async fn without_its_file_it_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = spawn(folder.path());
    assert_eq!(exit_code(&mut child).await, 1);
    let said = fs::read_to_string(folder.path().join("errors")).unwrap();
    assert!(said.contains("cannot read"), "{said}");
}

#[tokio::test]
async fn a_file_that_cannot_be_read_changes_nothing() {
    let (a, b) = (Replica::start("a").await, Replica::start("b").await);
    let mut balancer = Balancer::start(LoadBalancing::LeastLoad, &[&a]).await;
    fs::write(balancer.folder.path().join(BACKENDS), "{").unwrap();
    until("it says so", || {
        balancer
            .log()
            .contains("what it said before is kept")
            .then_some(())
    })
    .await;
    assert_eq!(balancer.get("/").await, (200, "replica a".to_owned()));
    balancer.signal(Signal::HUP);
    balancer.replicas(&[&b]).await;
    assert_eq!(balancer.get("/").await, (200, "replica b".to_owned()));
    // Somewhere else, without being started again.
    balancer.backends.listen = SocketAddr::from(([127, 0, 0, 2], 0));
    let standing = balancer.replicas(&[&b]).await;
    assert_eq!(standing.listen.ip().to_string(), "127.0.0.2");
    balancer.address = standing.listen;
    assert_eq!(balancer.get("/").await, (200, "replica b".to_owned()));
}

/// The demo's service and where it listens.
fn hello(address: SocketAddr, replica: &str) -> (Process, SocketAddr) {
    let child = Command::new(PROGRAM)
        .arg("__hello")
        .arg(address.to_string())
        .env("SKYPILOT_SERVE_REPLICA_ID", replica)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Process(child);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let (_, rest) = line.split_once(" listens on ").expect(&line);
    let (address, _) = rest.split_once(',').unwrap();
    (child, address.parse().unwrap())
}

#[tokio::test]
async fn the_demo_says_who_it_is_and_ends_cleanly() {
    let (mut child, address) = hello(free_address(), "12");
    let answer = raw(
        address,
        "GET /any HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    .await;
    let beginning = format!("\r\n\r\nhello from replica 12, pid {}, up ", child.id());
    assert!(answer.contains(&beginning), "{answer}");
    assert!(answer.ends_with(" s\n"), "{answer}");
    assert_eq!(
        Prober::new().probe(address, &Probe::default()).await,
        Ok(())
    );
    let other = Command::new(PROGRAM)
        .arg("__hello")
        .arg(address.to_string())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut other = Process(other);
    assert_eq!(exit_code(&mut other).await, i32::from(EXIT_PORT_TAKEN));
    let mut said = String::new();
    other
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(said, format!("{address} is taken by another program\n"));
    kill_process(pid(&child), Signal::TERM).unwrap();
    assert_eq!(exit_code(&mut child).await, 0);
}

/// Says the same to everybody, then closes.
async fn saying(answer: impl Into<Vec<u8>>) -> SocketAddr {
    let answer = answer.into();
    let listener = TcpListener::bind(free_address()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(&answer).await;
        }
    });
    address
}

#[tokio::test]
async fn only_200_is_ready_and_the_rest_is_told_in_words() {
    let prober = Prober::new();
    let probe = Probe::default();
    let asked = async |address| within(prober.probe(address, &probe)).await;
    let is = |words: &str| Err(words.to_owned());
    assert_eq!(
        asked(saying("HTTP/1.1 200 OK\r\n\r\nfine").await).await,
        Ok(())
    );
    assert_eq!(
        asked(saying("HTTP/1.0 503 Not Yet\r\n\r\n").await).await,
        is("answered 503")
    );
    assert_eq!(
        asked(saying("HTTP/1.1 204 No Content\r\n\r\n").await).await,
        is("answered 204")
    );
    assert_eq!(
        asked(saying("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n").await).await,
        is("answered 302, and redirects are not followed")
    );
    assert_eq!(
        asked(saying("").await).await,
        is("closed the connection before it had answered")
    );
    assert_eq!(
        asked(saying("SSH-2.0-OpenSSH_9.6\r\n").await).await,
        is("answered something that is not HTTP")
    );
    assert_eq!(
        asked(saying("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort").await).await,
        is("answered 200, but not to the end")
    );
    assert_eq!(
        asked(refusing_address()).await,
        is("refused the connection")
    );
    // More than anybody wants to read.
    let mut endless = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n".to_vec();
    endless.extend(std::iter::repeat_n(b'x', 1024 * 1024));
    assert_eq!(asked(saying(endless).await).await, Ok(()));
}

#[tokio::test]
async fn a_probe_is_sent_as_the_task_says_and_ends_in_time() {
    let a = Replica::start("a").await;
    let prober = Prober::new();
    let mut probe = Probe {
        path: "/headers?ready".to_owned(),
        post_data: Some("{\"prompt\": \"hi\"}".to_owned()),
        headers: [("Authorization".to_owned(), "Bearer x".to_owned())].into(),
        ..Probe::default()
    };
    assert_eq!(prober.probe(a.address, &probe).await, Ok(()));
    let listener = TcpListener::bind(free_address()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let probing = tokio::spawn({
        let probe = probe.clone();
        async move { prober.probe(address, &probe).await }
    });
    let (mut stream, _) = within(listener.accept()).await.unwrap();
    let mut request = String::new();
    while !request.contains("hi") {
        let mut part = [0; 4096];
        let size = within(stream.read(&mut part)).await.unwrap();
        assert!(size > 0, "{request}");
        request.push_str(std::str::from_utf8(&part[..size]).unwrap());
    }
    assert!(
        request.starts_with("POST /headers?ready HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains("authorization: Bearer x\r\n"), "{request}");
    assert!(
        request.contains("content-type: application/json\r\n"),
        "{request}"
    );
    assert!(
        request.ends_with("\r\n\r\n{\"prompt\": \"hi\"}"),
        "{request}"
    );
    probing.abort();
    probe.timeout_seconds = 1;
    probe.path = "/gate".to_owned();
    assert_eq!(
        within(prober.probe(a.address, &probe)).await,
        Err("no answer within 1 s".to_owned())
    );
    probe.headers = [("no header".to_owned(), "secret".to_owned())].into();
    assert_eq!(
        prober.probe(a.address, &probe).await,
        Err("cannot be sent the probe's header `no header`".to_owned())
    );
    probe.path = "/with space".to_owned();
    assert_eq!(
        prober.probe(a.address, &probe).await,
        Err("cannot be asked for the path `/with space`".to_owned())
    );
}
