//! 100,000 managed jobs: from rows to bytes to rows, filtered, sorted. Each figure beside its floor, the
//! plainest code that does the same, measured in the same run; what counts is the ratio.
//!
//! `cargo bench -p skytower-api-client`

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints and may panic"
)]

mod measure;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use measure::{alone, held_bytes, in_turns, line, span};
use serde::{Deserialize, Serialize};
use skytower_api_client::codec::{self, Encoding};
use skytower_api_client::column::{self, Context};
use skytower_api_client::entity::{Job, Owner};
use skytower_api_client::policy::View;
use skytower_api_client::query::Query;
use skytower_api_client::wire::{Change, ServerMessage};
use skytower_api_client::{Entity, EpochMs, Key, Kind, Phase, Table, Text};
use zstd::bulk::{compress, decompress};

const ROWS: i64 = 100_000;
const ROUNDS: usize = 5;
const LARGEST: usize = 256 << 20;

fn main() {
    let rows = jobs();
    println!("{ROWS} managed jobs, CPU time of one thread, medians of {ROUNDS} turns\n");
    let both_ends = snapshot(&rows);
    formats(&rows, both_ends);
    small_frames(&rows);
    state(&rows);
    filters(&rows);
    sorts(&rows);
}

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
            // The order in which they were submitted says nothing about whose they are.
            let mixed = (i.wrapping_mul(0x9e37_79b9) >> 7).unsigned_abs();
            let who = (mixed % 8) as usize;
            let (status, phase) = words[(mixed / 8 % 3) as usize];
            let name = Text::from(format!("sweep-lr-{}-{i}", i % 97));
            Arc::new(Entity::Job(Job {
                key: Key::new("prod", Kind::Job, format_args!("{i}/0")),
                source: "prod".into(),
                job_name: name.clone(),
                cluster: Some(format!("{name}-{i}-{who:08x}").into()),
                name,
                owner: Some(Owner {
                    id: format!("{who:08x}").into(),
                    name: people[who].into(),
                }),
                workspace: Some("default".into()),
                status: status.into(),
                phase,
                job_id: i,
                submitted_at: Some(EpochMs(1_795_000_000_000 + i * 977)),
                started_at: Some(EpochMs(1_795_000_060_000 + i * 977)),
                duration_s: Some((mixed % 7200) as f64),
                resources: Some("1x[A100:8]".into()),
                infra: Some("Slurm (lab)".into()),
                accelerators: Some("A100:8".into()),
                gpus: Some(8.0),
                schedule_state: Some("ALIVE".into()),
                node_names: Some(format!("node-{}", mixed % 500).into()),
                priority: Some(0),
                ..Job::default()
            }))
        })
        .collect()
}

fn snapshot_frames(table: &Table) -> Vec<Bytes> {
    let messages = table.snapshot(&View::everything());
    messages
        .iter()
        .map(|message| codec::encode(message, Encoding::Zstd))
        .collect()
}

fn mirror(frames: &[Bytes]) -> Table {
    let mut mirror = Table::new();
    for frame in frames {
        let message = codec::decode_binary(frame).unwrap().unwrap();
        mirror.apply(message).unwrap();
    }
    mirror
}

fn table_of(rows: &[Arc<Entity>]) -> Table {
    let mut table = Table::new();
    table.commit(rows.iter().cloned().map(Change::Upsert));
    table
}

