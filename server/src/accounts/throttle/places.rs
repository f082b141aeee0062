//! What is known of where attempts come from.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::{MAX_ENTRIES, Place};

/// The most addresses that have a free attempt, in half an hour.
pub const MAX_SPENT: usize = 8192;
/// An attempt is remembered for this long, and at most for twice as long.
pub(super) const PERIOD: Duration = Duration::from_secs(30 * 60);
/// From so many addresses one user is remembered to have signed in.
const MAX_KNOWN: usize = 16;

/// How a free attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Attempt {
    /// Not known yet, and for ever so when the one who asked went away.
    Open,
    Failed,
}

/// The addresses that have had their free attempt lately. It is spent when it is asked for: many at once
/// would all be free otherwise.
#[derive(Default)]
pub(super) struct Spent {
    present: HashMap<Place, Attempt>,
    before: HashMap<Place, Attempt>,
    since: Duration,
}

impl Spent {
    /// There is no free attempt from there; or too many others had one to remember each.
    pub(super) fn contains(&mut self, place: Place, now: Duration) -> bool {
        self.turn(now);
        self.present.len() >= MAX_SPENT
            || self.present.contains_key(&place)
            || self.before.contains_key(&place)
    }

    pub(super) fn spend(&mut self, place: Place, now: Duration) {
        if !self.contains(place, now) {
            self.present.insert(place, Attempt::Open);
        }
    }

    pub(super) fn failed(&mut self, place: Place, now: Duration) {
        self.turn(now);
        if self.present.len() < MAX_SPENT || self.present.contains_key(&place) {
            self.present.insert(place, Attempt::Failed);
        }
    }

    /// Nothing was gained by the attempt that is not its owner's.
    pub(super) fn give_back(&mut self, place: Place) {
        for places in [&mut self.present, &mut self.before] {
            if places.get(&place) == Some(&Attempt::Open) {
                places.remove(&place);
            }
        }
    }

    fn turn(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.since);
        if passed < PERIOD {
            return;
        }
        self.before = std::mem::take(&mut self.present);
        if passed >= PERIOD * 2 {
            self.before.clear();
        }
        self.since = now;
    }
}

/// The addresses from which users have signed in. Only who has a password gets in here, and nobody
/// pushes out another one's addresses by signing in from many.
#[derive(Default)]
pub(super) struct Known(HashMap<String, Signed>);

#[derive(Default)]
struct Signed {
    /// The one that was used last is the last.
    places: VecDeque<Place>,
    at: Duration,
}

impl Known {
    pub(super) fn contains(&self, name: &str, place: Place) -> bool {
        self.0
            .get(name)
            .is_some_and(|signed| signed.places.contains(&place))
    }

    pub(super) fn add(&mut self, name: String, place: Place, now: Duration) {
        if self.0.len() >= MAX_ENTRIES && !self.0.contains_key(&name) {
            let oldest = self.0.iter().min_by_key(|(_, signed)| signed.at);
            if let Some(name) = oldest.map(|(name, _)| name.clone()) {
                self.0.remove(&name);
            }
        }
        let signed = self.0.entry(name).or_default();
        signed.at = now;
        signed.places.retain(|known| *known != place);
        if signed.places.len() == MAX_KNOWN {
            signed.places.pop_front();
        }
        signed.places.push_back(place);
    }
}
