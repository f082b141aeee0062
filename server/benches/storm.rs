//! Everybody comes back at once: a server with accounts that was started again on its old state, and
//! thousands of clients that had been connected, each with a token of its own and the cursor of its copy.
//!
//! `cargo bench -p skytower-server --bench storm` (`CLIENTS=1000` for fewer). Ours is the whole way back:
//! the handshake with its token, hello, the subscription with a cursor of the life before, a snapshot, ready.
//! The floor is the handshake alone, by the same axum and hyper, in a program that does nothing else: a
//! health endpoint would be no websocket, and a server without accounts would be most of what is measured.
//! Each is a process of its own, fresh for each storm; what counts is the CPU time of all its threads, with
//! what it still does when the last client is back (the audit). The clients are the same for both, and so
//! is how many of them are under way at once; that part is a clock's, and noisy where others are at work.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints and may panic"
)]

#[path = "../../api-client/benches/measure/mod.rs"]
mod measure;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::ws::{self, WebSocketUpgrade};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use futures_util::{SinkExt as _, TryStreamExt as _};
use measure::median;
use reqwest::Method;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::{Value, json};
use skytower_api_client::codec::{self, Encoding};
use skytower_api_client::entity::{Job, Owner, Workspace};
use skytower_api_client::rest::path;
use skytower_api_client::wire::{
    Caller, Change, ClientMessage, Cursor, Hello, PROTOCOL, SUBPROTOCOL_ZSTD, ServerMessage,
};
use skytower_api_client::{Entity, EpochMs, Key, Kind, Phase};
use skytower_server::home;
use skytower_server::server::{Server, VERSION};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_util::sync::CancellationToken;

/// People, and how many clients each has.
const PEOPLE: usize = 200;
const CLIENTS: usize = 5000;
/// Handshakes under way at once.
const AT_ONCE: usize = 256;
/// Storms of each.
const ROUNDS: usize = 3;
/// Rows of the table.
const JOBS: i64 = 100;
/// What is left to do when the last client is back gets this long.
const AFTERWARDS: Duration = Duration::from_millis(500);
/// How many times as much as a bare handshake is promised at most.
const PROMISE: f64 = 2.0;

/// Tells this program to be a server: one of the floors, or skytower's by its state folder.
const SERVES: &str = "STORM_SERVES";
/// Handshakes alone.
const BARE: &str = "bare";
/// And the same conversation.
const PLAIN: &str = "plain";

fn main() -> ExitCode {
    all_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    match std::env::var(SERVES).as_deref() {
        Ok(BARE) => runtime.block_on(serve_floor(&[])),
        Ok(PLAIN) => runtime.block_on(serve_floor(&conversation())),
        Ok(folder) => runtime.block_on(serve_skytower(Path::new(folder))),
        Err(_) => return runtime.block_on(measure_all()),
    }
    ExitCode::SUCCESS
}

/// As many descriptors as the operating system lets a process have.
fn all_descriptors() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, all).unwrap();
}

