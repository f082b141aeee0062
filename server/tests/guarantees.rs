//! The guarantees of the wire, over real sockets: copies converge through everything that happens to a
//! connection, revisions are in order, nobody hears of what is not theirs, and equal clients share what
//! is encoded. Bounded memory has a process of its own: `memory.rs`.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::StreamExt as _;
use proptest::prelude::*;
use skytower_api_client::wire::{Caller, Change, ServerMessage};
use skytower_api_client::{Entity, Kind};
use support::clients::{Client, text_of};
use support::oracle::{Rows, World, kinds, rights};
use support::{Running, job, start, upsert, within};

/// Rows come to a workspace (the fourth: none), or go.
type Changes = Vec<(u8, Option<u8>)>;

#[derive(Clone, Debug)]
enum Step {
    /// Changes of one revision.
    Commit(Changes),
    /// A row moves so often that a cursor may not lead back behind it.
    Wander(u8),
    /// A client reads some messages and then no more.
    Read(usize, usize),
    /// A client reads everything.
    CatchUp(usize),
    /// A client's connection breaks, now or within what the server sends next.
    Cut(usize),
    CutAfter(usize, usize),
    /// Somebody else holds the token, or its holder's rights change.
    Rights(u8),
    /// A client wants other kinds.
    Kinds(usize, u8),
    /// The server is killed, and another one begins a life with nothing in it.
    Restart,
}

fn changes() -> impl Strategy<Value = Changes> {
    let change = (0..9u8, proptest::option::weighted(0.7, 0..4u8));
    proptest::collection::btree_map(0..9u8, change.prop_map(|(_, to)| to), 1..4)
        .prop_map(|changes| changes.into_iter().collect())
}

const CLIENTS: usize = 3;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = || 0..CLIENTS;
    let step = prop_oneof![
        8 => changes().prop_map(Step::Commit),
        1 => (0..9u8).prop_map(Step::Wander),
        3 => (client(), 1..4usize).prop_map(|(client, some)| Step::Read(client, some)),
        3 => client().prop_map(Step::CatchUp),
        2 => client().prop_map(Step::Cut),
        3 => (client(), 0..1500usize).prop_map(|(client, bytes)| Step::CutAfter(client, bytes)),
        // Few, so that they come back: red, the two others, all, red to look at only, none.
        4 => proptest::sample::select(vec![0b001, 0b110, 0b1000, 0b1_0001, 0]).prop_map(Step::Rights),
        1 => (client(), 0..8u8).prop_map(|(client, bits)| Step::Kinds(client, bits)),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..24)
}

struct Stage {
    server: Running,
    world: World,
    caller: Caller,
    turns: u32,
    clients: Vec<Client>,
}

impl Stage {
    async fn open(wanted: [u8; CLIENTS]) -> Self {
        let server = start().await;
        let mut world = World::default();
        world.begin(server.hub.epoch());
        let clients = vec![
            Client::json(&server, kinds(wanted[0])).await,
            Client::zstd(&server, kinds(wanted[1])).await,
            Client::feed(&server, kinds(wanted[2])).await,
        ];
        let mut stage = Self {
            server,
            world,
            caller: rights(8),
            turns: 0,
            clients,
        };
        stage.rights(8).await;
        stage
    }

    async fn rights(&mut self, bits: u8) {
        self.turns += 1;
        self.caller = Caller {
            // Who hears this name has heard of every change of rights before it.
            name: format!("holder {}", self.turns).into(),
            ..rights(bits)
        };
        self.server.caller_is(&self.caller).await;
    }

    fn commit(&mut self, changes: &Changes) {
        self.world.commit(&self.server.hub, changes);
    }

    async fn catch_up(&mut self, i: usize) {
        let client = &mut self.clients[i];
        client.knows(&self.caller, &self.world).await;
        let milestone = self.world.milestone(&self.server.hub, &[]);
        client.reaches(&milestone, &self.world).await;
        let mirror = &client.mirror;
        let seen = self.world.seen_by(&self.caller, &mirror.kinds);
        let names = |rows: Rows| -> Vec<String> {
            let row = |(key, row): (_, Arc<Entity>)| format!("{key} {}", row.name());
            rows.into_iter().map(row).collect()
        };
        assert_eq!(
            names(mirror.rows()),
            names(seen),
            "client {i}, as {:?}",
            self.caller
        );
    }

