//! Pushing one change to many clients: skytower's server beside the plainest program that does it (one
//! pre-encoded frame, one `send` per client) and beside tokio-tungstenite with its default settings.
//!
//! `cargo bench -p skytower-server` (`CLIENTS=1000` for more). Each server runs on a thread of its own; what
//! counts is that thread's CPU time per delivered frame, and its ratio to the floor in the same run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints and may panic"
)]

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use skytower_api_client::entity::{Job, Owner};
use skytower_api_client::wire::Change;
use skytower_api_client::{EpochMs, Key, Kind, Phase};
use skytower_server::home;
use skytower_server::hub::Hub;
use skytower_server::server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

const TRICKLE: u64 = 40;
const BURST: u64 = 2000;
/// A delta of one job, compressed, is about this long.
const FRAME: usize = 150;

type Publish = Box<dyn Fn(u64) + Send>;
type Start = fn() -> Subject;
type Ready = std::sync::mpsc::Sender<(SocketAddr, Option<String>, Publish)>;

/// A server under measurement: where it listens, what its thread is, and how a change gets in.
struct Subject {
    address: SocketAddr,
    thread: i32,
    token: Option<String>,
    publish: Publish,
    stop: CancellationToken,
}

fn main() {
    let clients: usize = std::env::var("CLIENTS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(400);
    println!(
        "one change to {clients} clients, CPU µs of the server's thread per delivered frame\n"
    );
    println!(
        "{:<34} {:>10} {:>8} {:>12} {:>10}",
        "server", "trickle", "ratio", "burst/change", "ratio"
    );
    let mut floor = None;
    let subjects: [(&str, Start); 3] = [
        ("plain send loop (floor)", plain_loop),
        ("skytower", skytower),
        ("tokio-tungstenite, defaults", tungstenite_defaults),
    ];
    for (name, start) in subjects {
        let (trickle, burst) = measure(&start(), clients);
        let (floor_trickle, floor_burst) = *floor.get_or_insert((trickle, burst));
        println!(
            "{name:<34} {trickle:>10.2} {:>7.2}x {burst:>12.2} {:>9.2}x",
            trickle / floor_trickle,
            burst / floor_burst
        );
    }
}

/// Nanoseconds of CPU of a thread of this process.
fn cpu(thread: i32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// The kernel's id of the calling thread.
fn this_thread() -> i32 {
    let link = std::fs::read_link("/proc/thread-self").unwrap();
    link.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

fn measure(subject: &Subject, clients: usize) -> (f64, f64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let result = runtime.block_on(async {
        let frames = Arc::new(AtomicU64::new(0));
        let bytes = Arc::new(AtomicU64::new(0));
        for _ in 0..clients {
            let stream = connect(subject.address, subject.token.as_deref()).await;
            tokio::spawn(count(stream, frames.clone(), bytes.clone()));
        }
        // Whatever comes at the start (hello, ready) has come when nothing comes any more.
        let mut before = u64::MAX;
        while before != frames.load(Ordering::Relaxed) {
            before = frames.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }

        let wait_for = async |target: u64| {
            let patience = Instant::now();
            while frames.load(Ordering::Relaxed) < target {
                tokio::time::sleep(Duration::from_micros(500)).await;
                assert!(
                    patience.elapsed() < Duration::from_secs(60),
                    "frames went missing"
                );
            }
        };
        let mut spent = 0.0;
        for i in 0..TRICKLE {
            let goal = frames.load(Ordering::Relaxed) + clients as u64;
            let start = cpu(subject.thread);
            (subject.publish)(i);
            wait_for(goal).await;
            spent += cpu(subject.thread) - start;
            tokio::time::sleep(Duration::from_millis(45)).await;
        }
        let trickle = spent / 1000.0 / (TRICKLE * clients as u64) as f64;

        // A burst may be folded into fewer frames: it is over when nothing comes any more.
        let start = cpu(subject.thread);
        for i in 0..BURST {
            (subject.publish)(TRICKLE + i);
            if i % 20 == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        let mut before = u64::MAX;
        while before != bytes.load(Ordering::Relaxed) {
            before = bytes.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        let burst = (cpu(subject.thread) - start) / 1000.0 / (BURST * clients as u64) as f64;
        (trickle, burst)
    });
    subject.stop.cancel();
    result
}

async fn connect(address: SocketAddr, token: Option<&str>) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let Some(token) = token else {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").await.unwrap();
        return stream;
    };
    let mut head = Vec::new();
    write!(head, "GET /api/v1/watch HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: skytower.v1.zstd\r\nAuthorization: Bearer {token}\r\n\r\n").unwrap();
    // The subscription, masked with zeros.
    let subscribe = br#"{"type":"subscribe","kinds":["job"]}"#;
    head.extend([0x81, 0x80 | subscribe.len() as u8, 0, 0, 0, 0]);
    head.extend(subscribe);
    stream.write_all(&head).await.unwrap();
    stream
}

/// Counts websocket frames after the HTTP answer.
async fn count(mut stream: TcpStream, frames: Arc<AtomicU64>, total: Arc<AtomicU64>) {
    let mut held = Vec::with_capacity(16 * 1024);
    let mut upgraded = false;
    loop {
        let mut piece = [0; 8192];
        let Ok(got) = stream.read(&mut piece).await else {
            return;
        };
        if got == 0 {
            return;
        }
        total.fetch_add(got as u64, Ordering::Relaxed);
        held.extend_from_slice(&piece[..got]);
        let mut at = 0;
        if !upgraded {
            let Some(end) = held.windows(4).position(|four| four == b"\r\n\r\n") else {
                continue;
            };
            at = end + 4;
            upgraded = true;
        }
        while held.len() >= at + 2 {
            let (head, length) = match held[at + 1] {
                126 if held.len() >= at + 4 => (
                    4,
                    usize::from(held[at + 2]) << 8 | usize::from(held[at + 3]),
                ),
                127 if held.len() >= at + 10 => (
                    10,
                    usize::try_from(u64::from_be_bytes(
                        held[at + 2..at + 10].try_into().unwrap(),
                    ))
                    .unwrap(),
                ),
                126 | 127 => break,
                short => (2, usize::from(short)),
            };
            if held.len() < at + head + length {
                break;
            }
            at += head + length;
            frames.fetch_add(1, Ordering::Relaxed);
        }
        held.drain(..at);
    }
}

/// Runs `serve` on a thread and a runtime of its own.
fn on_own_thread<F: Future<Output = ()>>(
    serve: impl FnOnce(Ready, CancellationToken) -> F + Send + 'static,
) -> Subject {
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (told, thread) = std::sync::mpsc::channel();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    std::thread::spawn(move || {
        told.send(this_thread()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(serve(ready, stopped));
    });
    let thread = thread.recv().unwrap();
    let (address, token, publish) = is_ready.recv().unwrap();
    Subject {
        address,
        thread,
        token,
        publish,
        stop,
    }
}

/// The floor: one frame, one `send` per client, no task per client.
fn plain_loop() -> Subject {
    on_own_thread(|ready, stop| async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (publish, mut changes) = mpsc::unbounded_channel::<u64>();
        ready
            .send((
                listener.local_addr().unwrap(),
                None,
                Box::new(move |i| publish.send(i).map_or((), drop)),
            ))
            .unwrap();
        let mut clients = Vec::new();
        let mut frame = vec![0x82, 126, 0, FRAME as u8];
        frame.extend([7; FRAME]);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Ok((mut stream, _)) = listener.accept() => {
                    stream.set_nodelay(true).unwrap();
                    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.unwrap();
                    clients.push(stream);
                }
                Some(_) = changes.recv() => {
                    for client in &mut clients {
                        client.write_all(&frame).await.unwrap();
                    }
                }
            }
        }
    })
}

/// What one gets without thinking: a task per client, a broadcast channel, default settings.
fn tungstenite_defaults() -> Subject {
    on_own_thread(|ready, stop| async move {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (changes, _) = broadcast::channel::<u64>(4096);
        let publish = changes.clone();
        ready
            .send((
                listener.local_addr().unwrap(),
                None,
                Box::new(move |i| publish.send(i).map_or((), drop)),
            ))
            .unwrap();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Ok((stream, _)) = listener.accept() => {
                    stream.set_nodelay(true).unwrap();
                    let mut changes = changes.subscribe();
                    tokio::spawn(async move {
                        let Ok(socket) = tokio_tungstenite::accept_async(stream).await else { return };
                        let (mut sink, _stream) = socket.split();
                        while changes.recv().await.is_ok() {
                            if sink.send(Message::binary(vec![7; FRAME])).await.is_err() {
                                return;
                            }
                        }
                    });
                }
            }
        }
    })
}