async fn measure_all() -> ExitCode {
    let clients = std::env::var("CLIENTS").ok();
    let clients = clients.map_or(CLIENTS, |clients| clients.parse().unwrap());
    let people = PEOPLE.min(clients);
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let folder = folder.path().to_str().unwrap();
    println!(
        "{clients} clients of {people} people come back, {AT_ONCE} at once, to {JOBS} jobs; \
         medians of {ROUNDS} storms\n"
    );
    // They were connected before, and know where their copies stand.
    let life = Life::begin(folder);
    let mut crowd = tokens(&life, folder, people, clients).await;
    life.has_rows(&crowd[0]).await;
    let live = life.storm(&crowd).await.live;
    for (client, (_, cursor)) in crowd.iter_mut().zip(&live) {
        client.since.clone_from(cursor);
    }
    drop(live);
    life.end();

    let (mut ours, mut bare, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    let mut hashes = 0;
    for _ in 0..ROUNDS {
        for (floor, figures) in [(BARE, &mut bare), (PLAIN, &mut plain)] {
            let life = Life::begin(floor);
            figures.push(life.storm(&crowd).await.figures);
            life.end();
        }
        let life = Life::begin(folder);
        life.has_rows(&crowd[0]).await;
        ours.push(life.storm(&crowd).await.figures);
        hashes += life.argon2_runs(folder).await;
        life.end();
    }
    let [ours, plain, bare] = [
        ("skytower, back and up to date", ours),
        ("the same conversation, made before", plain),
        ("a bare handshake", bare),
    ]
    .map(|(name, all)| {
        let of = |what: fn(&Figures) -> f64| median(all.iter().map(what).collect());
        let (took, cpu) = (of(|figures| figures.took), of(|figures| figures.cpu));
        let each = cpu * 1e6 / clients as f64;
        let per_second = clients as f64 / took;
        println!("{name:<36} {per_second:>7.0} /s   CPU {cpu:>6.3} s   {each:>7.1} µs each");
        cpu
    });
    let ratio = (ours - (plain - bare)) / bare;
    println!(
        "without what the bytes cost {ratio:>9.2}x a handshake   promised: at most {PROMISE}x"
    );
    println!("with it {:>29.2}x a handshake", ours / bare);
    println!("argon2 runs: {hashes}");
    if ratio > PROMISE || hashes > 0 {
        println!("that is too much");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// A server process.
struct Life {
    is_bare: bool,
    child: Child,
    /// The server ends when this is closed.
    stdin: ChildStdin,
    address: String,
}

/// A client that has been away.
struct Client {
    token: String,
    since: Option<Cursor>,
}

type Socket = WebSocketStream<TcpStream>;

struct Storm {
    figures: Figures,
    /// In the order of the clients.
    live: Vec<(Socket, Option<Cursor>)>,
}

/// Seconds.
struct Figures {
    took: f64,
    cpu: f64,
}

impl Life {
    fn begin(serves: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(SERVES, serves)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut address)
            .unwrap();
        Self {
            is_bare: serves == BARE,
            stdin: child.stdin.take().unwrap(),
            address: address.trim().to_owned(),
            child,
        }
    }

    fn end(mut self) {
        drop(self.stdin);
        assert!(self.child.wait().unwrap().success());
    }

    /// Everybody comes, and is live.
    async fn storm(&self, crowd: &[Client]) -> Storm {
        let before = self.cpu();
        let start = Instant::now();
        let mut live: Vec<_> = stream::iter(crowd.iter().enumerate())
            .map(async |(i, client)| (i, client.come(self).await))
            .buffer_unordered(AT_ONCE)
            .collect()
            .await;
        let took = start.elapsed().as_secs_f64();
        tokio::time::sleep(AFTERWARDS).await;
        let cpu = self.cpu() - before;
        live.sort_by_key(|(i, _)| *i);
        Storm {
            figures: Figures { took, cpu },
            live: live.into_iter().map(|(_, one)| one).collect(),
        }
    }

    /// Waits until people's rights to what the sources have are known: after a start that takes a moment.
    async fn has_rows(&self, client: &Client) {
        let fresh = Client {
            token: client.token.clone(),
            since: None,
        };
        loop {
            let mut socket = fresh.connect(&self.address).await;
            if fresh.catch_up(&mut socket).await.1 > JOBS as usize {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Seconds of CPU that the process has used, in all the threads that it has.
    fn cpu(&self) -> f64 {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let spent = threads.map(|thread| {
            let stat = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
            stat.split(' ').next().unwrap().parse::<u64>().unwrap()
        });
        spent.sum::<u64>() as f64 / 1e9
    }

    async fn ask(&self, folder: &str, method: Method, path: &str, body: Option<Value>) -> String {
        let token = home::read_token(Path::new(folder)).unwrap();
        let mut request = reqwest::Client::new()
            .request(method, format!("http://{}{path}", self.address))
            .bearer_auth(token.expose());
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap().error_for_status().unwrap();
        answer.text().await.unwrap()
    }

    /// How often a password was hashed or checked at full cost in this life.
    async fn argon2_runs(&self, folder: &str) -> u64 {
        let text = self.ask(folder, Method::GET, "/metrics", None).await;
        let value = text
            .lines()
            .find_map(|line| line.strip_prefix("skytower_password_hashes_total "));
        value.unwrap().parse().unwrap()
    }
}

/// People who have tokens, and a client with each.
async fn tokens(life: &Life, folder: &str, people: usize, clients: usize) -> Vec<Client> {
    let make = |path: &'static str, body: Value| life.ask(folder, Method::POST, path, Some(body));
    for i in 0..people {
        let user = json!({"name": format!("user-{i}"), "role": "user", "service": true});
        make(path::USERS, user).await;
    }
    stream::iter(0..clients)
        .map(|i| {
            let body =
                json!({"name": format!("client {i}"), "user": format!("user-{}", i % people)});
            make(path::TOKENS, body)
        })
        .buffered(8)
        .map(|issued| {
            let issued: Value = serde_json::from_str(&issued).unwrap();
            Client {
                token: issued["token"].as_str().unwrap().to_owned(),
                since: None,
            }
        })
        .collect()
        .await
}

impl Client {
    /// Comes back, and is up to date when this returns; where nothing is said, connected.
    async fn come(&self, life: &Life) -> (Socket, Option<Cursor>) {
        let mut socket = self.connect(&life.address).await;
        if life.is_bare {
            return (socket, None);
        }
        let (cursor, _) = self.catch_up(&mut socket).await;
        (socket, Some(cursor))
    }

    /// The handshake.
    async fn connect(&self, address: &str) -> Socket {
        let mut request = format!("ws://{address}{}", path::WATCH)
            .into_client_request()
            .unwrap();
        let authorization = format!("Bearer {}", self.token);
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", SUBPROTOCOL_ZSTD.parse().unwrap());
        headers.insert("authorization", authorization.parse().unwrap());
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        // Thousands of clients in one process: the usual buffers would be a gigabyte.
        let small = WebSocketConfig::default()
            .read_buffer_size(4 * 1024)
            .write_buffer_size(0);
        let opened = tokio_tungstenite::client_async_with_config(request, stream, Some(small));
        opened.await.unwrap().0
    }

    /// Hello, subscribe, whatever is new, ready: where the copy stands then, and how many rows came.
    async fn catch_up(&self, socket: &mut Socket) -> (Cursor, usize) {
        let Some(ServerMessage::Hello(hello)) = heard(socket).await else {
            panic!("no hello first");
        };
        let subscribe = ClientMessage::Subscribe {
            kinds: Vec::new(),
            since: self.since.clone(),
        };
        let subscribe = serde_json::to_string(&subscribe).unwrap();
        socket.send(Message::text(subscribe)).await.unwrap();
        let mut rows = 0;
        loop {
            match heard(socket).await {
                Some(ServerMessage::Ready { revision }) => {
                    let cursor = Cursor {
                        epoch: hello.epoch,
                        revision,
                        view: hello.view,
                    };
                    return (cursor, rows);
                }
                Some(ServerMessage::Snapshot { rows: page, .. }) => rows += page.len(),
                _ => {}
            }
        }
    }
}

/// What the server says next; none when it is of a later version.
async fn heard(socket: &mut Socket) -> Option<ServerMessage> {
    loop {
        let frame = socket.try_next().await.unwrap();
        if let Message::Binary(frame) = frame.expect("the server closed") {
            return codec::decode_binary(&frame).unwrap();
        }
    }
}

/// Tells where it listens, and that it is to end when nobody holds the other end any more.
fn until_let_go(address: &str) -> CancellationToken {
    println!("{address}");
    let stop = CancellationToken::new();
    let over = stop.clone();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        over.cancel();
    });
    stop
}

/// What skytower's server says, one message after the other.
fn conversation() -> Vec<Bytes> {
    let hello = Hello {
        protocol: PROTOCOL,
        version: VERSION.into(),
        epoch: uuid::Uuid::now_v7().to_string().into(),
        revision: 1,
        view: "0123456789abcdef".into(),
        you: Caller {
            ids: vec!["u-0123456789ab".into(), "user-100".into()],
            name: "user-100".into(),
            workspaces: Some(vec!["prod/default".into()]),
            ..Caller::default()
        },
        kinds: Kind::ALL.to_vec(),
        at: EpochMs::now(),
    };
    let mut all = vec![ServerMessage::Hello(hello)];
    for kind in [Kind::Workspace, Kind::Job] {
        all.push(ServerMessage::Snapshot {
            kind,
            revision: 1,
            rows: rows().filter(|row| row.kind() == kind).collect(),
            more: false,
        });
    }
    all.push(ServerMessage::Ready { revision: 1 });
    let encoded = all
        .iter()
        .map(|message| codec::encode(message, Encoding::Zstd));
    encoded.collect()
}

/// Websockets that are accepted, and on which this is said: the first at once, the others when they are asked
/// for. Nothing else.
async fn serve_floor(says: &[Bytes]) {
    let says: Arc<[Bytes]> = says.into();
    let accept = async move |upgrade: WebSocketUpgrade| {
        upgrade
            .protocols([SUBPROTOCOL_ZSTD])
            .read_buffer_size(4 * 1024)
            .write_buffer_size(4 * 1024)
            .on_upgrade(async move |mut socket| {
                if let Some((hello, others)) = says.split_first() {
                    socket
                        .send(ws::Message::Binary(hello.clone()))
                        .await
                        .unwrap();
                    socket.recv().await.unwrap().unwrap();
                    for message in others {
                        socket
                            .feed(ws::Message::Binary(message.clone()))
                            .await
                            .unwrap();
                    }
                    socket.flush().await.unwrap();
                }
                while socket.recv().await.is_some() {}
            })
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stop = until_let_go(&listener.local_addr().unwrap().to_string());
    let router = Router::new().route(path::WATCH, get(accept));
    tokio::select! {
        served = axum::serve(listener, router) => served.unwrap(),
        () = stop.cancelled() => {}
    }
}

async fn serve_skytower(folder: &Path) {
    let config = skytower_server::Config {
        listen: Some(([127, 0, 0, 1], 0).into()),
        home: folder.to_owned(),
        accounts: true,
        ..Default::default()
    };
    let stop = CancellationToken::new();
    let server = Server::open(config, stop.clone()).await.unwrap();
    server.hub().commit(rows().map(Change::Upsert));
    let over = until_let_go(server.url().trim_start_matches("http://"));
    let (served, ()) = tokio::join!(server.serve(), async {
        over.cancelled().await;
        stop.cancel();
    });
    served.unwrap();
}

/// What there is to see: a workspace that is open to everybody, and jobs in it.
fn rows() -> impl Iterator<Item = Arc<Entity>> {
    let open = Workspace {
        key: Key::new("prod", Kind::Workspace, "default"),
        source: "prod".into(),
        name: "default".into(),
        workspace: Some("default".into()),
        ..Workspace::default()
    };
    let jobs = (1..=JOBS).map(|id| {
        let job = Job {
            key: Key::new("prod", Kind::Job, format_args!("{id}/0")),
            source: "prod".into(),
            name: format!("sweep-{id}").into(),
            owner: Some(Owner {
                id: "6384e2b2".into(),
                name: "alice".into(),
            }),
            workspace: Some("default".into()),
            status: "RUNNING".into(),
            phase: Phase::Running,
            job_id: id,
            ..Job::default()
        };
        Arc::from(job)
    });
    std::iter::once(Arc::new(Entity::from(open))).chain(jobs)
}
