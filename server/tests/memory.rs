//! Bounded memory: what a client costs that does not read, and what it gets when it reads again. A
//! program of its own, because the memory of the whole process is measured.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use skytower_api_client::wire::ServerMessage;
use skytower_api_client::{Entity, Kind};
use support::{Running, Watching, administrator, job, rows, start, upsert, within};

const STUCK: usize = 50;
const ROUNDS: u64 = 40;
const ROWS: u64 = 400;
const MIB: u64 = 1024 * 1024;

/// A row whose name is long and does not compress.
fn noise(round: u64, id: u64) -> Arc<Entity> {
    let mut word = round * ROWS + id + 1;
    let name: String = (0..64)
        .map(|_| {
            word = word
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            format!("{:016x}", word ^ (word >> 29))
        })
        .collect();
    job(id as i64, "default", &name)
}

/// Of this process: server and clients alike.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() * 1024
}

/// What the server has handed to the kernel for all its clients.
async fn bytes_sent(server: &Running) -> u64 {
    let request = reqwest::Client::new()
        .get(format!("{}/metrics", server.url))
        .bearer_auth(&server.token);
    let answer = within(request.send()).await.unwrap();
    let text = answer.text().await.unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("skytower_bytes_sent_total "));
    line.unwrap().parse().unwrap()
}

async fn watching(server: &Running) -> Watching {
    let mut client = server.connect_json().await;
    client.subscribe(None).await;
    client.next_ready().await;
    client
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_costs_a_fixed_amount_and_gets_what_is_there_when_it_reads() {
    let server = start().await;
    server.caller_is(&administrator()).await;
    let commit = |round| {
        let rows = (0..ROWS).map(|id| upsert(noise(round, id)));
        server.hub.commit(rows.collect::<Vec<_>>());
    };
    let mut reader = watching(&server).await;
    let mut stuck = Vec::new();
    for _ in 0..STUCK {
        stuck.push(watching(&server).await);
    }
    // Buffers that are there once are no growth.
    commit(0);
    reader.follow_until(|copy| copy.revision() == 1).await;
    let (memory, sent) = (resident(), bytes_sent(&server).await);

    let mut made = 0;
    for round in 1..=ROUNDS {
        commit(round);
        // Nobody waits for those who do not read.
        let messages = reader
            .follow_until(|copy| copy.revision() == round + 1)
            .await;
        let json = messages.iter().map(|it| serde_json::to_vec(it).unwrap());
        made += json.map(|json| json.len() as u64).sum::<u64>();
    }
    let per_client = (bytes_sent(&server).await - sent - made) / STUCK as u64;
    let growth = resident().saturating_sub(memory);
    eprintln!("{made} bytes made, {growth} more resident, {per_client} sent to each that is stuck");
    // A queue per client would hold all of it.
    let queued = made * STUCK as u64;
    assert!(queued > 700 * MIB, "{queued} bytes are no test");
    assert!(growth < 160 * MIB, "the process grew by {growth} bytes");
    assert!(per_client < 2 * MIB, "{per_client} bytes went to each");

    for client in stuck.iter_mut().take(3) {
        let wanted = server.hub.revision();
        let messages = client.follow_until(|copy| copy.revision() == wanted).await;
        assert_eq!(rows(&client.copy), server.hub.read(rows));
        // What the kernel held, what was being written, and the rest folded into one.
        assert!(messages.len() <= 6, "{} messages", messages.len());
        let mut told = BTreeMap::<String, usize>::new();
        for message in &messages {
            let ServerMessage::Delta { changes, .. } = message else {
                panic!("{message:?}");
            };
            for change in changes {
                *told.entry(change.key().to_string()).or_default() += 1;
            }
        }
        assert_eq!(told.len() as u64, ROWS);
        assert!(told.values().all(|times| *times <= messages.len()));
    }
    assert_eq!(reader.copy.len(Kind::Job) as u64, ROWS);
    drop((reader, stuck));
    server.stop().await;
}
