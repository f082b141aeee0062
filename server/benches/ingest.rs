//! A list of 100,000 unfinished jobs as SkyPilot answers it: taken in for the first time, again without a
//! change, and again with a hundredth changed. The floor is `serde_json` decoding the same bytes to structs.
//! And what a job takes in memory.
//!
//! `cargo bench -p skytower-server --bench ingest`

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints and may panic"
)]

#[path = "../../api-client/benches/measure/mod.rs"]
mod measure;

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;

use measure::{held_bytes, line, median, once};
use serde::Deserialize;
use serde_json::json;
use skytower_api_client::Kind;
use skytower_server::hub::Hub;
use skytower_server::source::skypilot::intake::JobLists;

const JOBS: u64 = 100_000;
const ROUNDS: usize = 5;

fn main() {
    let whole = answer(0);
    let changed = answer(1);
    println!(
        "a list of {JOBS} jobs, {:.0} MB, CPU time of one thread, medians of {ROUNDS} turns\n",
        whole.len() as f64 / 1e6
    );

    // Before anything else has grown the heap.
    let before = held_bytes();
    let hub = Arc::new(Hub::new());
    let mut lists = JobLists::new(hub.clone()).unwrap();
    lists.take(&whole).unwrap();
    assert_eq!(hub.read(|table| table.len(Kind::Job)), JOBS as usize);
    let per_row = (held_bytes() - before) / JOBS as f64;
    println!("memory per job in the hub: {per_row:.0} bytes   (P6: 600, fails at 1229)\n");

    let (mut first, mut again, mut some, mut floor) = (vec![], vec![], vec![], vec![]);
    for _ in 0..ROUNDS {
        floor.push(once(&mut || {
            let payload: Payload = serde_json::from_slice(&whole).unwrap();
            black_box(serde_json::from_str::<List>(&payload.return_value).unwrap());
        }));
        let hub = Arc::new(Hub::new());
        let mut lists = JobLists::new(hub.clone()).unwrap();
        first.push(once(&mut || lists.take(&whole).unwrap()));
        let revision = hub.revision();
        again.push(once(&mut || lists.take(&whole).unwrap()));
        assert_eq!(hub.revision(), revision, "nothing changed");
        some.push(once(&mut || lists.take(&changed).unwrap()));
        assert_eq!(hub.revision(), revision + 1);
    }
    let floor = median(floor);
    for (what, times, promise) in [
        ("the first time", first, ""),
        ("again, nothing changed", again, "P11: 0.35x"),
        ("again, a hundredth changed", some, ""),
    ] {
        line(what, median(times), "serde_json to structs", floor, promise);
    }
}

/// What `/api/get` answers: the list is text inside of it.
fn answer(generation: u64) -> Vec<u8> {
    let mut list = String::with_capacity(JOBS as usize * 800);
    list.push_str("{\"jobs\": [");
    for i in 0..JOBS {
        if i > 0 {
            list.push_str(", ");
        }
        // Python puts a space after every comma and colon.
        let recoveries = if i % 100 == 0 { generation } else { 0 };
        record(&mut list, i, recoveries);
    }
    let _ = write!(list, "], \"total\": {JOBS}, \"total_no_filter\": {JOBS}}}");
    let payload = json!({
        "request_id": "43687b70-47eb-4079-a8be-0df47874c5cc",
        "name": "sky.jobs.queue_v2",
        "entrypoint": "gASVKQAAAAAAAACMFHNreS5qb2JzLnNlcnZlci5j",
        "request_body": "gASV4gMAAAAAAACMHHNreS5zZXJ2ZXIucmVxdWVz",
        "status": "SUCCEEDED",
        "created_at": 1_795_474_809.681_792,
        "user_id": "21232f29",
        "return_value": list,
        "error": "null",
        "schedule_type": "short",
    });
    serde_json::to_vec(&payload).unwrap()
}

