//! 100,000 managed jobs: from rows to bytes to rows, filtered, sorted. Each figure beside its floor, the
//! plainest code that does the same, measured in the same run; what counts is the ratio.
//!
//! `cargo bench -p skytower-api-client`

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints and may panic"
)]

use std::hint::black_box;
use std::sync::Arc;

use skytower_api_client::codec::{self, Encoding};
use skytower_api_client::column::{self, Context};
use skytower_api_client::entity::{Job, Owner};
use skytower_api_client::policy::View;
use skytower_api_client::query::Query;
use skytower_api_client::wire::Change;
use skytower_api_client::{Entity, EpochMs, Key, Kind, Phase, Table};

const ROWS: i64 = 100_000;
const ROUNDS: usize = 5;

fn jobs() -> Vec<Arc<Entity>> {
    let people = [
        "alice", "bob", "carol", "dana", "erin", "frank", "gina", "heidi",
    ];
    let words = [
        ("RUNNING", Phase::Running),
        ("PENDING", Phase::Pending),
        ("SUCCEEDED", Phase::Succeeded),
    ];
    (0..ROWS)
        .map(|i| {
            let owner = people[(i * 7 % 8) as usize];
            let (status, phase) = words[(i % 3) as usize];
            Arc::new(Entity::Job(Job {
                key: Key::new("prod", Kind::Job, format_args!("{i}/0")),
                source: "prod".into(),
                name: format!("sweep-lr-{}-{}", i % 97, i).into(),
                job_name: format!("sweep-lr-{}", i % 97).into(),
                owner: Some(Owner {
                    id: format!("{:08x}", i * 7 % 8).into(),
                    name: owner.into(),
                }),
                workspace: Some("default".into()),
                status: status.into(),
                phase,
                job_id: i,
                submitted_at: Some(EpochMs(1_795_000_000_000 + i * 977)),
                started_at: Some(EpochMs(1_795_000_060_000 + i * 977)),
                duration_s: Some((i % 7200) as f64),
                resources: Some("1x[A100:8]".into()),
                infra: Some("Slurm (lab)".into()),
                accelerators: Some("A100:8".into()),
                gpus: Some(8.0),
                schedule_state: Some("ALIVE".into()),
                cluster: Some(format!("sweep-lr-{i}").into()),
                ..Job::default()
            }))
        })
        .collect()
}

/// Milliseconds of this thread's CPU: what neighbours do to the clock does not count.
fn cpu_ms() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e6
}

fn median(mut of: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let start = cpu_ms();
            of();
            cpu_ms() - start
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[ROUNDS / 2]
}

fn line(what: &str, ours: f64, floor_name: &str, floor: f64) {
    println!(
        "{what:<44} {ours:>9.2} ms   {floor_name:<34} {floor:>9.2} ms   {:>5.2}x",
        ours / floor
    );
}

fn main() {
    let rows = jobs();
    let mut table = Table::new();
    let commit = median(|| {
        table = Table::new();
        table.commit(rows.iter().cloned().map(Change::Upsert));
    });
    println!("{ROWS} managed jobs, CPU time of one thread, median of {ROUNDS}\n");

    // Snapshot: the floor is serde_json and zstd over the same rows in one piece.
    let view = View::everything();
    let mut frames = Vec::new();
    let encode = median(|| {
        frames = table
            .snapshot(&view)
            .iter()
            .map(|m| codec::encode(m, Encoding::Zstd))
            .collect();
    });
    let mut json = Vec::new();
    let mut packed = Vec::new();
    let floor_encode = median(|| {
        json = serde_json::to_vec(&rows).unwrap();
        packed = zstd::bulk::compress(&json, 1).unwrap();
    });
    line(
        "snapshot: rows to frames",
        encode,
        "serde_json + zstd-1",
        floor_encode,
    );

    let mut mirror = Table::new();
    let decode = median(|| {
        mirror = Table::new();
        for frame in &frames {
            let message = codec::decode_binary(frame).unwrap().unwrap();
            mirror.apply(message).unwrap();
        }
    });
    assert_eq!(mirror.len(Kind::Job), rows.len());
    let floor_decode = median(|| {
        let json = zstd::bulk::decompress(&packed, 256 << 20).unwrap();
        black_box(serde_json::from_slice::<Vec<Job>>(&json).unwrap());
    });
    line(
        "snapshot: frames to a mirror",
        decode,
        "zstd + serde_json to structs",
        floor_decode,
    );
    let bytes: usize = frames.iter().map(bytes::Bytes::len).sum();
    println!(
        "{:<44} {:>9.2} MB   {:<34} {:>9.2} MB",
        "snapshot: size",
        bytes as f64 / 1e6,
        "one piece",
        packed.len() as f64 / 1e6
    );

    // State: the floor is a plain map.
    let floor_commit = median(|| {
        let map: std::collections::BTreeMap<Key, Arc<Entity>> = rows
            .iter()
            .map(|row| (row.key().clone(), row.clone()))
            .collect();
        black_box(map);
    });
    line(
        "state: 100,000 new rows",
        commit,
        "BTreeMap insert",
        floor_commit,
    );
    let unchanged = median(|| {
        black_box(table.commit(rows.iter().cloned().map(Change::Upsert)));
    });
    line(
        "state: the same rows again",
        unchanged,
        "BTreeMap insert",
        floor_commit,
    );

    // Filter and sort: the floor touches the same strings and nothing else.
    let context = Context {
        now: EpochMs(1_795_100_000_000),
        ..Context::default()
    };
    let needle = "lr-42-";
    let floor_filter = median(|| {
        black_box(
            rows.iter()
                .filter(|row| row.name().contains(needle))
                .count(),
        );
    });
    for input in [
        "lr-42-",
        "owner:bob",
        "status:running gpus>=8 age<2d",
        "~sweep-lr-4[0-9]-.*7$",
    ] {
        let query = Query::parse(input, Kind::Job).unwrap();
        let ours = median(|| {
            black_box(
                rows.iter()
                    .filter(|row| query.matches(row, &context))
                    .count(),
            );
        });
        line(
            &format!("filter: {input}"),
            ours,
            "str::contains on one field",
            floor_filter,
        );
    }
    for id in ["name", "status", "age"] {
        let Some(by) = column::column(Kind::Job, id) else {
            continue;
        };
        let ours = median(|| {
            let mut keyed: Vec<(column::Value, usize)> = rows
                .iter()
                .enumerate()
                .map(|(i, row)| ((by.value)(row, &context), i))
                .collect();
            keyed.sort_by(|a, b| column::compare(&a.0, &b.0));
            black_box(keyed);
        });
        let floor = median(|| {
            let mut keyed: Vec<(&str, usize)> = rows
                .iter()
                .enumerate()
                .map(|(i, row)| (row.name().as_str(), i))
                .collect();
            keyed.sort_unstable();
            black_box(keyed);
        });
        line(
            &format!("sort: by {id}"),
            ours,
            "sort_unstable by name",
            floor,
        );
    }
}
