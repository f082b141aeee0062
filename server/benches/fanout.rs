//! Pushing changes to many clients: skytower's server beside the plainest programs that do it and beside
//! tokio-tungstenite with its default settings; and a snapshot of 100,000 jobs to a first and a second
//! client.
//!
//! `cargo bench -p skytower-server --bench fanout` (`CLIENTS=1000` for more). Each server runs on a thread
//! of its own; what counts is that thread's CPU time, and its ratio to the floor in the same run. All run
//! at the same time and are measured in turns.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a benchmark prints and may panic"
)]

#[path = "../../api-client/benches/measure/mod.rs"]
mod measure;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, StreamExt};
use measure::{cpu_ms_of, line, median, this_thread};
use skytower_api_client::codec::{self, Encoding};
use skytower_api_client::entity::{Job, Owner};
use skytower_api_client::wire::{Change, SNAPSHOT_CHUNK, ServerMessage};
use skytower_api_client::{Entity, EpochMs, Key, Kind, Phase};
use skytower_server::home;
use skytower_server::hub::Hub;
use skytower_server::server::Server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

/// Turns of each server, and single changes in each.
const ROUNDS: u64 = 5;
const TRICKLE: u64 = 12;
/// Changes in a burst of a second.
const BURST: u64 = 2000;
/// As often as skytower writes to a client at most.
const TICK: Duration = Duration::from_millis(20);
const JOBS: u64 = 100_000;

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
    let clients: u64 = std::env::var("CLIENTS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(400);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    println!(
        "{clients} clients of each server, a change is {} bytes, CPU time of the server's thread, medians of \
         {ROUNDS} turns\n",
        frame().len()
    );
    runtime.block_on(fan_out(clients));
    runtime.block_on(snapshots());
}

async fn fan_out(clients: u64) {
    let all: [(&str, Start); 4] = [
        ("skytower", skytower),
        ("tokio-tungstenite, defaults", tungstenite_defaults),
        ("a send per client and change", plain_loop),
        ("one send per client and tick", pump),
    ];
    let mut crowds = Vec::new();
    for (_, start) in all {
        crowds.push(Crowd::gather(start(), clients).await);
    }
    let mut trickle = vec![Vec::new(); all.len()];
    let mut burst = vec![Vec::new(); all.len()];
    for _ in 0..ROUNDS {
        for (crowd, times) in crowds.iter_mut().zip(&mut trickle) {
            times.push(crowd.trickle().await);
        }
        for (crowd, times) in crowds.iter_mut().zip(&mut burst) {
            times.push(crowd.burst().await);
        }
    }
    let trickle: Vec<f64> = trickle.into_iter().map(median).collect();
    let burst: Vec<f64> = burst.into_iter().map(median).collect();
    println!("one change at a time, per delivery:");
    line(
        all[0].0,
        trickle[0],
        all[2].0,
        trickle[2],
        "P1: 1.25x, fails at 1.6x",
    );
    line(all[1].0, trickle[1], all[2].0, trickle[2], "");
    println!("\n{BURST} changes of 500 rows in a second, per change and client:");
    line(
        all[0].0,
        burst[0],
        all[3].0,
        burst[3],
        "P2: 1.5x, fails at 2.5x",
    );
    line(all[1].0, burst[1], all[3].0, burst[3], "");
    line(all[2].0, burst[2], all[3].0, burst[3], "");
    for crowd in crowds {
        crowd.subject.stop.cancel();
    }
}

/// A server with its clients.
struct Crowd {
    subject: Subject,
    clients: u64,
    heard: Heard,
    published: u64,
}

/// What clients have read so far.
#[derive(Clone, Default)]
struct Heard {
    frames: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl Heard {
    fn frames(&self) -> u64 {
        self.frames.load(Ordering::Relaxed)
    }

    async fn wait_for(&self, frames: u64) {
        let patience = Instant::now();
        while self.frames() < frames {
            tokio::time::sleep(Duration::from_micros(500)).await;
            let waited = patience.elapsed();
            assert!(waited < Duration::from_secs(60), "frames went missing");
        }
    }

    /// Until nothing has come for a while.
    async fn silence(&self) {
        let mut before = u64::MAX;
        while before != self.bytes.load(Ordering::Relaxed) {
            before = self.bytes.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(400)).await;
        }
    }
}