fn skytower() -> Subject {
    on_own_thread(|ready, stop| async move {
        let home = tempfile::tempdir().unwrap();
        let config = skytower_server::Config {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            home: home.path().to_owned(),
            ..Default::default()
        };
        let server = Server::open(config, stop).await.expect("the server opens");
        let address = server.url().trim_start_matches("http://").parse().unwrap();
        let token = home::read_token(home.path()).unwrap().expose().to_owned();
        let hub = server.hub().clone();
        ready
            .send((address, Some(token), Box::new(move |i| commit(&hub, i))))
            .unwrap();
        server.serve().await.unwrap();
    })
}

fn commit(hub: &Hub, i: u64) {
    let id = i % 500;
    let owner = Owner {
        id: "6384e2b2".into(),
        name: "alice".into(),
    };
    let job = Job {
        key: Key::new("prod", Kind::Job, format_args!("{id}/0")),
        source: "prod".into(),
        name: format!("sweep-{id}").into(),
        job_name: format!("sweep-{id}").into(),
        owner: Some(owner),
        workspace: Some("default".into()),
        status: if i.is_multiple_of(2) {
            "RUNNING"
        } else {
            "RECOVERING"
        }
        .into(),
        phase: Phase::Running,
        job_id: id as i64,
        submitted_at: Some(EpochMs(1_795_000_000_000 + i as i64)),
        resources: Some("1x[A100:8]".into()),
        infra: Some("Slurm (lab)".into()),
        recoveries: i as i64,
        ..Job::default()
    };
    hub.commit([Change::Upsert(job.into())]);
}
