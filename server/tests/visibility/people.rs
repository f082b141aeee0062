//! Three people, each at a door of their own in front of the same state, and the model of what each may
//! see.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::StreamExt as _;
use proptest::prelude::*;
use skytower_api_client::codec::Encoding;
use skytower_api_client::entity::{
    Cluster, Event, Holding, Holdings, Job, Owner, Replica, Request, Service, Source, User,
    Workspace,
};
use skytower_api_client::policy::{OwnedReach, View};
use skytower_api_client::rest::path;
use skytower_api_client::wire::{Caller, Change, Cursor, Hello, Role, ServerMessage};
use skytower_api_client::{Entity, Key, Kind, Table, Text};

use crate::support::clients::text_of;
use crate::support::{Running, Watching, start, within};

const PEOPLE: usize = 3;
const SOURCES: [&str; 2] = ["lab", "prod"];
/// Both sources have each of them.
const WORKSPACES: [&str; 3] = ["red", "green", "blue"];
const ROWS: u8 = 18;
/// Of the seven places of a row the last is none, and not known to be open.
const ASTRAY: u8 = 6;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A row comes to a place, or changes there.
    Put(u8, u8),
    /// A row goes.
    Gone(u8),
    /// A workspace becomes private, or public.
    Private(u8, bool),
    /// Somebody comes into a workspace, or leaves it.
    Member(u8, usize, bool),
    /// Somebody becomes an administrator, or is none any more.
    Role(usize, bool),
    /// Somebody reads all that there is to read, and looks at lists and rows over REST.
    Settle(usize),
    /// Somebody's connection breaks.
    Leave(usize),
    /// Somebody comes back, and resumes from where the copy stands.
    Resume(usize),
}

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let place = || 0..6u8;
    let who = || 0..PEOPLE;
    let step = prop_oneof![
        10 => (0..ROWS, 0..7u8).prop_map(|(id, place)| Step::Put(id, place)),
        2 => (0..ROWS).prop_map(Step::Gone),
        2 => (place(), any::<bool>()).prop_map(|(place, private)| Step::Private(place, private)),
        2 => (place(), who(), any::<bool>()).prop_map(|(place, who, is)| Step::Member(place, who, is)),
        1 => (who(), any::<bool>()).prop_map(|(who, is)| Step::Role(who, is)),
        2 => who().prop_map(Step::Settle),
        1 => who().prop_map(Step::Leave),
        1 => who().prop_map(Step::Resume),
    ];
    proptest::collection::vec(step, 10..60)
}

// The model: thirty lines that know no view and no reach.

#[derive(Default)]
struct Space {
    private: bool,
    members: BTreeSet<usize>,
}

/// Where a row is, as whoever made it knows.
#[derive(Clone, Debug, PartialEq)]
enum Place {
    Everywhere,
    /// In all of these workspaces.
    In(Vec<u8>),
    /// Nobody knows.
    Astray,
}

struct Model {
    spaces: [Space; 6],
    admins: BTreeSet<usize>,
    rows: BTreeMap<Key, (Place, Arc<Entity>)>,
    /// What was said where something departed. Whoever may look there again may hear of it.
    last_words: Vec<(Place, u64)>,
}

impl Model {
    fn may_enter(&self, who: usize, space: u8) -> bool {
        let space = &self.spaces[usize::from(space)];
        !space.private || space.members.contains(&who) || self.admins.contains(&who)
    }

    fn may_see(&self, who: usize, place: &Place) -> bool {
        match place {
            Place::Everywhere => true,
            Place::In(all) => all.iter().all(|space| self.may_enter(who, *space)),
            Place::Astray => self.admins.contains(&who),
        }
    }

    fn seen_by(&self, who: usize) -> BTreeMap<Key, Arc<Entity>> {
        let rows = self.rows.iter();
        rows.filter(|(_, (place, _))| self.may_see(who, place))
            .map(|(key, (_, row))| (key.clone(), row.clone()))
            .collect()
    }
}

// What it is made into.

fn source_of(space: u8) -> &'static str {
    SOURCES[usize::from(space / 3)]
}

fn name_of(space: u8) -> &'static str {
    WORKSPACES[usize::from(space % 3)]
}

