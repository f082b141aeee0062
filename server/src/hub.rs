//! The hub: the state and those who wait for it to change.
//!
//! A change is committed under one lock and announced by its revision alone. Whoever waits asks for
//! what changed since the revision it has; those with the same view, encoding and revision share the
//! encoded bytes. There is no queue per client, so a slow one costs nothing and merely asks later.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use skytower_api_client::codec::{self, Encoding};
use skytower_api_client::policy::View;
use skytower_api_client::table::{Since, Touch};
use skytower_api_client::wire::{Change, ServerMessage};
use skytower_api_client::{Entity, Key, Table, Text};
use tokio::sync::watch;

/// Encoded answers that are kept: several views at several recent cursors.
const CACHE_LIMIT: usize = 64;
/// Their size together, in bytes. A single larger one is kept for as long as it is the present one.
const CACHE_BYTES: usize = 32 * 1024 * 1024;

/// The bytes that bring a client from one revision to another.
#[derive(Clone, Debug)]
pub struct Frames {
    /// One websocket message each. Empty when nothing that the view sees changed: the client's cursor
    /// then stays where it is until a heartbeat moves it to `revision`.
    pub frames: Arc<[Bytes]>,
    /// The revision a client has once it applied them.
    pub revision: u64,
}

#[derive(PartialEq, Eq, Hash)]
struct CacheKey {
    view: View,
    encoding: Encoding,
    from: Option<u64>,
    to: u64,
}

/// The state of everything that is watched. Cheap to share.
#[derive(Debug)]
pub struct Hub {
    epoch: Text,
    table: Mutex<Table>,
    revision: watch::Sender<u64>,
    watchers: watch::Sender<usize>,
    cache: Mutex<Cache>,
    encodes: AtomicU64,
}

/// The cell is filled by the first who asks; the others wait for it rather than encode again.
type Cell = Arc<OnceLock<Frames>>;

#[derive(Debug, Default)]
struct Cache(HashMap<CacheKey, Cell>);

impl Cache {
    fn bytes(&self) -> usize {
        let filled = self.0.values().filter_map(|cell| cell.get());
        filled
            .flat_map(|frames| frames.frames.iter().map(Bytes::len))
            .sum()
    }

    /// Makes room for one more answer that leads to revision `to`.
    fn make_room(&mut self, to: u64) {
        if self.0.len() >= CACHE_LIMIT || self.bytes() > CACHE_BYTES {
            self.0.retain(|key, _| key.to == to);
        }
        if self.0.len() >= CACHE_LIMIT {
            self.0.clear();
        }
    }
}

impl std::fmt::Debug for CacheKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}→{}", self.from, self.to)
    }
}

/// One watching client.
#[derive(Debug)]
pub struct Watcher(Arc<Hub>);

impl Drop for Watcher {
    fn drop(&mut self) {
        self.0.watchers.send_modify(|count| *count -= 1);
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new()
    }
}

impl Hub {
    /// An empty state with a new epoch.
    pub fn new() -> Self {
        Self {
            epoch: Text::from(uuid::Uuid::now_v7().to_string()),
            table: Mutex::new(Table::new()),
            revision: watch::Sender::new(0),
            watchers: watch::Sender::new(0),
            cache: Mutex::default(),
            encodes: AtomicU64::new(0),
        }
    }

    /// The name of this life of the state.
    pub fn epoch(&self) -> &Text {
        &self.epoch
    }

    /// A poisoned lock means that a commit panicked half way. Each row is replaced in one step, so
    /// the state is still one that can be served; going dark would help nobody.
    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes changes, all at one revision, and wakes whoever waits. Equal rows burn no revision.
    pub fn commit(&self, changes: impl IntoIterator<Item = Change>) -> Vec<Touch> {
        self.commit_with(|_| changes)
    }

    /// As [`Hub::commit`], with changes that are derived from the state under the same lock.
    pub fn commit_with<I: IntoIterator<Item = Change>>(
        &self,
        changes: impl FnOnce(&Table) -> I,
    ) -> Vec<Touch> {
        let mut table = self.table();
        let changes = changes(&table);
        let touched = table.commit(changes);
        if !touched.is_empty() {
            // Under the lock: of two commits the later one's revision is announced last.
            self.revision.send_replace(table.revision());
        }
        touched
    }

