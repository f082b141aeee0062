//! Which rows somebody looks at, counted over all connections and requests under way: the source hears
//! of the first who looks and of the last who stops.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use skytower_api_client::Key;

use crate::source::Source;

/// A row is looked at again at most this often, however many ask.
const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// Rows that one onlooker can look at. A screen shows one, sometimes two.
const FOCUS_LIMIT: usize = 32;

/// Who looks at what.
pub(crate) struct Attention {
    sources: Arc<[Arc<dyn Source>]>,
    ledger: Mutex<Ledger>,
}

#[derive(Default)]
struct Ledger {
    looking: BTreeMap<Key, usize>,
    refreshed: BTreeMap<Key, Instant>,
}

impl Attention {
    pub(crate) fn new(sources: Arc<[Arc<dyn Source>]>) -> Arc<Self> {
        Arc::new(Self {
            sources,
            ledger: Mutex::default(),
        })
    }

    /// The looks of one onlooker; all end when it is dropped.
    pub(crate) fn gaze(self: &Arc<Self>) -> Gaze {
        Gaze {
            attention: self.clone(),
            keys: BTreeSet::new(),
            unseen: BTreeSet::new(),
        }
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn source(&self, key: &Key) -> Option<&Arc<dyn Source>> {
        self.sources
            .iter()
            .find(|source| **source.name() == *key.source())
    }

    /// The source is told under the lock, so that two connections cannot tell it in the wrong order.
    fn look(&self, key: &Key) {
        let mut ledger = self.ledger();
        let count = ledger.looking.entry(key.clone()).or_default();
        *count += 1;
        if *count == 1
            && let Some(source) = self.source(key)
        {
            source.focus(key, true);
        }
    }

    fn look_away(&self, key: &Key) {
        let mut ledger = self.ledger();
        let Some(count) = ledger.looking.get_mut(key) else {
            return;
        };
        *count -= 1;
        if *count == 0 {
            ledger.looking.remove(key);
            if let Some(source) = self.source(key) {
                source.focus(key, false);
            }
        }
    }

    fn refresh(&self, key: &Key, now: Instant) {
        let mut ledger = self.ledger();
        ledger
            .refreshed
            .retain(|_, at| now.saturating_duration_since(*at) < REFRESH_EVERY);
        if ledger.refreshed.contains_key(key) {
            return;
        }
        ledger.refreshed.insert(key.clone(), now);
        if let Some(source) = self.source(key) {
            source.refresh(key);
        }
    }
}

/// The looks of one connection, or of one request under way.
pub(crate) struct Gaze {
    attention: Arc<Attention>,
    keys: BTreeSet<Key>,
    /// Rows that the onlooker would look at and may not see. No source hears of them; they count as if
    /// they were not there, so that nothing tells that they are.
    unseen: BTreeSet<Key>,
}

impl Gaze {
    /// Looks at a row, or only seems to where it is not for the onlooker. False: at too many already.
    pub(crate) fn focus(&mut self, key: Key, seen: bool) -> bool {
        if self.keys.contains(&key) || self.unseen.contains(&key) {
            return true;
        }
        if self.keys.len() + self.unseen.len() >= FOCUS_LIMIT {
            return false;
        }
        if seen {
            self.attention.look(&key);
            self.keys.insert(key);
        } else {
            self.unseen.insert(key);
        }
        true
    }

    pub(crate) fn unfocus(&mut self, key: &Key) {
        self.unseen.remove(key);
        if self.keys.remove(key) {
            self.attention.look_away(key);
        }
    }

    /// What is no longer seen is no longer looked at, and what is seen now is.
    pub(crate) fn review(&mut self, seen: impl Fn(&Key) -> bool) {
        let all = self.keys.iter().chain(&self.unseen);
        let (now, not): (Vec<Key>, Vec<Key>) = all.cloned().partition(&seen);
        for key in not {
            if self.keys.remove(&key) {
                self.attention.look_away(&key);
                self.unseen.insert(key);
            }
        }
        for key in now {
            if self.unseen.remove(&key) {
                self.attention.look(&key);
                self.keys.insert(key);
            }
        }
    }

    pub(crate) fn refresh(&self, key: &Key) {
        self.attention.refresh(key, Instant::now());
    }
}

impl Drop for Gaze {
    fn drop(&mut self) {
        for key in &self.keys {
            self.attention.look_away(key);
        }
    }
}