fn owner(id: u8) -> Owner {
    let name = Text::from(["alice", "bob", "carol"][usize::from(id % 3)]);
    Owner {
        id: name.clone(),
        name,
    }
}

/// A row of its own making: its word stands in several fields, and appears nowhere else.
fn row(id: u8, space: u8, word: &Text) -> (Place, Arc<Entity>) {
    // At the places that are nowhere in particular it is one of `lab`.
    let source = Text::from(source_of(if space == ASTRAY { 0 } else { space }));
    let workspace = (space != ASTRAY).then(|| Text::from(name_of(space)));
    let place = if space == ASTRAY {
        Place::Astray
    } else {
        Place::In(vec![space])
    };
    let restricted = space == ASTRAY;
    let key = |kind| Key::new("lab", kind, id);
    macro_rules! made {
        ($kind:ident { $($field:ident: $value:expr),* }) => {
            $kind {
                key: key(Kind::$kind),
                source,
                name: word.clone(),
                owner: Some(owner(id)),
                workspace,
                restricted,
                why: Some(word.clone()),
                status: "RUNNING".into(),
                phase: skytower_api_client::Phase::Running,
                $($field: $value,)*
                ..$kind::default()
            }
            .into()
        };
    }
    let row = match id % 6 {
        0 => made!(Cluster {
            node_names: Some(word.clone()),
            gpus: Some(8.0)
        }),
        1 => made!(Job {
            job_name: word.clone()
        }),
        2 => made!(Service {
            endpoint: Some(word.clone())
        }),
        3 => made!(Replica {
            service: word.clone()
        }),
        4 => made!(Event { text: word.clone() }),
        _ => {
            // A request over two workspaces, of two sources.
            let other = (space + 4) % 6;
            if space == ASTRAY {
                return (
                    place,
                    made!(Request {
                        request_id: word.clone()
                    }),
                );
            }
            let within = [space, other]
                .map(|space| Text::from(format!("{}/{}", source_of(space), name_of(space))));
            let row = Request {
                key: Key::new("skytower", Kind::Request, id),
                source: "skytower".into(),
                name: word.clone(),
                request_id: word.clone(),
                within: within.into(),
                ..Request::default()
            };
            return (Place::In(vec![space, other]), row.into());
        }
    };
    (place, row)
}

/// The workspaces' own rows.
fn space_row(space: u8, private: bool) -> Arc<Entity> {
    Workspace {
        key: Key::new(source_of(space), Kind::Workspace, name_of(space)),
        source: source_of(space).into(),
        name: name_of(space).into(),
        private,
        ..Workspace::default()
    }
    .into()
}

/// The people of some rows, as a source counts them; `alice` is on its list of users.
fn users(rows: &BTreeMap<Key, (Place, Arc<Entity>)>) -> Vec<(Text, Option<Arc<Entity>>)> {
    let one = |name: &Text| {
        let mut parts = BTreeMap::<OwnedReach, Holdings>::new();
        for (_, row) in rows.values().filter(|(_, row)| counts_for(row, name)) {
            parts.entry(row.reach().into()).or_default().add(row);
        }
        let listed = *name == *"alice";
        let known = listed || !parts.is_empty();
        let mut user = bare_user(name);
        let parts = parts.into_iter().map(|(reach, has)| Holding { reach, has });
        user.set_holdings(parts, listed);
        (name.clone(), known.then(|| user.into()))
    };
    ["alice", "bob", "carol"]
        .map(Text::from)
        .iter()
        .map(one)
        .collect()
}

fn bare_user(name: &Text) -> User {
    User {
        key: Key::new("lab", Kind::User, name),
        source: "lab".into(),
        name: name.clone(),
        ..User::default()
    }
}

fn counts_for(row: &Entity, name: &Text) -> bool {
    matches!(row.kind(), Kind::Cluster | Kind::Job | Kind::Service)
        && row.owner().is_some_and(|owner| owner.id == *name)
}