/// The floor: `serde_json` and zstd over the same rows in one piece, into structs that no one keeps.
fn snapshot(rows: &[Arc<Entity>]) -> f64 {
    let table = table_of(rows);
    let mut frames = snapshot_frames(&table);
    // Before anything else has grown the heap.
    let before = held_bytes();
    let held = mirror(&frames);
    println!(
        "{:<40} {:>8.0} B   (P6: at most 400)",
        "a job in a client's mirror",
        (held_bytes() - before) / held.len(Kind::Job) as f64
    );
    drop(held);
    let mut packed = Vec::new();
    let (encode, floor_encode) = in_turns(
        ROUNDS,
        &mut || frames = snapshot_frames(&table),
        &mut || packed = compress(&serde_json::to_vec(rows).unwrap(), 1).unwrap(),
    );
    line(
        "snapshot: rows to frames",
        encode,
        "serde_json + zstd-1",
        floor_encode,
        "",
    );
    let (decode, floor_decode) = in_turns(
        ROUNDS,
        &mut || assert_eq!(mirror(&frames).len(Kind::Job), rows.len()),
        &mut || {
            let json = decompress(&packed, LARGEST).unwrap();
            black_box(serde_json::from_slice::<Vec<Job>>(&json).unwrap());
        },
    );
    line(
        "snapshot: frames to a mirror",
        decode,
        "zstd + serde_json to structs",
        floor_decode,
        "",
    );
    let first = alone(ROUNDS, &mut || {
        black_box(mirror(&frames[..1]));
    });
    println!(
        "{:<40} {:>10}   (P9: at most 50 ms)",
        "snapshot: its first page",
        span(first)
    );
    let bytes: usize = frames.iter().map(Bytes::len).sum();
    println!(
        "{:<40} {:>7.2} MB   {:<32} {:>7.2} MB {:>7.2}x  P9: at most 8 MB\n",
        "snapshot: size",
        bytes as f64 / 1e6,
        "one piece",
        packed.len() as f64 / 1e6,
        bytes as f64 / packed.len() as f64
    );
    encode + decode
}

/// A message of a snapshot as another format would have it.
#[derive(Serialize)]
struct Page<'a> {
    r#type: &'a str,
    kind: Kind,
    revision: u64,
    rows: &'a [Arc<Entity>],
}

#[derive(Deserialize)]
struct PageOfJobs {
    rows: Vec<Job>,
}

/// A job without names of fields and without optional ones: what a format that needs the same version
/// on both sides would send.
#[derive(Serialize, Deserialize)]
struct Bare {
    key: Text,
    names: [Text; 4],
    owner: (Text, Text),
    words: [Option<Text>; 7],
    id: (i64, i64, u8),
    times: [Option<i64>; 3],
    numbers: [Option<f64>; 2],
    rest: [Option<i64>; 4],
}

impl Bare {
    fn of(row: &Entity) -> Self {
        let job = row.as_job().unwrap();
        let owner = job.owner.clone().unwrap_or_default();
        let time = |at: Option<EpochMs>| at.map(|at| at.0);
        Self {
            key: job.key.as_str().into(),
            names: [&job.source, &job.name, &job.job_name, &job.status].map(Text::clone),
            owner: (owner.id, owner.name),
            words: [
                &job.workspace,
                &job.resources,
                &job.infra,
                &job.accelerators,
                &job.schedule_state,
                &job.cluster,
                &job.node_names,
            ]
            .map(Option::clone),
            id: (job.job_id, job.task_id, job.phase as u8),
            times: [job.submitted_at, job.started_at, job.ended_at].map(time),
            numbers: [job.duration_s, job.gpus],
            rest: [
                job.priority,
                job.batches_done,
                job.batches_total,
                job.parent_job_id,
            ],
        }
    }
}