    async fn step(&mut self, step: Step) {
        match step {
            Step::Commit(changes) => self.commit(&changes),
            Step::Wander(id) => {
                for stay in 0..20 {
                    self.commit(&vec![(id, Some(stay % 4))]);
                }
            }
            Step::Read(i, some) => {
                // There is something to come for certain.
                let milestone = self.world.milestone(&self.server.hub, &[]);
                for _ in 0..some {
                    if self.clients[i].mirror.has_reached(&milestone) {
                        break;
                    }
                    self.clients[i].hear(&self.world).await;
                }
            }
            Step::CatchUp(i) => self.catch_up(i).await,
            Step::Cut(i) => self.clients[i].proxy.cut(),
            Step::CutAfter(i, bytes) => self.clients[i].proxy.cut_after(bytes),
            Step::Rights(bits) => self.rights(bits).await,
            Step::Kinds(i, bits) => self.clients[i].want(kinds(bits)),
            Step::Restart => self.restart().await,
        }
    }

    async fn restart(&mut self) {
        let caller = self.caller.clone();
        for client in &self.clients {
            client.proxy.cut();
        }
        let folder = self.server.home.clone();
        let next = async |server: &mut Running| {
            server.stop.cancel();
            within(&mut server.ended).await.unwrap().unwrap();
            *server = support::start_in(folder, None).await.unwrap();
        };
        next(&mut self.server).await;
        self.server.caller_is(&caller).await;
        self.world.begin(self.server.hub.epoch());
        for client in &self.clients {
            client.proxy.lead_to(&self.server.url);
        }
    }

    async fn close(mut self) {
        for i in 0..self.clients.len() {
            self.catch_up(i).await;
        }
        self.clients.clear();
        self.server.stop().await;
    }
}

/// So many cases, or `PROPTEST_CASES`. What fails depends on the moment too: nothing is kept of it.
fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: asked.and_then(|asked| asked.parse().ok()).unwrap_or(usual),
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

async fn play(wanted: [u8; CLIENTS], steps: Vec<Step>) {
    let mut stage = Stage::open(wanted).await;
    for step in steps {
        stage.step(step).await;
    }
    stage.close().await;
}

proptest! {
    #![proptest_config(cases(24))]

    #[test]
    fn copies_converge_in_order_and_nobody_hears_of_what_is_not_theirs(
        wanted in proptest::array::uniform3(0..8u8), steps in steps(),
    ) {
        runtime().block_on(play(wanted, steps));
    }
}

proptest! {
    #![proptest_config(cases(8))]

    #[test]
    fn what_equal_clients_are_sent_is_encoded_once(
        wanted in proptest::collection::vec((0..8u8, any::<bool>()), 2..9),
        commits in proptest::collection::vec(changes(), 1..5),
    ) {
        runtime().block_on(async {
            let server = start().await;
            let mut world = World::default();
            world.begin(server.hub.epoch());
            let caller = rights(8);
            server.caller_is(&caller).await;
            let mut clients = Vec::new();
            for (bits, json) in &wanted {
                clients.push(match json {
                    true => Client::json(&server, kinds(*bits)).await,
                    false => Client::zstd(&server, kinds(*bits)).await,
                });
            }
            let all: Changes = (0..9).map(|id| (id, Some(id % 4))).collect();
            let milestone = world.milestone(&server.hub, &all);
            for client in &mut clients {
                client.reaches(&milestone, &world).await;
            }
            let views: BTreeSet<_> = wanted.iter().map(|(bits, json)| (kinds(*bits), *json)).collect();
            // Of a snapshot: a message for each kind that has rows, and one for the end.
            let messages = |view: &(Vec<Kind>, bool)| if view.0.is_empty() { 5 } else { view.0.len() + 1 };
            let mut encodes: usize = views.iter().map(messages).sum();
            prop_assert_eq!(server.hub.encodes(), encodes as u64);
            for changes in &commits {
                let milestone = world.milestone(&server.hub, changes);
                for client in &mut clients {
                    client.reaches(&milestone, &world).await;
                }
                encodes += views.len();
                prop_assert_eq!(server.hub.encodes(), encodes as u64);
            }
            drop(clients);
            server.stop().await;
            Ok(())
        })?;
    }
}