impl Crowd {
    async fn gather(subject: Subject, clients: u64) -> Self {
        let heard = Heard::default();
        for _ in 0..clients {
            let stream = connect(subject.address, subject.token.as_deref()).await;
            tokio::spawn(count(stream, heard.clone()));
        }
        // Whatever comes at the start (hello, ready) has come.
        heard.silence().await;
        Self {
            subject,
            clients,
            heard,
            published: 0,
        }
    }

    fn publish(&mut self) {
        (self.subject.publish)(self.published);
        self.published += 1;
    }

    fn cpu(&self) -> f64 {
        cpu_ms_of(self.subject.thread)
    }

    async fn trickle(&mut self) -> f64 {
        let mut spent = 0.0;
        for _ in 0..TRICKLE {
            // Heartbeats are not deliveries: one may come in between, once in a while.
            let goal = self.heard.frames() + self.clients;
            let start = self.cpu();
            self.publish();
            self.heard.wait_for(goal).await;
            spent += self.cpu() - start;
            // Beyond the tick, so that each is written at once.
            tokio::time::sleep(TICK * 2).await;
        }
        spent / (TRICKLE * self.clients) as f64
    }

    /// A burst may be folded into fewer frames: it is over when nothing comes any more.
    async fn burst(&mut self) -> f64 {
        let start = self.cpu();
        for i in 0..BURST {
            self.publish();
            if i % 20 == 19 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        self.heard.silence().await;
        (self.cpu() - start) / (BURST * self.clients) as f64
    }
}

/// What everything costs for the first client that asks, and for the second; the floor writes as many
/// bytes that were made before.
async fn snapshots() {
    let (subject, hub) = skytower_with_hub();
    let rows = (0..JOBS).map(|i| Change::Upsert(job(i, i)));
    hub.commit(rows);
    // Hello, the pages, ready.
    let frames = JOBS.div_ceil(SNAPSHOT_CHUNK as u64) + 2;
    let (mut first, mut second, mut sends) = (Vec::new(), Vec::new(), Vec::new());
    let mut size = 0;
    for round in 0..ROUNDS {
        // What was encoded before is out of date.
        hub.commit([Change::Upsert(job(round, JOBS + round))]);
        for times in [&mut first, &mut second] {
            let heard = Heard::default();
            let start = cpu_ms_of(subject.thread);
            let stream = connect(subject.address, subject.token.as_deref()).await;
            let reader = tokio::spawn(count(stream, heard.clone()));
            heard.wait_for(frames).await;
            times.push(cpu_ms_of(subject.thread) - start);
            size = heard.bytes.load(Ordering::Relaxed) as usize;
            reader.abort();
        }
        sends.push(plain_send(size).await);
    }
    subject.stop.cancel();
    println!("\na snapshot of {JOBS} jobs, {:.1} MB:", size as f64 / 1e6);
    let (first, second) = (median(first), median(second));
    line(
        "the first client",
        first,
        "sending the same bytes",
        median(sends.clone()),
        "",
    );
    line(
        "the second client",
        second,
        "sending the same bytes",
        median(sends),
        "",
    );
    line(
        "the second client",
        second,
        "the first client",
        first,
        "P9: at most 0.3x",
    );
}

/// CPU time of writing so many bytes to a client.
async fn plain_send(size: usize) -> f64 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sender = std::thread::spawn(move || {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        let bytes = vec![7; size];
        let start = measure::cpu_ms();
        for page in bytes.chunks(64 * 1024) {
            stream.write_all(page).unwrap();
        }
        measure::cpu_ms() - start
    });
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut piece = vec![0; 64 * 1024];
    while stream.read(&mut piece).await.unwrap() > 0 {}
    sender.join().unwrap()
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
async fn count(mut stream: TcpStream, heard: Heard) {
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
        heard.bytes.fetch_add(got as u64, Ordering::Relaxed);
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
            heard.frames.fetch_add(1, Ordering::Relaxed);
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

/// A change as it travels.
fn frame() -> Bytes {
    let message = ServerMessage::Delta {
        since: 48_211,
        revision: 48_212,
        changes: vec![Change::Upsert(job(211, 48_212))],
    };
    codec::encode(&message, Encoding::Zstd)
}

/// A change as a websocket frame.
fn framed() -> Vec<u8> {
    let frame = frame();
    let mut framed = vec![0x82];
    match u8::try_from(frame.len()) {
        Ok(short @ 0..126) => framed.push(short),
        _ => framed.extend([126, (frame.len() >> 8) as u8, frame.len() as u8]),
    }
    framed.extend(&frame[..]);
    framed
}

/// The floor: one frame, one `send` per client, no task per client.
fn plain_loop() -> Subject {
    floor(async |frame, changes: &mut Changes| {
        next_of(changes).await;
        Bytes::from_static(frame)
    })
}

/// The floor of a burst: what has come within a tick is one `send` per client.
fn pump() -> Subject {
    floor(async |frame, changes: &mut Changes| {
        let mut pending = BytesMut::new();
        next_of(changes).await;
        pending.put_slice(frame);
        tokio::time::sleep(TICK).await;
        while changes.try_recv().is_ok() {
            pending.put_slice(frame);
        }
        pending.freeze()
    })
}

type Changes = mpsc::UnboundedReceiver<u64>;

/// The next change; at the end, when nobody publishes any more, there is none.
async fn next_of(changes: &mut Changes) -> u64 {
    match changes.recv().await {
        Some(change) => change,
        None => std::future::pending().await,
    }
}

/// Sends what `next` makes of the changes to all clients. Nobody joins once there was a change.
fn floor(next: impl AsyncFnMut(&'static [u8], &mut Changes) -> Bytes + Send + 'static) -> Subject {
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
        let mut next = next;
        let frame: &'static [u8] = framed().leak();
        let mut clients = Vec::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                Ok((mut stream, _)) = listener.accept() => {
                    stream.set_nodelay(true).unwrap();
                    stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n\r\n").await.unwrap();
                    clients.push(stream);
                }
                bytes = next(frame, &mut changes) => {
                    for client in &mut clients {
                        client.write_all(&bytes).await.unwrap();
                    }
                }
            }
        }
    })
}

