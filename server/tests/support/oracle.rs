//! What everybody may see, kept apart from the server's own notion of it: every state there ever was,
//! and a predicate.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use skytower_api_client::entity::{Cluster, Job, Service, Source};
use skytower_api_client::wire::{Caller, Change, Cursor, Hello, Role, ServerMessage};
use skytower_api_client::{Entity, Key, Kind, Table, Text};
use skytower_server::hub::Hub;

pub const WORKSPACES: [&str; 3] = ["red", "green", "blue"];

pub type Rows = BTreeMap<Key, Arc<Entity>>;

/// May `caller`, who asked for `kinds`, see the row.
fn sees(caller: &Caller, kinds: &[Kind], row: &Entity) -> bool {
    let wanted = kinds.is_empty() || kinds.contains(&row.kind());
    wanted && allowed(caller, row.workspace())
}

fn allowed(caller: &Caller, workspace: Option<&Text>) -> bool {
    match (&caller.workspaces, workspace) {
        (Some(mine), Some(workspace)) => {
            mine.iter().any(|name| *name == *format!("lab/{workspace}"))
        }
        _ => true,
    }
}

/// The caller with a workspace per bit; the fourth bit lifts the restriction, the fifth is the role.
pub fn rights(bits: u8) -> Caller {
    let mine = (0..3).filter(|i| bits & (1 << i) != 0);
    Caller {
        ids: vec!["u1".into()],
        name: "alice".into(),
        role: if bits & 16 == 0 {
            Role::User
        } else {
            Role::Viewer
        },
        workspaces: (bits & 8 == 0).then(|| {
            mine.map(|i| format!("lab/{}", WORKSPACES[i]).into())
                .collect()
        }),
        ..Caller::default()
    }
}

/// The kinds of a bit each. The source that marks how far a client has come is always among them.
pub fn kinds(bits: u8) -> Vec<Kind> {
    let some = [Kind::Job, Kind::Cluster, Kind::Service];
    if bits & 7 == 7 {
        return Vec::new();
    }
    let chosen = (0..3).filter(|i| bits & (1 << i) != 0).map(|i| some[i]);
    chosen.chain([Kind::Source]).collect()
}

/// A row of its own making: its name appears nowhere else, not even in its own past.
fn row(id: u8, workspace: Option<&str>, mark: u64) -> Arc<Entity> {
    let name = Text::from(format!("mark{mark}"));
    let workspace = workspace.map(Text::from);
    let source = Text::from("lab");
    match id % 3 {
        0 => Job {
            key: Key::new("lab", Kind::Job, format!("{id}/0")),
            source,
            name,
            workspace,
            job_id: i64::from(id),
            ..Job::default()
        }
        .into(),
        1 => Cluster {
            key: Key::new("lab", Kind::Cluster, id),
            source,
            name,
            workspace,
            ..Cluster::default()
        }
        .into(),
        _ => Service {
            key: Key::new("lab", Kind::Service, id),
            source,
            name,
            workspace,
            ..Service::default()
        }
        .into(),
    }
}

fn marks(text: &str) -> impl Iterator<Item = u64> + '_ {
    text.split("mark").skip(1).map(|rest| {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        rest[..digits].parse().unwrap()
    })
}

/// All states of all lives of the server.
#[derive(Default)]
pub struct World {
    lives: BTreeMap<Text, Vec<Rows>>,
    epoch: Text,
    next: u64,
    /// Reasons of departures, with the workspace that was left.
    reasons: BTreeMap<u64, Option<Text>>,
}

impl World {
    /// The server begins a life.
    pub fn begin(&mut self, epoch: &Text) {
        self.epoch = epoch.clone();
        self.lives.insert(epoch.clone(), vec![Rows::new()]);
    }

    pub fn now(&self) -> &Rows {
        self.lives[&self.epoch].last().unwrap()
    }

    fn at(&self, epoch: &Text, revision: u64) -> &Rows {
        &self.lives[epoch][usize::try_from(revision).unwrap()]
    }

