//! The guarantees of the state, against a model that knows nothing of cursors or departures: it keeps
//! every state there ever was and looks up who could see what.

use proptest::prelude::*;

use super::*;
use crate::entity::{Cluster, Holding, Holdings, Job, Owner, Request, User};
use crate::phase::Phase;
use crate::policy::{OwnedReach, qualified};
use crate::wire::{Caller, Role};

const SOURCES: [&str; 2] = ["s", "t"];
const WORKSPACES: [&str; 3] = ["red", "green", "blue"];
/// Rows that come and go; the last few are requests.
const ROWS: u8 = 10;
const REQUESTS: u8 = 2;

/// Somebody's rights: a workspace per bit, at each source the same names; the seventh bit lifts the
/// restriction, the eighth is for administrators, the ninth asks for some kinds only.
#[derive(Clone, Copy, Debug)]
struct Rights(u16);

impl Rights {
    fn has(self, bit: usize) -> bool {
        self.0 & (1 << bit) != 0
    }

    fn view(self) -> View {
        let all = (0..6).filter(|bit| self.has(*bit));
        let seen = all.map(|bit| qualified(SOURCES[bit / 3], WORKSPACES[bit % 3]));
        let caller = Caller {
            workspaces: (!self.has(6)).then(|| seen.collect()),
            role: if self.has(7) { Role::Admin } else { Role::User },
            ..Caller::default()
        };
        let kinds: &[Kind] = if self.has(8) {
            &[Kind::Job, Kind::User]
        } else {
            &[]
        };
        View::of(&caller, kinds)
    }

    /// The model: what may be seen, by the names alone.
    fn may_see(self, row: &Entity) -> bool {
        let wanted = !self.has(8) || matches!(row.kind(), Kind::Job | Kind::User);
        let is_in = |source: &str, name: &str| {
            let at = SOURCES.iter().position(|it| *it == source).unwrap();
            let bit = WORKSPACES.iter().position(|it| *it == name).unwrap();
            self.has(at * 3 + bit)
        };
        wanted
            && (self.has(6)
                || match row {
                    Entity::Request(request) => request.within.iter().all(|each| {
                        let (source, name) = each.split_once('/').unwrap();
                        is_in(source, name)
                    }),
                    row if row.restricted() => self.has(7),
                    row => row.workspace().is_none_or(|name| is_in(row.source(), name)),
                })
    }
}

fn view(bits: u16) -> View {
    Rights(bits).view()
}

fn owner(id: u8) -> Owner {
    let id = Text::from(["alice", "bob"][usize::from(id / 2 % 2)]);
    Owner {
        name: id.clone(),
        id,
    }
}

/// A row in a workspace; the fourth is none, and the fifth is one that nobody knows.
fn row(id: u8, workspace: u8, value: u8) -> Arc<Entity> {
    let source = SOURCES[usize::from(id % 2)];
    let restricted = workspace == 4;
    let name = Text::from(format!("n{value}"));
    if id >= ROWS - REQUESTS {
        let bits = (0..6).filter(|bit| (workspace * 7 + value) & (1 << bit) != 0);
        return Request {
            key: Key::new("skytower", Kind::Request, id),
            name,
            within: bits
                .map(|bit| qualified(SOURCES[bit / 3], WORKSPACES[bit % 3]))
                .collect(),
            ..Request::default()
        }
        .into();
    }
    let workspace = WORKSPACES
        .get(usize::from(workspace))
        .map(|name| Text::from(*name));
    let phase = [Phase::Pending, Phase::Running, Phase::Failed][usize::from(value % 3)];
    if id < ROWS / 2 {
        Job {
            key: Key::new(source, Kind::Job, id),
            source: source.into(),
            name,
            workspace,
            phase,
            restricted,
            owner: Some(owner(id)),
            ..Job::default()
        }
        .into()
    } else {
        Cluster {
            key: Key::new(source, Kind::Cluster, id),
            source: source.into(),
            name,
            workspace,
            phase,
            restricted,
            owner: Some(owner(id)),
            gpus: Some(f64::from(value)),
            ..Cluster::default()
        }
        .into()
    }
}