/// The rights turn on the open connection, it breaks, and they come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_come_back_find_a_copy_that_was_turned() {
    let mut stage = Stage::open([7; CLIENTS]).await;
    stage.commit(&(0..9).map(|id| (id, Some(id % 3))).collect());
    stage.rights(0b001).await;
    for i in 0..CLIENTS {
        // Connected with these rights, and not turned to them.
        stage.clients[i].proxy.cut();
        stage.catch_up(i).await;
    }
    stage.rights(0b100).await;
    for i in 0..CLIENTS {
        stage.catch_up(i).await;
    }
    for client in &stage.clients {
        client.proxy.cut();
    }
    stage.commit(&vec![(0, Some(2)), (1, None), (8, Some(0))]);
    stage.rights(0b001).await;
    stage.close().await;
}

/// The rights turn while a client is away, the snapshot of the new ones breaks off, and the old ones
/// come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rights_that_come_back_find_a_copy_that_was_painted_over() {
    let mut stage = Stage::open([7; CLIENTS]).await;
    stage.commit(&(0..9).map(|id| (id, Some(id % 3))).collect());
    for bytes in (300..1700).step_by(100) {
        stage.rights(0b001).await;
        for i in 0..CLIENTS {
            stage.catch_up(i).await;
        }
        for client in &stage.clients {
            client.proxy.cut();
        }
        stage.rights(0b100).await;
        for client in &mut stage.clients {
            client.proxy.cut_after(bytes);
            while !client.proxy.has_cut() {
                stage.world.milestone(&stage.server.hub, &[]);
                client.hear(&stage.world).await;
            }
        }
        stage.rights(0b001).await;
        stage.commit(&vec![(0, Some(2)), (8, Some(0))]);
        for i in 0..CLIENTS {
            stage.catch_up(i).await;
        }
        stage.commit(&vec![(0, Some(0)), (8, Some(2))]);
    }
    stage.close().await;
}

/// Rights are withdrawn while a client is in the middle of a snapshot that it reads slowly.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_ends_where_the_rights_to_it_do() {
    const ROWS: i64 = 20_000;
    let server = start().await;
    let long = "x".repeat(400);
    let rows = |workspace: &'static str, from: i64| {
        let long = long.clone();
        (from..from + ROWS).map(move |id| upsert(job(id, workspace, &long)))
    };
    server.caller_is(&rights(8)).await;
    server.hub.commit(rows("red", 0));
    server.hub.commit([upsert(job(-1, "blue", "mine"))]);
    let mut client = server.connect_json().await;
    client.subscribe(None).await;
    let mut chunks = 0;
    assert!(matches!(
        client.next().await,
        ServerMessage::Snapshot { .. }
    ));
    // The rest does not fit into what the kernel holds.
    server.caller_is(&rights(0b100)).await;
    loop {
        let frame = within(client.socket.next()).await.unwrap().unwrap();
        let Some(json) = text_of(&frame) else {
            continue;
        };
        match ServerMessage::decode(&json).unwrap().unwrap() {
            ServerMessage::Hello(hello) => {
                assert_eq!(hello.you.workspaces, Some(vec!["lab/blue".into()]));
                break;
            }
            ServerMessage::Snapshot { rows, .. } => chunks += rows.len(),
            other => panic!("{other:?}"),
        }
    }
    assert!(chunks < ROWS as usize - 2000, "{chunks} rows after all");
    client.next_ready().await;
    assert_eq!(client.copy.len(Kind::Job), 1);
    server.stop().await;
}

/// A cursor from before what is remembered gets a snapshot, and nothing is missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_that_leads_back_too_far_starts_over() {
    let server = start().await;
    let rows = |count| (0..count).map(|id| job(id, "red", "a"));
    server.hub.commit(rows(21_000).map(upsert));
    let mut client = server.connect().await;
    client.subscribe(None).await;
    client.next_ready().await;
    let (cursor, copy) = (client.cursor(), std::mem::take(&mut client.copy));
    drop(client);
    let gone = rows(20_990).map(|row| support::remove(&row));
    server.hub.commit(gone.collect::<Vec<Change>>());
    let mut again = server.connect().await;
    again.copy = copy;
    again.subscribe(Some(cursor)).await;
    again.next_ready().await;
    assert_eq!(support::rows(&again.copy), server.hub.read(support::rows));
    server.stop().await;
}