/// What somebody sees of people who sees these rows and no others: clusters, jobs, services, accelerators.
fn counted(name: &str, seen: &BTreeMap<Key, Arc<Entity>>) -> Option<(u32, u32, u32, f64)> {
    let name = Text::from(name);
    let all: Vec<_> = seen.values().filter(|row| counts_for(row, &name)).collect();
    let of = |kind| all.iter().filter(|row| row.kind() == kind).count() as u32;
    let clusters = of(Kind::Cluster);
    (name == *"alice" || !all.is_empty()).then(|| {
        let gpus = f64::from(clusters * 8);
        (clusters, of(Kind::Job), of(Kind::Service), gpus)
    })
}

fn words(text: &str) -> impl Iterator<Item = u64> + '_ {
    text.split("word-").skip(1).map(|rest| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        rest[..digits].parse().unwrap()
    })
}

/// Somebody at a door. There is one server for each, since whoever holds a server's token is one person
/// there; what happens is committed to all of them alike.
struct Person {
    client: reqwest::Client,
    server: Running,
    /// None while the connection is broken.
    watching: Option<Watching>,
    hello: Hello,
    copy: Table,
    /// Words that this person was ever allowed to read, from the moment at which they were first said.
    allowed: BTreeSet<u64>,
    /// The last milestone read.
    read: u64,
    /// Where the copy stands; none while it is neither one state nor another.
    cursor: Option<Cursor>,
}

impl Person {
    fn search(&self, bytes: &str, from: &str) {
        for word in words(bytes) {
            assert!(
                self.allowed.contains(&word),
                "word-{word} is not for this person, and came by {from}: {bytes}"
            );
        }
    }

    /// Reads one message, and every byte of it.
    async fn read(&mut self) {
        let socket = &mut self.watching.as_mut().unwrap().socket;
        let frame = within(socket.next()).await.unwrap().unwrap();
        let Some(json) = text_of(&frame) else { return };
        self.search(&json, "the watch");
        let message = ServerMessage::decode(&json).unwrap().unwrap();
        if let ServerMessage::Hello(hello) = &message {
            self.hello = hello.clone();
        }
        let whole = match &message {
            ServerMessage::Snapshot { .. } => Some(false),
            ServerMessage::Hello(_) => None,
            // A heartbeat does not end a snapshot.
            ServerMessage::Heartbeat { .. } => self.cursor.is_some().then_some(true),
            _ => Some(true),
        };
        self.copy.apply(message).unwrap();
        if let Some(whole) = whole {
            self.cursor = whole.then(|| Cursor {
                epoch: self.hello.epoch.clone(),
                revision: self.copy.revision(),
                view: self.hello.view.clone(),
            });
        }
        let sources = self.copy.rows(Kind::Source);
        let name = sources.map(|row| row.name().to_string()).next();
        if let Some(mile) = name.and_then(|name| name.strip_prefix("mile-")?.parse().ok()) {
            self.read = self.read.max(mile);
        }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let url = format!("{}{path}", self.server.url);
        let asked = self.client.get(url).bearer_auth(&self.server.token).send();
        let answer = within(asked).await.unwrap();
        let status = answer.status().as_u16();
        let body = within(answer.text()).await.unwrap();
        self.search(&body, path);
        (status, body)
    }
}

pub(crate) struct Tower {
    people: Vec<Person>,
    model: Model,
    next: u64,
    miles: u64,
}

async fn watch(server: &Running, second: bool) -> Watching {
    if second {
        server.connect().await
    } else {
        server.connect_json().await
    }
}

impl Tower {
    pub(crate) async fn open() -> Self {
        let model = Model {
            spaces: Default::default(),
            admins: BTreeSet::from([2]),
            rows: BTreeMap::new(),
            last_words: Vec::new(),
        };
        let mut people = Vec::new();
        for who in 0..PEOPLE {
            let server = start().await;
            server.caller_is(&rights(&model, who)).await;
            let mut watching = watch(&server, who == 1).await;
            watching.subscribe(None).await;
            people.push(Person {
                client: reqwest::Client::new(),
                server,
                hello: watching.hello.clone(),
                watching: Some(watching),
                copy: Table::new(),
                allowed: BTreeSet::new(),
                read: 0,
                cursor: None,
            });
        }
        let mut tower = Self {
            people,
            model,
            next: 0,
            miles: 0,
        };
        for space in 0..6 {
            let row = space_row(space, false);
            tower.commit(vec![(Place::In(vec![space]), Change::Upsert(row))]);
        }
        tower
    }