/// The people of these rows, as a source counts them: alice is on its list of users, bob is not.
fn people(world: &Rows) -> Vec<Change> {
    let user = |name: &str| {
        let mut parts: BTreeMap<OwnedReach, Holdings> = BTreeMap::new();
        for row in world.values().filter(|row| is_of(row, name)) {
            parts.entry(row.reach().into()).or_default().add(row);
        }
        let mut user = User {
            key: Key::new("s", Kind::User, name),
            name: name.into(),
            ..User::default()
        };
        if parts.is_empty() && name == "bob" {
            return Change::Remove {
                kind: Kind::User,
                key: user.key,
                reason: "has nothing".into(),
            };
        }
        let parts = parts.into_iter().map(|(reach, has)| Holding { reach, has });
        user.set_holdings(parts, name == "alice");
        Change::Upsert(user.into())
    };
    vec![user("alice"), user("bob")]
}

fn is_of(row: &Entity, name: &str) -> bool {
    row.owner().is_some_and(|owner| owner.id == *name)
}

/// The person as somebody counts them who sees these rows alone; none when nothing tells of them.
fn counted(name: &str, seen: &Rows) -> Option<Arc<Entity>> {
    let all: Vec<_> = seen.values().filter(|row| is_of(row, name)).collect();
    let count = |is: &dyn Fn(&Entity) -> bool| all.iter().filter(|row| is(row)).count() as u32;
    let goes_on = |row: &Entity| row.phase() != Phase::Failed;
    let clusters = count(&|row| row.kind() == Kind::Cluster && goes_on(row));
    let jobs = count(&|row| row.kind() == Kind::Job && goes_on(row));
    let active = clusters + jobs > 0;
    let gpus = all
        .iter()
        .filter_map(|row| row.as_cluster().filter(|_| goes_on(row))?.gpus);
    let user = User {
        key: Key::new("s", Kind::User, name),
        name: name.into(),
        status: if active { "active" } else { "idle" }.into(),
        phase: crate::phase::phase_of(Kind::User, if active { "active" } else { "idle" }),
        clusters,
        jobs,
        jobs_pending: count(&|row| row.kind() == Kind::Job && row.phase() == Phase::Pending),
        jobs_failed: count(&|row| row.kind() == Kind::Job && !goes_on(row)),
        gpus: gpus.sum(),
        ..User::default()
    };
    (name == "alice" || !all.is_empty()).then(|| user.into())
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
    Commit(BTreeMap<u8, Option<(u8, u8)>>),
    /// A client is told what it has not been told.
    Tell(usize),
    /// Its connection breaks after so many messages; it resumes later.
    Break(usize, usize),
    /// Its cursor is moved over what is not for it.
    Heartbeat(usize),
    /// Its rights change while it is connected.
    Turn(usize, u16),
    /// The server loses its state.
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = proptest::option::weighted(0.7, (0..5u8, 0..3u8));
    let step = prop_oneof![
        8 => proptest::collection::btree_map(0..ROWS, change, 1..4).prop_map(Step::Commit),
        4 => (0..3usize).prop_map(Step::Tell),
        2 => (0..3usize, 0..3usize).prop_map(|(client, after)| Step::Break(client, after)),
        2 => (0..3usize).prop_map(Step::Heartbeat),
        2 => (0..3usize, 0..512u16).prop_map(|(client, bits)| Step::Turn(client, bits)),
        1 => Just(Step::Restart),
    ];
    proptest::collection::vec(step, 1..60)
}

/// A client: its copy, and how far the server believes it to be.
struct Client {
    copy: Table,
    rights: Rights,
    view: View,
    at: Option<u64>,
    /// What changed for its eyes since it was told.
    stirred: BTreeSet<Key>,
}

type Rows = BTreeMap<Key, Arc<Entity>>;

fn rows_of(table: &Table) -> Rows {
    table
        .all()
        .map(|row| (row.key().clone(), row.clone()))
        .collect()
}

