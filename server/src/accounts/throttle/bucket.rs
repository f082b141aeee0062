//! A leaky bucket that failures fill, and many of them in bounded memory.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use super::MAX_ENTRIES;

/// So many failures cost nothing: people mistype.
pub(super) const FREE: u32 = 5;
/// One failure is forgotten in this time.
pub(super) const DRAIN: Duration = Duration::from_secs(60);
/// More failures are not remembered.
pub(super) const FULL: u32 = 15;
/// Between the first two slots that are spaced.
const FIRST_SPACING: Duration = Duration::from_millis(250);
/// Between two slots at most.
pub(super) const LONGEST_SPACING: Duration = Duration::from_secs(5);
/// The longest that an attempt waits for its slot.
pub(super) const PATIENCE: Duration = Duration::from_secs(8);

/// What is remembered of the failures at one name, or from one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    /// When the last failure is forgotten: how far away that is, is how full the bucket is.
    empty_at: Duration,
    /// The next slot.
    next: Duration,
    /// Slots taken for attempts of which is not known yet how they end.
    open: u32,
}

impl Bucket {
    /// Failures that are not forgotten yet.
    pub(super) fn fill(&self, now: Duration) -> u32 {
        let left = self.empty_at.saturating_sub(now).as_nanos();
        left.div_ceil(DRAIN.as_nanos()) as u32
    }

    /// The next moment at which there is a slot.
    pub(super) fn slot(&self, now: Duration) -> Duration {
        if self.fill(now) < FREE {
            now
        } else {
            self.next.max(now)
        }
    }

    /// The attempt at `slot` takes it, and pushes the next one away. Attempts that are still open are taken
    /// for failures, or many at once would all be spaced as the first.
    pub(super) fn take(&mut self, slot: Duration, now: Duration) {
        let fill = self.fill(now);
        if fill < FREE {
            return;
        }
        if self.next <= now {
            // Who asked and went away is not counted for ever.
            self.open = 0;
        }
        let doublings = (fill - FREE).saturating_add(self.open).min(FULL);
        let spacing = FIRST_SPACING
            .saturating_mul(1 << doublings)
            .min(LONGEST_SPACING);
        self.open = self.open.saturating_add(1);
        // However many fail at once: the next slot is never further away than a few seconds.
        self.next = (slot + spacing).min(now + PATIENCE + LONGEST_SPACING);
    }

    /// It is known how an attempt ended.
    pub(super) fn settle(&mut self) {
        self.open = self.open.saturating_sub(1);
    }

    fn fail(&mut self, now: Duration) {
        self.settle();
        self.empty_at = (self.empty_at.max(now) + DRAIN).min(now + DRAIN * FULL);
    }
}

/// The buckets of names, or of addresses.
pub(super) struct Buckets<K>(HashMap<K, Bucket>);

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Clone + Eq + Hash> Buckets<K> {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn get<Q: ?Sized + Eq + Hash>(&mut self, key: &Q) -> Option<&mut Bucket>
    where
        K: Borrow<Q>,
    {
        self.0.get_mut(key)
    }

    /// Counts a failure. Only failures make buckets, and each of them costs a hashing.
    pub(super) fn fail(&mut self, key: K, now: Duration) -> &mut Bucket {
        let inherited = if self.0.contains_key(&key) {
            Bucket::default()
        } else {
            self.make_room(now)
        };
        let bucket = self.0.entry(key).or_insert(inherited);
        bucket.fail(now);
        bucket
    }

    /// Where there is no room, the one that drains first makes some: that is the emptiest, and of equally
    /// empty ones the oldest. Who comes takes over what it held: nobody has less than what really failed,
    /// so that nobody gains by flooding others out.
    fn make_room(&mut self, now: Duration) -> Bucket {
        if self.0.len() < MAX_ENTRIES {
            return Bucket::default();
        }
        self.0.retain(|_, bucket| bucket.empty_at > now);
        if self.0.len() < MAX_ENTRIES {
            return Bucket::default();
        }
        let emptiest = self
            .0
            .iter()
            .min_by_key(|(_, bucket)| bucket.empty_at)
            .map(|(key, _)| key.clone());
        emptiest
            .and_then(|key| self.0.remove(&key))
            .unwrap_or_default()
    }
}