/// JSON, which is on the wire, beside `MessagePack`, with and without the names of fields.
fn formats(rows: &[Arc<Entity>], both_ends: f64) {
    let table = table_of(rows);
    let frames = snapshot_frames(&table);
    let bare: Vec<Bare> = rows.iter().map(|row| Bare::of(row)).collect();
    let pages: Vec<Page<'_>> = rows
        .chunks(1000)
        .map(|rows| Page {
            r#type: "snapshot",
            kind: Kind::Job,
            revision: 1,
            rows,
        })
        .collect();

    let mut named = Vec::new();
    let (json_encode, named_encode) = in_turns(
        ROUNDS,
        &mut || {
            black_box(snapshot_frames(&table));
        },
        &mut || {
            named = pages
                .iter()
                .map(|page| compress(&rmp_serde::to_vec_named(page).unwrap(), 1).unwrap())
                .collect();
        },
    );
    let (json_decode, named_decode) = in_turns(
        ROUNDS,
        &mut || {
            for frame in &frames {
                black_box(codec::decode_binary(frame).unwrap());
            }
        },
        &mut || {
            for page in &named {
                let page = decompress(page, LARGEST).unwrap();
                let page: PageOfJobs = rmp_serde::from_slice(&page).unwrap();
                let rows = page.rows.into_iter().map(|job| Arc::new(Entity::Job(job)));
                black_box(rows.collect::<Vec<_>>());
            }
        },
    );
    let mut arrays = Vec::new();
    let array_encode = alone(ROUNDS, &mut || {
        arrays = bare
            .chunks(1000)
            .map(|page| compress(&rmp_serde::to_vec(page).unwrap(), 1).unwrap())
            .collect();
    });
    let array_decode = alone(ROUNDS, &mut || {
        for page in &arrays {
            let page = decompress(page, LARGEST).unwrap();
            black_box(rmp_serde::from_slice::<Vec<Bare>>(&page).unwrap());
        }
    });

    println!(
        "{:<40} {:>10} {:>10} {:>10} {:>10}",
        "formats, each with zstd-1, in pages", "size", "encode", "decode", "both"
    );
    let total = |frames: &[Vec<u8>]| frames.iter().map(Vec::len).sum::<usize>();
    for (name, size, encode, decode) in [
        (
            "JSON (ours)",
            frames.iter().map(Bytes::len).sum(),
            json_encode,
            json_decode,
        ),
        (
            "MessagePack, named",
            total(&named),
            named_encode,
            named_decode,
        ),
        (
            "MessagePack, bare arrays (P9's floor)",
            total(&arrays),
            array_encode,
            array_decode,
        ),
    ] {
        println!(
            "{name:<40} {:>7.2} MB {:>10} {:>10} {:>10}",
            size as f64 / 1e6,
            span(encode),
            span(decode),
            span(encode + decode)
        );
    }
    line(
        "a snapshot from table to mirror (P9)",
        both_ends,
        "bare arrays",
        array_encode + array_decode,
        "P9: 2x, fails at 3x",
    );
    println!();
}

/// A change of one row, the frame that is sent most.
fn small_frames(rows: &[Arc<Entity>]) {
    let messages: Vec<ServerMessage> = rows
        .iter()
        .step_by(50)
        .enumerate()
        .map(|(i, row)| ServerMessage::Delta {
            since: i as u64,
            revision: i as u64 + 1,
            changes: vec![Change::Upsert(row.clone())],
        })
        .collect();
    let count = messages.len();
    let per_frame = |ms: f64| ms / count as f64;
    let [mut packed, mut plain, mut without_size] = [0; 3];
    let (ours, floor) = in_turns(
        ROUNDS,
        &mut || {
            let frames = messages
                .iter()
                .map(|it| codec::encode(it, Encoding::Zstd).len());
            packed = frames.sum();
        },
        &mut || {
            let frames = messages
                .iter()
                .map(|it| codec::encode(it, Encoding::Json).len());
            plain = frames.sum();
        },
    );
    line(
        "delta of one row: encode",
        per_frame(ours),
        "JSON alone",
        per_frame(floor),
        "",
    );
    let mut alone = zstd::bulk::Compressor::new(1).unwrap();
    let (_, without) = in_turns(ROUNDS, &mut || {}, &mut || {
        let frames = messages.iter().map(|it| {
            let json = codec::encode(it, Encoding::Json);
            alone.compress(&json).unwrap().len()
        });
        without_size = frames.sum();
    });
    line(
        "delta of one row: encode",
        per_frame(ours),
        "JSON, zstd without a dictionary",
        per_frame(without),
        "",
    );
    let frames: Vec<Bytes> = messages
        .iter()
        .map(|it| codec::encode(it, Encoding::Zstd))
        .collect();
    let texts: Vec<Bytes> = messages
        .iter()
        .map(|it| codec::encode(it, Encoding::Json))
        .collect();
    let (ours, floor) = in_turns(
        ROUNDS,
        &mut || {
            for frame in &frames {
                black_box(codec::decode_binary(frame).unwrap());
            }
        },
        &mut || {
            for text in &texts {
                let text = std::str::from_utf8(text).unwrap();
                black_box(codec::decode_text(text).unwrap());
            }
        },
    );
    line(
        "delta of one row: decode",
        per_frame(ours),
        "JSON alone",
        per_frame(floor),
        "",
    );
    println!(
        "delta of one row: {} bytes with the dictionary, {} without, {} as JSON\n",
        packed / count,
        without_size / count,
        plain / count
    );
}