/// What is to be seen of all that there is.
fn seen(rows: &Rows, rights: Rights) -> Rows {
    let things = rows.iter().filter(|(_, row)| row.kind() != Kind::User);
    // Somebody who does not ask for clusters may count them all the same.
    let every_kind = Rights(rights.0 & !(1 << 8));
    let known: Rows = things
        .filter(|(_, row)| every_kind.may_see(row))
        .map(|(key, row)| (key.clone(), row.clone()))
        .collect();
    let people = ["alice", "bob"].into_iter();
    let people: Rows = people
        .filter_map(|name| counted(name, &known))
        .filter(|row| rows.contains_key(row.key()))
        .map(|row| (row.key().clone(), row))
        .collect();
    let mut seen = known;
    seen.retain(|_, row| rights.may_see(row));
    seen.extend(people);
    seen
}

/// The keys of which somebody may be told something: what changed before their eyes, and the people to
/// whom that belongs (the counts may be the same after all).
fn news(then: &Rows, now: &Rows, rights: Rights) -> BTreeSet<Key> {
    let differing = |rights| {
        let (one, other) = (seen(then, rights), seen(now, rights));
        let keys: BTreeSet<Key> = one.keys().chain(other.keys()).cloned().collect();
        let differs = |key: &Key| one.get(key) != other.get(key);
        keys.into_iter().filter(differs).collect::<BTreeSet<_>>()
    };
    let mut news = differing(rights);
    for key in differing(Rights(rights.0 & !(1 << 8))) {
        let rows = [then.get(&key), now.get(&key)].into_iter().flatten();
        let owners = rows.filter_map(|row| row.owner());
        news.extend(owners.map(|owner| Key::new("s", Kind::User, &owner.id)));
    }
    news
}

/// What travels is what arrives, and no message names what its receiver may neither see nor has.
fn deliver(
    client: &mut Client,
    message: &ServerMessage,
    world: &Rows,
) -> Result<(), TestCaseError> {
    let json = serde_json::to_string(message).unwrap();
    let message = ServerMessage::decode(&json).unwrap().unwrap();
    let allowed = seen(world, client.rights);
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
    nothing_but_news(client, &messages)?;
    for message in &messages {
        deliver(client, message, world)?;
    }
    if !messages.is_empty() {
        client.at = Some(server.revision());
        client.stirred.clear();
    }
    prop_assert_eq!(rows_of(&client.copy), seen(world, client.rights));
    Ok(())
}

/// Nobody is told of a row that is for them as it was all the time.
fn nothing_but_news(client: &Client, messages: &[ServerMessage]) -> Result<(), TestCaseError> {
    for message in messages {
        let ServerMessage::Delta { changes, .. } = message else {
            continue;
        };
        for key in changes.iter().map(Change::key) {
            prop_assert!(client.stirred.contains(key), "{} is no news", key);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn copies_converge_and_nobody_hears_of_what_is_not_theirs(
        steps in steps(), views in proptest::array::uniform3(0..512u16),
    ) {
        let mut server = Table::new();
        let mut world = Rows::new();
        let mut clients = views.map(|bits| Client {
            copy: Table::new(),
            rights: Rights(bits),
            view: view(bits),
            at: None,
            stirred: BTreeSet::new(),
        });
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
                    for change in people(&world) {
                        match &change {
                            Change::Upsert(row) => world.insert(row.key().clone(), row.clone()),
                            Change::Remove { key, .. } => world.remove(key),
                        };
                        list.push(change);
                    }
                    server.commit(list);
                    prop_assert_eq!(rows_of(&server), world.clone());
                    for client in &mut clients {
                        client.stirred.extend(news(&before.1, &world, client.rights));
                    }
                    if before.1 != world {
                        prop_assert_eq!(server.revision(), before.0 + 1);
                    }
                }
                Step::Tell(i) => tell(&server, &mut clients[i], &world)?,
                Step::Break(i, after) => {
                    let client = &mut clients[i];
                    let messages = messages(&server, client);
                    nothing_but_news(client, &messages)?;
                    let whole = after >= messages.len();
                    for message in messages.iter().take(after) {
                        deliver(client, message, &world)?;
                    }
                    if whole && !messages.is_empty() {
                        client.at = Some(server.revision());
                        client.stirred.clear();
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
                        client.stirred.clear();
                    }
                }
                Step::Turn(i, bits) => {
                    let client = &mut clients[i];
                    let old = std::mem::replace(&mut client.view, view(bits));
                    client.rights = Rights(bits);
                    client.stirred.clear();
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
                    prop_assert_eq!(rows_of(&client.copy), seen(&world, client.rights));
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