    /// Changes of one revision: a row comes to a workspace (the fourth: none), or goes.
    pub fn commit(&mut self, hub: &Hub, changes: &[(u8, Option<u8>)]) {
        let mut rows = self.now().clone();
        let list = self.make(&mut rows, changes);
        self.keep(rows);
        hub.commit(list);
        assert_eq!(hub.revision(), self.revision(), "one revision per change");
    }

    /// Changes with one that everybody sees: whoever has its name has everything up to here.
    pub fn milestone(&mut self, hub: &Hub, changes: &[(u8, Option<u8>)]) -> Text {
        let mut rows = self.now().clone();
        let mut list = self.make(&mut rows, changes);
        self.next += 1;
        let name = Text::from(format!("mark{}", self.next));
        let row: Arc<Entity> = Source {
            key: Key::new("lab", Kind::Source, "lab"),
            source: "lab".into(),
            name: name.clone(),
            ..Source::default()
        }
        .into();
        rows.insert(row.key().clone(), row.clone());
        list.push(Change::Upsert(row));
        self.keep(rows);
        hub.commit(list);
        assert_eq!(hub.revision(), self.revision(), "one revision per change");
        name
    }

    fn make(&mut self, rows: &mut Rows, changes: &[(u8, Option<u8>)]) -> Vec<Change> {
        let mut list = Vec::new();
        for (id, to) in changes {
            self.next += 1;
            let workspace = to.and_then(|to| WORKSPACES.get(usize::from(to)).copied());
            let new = row(*id, workspace, self.next);
            if to.is_some() {
                rows.insert(new.key().clone(), new.clone());
                list.push(Change::Upsert(new));
            } else {
                if let Some(gone) = rows.remove(new.key()) {
                    self.reasons.insert(self.next, gone.workspace().cloned());
                }
                list.push(Change::Remove {
                    kind: new.kind(),
                    key: new.key().clone(),
                    reason: Text::from(format!("mark{}", self.next)),
                });
            }
        }
        list
    }

    /// Equal states are one revision.
    fn keep(&mut self, rows: Rows) {
        let states = self.lives.get_mut(&self.epoch).unwrap();
        if states.last() != Some(&rows) {
            states.push(rows);
        }
    }

    fn revision(&self) -> u64 {
        self.lives[&self.epoch].len() as u64 - 1
    }

    /// What may be seen now.
    pub fn seen_by(&self, caller: &Caller, kinds: &[Kind]) -> Rows {
        let rows = self.now().iter();
        rows.filter(|(_, row)| sees(caller, kinds, row))
            .map(|(key, row)| (key.clone(), row.clone()))
            .collect()
    }
}

/// A client's copy, which doubts every message.
pub struct Mirror {
    pub copy: Table,
    pub you: Option<Caller>,
    pub kinds: Vec<Kind>,
    /// Where the copy stands; none while it is neither one state nor another.
    pub cursor: Option<Cursor>,
    epoch: Text,
    view: Text,
    /// The rights changed on the open connection: what they change is told at the same revision.
    turned: bool,
    /// The revision of the snapshot that is coming in.
    snapshot: Option<u64>,
}

impl Mirror {
    pub fn new(kinds: Vec<Kind>) -> Self {
        Self {
            copy: Table::new(),
            you: None,
            kinds,
            cursor: None,
            epoch: Text::default(),
            view: Text::default(),
            turned: false,
            snapshot: None,
        }
    }

    pub fn rows(&self) -> Rows {
        let rows = self.copy.all();
        rows.map(|row| (row.key().clone(), row.clone())).collect()
    }

    pub fn has_reached(&self, milestone: &Text) -> bool {
        self.cursor.is_some()
            && self
                .copy
                .rows(Kind::Source)
                .any(|row| row.name() == milestone)
    }

    /// A connection begins (`first`), or the rights changed on the open one.
    pub fn greet(&mut self, hello: &Hello, first: bool) {
        self.copy.interrupted();
        self.snapshot = None;
        self.turned = !first;
        self.epoch = hello.epoch.clone();
        self.view = hello.view.clone();
        self.you = Some(hello.you.clone());
    }

