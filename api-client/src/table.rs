//! The state: rows, the revision that last changed each, and what has departed.
//!
//! The server leads ([`Table::commit`]) and a client follows ([`Table::apply`]); both hold this one
//! type. *What changed since this cursor, as this caller may see it* is one function,
//! [`Table::since`]: it answers the first connection, the reconnection, the live tick and the slow
//! client alike, so there is no queue per client, and falling behind merely makes the next answer
//! larger.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::entity::Entity;
use crate::key::Key;
use crate::kind::Kind;
use crate::policy::View;
use crate::text::Text;
use crate::wire::{Change, SNAPSHOT_CHUNK, ServerMessage};

/// How many departures are remembered. A cursor older than the oldest of them gets a snapshot.
const DEPARTED_LIMIT: usize = 20_000;

#[derive(Clone, Debug)]
struct Slot {
    row: Arc<Entity>,
    /// The revision that last changed the row.
    changed: u64,
    /// The row moved between workspaces: until `revision` it was in `workspace`. Needed so that
    /// those who could see it there, and only those, are told that it left.
    moved: Option<Moved>,
}

#[derive(Clone, Debug)]
struct Moved {
    revision: u64,
    workspace: Option<Text>,
}

#[derive(Clone, Debug)]
struct Departed {
    kind: Kind,
    revision: u64,
    reason: Text,
    /// The workspace it was last seen in.
    workspace: Option<Text>,
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
    /// Keys by the revision that last touched them, rows and departures alike.
    order: BTreeSet<(u64, Key)>,
    departed: BTreeMap<Key, Departed>,
    /// Cursors older than this cannot be served by a delta.
    horizon: u64,
    /// A follower between the first snapshot message and `ready`: the keys named so far.
    resetting: Option<BTreeSet<Key>>,
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
        let rows = self.rows.entry(row.kind()).or_default();
        let before = rows.get(&key);
        if before.is_some_and(|slot| slot.row == row) {
            return None;
        }
        let moved = match before {
            Some(slot) if slot.row.workspace() != row.workspace() => Some(Moved {
                revision,
                workspace: slot.row.workspace().cloned(),
            }),
            Some(slot) => slot.moved.clone(),
            // It was here before under the same key: whoever saw it then knows it as departed.
            None => self
                .departed
                .get(&key)
                .filter(|gone| gone.workspace.as_ref() != row.workspace())
                .map(|gone| Moved {
                    revision: gone.revision,
                    workspace: gone.workspace.clone(),
                }),
        };
        if let Some(slot) = before {
            self.order.remove(&(slot.changed, key.clone()));
        } else if let Some(gone) = self.departed.remove(&key) {
            self.order.remove(&(gone.revision, key.clone()));
        }
        self.order.insert((revision, key.clone()));
        let slot = Slot {
            row: row.clone(),
            changed: revision,
            moved,
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
        let workspace = slot.row.workspace().cloned();
        self.departed.insert(
            key.clone(),
            Departed {
                kind,
                revision,
                reason,
                workspace,
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
        if from < self.horizon || from > self.revision {
            return Since::Reset;
        }
        let mut changes = Vec::new();
        // From the first key of the next revision on.
        for (_, key) in self.order.range((from + 1, Key::default())..) {
            let Some(kind) = key.kind().filter(|kind| view.wants(*kind)) else {
                continue;
            };
            if let Some(slot) = self.rows.get(&kind).and_then(|rows| rows.get(key)) {
                if view.sees(slot.row.workspace()) {
                    changes.push(Change::Upsert(slot.row.clone()));
                } else if let Some(moved) =
                    slot.moved.as_ref().filter(|moved| moved.revision > from)
                    && view.sees(moved.workspace.as_ref())
                {
                    let reason = Text::from("moved out of your workspaces");
                    changes.push(Change::Remove {
                        kind,
                        key: key.clone(),
                        reason,
                    });
                }
            } else if let Some(gone) = self.departed.get(key)
                && view.sees(gone.workspace.as_ref())
            {
                let reason = gone.reason.clone();
                changes.push(Change::Remove {
                    kind: gone.kind,
                    key: key.clone(),
                    reason,
                });
            }
        }
        Since::Delta(changes)
    }

    /// The whole state as `view` sees it, as messages of bounded size ended by `ready`.
    pub fn snapshot(&self, view: &View) -> Vec<ServerMessage> {
        let revision = self.revision;
        let mut messages = Vec::new();
        for kind in Kind::ALL.iter().copied().filter(|kind| view.wants(*kind)) {
            let rows: Vec<_> = self
                .rows(kind)
                .filter(|row| view.sees(row.workspace()))
                .cloned()
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

    /// What somebody whose rights change from `old` to `new` at the present revision has to be told:
    /// what comes into view, and what leaves it.
    pub fn view_change(&self, old: &View, new: &View) -> Vec<Change> {
        let mut changes = Vec::new();
        for row in self.all() {
            let before = old.wants(row.kind()) && old.sees(row.workspace());
            let after = new.wants(row.kind()) && new.sees(row.workspace());
            if after && !before {
                changes.push(Change::Upsert(row.clone()));
            } else if before && !after {
                let reason = Text::from("no longer yours to see");
                changes.push(Change::Remove {
                    kind: row.kind(),
                    key: row.key().clone(),
                    reason,
                });
            }
        }
        changes
    }

    /// The follower's way to change. A snapshot paints over what is here as it comes in and clears
    /// what it did not name when it is complete, so that a screen shows rows early and never flickers.
    pub fn apply(&mut self, message: ServerMessage) -> Result<Touched, Gap> {
        let mut touched = Touched::default();
        match message {
            ServerMessage::Snapshot { revision, rows, .. } => {
                let mut named = self.resetting.take().unwrap_or_default();
                for row in rows {
                    named.insert(row.key().clone());
                    touched.changes.extend(self.put(row, revision));
                }
                self.resetting = Some(named);
            }
            ServerMessage::Ready { revision } => {
                let named = self.resetting.take().unwrap_or_default();
                let stale: Vec<(Kind, Key)> = self
                    .all()
                    .filter(|row| !named.contains(row.key()))
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
                        Change::Upsert(row) => self.put(row, revision),
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
            ServerMessage::Hello(_) | ServerMessage::Error(_) => {}
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

    /// A follower keeps no departures.
    fn drop_row(&mut self, kind: Kind, key: &Key) -> Option<Touch> {
        let slot = self.rows.get_mut(&kind)?.remove(key)?;
        self.order.remove(&(slot.changed, key.clone()));
        Some(Touch {
            key: key.clone(),
            before: Some(slot.row),
            after: None,
        })
    }
}

#[cfg(test)]
mod tests;