/// A record with the fields that are asked for, as 0.14.1 writes them.
fn record(list: &mut String, i: u64, recoveries: u64) {
    // Whose it is says nothing about when it was submitted.
    let mixed = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let people = ["alice", "bob", "carol", "dana", "erin", "frank", "gina"];
    let user = people[(mixed % 7) as usize];
    let hash = format!("{:08x}", (mixed % 7 + 1) * 0x0123_4567);
    let words = ["sweep-lr", "eval-mmlu", "pretrain", "tokenize"];
    let name = format!("{}-{}", words[(mixed / 7 % 4) as usize], mixed % 1000);
    let gpus = ["A100:8", "H100:8", "L4:1", "A100:1"][(mixed / 28 % 4) as usize];
    let (gpu, count) = gpus.split_once(':').unwrap();
    let runs = mixed % 10 < 7;
    let status = if runs { "RUNNING" } else { "PENDING" };
    let schedule = if runs { "ALIVE" } else { "WAITING" };
    let submitted = 1_795_000_000.0 + i as f64 * 0.977_311;
    let _ = write!(
        list,
        "{{\"job_id\": {i}, \"task_id\": 0, \"job_name\": \"{name}\", \"task_name\": \"{name}\", \
         \"workspace\": \"default\", \"status\": \"{status}\", \"schedule_state\": \"{schedule}\", \
         \"resources\": \"1x[{gpus}]\", "
    );
    if runs {
        let _ = write!(
            list,
            "\"cluster_resources\": \"1x(gpus={gpus}, cpus=96, mem=680, ...)\", \"cloud\": \"Slurm\", \
             \"region\": \"lab\", \"infra\": \"Slurm (lab)\", \"recovery_count\": {recoveries}, \
             \"details\": null, \"start_at\": {}, \"current_cluster_name\": \"{name}-{i}-{hash}\", \
             \"accelerators\": {{\"{gpu}\": {count}}}, \"node_names\": \"node-{}\", ",
            submitted + 97.25,
            mixed % 500
        );
    } else {
        let _ = write!(
            list,
            "\"cluster_resources\": \"-\", \"cloud\": \"-\", \"region\": \"-\", \"infra\": \"-\", \
             \"recovery_count\": {recoveries}, \"details\": \"Waiting for other jobs to launch\", \
             \"start_at\": null, \"current_cluster_name\": null, \"accelerators\": null, \
             \"node_names\": null, "
        );
    }
    let _ = write!(
        list,
        "\"failure_reason\": null, \"user_name\": \"{user}\", \"user_hash\": \"{hash}\", \
         \"submitted_at\": {submitted}, \"end_at\": null, \"priority\": 0, \"pool\": null, \
         \"execution\": \"serial\", \"is_job_group\": false, \"is_primary_in_job_group\": null, \
         \"parent_job_id\": null, \"batch_total_batches\": null, \"batch_completed_batches\": null}}"
    );
}

#[derive(Deserialize)]
struct Payload {
    return_value: String,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "decoded, not read")]
struct List {
    jobs: Vec<Record>,
}

/// Every field that is asked for.
#[derive(Deserialize)]
#[expect(dead_code, reason = "decoded, not read")]
struct Record {
    job_id: i64,
    task_id: i64,
    job_name: String,
    task_name: String,
    workspace: String,
    status: String,
    schedule_state: String,
    resources: String,
    cluster_resources: String,
    cloud: String,
    region: String,
    infra: String,
    recovery_count: i64,
    details: Option<String>,
    start_at: Option<f64>,
    current_cluster_name: Option<String>,
    accelerators: Option<serde_json::Value>,
    node_names: Option<String>,
    failure_reason: Option<String>,
    user_name: String,
    user_hash: String,
    submitted_at: Option<f64>,
    end_at: Option<f64>,
    priority: i64,
    pool: Option<String>,
    execution: String,
    is_job_group: bool,
    is_primary_in_job_group: Option<bool>,
    parent_job_id: Option<i64>,
    batch_total_batches: Option<i64>,
    batch_completed_batches: Option<i64>,
}