    /// Applies a message that came as `json`, after it was found to be in order and meant for us.
    pub fn take(&mut self, message: ServerMessage, json: &str, world: &World) {
        let before = self.copy.revision();
        match &message {
            ServerMessage::Hello(hello) => return self.greet(hello, false),
            ServerMessage::Error(problem) => panic!("{problem}"),
            ServerMessage::Snapshot { revision, rows, .. } => {
                assert_eq!(*self.snapshot.get_or_insert(*revision), *revision);
                self.cursor = None;
                self.doubt(*revision, rows.iter(), &[], json, world);
            }
            ServerMessage::Ready { revision } => {
                assert_eq!(self.snapshot.take().unwrap_or(*revision), *revision);
            }
            ServerMessage::Delta {
                since,
                revision,
                changes,
            } => {
                assert_eq!(*since, before, "a gap");
                let rises = revision > since || (self.turned && revision == since);
                assert!(rises, "from {since} to {revision}: {json}");
                let keys: BTreeSet<_> = changes.iter().map(Change::key).collect();
                assert_eq!(keys.len(), changes.len(), "a key twice: {json}");
                let (mut came, mut left) = (Vec::new(), Vec::new());
                for change in changes {
                    match change {
                        Change::Upsert(row) => came.push(row),
                        Change::Remove { key, .. } => left.push(key),
                    }
                }
                self.doubt(*revision, came.into_iter(), &left, json, world);
            }
            ServerMessage::Heartbeat { revision, .. } => assert!(*revision >= before),
        }
        let complete = !matches!(message, ServerMessage::Snapshot { .. });
        self.copy.apply(message).unwrap();
        if complete && self.snapshot.is_none() {
            self.turned = false;
            self.cursor = Some(Cursor {
                epoch: self.epoch.clone(),
                revision: self.copy.revision(),
                view: self.view.clone(),
            });
        }
    }

    /// Rows are those of the revision and for this caller, what leaves was here, and no byte is about
    /// anything else.
    fn doubt<'a>(
        &self,
        revision: u64,
        came: impl Iterator<Item = &'a Arc<Entity>>,
        left: &[&Key],
        json: &str,
        world: &World,
    ) {
        let you = self.you.as_ref().unwrap();
        let then = world.at(&self.epoch, revision);
        let visible: Rows = then
            .iter()
            .filter(|(_, row)| sees(you, &self.kinds, row))
            .map(|(key, row)| (key.clone(), row.clone()))
            .collect();
        for row in came {
            let right = visible.get(row.key());
            assert_eq!(right, Some(row), "not as it was, or not for {you:?}");
        }
        for key in left {
            assert!(self.copy.get(key).is_some(), "{key} was never here: {json}");
            assert!(!visible.contains_key(*key), "{key} is still there: {json}");
        }
        let names: BTreeSet<u64> = visible
            .values()
            .flat_map(|row| marks(row.name()).collect::<Vec<_>>())
            .collect();
        for mark in marks(json) {
            let reason = world.reasons.get(&mark);
            let told = reason.is_some_and(|left| allowed(you, left.as_ref()));
            assert!(
                names.contains(&mark) || told,
                "mark{mark} is not for {you:?} at {revision}: {json}"
            );
        }
        let value: serde_json::Value = serde_json::from_str(json).unwrap();
        let mut open = vec![&value];
        while let Some(value) = open.pop() {
            match value {
                serde_json::Value::Array(items) => open.extend(items),
                serde_json::Value::Object(fields) => open.extend(fields.values()),
                serde_json::Value::String(text) => {
                    if let Some(key) = Key::parse(text) {
                        let known = visible.contains_key(&key) || self.copy.get(&key).is_some();
                        assert!(known, "{key} is not for {you:?}: {json}");
                    }
                }
                _ => {}
            }
        }
    }
}
