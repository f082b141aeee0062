//! The state: rows, the revision that last changed each, and what has departed.
//!
//! The server leads ([`Table::commit`]) and a client follows ([`Table::apply`]); both hold this one
//! type. *What changed since this cursor, as this caller may see it* is one function,
//! [`Table::since`]: it answers the first connection, the reconnection, the live tick and the slow
//! client alike, so there is no queue per client, and falling behind merely makes the next answer
//! larger.

mod parts;
mod trail;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use crate::entity::Entity;
use crate::key::Key;
use crate::kind::Kind;
use crate::policy::{OwnedReach, View};
use crate::text::Text;
use crate::wire::{Change, SNAPSHOT_CHUNK, ServerMessage};
use parts::Parts;
use trail::Trail;

/// How many departures are remembered. A cursor older than the oldest of them gets a snapshot.
const DEPARTED_LIMIT: usize = if cfg!(test) { 4 } else { 20_000 };

/// How many earlier workspaces of one row are remembered, and how many former parts of one.
const STAYS_LIMIT: usize = if cfg!(test) { 2 } else { 16 };

#[derive(Clone, Debug)]
struct Slot {
    row: Arc<Entity>,
    /// The revision that last changed the row.
    changed: u64,
    parts: Parts,
    trail: Trail,
}

#[derive(Clone, Debug)]
struct Departed {
    kind: Kind,
    revision: u64,
    reason: Text,
    /// Who could see it last: others are not told why it departed.
    reach: OwnedReach,
    trail: Trail,
}

const MOVED_OUT: &str = "moved out of your workspaces";
const NOT_YOURS: &str = "no longer yours to see";

impl Slot {
    /// Does a copy of `view` as of `revision` hold the row.
    fn held(&self, revision: u64, view: &View) -> bool {
        if revision >= self.trail.since {
            view.sees(&self.row)
        } else {
            self.trail.seen_before(revision, view)
        }
    }

    /// May a copy of `old` as of `revision`, which holds the row, hold another one than `new` sees now.
    fn is_other(&self, revision: u64, old: &View, new: &View) -> bool {
        let changed = |view| self.parts.changed(view, self.changed) > revision;
        let differs = || old.project(&self.row) != new.project(&self.row);
        changed(old) || changed(new) || self.parts.are_several() && differs()
    }

    /// Does a copy of `view` as of `revision` hold another row than is to be seen now.
    fn is_news(&self, revision: u64, view: &View) -> bool {
        self.parts.changed(view, self.changed) > revision || !self.held(revision, view)
    }
}

fn removal(kind: Kind, key: &Key, reason: &str) -> Change {
    Change::Remove {
        kind,
        key: key.clone(),
        reason: Text::from(reason),
    }
}

/// What a client has to be told.
#[derive(Clone, Debug, PartialEq)]
pub enum Since {
    /// Nothing.
    Nothing,
    /// These changes bring it up to date.
    Delta(Vec<Change>),
    /// Its cursor is of no use: it needs everything.
    Reset,
}

/// What an applied message changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Touched {
    /// The kinds with changed rows.
    pub kinds: BTreeSet<Kind>,
    /// Rows that came, changed or left, with what they were before.
    pub changes: Vec<Touch>,
}

/// One row that came, changed or left.
#[derive(Clone, Debug, PartialEq)]
pub struct Touch {
    /// Its key.
    pub key: Key,
    /// The row before; none when it is new.
    pub before: Option<Arc<Entity>>,
    /// The row after; none when it left.
    pub after: Option<Arc<Entity>>,
}

/// A message did not fit the follower's state; it has to resume.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Gap {
    /// A delta that does not follow the present revision.
    #[error("the server sent changes after revision {since}, but revision {have} is what is here")]
    Missing {
        /// What the delta follows.
        since: u64,
        /// What is here.
        have: u64,
    },
    /// A revision that does not rise.
    #[error("the server went back from revision {have} to {got}")]
    Backwards {
        /// What is here.
        have: u64,
        /// What was sent.
        got: u64,
    },
}

/// All rows at one revision.
#[derive(Clone, Debug, Default)]
pub struct Table {
    revision: u64,
    rows: BTreeMap<Kind, BTreeMap<Key, Slot>>,
    /// Keys by the revision that last touched them, rows and departures alike. A follower answers nobody
    /// and has none.
    order: BTreeSet<(u64, Key)>,
    departed: BTreeMap<Key, Departed>,
    /// Cursors older than this cannot be served by a delta.
    horizon: u64,
    /// A follower between the first snapshot message and `ready`.
    resetting: Option<Reset>,
}