    fn word(&mut self) -> Text {
        self.next += 1;
        Text::from(format!("word-{}.", self.next))
    }

    /// Changes of one revision, at every door. Whoever may see the place of a change may read its words.
    fn commit(&mut self, changes: Vec<(Place, Change)>) {
        let mut list = Vec::new();
        for (place, change) in changes {
            let said: Vec<u64> = words(&serde_json::to_string(&change).unwrap()).collect();
            for (who, person) in self.people.iter_mut().enumerate() {
                if self.model.may_see(who, &place) {
                    person.allowed.extend(said.iter().copied());
                }
            }
            match &change {
                Change::Upsert(row) => {
                    self.model
                        .rows
                        .insert(row.key().clone(), (place, row.clone()));
                }
                Change::Remove { key, .. } => {
                    self.model.rows.remove(key);
                    let last = said.iter().map(|word| (place.clone(), *word));
                    self.model.last_words.extend(last);
                }
            }
            list.push(change);
        }
        for (name, user) in users(&self.model.rows) {
            list.push(match user {
                Some(row) => Change::Upsert(row),
                None => Change::Remove {
                    kind: Kind::User,
                    key: bare_user(&name).key,
                    reason: "has nothing".into(),
                },
            });
        }
        for person in &self.people {
            person.server.hub.commit(list.clone());
        }
        self.share_a_door();
    }

    /// All three at one door, who share what is encoded for those with equal rights.
    fn share_a_door(&self) {
        let hub = &self.people[0].server.hub;
        for (who, person) in self.people.iter().enumerate() {
            let view = View::of(&rights(&self.model, who), &[]);
            let from = hub.revision().saturating_sub(3);
            for frame in hub.frames(&view, Encoding::Json, Some(from)).frames.iter() {
                person.search(std::str::from_utf8(frame).unwrap(), "a door for all");
            }
        }
    }

    /// Those who may see something from now on may read the words that are there.
    async fn rights_change(&mut self) {
        for who in 0..PEOPLE {
            let seen = self.model.seen_by(who);
            let now = serde_json::to_string(&seen.values().collect::<Vec<_>>()).unwrap();
            let last = self.model.last_words.iter();
            let last = last.filter(|(place, _)| self.model.may_see(who, place));
            let person = &mut self.people[who];
            person.allowed.extend(words(&now));
            person.allowed.extend(last.map(|(_, word)| *word));
            let caller = rights(&self.model, who);
            self.people[who].server.caller_is(&caller).await;
        }
    }

    pub(crate) async fn step(&mut self, step: Step) {
        match step {
            Step::Put(id, space) => {
                let word = self.word();
                let (place, new) = row(id, space, &word);
                // A request that goes astray has another key.
                let twin = [
                    Key::new("lab", Kind::Request, id),
                    Key::new("skytower", Kind::Request, id),
                ];
                let stale = twin.into_iter().find(|key| key != new.key());
                let mut changes = vec![(place, Change::Upsert(new))];
                changes.extend(stale.and_then(|key| self.removal(&key)));
                self.commit(changes);
            }
            Step::Gone(id) => {
                let of = |key: &&Key| key.id() == id.to_string() && key.kind() != Some(Kind::User);
                let keys: Vec<Key> = self.model.rows.keys().filter(of).cloned().collect();
                let changes = keys.iter().filter_map(|key| self.removal(key)).collect();
                self.commit(changes);
            }
            Step::Private(space, private) => {
                self.model.spaces[usize::from(space)].private = private;
                self.rights_change().await;
                let row = space_row(space, private);
                self.commit(vec![(Place::In(vec![space]), Change::Upsert(row))]);
            }
            Step::Member(space, who, is) => {
                let members = &mut self.model.spaces[usize::from(space)].members;
                let _ = if is {
                    members.insert(who)
                } else {
                    members.remove(&who)
                };
                self.rights_change().await;
            }
            Step::Role(who, is) => {
                let admins = &mut self.model.admins;
                let _ = if is {
                    admins.insert(who)
                } else {
                    admins.remove(&who)
                };
                self.rights_change().await;
            }
            Step::Settle(who) => self.settle(who).await,
            Step::Leave(who) => self.people[who].watching = None,
            Step::Resume(who) => {
                self.people[who].watching = None;
                self.connect(who).await;
            }
        }
    }