/// What one gets without thinking: a task per client that listens and sends, a broadcast channel, default
/// settings.
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
                    let frame = frame();
                    tokio::spawn(async move {
                        let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
                        loop {
                            tokio::select! {
                                change = changes.recv() => {
                                    let message = Message::binary(frame.clone());
                                    if change.is_err() || socket.send(message).await.is_err() {
                                        return;
                                    }
                                }
                                heard = socket.next() => if heard.is_none() { return },
                            }
                        }
                    });
                }
            }
        }
    })
}

fn skytower() -> Subject {
    skytower_with_hub().0
}

fn skytower_with_hub() -> (Subject, Arc<Hub>) {
    let (tell, hub) = std::sync::mpsc::channel();
    let subject = on_own_thread(move |ready, stop| async move {
        let home = tempfile::tempdir().unwrap();
        let config = skytower_server::Config {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            home: home.path().to_owned(),
            // All of them come with one token, and at once.
            limits: skytower_server::config::Limits {
                connections_per_user: usize::MAX,
                strangers: Some(usize::MAX),
                ..Default::default()
            },
            ..Default::default()
        };
        let server = Server::open(config, stop).await.expect("the server opens");
        let address = server.url().trim_start_matches("http://").parse().unwrap();
        let token = home::read_token(home.path()).unwrap().expose().to_owned();
        let hub = server.hub().clone();
        tell.send(hub.clone()).unwrap();
        let publish = move |i: u64| {
            hub.commit([Change::Upsert(job(i % 500, i))]);
        };
        ready
            .send((address, Some(token), Box::new(publish)))
            .unwrap();
        server.serve().await.unwrap();
    });
    (subject, hub.recv().unwrap())
}

/// A job, with something in it that has changed.
fn job(id: u64, change: u64) -> Arc<Entity> {
    let status = ["RUNNING", "RECOVERING"][(change % 2) as usize];
    let name = format!("sweep-{id}");
    let hash = format!("{:08x}", id % 50 * 0x0101_0101);
    Job {
        key: Key::new("prod", Kind::Job, format_args!("{id}/0")),
        source: "prod".into(),
        cluster: Some(format!("{name}-{id}-{hash}").into()),
        name: name.as_str().into(),
        job_name: name.into(),
        owner: Some(Owner {
            id: hash.into(),
            name: format!("user-{}", id % 50).into(),
        }),
        workspace: Some("default".into()),
        status: status.into(),
        phase: Phase::Running,
        job_id: id as i64,
        submitted_at: Some(EpochMs(1_795_000_000_000 + id as i64 * 977)),
        started_at: Some(EpochMs(1_795_000_060_000 + id as i64 * 977)),
        resources: Some("1x[A100:8]".into()),
        infra: Some("Slurm (lab)".into()),
        accelerators: Some("A100:8".into()),
        gpus: Some(8.0),
        schedule_state: Some("ALIVE".into()),
        recoveries: change as i64,
        priority: Some(0),
        ..Job::default()
    }
    .into()
}