/// A snapshot that is coming in.
#[derive(Clone, Debug)]
struct Reset {
    /// There was nothing before it: whatever is here is named by it.
    afresh: bool,
    /// The keys named so far, when they are of use.
    named: HashSet<Key>,
}

impl Table {
    /// An empty state at revision 0.
    pub fn new() -> Self {
        Self::default()
    }

    /// The present revision.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The row of a key.
    pub fn get(&self, key: &Key) -> Option<&Arc<Entity>> {
        self.rows.get(&key.kind()?)?.get(key).map(|slot| &slot.row)
    }

    /// The rows of a kind, by key.
    pub fn rows(&self, kind: Kind) -> impl Iterator<Item = &Arc<Entity>> + '_ {
        self.rows
            .get(&kind)
            .into_iter()
            .flat_map(|rows| rows.values().map(|slot| &slot.row))
    }

    /// All rows, kind by kind.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Entity>> + '_ {
        self.rows
            .values()
            .flat_map(|rows| rows.values().map(|slot| &slot.row))
    }

    /// How many rows of a kind there are.
    pub fn len(&self, kind: Kind) -> usize {
        self.rows.get(&kind).map_or(0, BTreeMap::len)
    }

    /// No rows at all.
    pub fn is_empty(&self) -> bool {
        self.rows.values().all(BTreeMap::is_empty)
    }

    /// The leader's way to change: all of `changes` at one new revision. Rows that are equal to what
    /// is here and removals of what is not here burn no revision. Returns what really changed.
    pub fn commit(&mut self, changes: impl IntoIterator<Item = Change>) -> Vec<Touch> {
        let revision = self.revision + 1;
        let mut touched = Vec::new();
        for change in changes {
            let touch = match change {
                Change::Upsert(row) => self.put(row, revision),
                Change::Remove { kind, key, reason } => self.depart(kind, key, reason, revision),
            };
            touched.extend(touch);
        }
        if !touched.is_empty() {
            self.revision = revision;
            self.forget_old_departures();
        }
        touched
    }

    fn put(&mut self, row: Arc<Entity>, revision: u64) -> Option<Touch> {
        let key = row.key().clone();
        // A key that names another kind could never be found again.
        if key.kind() != Some(row.kind()) {
            return None;
        }
        let rows = self.rows.entry(row.kind()).or_default();
        let before = rows.get_mut(&key);
        if before.as_ref().is_some_and(|slot| slot.row == row) {
            return None;
        }
        let (mut trail, mut parts) = if let Some(slot) = before {
            self.order.remove(&(slot.changed, key.clone()));
            let mut trail = std::mem::take(&mut slot.trail);
            if slot.row.reach() != row.reach() {
                trail.leave(slot.row.reach(), revision);
            }
            let mut parts = std::mem::take(&mut slot.parts);
            parts.change(&slot.row, &row, slot.changed, revision);
            (trail, parts)
        } else {
            // It may have been here before under the same key.
            let trail = match self.departed.remove(&key) {
                Some(gone) => {
                    self.order.remove(&(gone.revision, key.clone()));
                    gone.trail.back(revision)
                }
                None => Trail::from(revision),
            };
            (trail, Parts::of(&row, revision))
        };
        self.horizon = trail.prune(self.horizon);
        self.horizon = parts.prune(&row, self.horizon);
        self.order.insert((revision, key.clone()));
        let slot = Slot {
            row: row.clone(),
            changed: revision,
            parts,
            trail,
        };
        let before = rows.insert(key.clone(), slot).map(|slot| slot.row);
        Some(Touch {
            key,
            before,
            after: Some(row),
        })
    }

    fn depart(&mut self, kind: Kind, key: Key, reason: Text, revision: u64) -> Option<Touch> {
        let slot = self.rows.get_mut(&kind)?.remove(&key)?;
        self.order.remove(&(slot.changed, key.clone()));
        self.order.insert((revision, key.clone()));
        let mut trail = slot.trail;
        trail.leave(slot.row.reach(), revision);
        self.horizon = trail.prune(self.horizon);
        self.departed.insert(
            key.clone(),
            Departed {
                kind,
                revision,
                reason,
                reach: slot.row.reach().into(),
                trail,
            },
        );
        Some(Touch {
            key,
            before: Some(slot.row),
            after: None,
        })
    }

    fn forget_old_departures(&mut self) {
        if self.departed.len() <= DEPARTED_LIMIT {
            return;
        }
        // A quarter at once, so that the walk over the order is paid rarely.
        let goal = DEPARTED_LIMIT - DEPARTED_LIMIT / 4;
        let mut oldest: Vec<(u64, Key)> = self
            .departed
            .iter()
            .map(|(key, gone)| (gone.revision, key.clone()))
            .collect();
        oldest.sort_unstable();
        let excess = oldest.len() - goal;
        for (revision, key) in oldest.into_iter().take(excess) {
            self.horizon = self.horizon.max(revision);
            self.departed.remove(&key);
            self.order.remove(&(revision, key));
        }
    }

    /// What somebody with `view` and a copy as of `from` has to be told. `None` has no copy.
    pub fn since(&self, from: Option<u64>, view: &View) -> Since {
        let Some(from) = from else {
            return Since::Reset;
        };
        if from == self.revision {
            return Since::Nothing;
        }
        if !self.reaches(from) {
            return Since::Reset;
        }
        let mut changes = Vec::new();
        // From the first key of the next revision on.
        for (_, key) in self.order.range((from + 1, Key::default())..) {
            let Some(kind) = key.kind().filter(|kind| view.wants(*kind)) else {
                continue;
            };
            if let Some(slot) = self.rows.get(&kind).and_then(|rows| rows.get(key)) {
                if view.sees(&slot.row) {
                    if slot.is_news(from, view) {
                        changes.push(Change::Upsert(view.project(&slot.row)));
                    }
                } else if slot.held(from, view) {
                    changes.push(removal(kind, key, MOVED_OUT));
                }
            } else if let Some(gone) = self.departed.get(key)
                && gone.trail.seen_before(from, view)
            {
                let told = view.allows(gone.reach.as_reach());
                let reason = if told { &*gone.reason } else { MOVED_OUT };
                changes.push(removal(gone.kind, key, reason));
            }
        }
        Since::Delta(changes)
    }

    /// A cursor that a delta can follow.
    pub fn reaches(&self, from: u64) -> bool {
        (self.horizon..=self.revision).contains(&from)
    }

    /// What somebody with a copy of `old` as of `from` has to be told to have one of `new` as of the
    /// present: what changed, what comes into view and what leaves it. Nothing that `new` does not see
    /// is in it, whether or not `old` did.
    pub fn turn(&self, from: u64, old: &View, new: &View) -> Since {
        if !self.reaches(from) {
            return Since::Reset;
        }
        let mut changes = Vec::new();
        let slots = self
            .rows
            .iter()
            .flat_map(|(kind, rows)| rows.iter().map(move |(key, slot)| (*kind, key, slot)));
        for (kind, key, slot) in slots {
            let held = old.wants(kind) && slot.held(from, old);
            let sees = new.wants(kind) && new.sees(&slot.row);
            if sees {
                if !held || slot.is_other(from, old, new) {
                    changes.push(Change::Upsert(new.project(&slot.row)));
                }
            } else if held {
                changes.push(removal(kind, key, NOT_YOURS));
            }
        }
        for (key, gone) in &self.departed {
            if old.wants(gone.kind) && gone.revision > from && gone.trail.seen_before(from, old) {
                let told = new.allows(gone.reach.as_reach());
                let reason = if told { &*gone.reason } else { NOT_YOURS };
                changes.push(removal(gone.kind, key, reason));
            }
        }
        // Without changes the cursor still has to move: as of `from` the copy was one of `old`.
        if changes.is_empty() && from == self.revision {
            Since::Nothing
        } else {
            Since::Delta(changes)
        }
    }

    /// The whole state as `view` sees it, as messages of bounded size ended by `ready`.
    pub fn snapshot(&self, view: &View) -> Vec<ServerMessage> {
        let revision = self.revision;
        let mut messages = Vec::new();
        for kind in Kind::ALL.iter().copied().filter(|kind| view.wants(*kind)) {
            let rows: Vec<_> = self
                .rows(kind)
                .filter(|row| view.sees(row))
                .map(|row| view.project(row))
                .collect();
            let chunks = rows.len().div_ceil(SNAPSHOT_CHUNK);
            for (i, chunk) in rows.chunks(SNAPSHOT_CHUNK).enumerate() {
                messages.push(ServerMessage::Snapshot {
                    kind,
                    revision,
                    rows: chunk.to_vec(),
                    more: i + 1 < chunks,
                });
            }
        }
        messages.push(ServerMessage::Ready { revision });
        messages
    }

    /// [`Table::turn`] for somebody who is up to date.
    pub fn view_change(&self, old: &View, new: &View) -> Vec<Change> {
        match self.turn(self.revision, old, new) {
            Since::Delta(changes) => changes,
            Since::Nothing | Since::Reset => Vec::new(),
        }
    }

    /// The follower's way to change. A snapshot paints over what is here as it comes in and clears
    /// what it did not name when it is complete, so that a screen shows rows early and never flickers.
    pub fn apply(&mut self, message: ServerMessage) -> Result<Touched, Gap> {
        let mut touched = Touched::default();
        match message {
            ServerMessage::Snapshot { revision, rows, .. } => {
                let mut reset = self.reset();
                for row in rows {
                    if !reset.afresh {
                        reset.named.insert(row.key().clone());
                    }
                    touched.changes.extend(self.follow(row, revision));
                }
                self.resetting = Some(reset);
            }
            ServerMessage::Ready { revision } => {
                let reset = self.reset();
                let stale: Vec<(Kind, Key)> = self
                    .all()
                    .filter(|row| !reset.afresh && !reset.named.contains(row.key()))
                    .map(|row| (row.kind(), row.key().clone()))
                    .collect();
                for (kind, key) in stale {
                    touched.changes.extend(self.drop_row(kind, &key));
                }
                self.revision = revision;
            }
            ServerMessage::Delta {
                since,
                revision,
                changes,
            } => {
                if since != self.revision || self.resetting.is_some() {
                    return Err(Gap::Missing {
                        since,
                        have: self.revision,
                    });
                }
                if revision < self.revision {
                    return Err(Gap::Backwards {
                        have: self.revision,
                        got: revision,
                    });
                }
                for change in changes {
                    let touch = match change {
                        Change::Upsert(row) => self.follow(row, revision),
                        Change::Remove { kind, key, .. } => self.drop_row(kind, &key),
                    };
                    touched.changes.extend(touch);
                }
                self.revision = revision;
            }
            ServerMessage::Heartbeat { revision, .. } => {
                // The server vouches that nothing this client may see changed up to `revision`.
                if self.resetting.is_none() {
                    if revision < self.revision {
                        return Err(Gap::Backwards {
                            have: self.revision,
                            got: revision,
                        });
                    }
                    self.revision = revision;
                }
            }
            // A connection begins, or the rights changed: a snapshot that it interrupts is void.
            ServerMessage::Hello(_) => self.interrupted(),
            ServerMessage::Error(_) => {}
        }
        touched.kinds = touched
            .changes
            .iter()
            .filter_map(|touch| touch.key.kind())
            .collect();
        Ok(touched)
    }

    /// Forgets a snapshot that was cut off; what it brought stays until the next one is complete.
    pub fn interrupted(&mut self) {
        self.resetting = None;
    }

    fn reset(&mut self) -> Reset {
        self.resetting.take().unwrap_or_else(|| Reset {
            afresh: self.is_empty(),
            named: HashSet::new(),
        })
    }

    /// A follower keeps neither order nor trails: nobody asks it.
    fn follow(&mut self, row: Arc<Entity>, revision: u64) -> Option<Touch> {
        let key = row.key().clone();
        if key.kind() != Some(row.kind()) {
            return None;
        }
        let before = match self.rows.entry(row.kind()).or_default().entry(key.clone()) {
            Entry::Occupied(mut there) => {
                let slot = there.get_mut();
                if slot.row == row {
                    return None;
                }
                slot.changed = revision;
                Some(std::mem::replace(&mut slot.row, row.clone()))
            }
            Entry::Vacant(place) => {
                place.insert(Slot {
                    row: row.clone(),
                    changed: revision,
                    parts: Parts::default(),
                    trail: Trail::default(),
                });
                None
            }
        };
        Some(Touch {
            key,
            before,
            after: Some(row),
        })
    }

    /// A follower keeps no departures.
    fn drop_row(&mut self, kind: Kind, key: &Key) -> Option<Touch> {
        let slot = self.rows.get_mut(&kind)?.remove(key)?;
        Some(Touch {
            key: key.clone(),
            before: Some(slot.row),
            after: None,
        })
    }
}

#[cfg(test)]
mod tests;