    /// Somebody without a connection gets one.
    async fn connect(&mut self, who: usize) {
        let person = &mut self.people[who];
        if person.watching.is_some() {
            return;
        }
        let mut watching = watch(&person.server, who == 1).await;
        watching.subscribe(person.cursor.clone()).await;
        person.hello = watching.hello.clone();
        person.copy.interrupted();
        person.watching = Some(watching);
    }

    fn removal(&mut self, key: &Key) -> Option<(Place, Change)> {
        let reason = self.word();
        let (place, row) = self.model.rows.get(key)?;
        let change = Change::Remove {
            kind: row.kind(),
            key: key.clone(),
            reason,
        };
        Some((place.clone(), change))
    }

    /// Everything up to here is read; then it is exactly what the model says, however it is asked for.
    async fn settle(&mut self, who: usize) {
        self.miles += 1;
        let mile = self.miles;
        let marker = Source {
            key: Key::new("lab", Kind::Source, "lab"),
            source: "lab".into(),
            name: format!("mile-{mile}").into(),
            ..Source::default()
        };
        self.commit(vec![(Place::Everywhere, Change::Upsert(marker.into()))]);
        self.connect(who).await;
        let person = &mut self.people[who];
        let rights = rights(&self.model, who);
        let knows = |person: &Person| person.read >= mile && person.hello.you == rights;
        while !knows(person) || person.cursor.is_none() {
            person.read().await;
        }
        let person = &self.people[who];
        let seen = self.model.seen_by(who);
        // What is done here is written down, and that is for administrators alone.
        let audits = rights.role == Role::Admin;
        let things = person.copy.all().filter(|row| match row.kind() {
            Kind::User => false,
            Kind::Audit => !audits,
            _ => true,
        });
        let copy: BTreeMap<Key, Arc<Entity>> =
            things.map(|row| (row.key().clone(), row.clone())).collect();
        assert_eq!(copy, seen, "person {who}");
        for name in ["alice", "bob", "carol"] {
            let row = person.copy.get(&Key::new("lab", Kind::User, name));
            let counts = row.and_then(|row| {
                let user = row.as_user()?;
                Some((user.clusters, user.jobs, user.services, user.gpus))
            });
            assert_eq!(counts, counted(name, &seen), "{name}, for person {who}");
        }
        for kind in Kind::ALL {
            let url = format!("/api/v1/{}?q=&limit=3", kind.plural());
            let (status, page) = person.get(&url).await;
            let denied = *kind == Kind::Audit && !audits;
            assert_eq!(status, if denied { 403 } else { 200 }, "{page}");
        }
        person.get("/api/v1/status").await;
        // A row or two by its key: there for whoever sees it, absent for the others.
        let keys = self.model.rows.keys();
        // A request is asked for by its id at the journal: that is one of the cases.
        let keys: Vec<Key> = keys
            .filter(|key| key.kind() != Some(Kind::Request))
            .cloned()
            .collect();
        for key in keys.iter().skip(self.next as usize % 5).step_by(5) {
            let kind = key.kind().unwrap();
            let (status, body) = person.get(&path::detail(kind, key)).await;
            let is_there = seen.contains_key(key);
            assert_eq!(status == 200, is_there, "{key} for person {who}: {body}");
        }
    }

    pub(crate) async fn close(mut self) {
        for who in 0..PEOPLE {
            self.settle(who).await;
        }
        for person in self.people {
            drop(person.watching);
            person.server.stop().await;
        }
    }
}

/// Who a person is to the server: the workspaces that the model lets them enter, by their names.
fn rights(model: &Model, who: usize) -> Caller {
    let is_admin = model.admins.contains(&who);
    let mine = (0..6u8).filter(|space| model.may_enter(who, *space));
    let mine = mine.map(|space| Text::from(format!("{}/{}", source_of(space), name_of(space))));
    Caller {
        ids: vec![format!("u{who}").into()],
        name: format!("person {who}").into(),
        role: if is_admin { Role::Admin } else { Role::User },
        workspaces: (!is_admin).then(|| mine.collect()),
        ..Caller::default()
    }
}
