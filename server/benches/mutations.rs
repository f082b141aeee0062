//! How many requests a second are written down, each with its entry in the audit and on disk when it is
//! answered: 64 callers at once, who share their fsyncs, beside one who commits row by row.
//!
//! `cargo bench -p skytower-server --bench mutations`. What counts is the time on the clock, because it is
//! waiting for the disk; both take turns on the same disk, that of the build folder.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints and may panic"
)]

#[path = "../../api-client/benches/measure/mod.rs"]
mod measure;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use measure::median;
use rusqlite::{Connection, params};
use skytower_api_client::action::action;
use skytower_api_client::entity::{Cluster, Outcome as Fared, TargetResult};
use skytower_api_client::wire::{Caller, Role};
use skytower_api_client::{Entity, EpochMs, Key, Kind};
use skytower_server::audit::{Entry, Outcome};
use skytower_server::guest::Asker;
use skytower_server::requests::journal::{Acceptance, Accepted, Journal};
use skytower_server::requests::record::{HandoverRecord, Record, Stage, Target};
use skytower_server::store::Store;
use uuid::Uuid;

const CALLERS: usize = 64;
const ROUNDS: usize = 5;
const TURN: Duration = Duration::from_millis(1500);
/// How many times as many requests are promised.
const PROMISE: f64 = 15.0;

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    // The build folder is on a real disk; the system's folder for temporary files may be memory.
    let place = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let store = Store::open(&place.path().join("skytower.db")).unwrap();
    let journal = Journal::new(store.clone());
    let single = single(place.path());
    let (mut ours, mut floor, mut waits) = (Vec::new(), Vec::new(), Vec::new());
    // The first turn of both only warms.
    for round in 0..=ROUNDS {
        let alone = row_by_row(&single);
        let (together, mut took) = runtime.block_on(at_once(&journal));
        if round > 0 {
            floor.push(alone);
            ours.push(together);
            waits.append(&mut took);
        }
    }
    let (ours, floor) = (median(ours), median(floor));
    waits.sort_unstable();
    let p99 = waits[waits.len() * 99 / 100];
    let ratio = ours / floor;
    println!("accepted, audited, on disk: {CALLERS} callers   {ours:>9.0} /s   p99 {p99:?}");
    println!("one row, one commit, FULL: one caller      {floor:>9.0} /s");
    println!("ratio {ratio:>38.1}x   promised: {PROMISE}x");
    let whole = runtime.block_on(store.read(|connection| {
        let count = |table: &str| {
            let select = format!("SELECT count(*) FROM {table}");
            connection.query_row(&select, [], |row| row.get::<_, i64>(0))
        };
        Ok((count("requests")?, count("audit")?))
    }));
    let (requests, entries) = whole.unwrap();
    assert_eq!(requests, entries, "a request without its entry");
    if ratio < PROMISE {
        println!("that is too few");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// A database as ours, in which every row is committed by itself.
fn single(place: &Path) -> Connection {
    let connection = Connection::open(place.join("single.db")).unwrap();
    connection
        .execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             CREATE TABLE one (id TEXT PRIMARY KEY, json TEXT NOT NULL) STRICT;",
        )
        .unwrap();
    connection
}

/// Rows a second.
fn row_by_row(connection: &Connection) -> f64 {
    let ballast = "x".repeat(300);
    let start = Instant::now();
    let mut rows = 0_u32;
    while start.elapsed() < TURN {
        let mut insert = connection
            .prepare_cached("INSERT INTO one VALUES (?, ?)")
            .unwrap();
        insert
            .execute(params![Uuid::now_v7().to_string(), ballast])
            .unwrap();
        rows += 1;
    }
    f64::from(rows) / start.elapsed().as_secs_f64()
}

/// Requests a second, and how long each took.
async fn at_once(journal: &Journal) -> (f64, Vec<Duration>) {
    let over = Arc::new(AtomicBool::new(false));
    let start = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (journal, over) = (journal.clone(), over.clone());
        callers.spawn(async move {
            let mut took = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let asked = Instant::now();
                let accepted = journal.accept(acceptance()).await.unwrap();
                assert_eq!(accepted, Accepted::New);
                took.push(asked.elapsed());
            }
            took
        });
    }
    tokio::time::sleep(TURN).await;
    over.store(true, Ordering::Relaxed);
    let took: Vec<Duration> = callers.join_all().await.into_iter().flatten().collect();
    (took.len() as f64 / start.elapsed().as_secs_f64(), took)
}

/// A request for one cluster, as [`skytower_server::requests::Requests::accept`] writes it down.
fn acceptance() -> Acceptance {
    let cluster = Cluster {
        key: Key::new("prod", Kind::Cluster, "dev"),
        source: "prod".into(),
        name: "dev".into(),
        status: "UP".into(),
        ..Cluster::default()
    };
    let caller = Caller {
        ids: vec!["4c3a1f2e".into()],
        name: "alice".into(),
        role: Role::User,
        ..Caller::default()
    };
    let record = Record {
        id: Uuid::now_v7(),
        action: action("cluster.down").unwrap(),
        options: skytower_api_client::action::ActionOptions::default(),
        caller: caller.clone(),
        created_at: EpochMs::now(),
        ended_at: None,
        targets: vec![Target {
            result: TargetResult {
                key: cluster.key.clone(),
                target: "cluster/dev".into(),
                owner: None,
                outcome: Fared::Waiting,
                message: None,
                upstream: None,
            },
            row: Some(Arc::new(Entity::from(cluster))),
        }],
        handovers: vec![HandoverRecord {
            source: "prod".into(),
            targets: vec![0],
            stage: Stage::Planned,
            upstream: None,
            tried_at: None,
        }],
    };
    let entry = Entry::by(&Asker::local(caller), "cluster.down", Outcome::Accepted)
        .target("cluster/dev")
        .request(record.id);
    Acceptance {
        idempotency_key: Some(record.id.to_string()),
        fingerprint: vec![7; 32],
        audit: vec![entry],
        record,
    }
}
