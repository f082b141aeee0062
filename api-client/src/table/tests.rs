//! The guarantees of the state, against a model that knows nothing of cursors or departures: it keeps
//! every state there ever was and looks up who could see what.

use proptest::prelude::*;

use super::*;
use crate::entity::{Cluster, Job};
use crate::wire::Caller;

const WORKSPACES: [&str; 3] = ["red", "green", "blue"];

fn view(bits: u8) -> View {
    let seen = WORKSPACES
        .iter()
        .enumerate()
        .filter(|(i, _)| bits & (1 << i) != 0)
        .map(|(_, name)| Text::from(*name));
    let caller = Caller {
        // The fourth bit: no restriction at all.
        workspaces: (bits & 8 == 0).then(|| seen.collect()),
        ..Caller::default()
    };
    // The fifth bit: only some kinds.
    let kinds: &[Kind] = if bits & 16 == 0 { &[] } else { &[Kind::Job] };
    View::of(&caller, kinds)
}

fn row(id: u8, workspace: u8, value: u8) -> Arc<Entity> {
    let workspace = WORKSPACES
        .get(usize::from(workspace))
        .map(|name| Text::from(*name));
    let name = Text::from(format!("n{value}"));
    if id.is_multiple_of(2) {
        Job {
            key: Key::new("s", Kind::Job, id),
            name,
            workspace,
            ..Job::default()
        }
        .into()
    } else {
        Cluster {
            key: Key::new("s", Kind::Cluster, id),
            name,
            workspace,
            ..Cluster::default()
        }
        .into()
    }
}