    /// Reads the state. Keep it short: commits wait.
    pub fn read<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&self.table())
    }

    /// The row of a key.
    pub fn get(&self, key: &Key) -> Option<Arc<Entity>> {
        self.read(|table| table.get(key).cloned())
    }

    /// The present revision.
    pub fn revision(&self) -> u64 {
        *self.revision.borrow()
    }

    /// Tells when the revision rises.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// How many clients watch: sources look less often when nobody does.
    pub fn watchers(&self) -> watch::Receiver<usize> {
        self.watchers.subscribe()
    }

    /// Counts a watching client for as long as the guard lives.
    pub fn watcher(self: &Arc<Self>) -> Watcher {
        self.watchers.send_modify(|count| *count += 1);
        Watcher(self.clone())
    }

    /// What brings a client with `view` from `from` (none: it has nothing) to the present. Encoded
    /// once for all clients that ask the same.
    pub fn frames(&self, view: &View, encoding: Encoding, from: Option<u64>) -> Frames {
        let table = self.table();
        let to = table.revision();
        // Cursors that are too old all get the same snapshot.
        let from = from.filter(|from| table.reaches(*from));
        let key = CacheKey {
            view: view.clone(),
            encoding,
            from,
            to,
        };
        let cell = {
            let mut cache = self.cache();
            if !cache.0.contains_key(&key) {
                cache.make_room(to);
            }
            cache.0.entry(key).or_default().clone()
        };
        if let Some(frames) = cell.get() {
            return frames.clone();
        }
        let messages = match table.since(from, view) {
            Since::Nothing => Vec::new(),
            Since::Reset => table.snapshot(view),
            Since::Delta(changes) if changes.is_empty() => Vec::new(),
            Since::Delta(changes) => {
                vec![ServerMessage::Delta {
                    since: from.unwrap_or_default(),
                    revision: to,
                    changes,
                }]
            }
        };
        // Rows are shared, not copied: encoding needs no lock on the state.
        drop(table);
        cell.get_or_init(|| Frames {
            frames: messages
                .iter()
                .map(|message| self.encode(message, encoding))
                .collect(),
            revision: to,
        })
        .clone()
    }

    /// What a client with a copy of `old` as of `from` has to be told when its view becomes `new`, and
    /// the present revision.
    pub fn turn(&self, old: &View, new: &View, from: u64) -> (Since, u64) {
        let table = self.table();
        (table.turn(from, old, new), table.revision())
    }

    fn encode(&self, message: &ServerMessage, encoding: Encoding) -> Bytes {
        self.encodes.fetch_add(1, Ordering::Relaxed);
        codec::encode(message, encoding)
    }

    /// How many messages were encoded: as many as there were different ones, not as many as were sent.
    pub fn encodes(&self) -> u64 {
        self.encodes.load(Ordering::Relaxed)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use skytower_api_client::Kind;
    use skytower_api_client::entity::Job;
    use std::collections::BTreeSet;

    /// Rows that change; few, so that they change often.
    const ROWS: i64 = 12;

    fn row(id: i64, words: &str) -> Change {
        Change::Upsert(Arc::new(Entity::Job(Job {
            key: Key::new("prod", Kind::Job, format_args!("{id}/0")),
            source: "prod".into(),
            job_id: id,
            job_name: words.into(),
            ..Job::default()
        })))
    }

    fn removal(id: i64) -> Change {
        Change::Remove {
            kind: Kind::Job,
            key: Key::new("prod", Kind::Job, format_args!("{id}/0")),
            reason: "over".into(),
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// However much happened while clients did not read: each gets every row at most once, and what
        /// the hub keeps for all of them together stays within its bounds.
        #[test]
        fn what_was_missed_is_folded_and_what_is_kept_is_bounded(
            changes in prop::collection::vec((0..ROWS, prop::option::of("[a-z]{0,40}")), 1..300),
            stuck in prop::collection::btree_set(0usize..300, 1..100),
        ) {
            let hub = Hub::new();
            let view = View::everything();
            let mut cursors = BTreeSet::from([hub.revision()]);
            for (number, (id, words)) in changes.into_iter().enumerate() {
                hub.commit([words.map_or_else(|| removal(id), |words| row(id, &words))]);
                if stuck.contains(&number) {
                    cursors.insert(hub.revision());
                }
                // Somebody reads meanwhile, so that there is something to keep.
                hub.frames(&view, Encoding::Zstd, Some(hub.revision().saturating_sub(1)));
            }
            let mut largest = 0;
            for from in cursors {
                let frames = hub.frames(&view, Encoding::Zstd, Some(from));
                largest = largest.max(frames.frames.iter().map(Bytes::len).sum::<usize>());
                let mut told = BTreeSet::new();
                for frame in frames.frames.iter() {
                    let message = codec::decode_binary(frame).unwrap().unwrap();
                    let keys: Vec<Key> = match message {
                        ServerMessage::Delta { changes, .. } => {
                            changes.iter().map(|change| change.key().clone()).collect()
                        }
                        ServerMessage::Snapshot { rows, .. } => {
                            rows.iter().map(|row| row.key().clone()).collect()
                        }
                        _ => Vec::new(),
                    };
                    for key in keys {
                        prop_assert!(told.insert(key.clone()), "{key} was told twice");
                    }
                }
                prop_assert!(told.len() <= ROWS as usize);
                let cache = hub.cache();
                prop_assert!(cache.0.len() <= CACHE_LIMIT);
                prop_assert!(cache.bytes() <= CACHE_BYTES + largest);
            }
        }
    }
}