/// The floor is a plain map.
fn state(rows: &[Arc<Entity>]) {
    let mut plain = || {
        let map: BTreeMap<Key, Arc<Entity>> = rows
            .iter()
            .map(|row| (row.key().clone(), row.clone()))
            .collect();
        black_box(map);
    };
    let (ours, floor) = in_turns(
        ROUNDS,
        &mut || {
            black_box(table_of(rows));
        },
        &mut plain,
    );
    line(
        "state: 100,000 new rows",
        ours,
        "BTreeMap insert",
        floor,
        "",
    );
    let mut table = table_of(rows);
    // As a source makes them: equal, not the same.
    let again: Vec<Arc<Entity>> = rows.iter().map(|row| Arc::new((**row).clone())).collect();
    let (ours, floor) = in_turns(
        ROUNDS,
        &mut || {
            let touched = table.commit(again.iter().cloned().map(Change::Upsert));
            assert!(touched.is_empty());
        },
        &mut || {
            black_box(rows.iter().zip(&again).filter(|(a, b)| a == b).count());
        },
    );
    line(
        "state: equal rows again",
        ours,
        "comparing them by ==",
        floor,
        "",
    );
    println!();
}

fn context() -> Context {
    Context {
        now: EpochMs(1_795_100_000_000),
        ..Context::default()
    }
}

/// The floor touches one field of the same rows and nothing else.
fn filters(rows: &[Arc<Entity>]) {
    let context = context();
    for input in [
        "lr-42-",
        "zzz",
        "owner:bob",
        "status:running gpus>=8 age<2d",
        "~sweep-lr-4[0-9]-.*7$",
    ] {
        let query = Query::parse(input, Kind::Job).unwrap();
        let (ours, floor) = in_turns(
            ROUNDS,
            &mut || {
                black_box(
                    rows.iter()
                        .filter(|row| query.matches(row, &context))
                        .count(),
                );
            },
            &mut || {
                black_box(
                    rows.iter()
                        .filter(|row| row.name().contains("lr-42-"))
                        .count(),
                );
            },
        );
        line(
            &format!("filter: {input}"),
            ours,
            "str::contains on one field",
            floor,
            "",
        );
    }
    println!();
}

fn sorts(rows: &[Arc<Entity>]) {
    let context = context();
    for id in ["name", "status", "age"] {
        let Some(by) = column::column(Kind::Job, id) else {
            continue;
        };
        let (ours, floor) = in_turns(
            ROUNDS,
            &mut || {
                let mut keyed: Vec<(column::Value, usize)> = rows
                    .iter()
                    .enumerate()
                    .map(|(i, row)| ((by.value)(row, &context), i))
                    .collect();
                keyed.sort_by(|a, b| column::compare(&a.0, &b.0));
                black_box(keyed);
            },
            &mut || {
                let mut keyed: Vec<(&str, usize)> = rows
                    .iter()
                    .enumerate()
                    .map(|(i, row)| (row.name().as_str(), i))
                    .collect();
                keyed.sort_unstable();
                black_box(keyed);
            },
        );
        line(
            &format!("sort: by {id}"),
            ours,
            "sort_unstable by name",
            floor,
            "",
        );
    }
}