fn removed(id: u8) -> Change {
    let row = row(id, 0, 0);
    Change::Remove {
        kind: row.kind(),
        key: row.key().clone(),
        reason: Text::from("SECRET reason"),
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Changes of one revision: a row and its workspace and value, or its removal.
    Commit(Vec<(u8, Option<(u8, u8)>)>),
    /// A client is told what it has not been told.
    Tell(usize),
    /// Its connection breaks after so many messages; it resumes later.
    Break(usize, usize),
    /// Its cursor is moved over what is not for it.
    Heartbeat(usize),
    /// Its rights change while it is connected.
    Turn(usize, u8),
    /// The server loses its state.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0..8u8, proptest::option::weighted(0.7, (0..4u8, 0..3u8)));
    let step = prop_oneof![
        8 => proptest::collection::vec(change, 1..4).prop_map(Step::Commit),
        4 => (0..3usize).prop_map(Step::Tell),
        2 => (0..3usize, 0..3usize).prop_map(|(client, after)| Step::Break(client, after)),
        2 => (0..3usize).prop_map(Step::Heartbeat),
        2 => (0..3usize, 0..32u8).prop_map(|(client, bits)| Step::Turn(client, bits)),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

/// A client: its copy, and how far the server believes it to be.
struct Client {
    copy: Table,
    view: View,
    at: Option<u64>,
}

type Rows = BTreeMap<Key, Arc<Entity>>;

fn rows_of(table: &Table) -> Rows {
    table
        .all()
        .map(|row| (row.key().clone(), row.clone()))
        .collect()
}

fn seen(rows: &Rows, view: &View) -> Rows {
    rows.iter()
        .filter(|(_, row)| view.wants(row.kind()) && view.sees(row.workspace()))
        .map(|(key, row)| (key.clone(), row.clone()))
        .collect()
}

/// What travels is what arrives, and no message names what its receiver may neither see nor has.
fn deliver(
    client: &mut Client,
    message: &ServerMessage,
    world: &Rows,
) -> Result<(), TestCaseError> {
    let json = serde_json::to_string(message).unwrap();
    let message = ServerMessage::decode(&json).unwrap().unwrap();
    let allowed = seen(world, &client.view);
    let upserts: Vec<_> = match &message {
        ServerMessage::Snapshot { rows, .. } => rows.iter().map(|row| row.key()).collect(),
        ServerMessage::Delta { changes, .. } => {
            let keys: BTreeSet<_> = changes.iter().map(Change::key).collect();
            prop_assert_eq!(keys.len(), changes.len(), "a key twice in {}", json);
            for change in changes {
                if let Change::Remove { key, .. } = change {
                    prop_assert!(
                        client.copy.get(key).is_some(),
                        "removes what is not there: {}",
                        json
                    );
                }
            }
            let is_upsert = |change: &&Change| matches!(change, Change::Upsert(_));
            changes.iter().filter(is_upsert).map(Change::key).collect()
        }
        _ => Vec::new(),
    };
    for key in upserts {
        prop_assert!(allowed.contains_key(key), "{} is not for this client", key);
    }
    let applied = client.copy.apply(message);
    prop_assert!(applied.is_ok(), "{:?}", applied);
    Ok(())
}

fn messages(server: &Table, client: &Client) -> Vec<ServerMessage> {
    match server.since(client.at, &client.view) {
        Since::Nothing => Vec::new(),
        Since::Reset => server.snapshot(&client.view),
        Since::Delta(changes) if changes.is_empty() => Vec::new(),
        Since::Delta(changes) => vec![ServerMessage::Delta {
            since: client.at.unwrap(),
            revision: server.revision(),
            changes,
        }],
    }
}

fn tell(server: &Table, client: &mut Client, world: &Rows) -> Result<(), TestCaseError> {
    let messages = messages(server, client);
    for message in &messages {
        deliver(client, message, world)?;
    }
    if !messages.is_empty() {
        client.at = Some(server.revision());
    }
    prop_assert_eq!(rows_of(&client.copy), seen(world, &client.view));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn copies_converge_and_nobody_hears_of_what_is_not_theirs(
        steps in steps(), views in proptest::array::uniform3(0..32u8),
    ) {
        let mut server = Table::new();
        let mut world = Rows::new();
        let mut clients = views.map(|bits| Client { copy: Table::new(), view: view(bits), at: None });
        for step in steps {
            match step {
                Step::Commit(changes) => {
                    let before = (server.revision(), world.clone());
                    let mut list = Vec::new();
                    for (id, now) in changes {
                        if let Some((workspace, value)) = now {
                            let row = row(id, workspace, value);
                            world.insert(row.key().clone(), row.clone());
                            list.push(Change::Upsert(row));
                        } else {
                            world.remove(row(id, 0, 0).key());
                            list.push(removed(id));
                        }
                    }
                    server.commit(list);
                    prop_assert_eq!(rows_of(&server), world.clone());
                    if before.1 != world {
                        prop_assert_eq!(server.revision(), before.0 + 1);
                    }
                }
                Step::Tell(i) => tell(&server, &mut clients[i], &world)?,
                Step::Break(i, after) => {
                    let client = &mut clients[i];
                    let messages = messages(&server, client);
                    let whole = after >= messages.len();
                    for message in messages.iter().take(after) {
                        deliver(client, message, &world)?;
                    }
                    if whole && !messages.is_empty() {
                        client.at = Some(server.revision());
                    } else if client.copy.resetting.is_some() {
                        // Its copy is neither the old state nor the new one.
                        client.copy.interrupted();
                        client.at = None;
                    }
                }
                Step::Heartbeat(i) => {
                    let client = &mut clients[i];
                    if client.at.is_some() && messages(&server, client).is_empty() {
                        let revision = server.revision();
                        let beat = ServerMessage::Heartbeat { revision, at: crate::EpochMs(0) };
                        deliver(client, &beat, &world)?;
                        client.at = Some(revision);
                    }
                }
                Step::Turn(i, bits) => {
                    let client = &mut clients[i];
                    let old = std::mem::replace(&mut client.view, view(bits));
                    let Some(at) = client.at else { continue };
                    let messages = match server.turn(at, &old, &client.view) {
                        Since::Nothing => Vec::new(),
                        Since::Reset => server.snapshot(&client.view),
                        Since::Delta(changes) => {
                            vec![ServerMessage::Delta { since: at, revision: server.revision(), changes }]
                        }
                    };
                    for message in &messages {
                        deliver(client, message, &world)?;
                    }
                    if !messages.is_empty() {
                        client.at = Some(server.revision());
                    }
                    prop_assert_eq!(rows_of(&client.copy), seen(&world, &client.view));
                }
                Step::Restart => {
                    server = Table::new();
                    world.clear();
                    // The epoch is another one: cursors are of no use.
                    for client in &mut clients {
                        client.at = None;
                    }
                }
            }
        }
        for client in &mut clients {
            tell(&server, client, &world)?;
        }
    }

    #[test]
    fn a_delta_that_does_not_follow_is_refused(since in 0..20u64, have in 0..20u64, revision in 0..20u64) {
        let mut copy = Table::new();
        copy.apply(ServerMessage::Ready { revision: have }).unwrap();
        let delta = ServerMessage::Delta { since, revision, changes: vec![Change::Upsert(row(0, 0, 0))] };
        let fits = since == have && revision >= have;
        prop_assert_eq!(copy.apply(delta).is_ok(), fits);
        prop_assert_eq!(copy.is_empty(), !fits);
    }
}

#[test]
fn who_saw_it_before_it_moved_on_twice_is_told_and_nobody_else() {
    let mut server = Table::new();
    server.commit([Change::Upsert(row(0, 0, 0))]);
    server.commit([Change::Upsert(row(0, 1, 0))]);
    server.commit([Change::Upsert(row(0, 2, 0))]);
    let told = |from, bits| match server.since(Some(from), &view(bits)) {
        Since::Delta(changes) => changes.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(told(1, 0b001), 1, "red had it");
    assert_eq!(told(1, 0b010), 0, "green never had it");
    assert_eq!(told(2, 0b010), 1, "green had it");
    assert_eq!(told(2, 0b001), 0, "red was told before");
    assert_eq!(told(1, 0b100), 1, "blue has it");
}

#[test]
fn why_it_departed_is_told_where_it_departed() {
    let mut server = Table::new();
    server.commit([Change::Upsert(row(0, 0, 0))]);
    server.commit([Change::Upsert(row(0, 1, 0))]);
    server.commit([removed(0)]);
    let told = |from, bits| format!("{:?}", server.since(Some(from), &view(bits)));
    assert!(told(2, 0b010).contains("SECRET"));
    let red = told(1, 0b001);
    assert!(red.contains("Remove") && !red.contains("SECRET"), "{red}");
}

#[test]
fn a_cursor_beyond_what_is_remembered_starts_over() {
    let mut server = Table::new();
    for id in 0..8 {
        server.commit([Change::Upsert(row(id, 0, 0))]);
    }
    let from = server.revision();
    for id in 0..8 {
        server.commit([removed(id)]);
    }
    assert_eq!(server.since(Some(from), &View::everything()), Since::Reset);
    assert!(server.departed.len() <= DEPARTED_LIMIT);
    assert_eq!(server.order.len(), server.departed.len());
}
