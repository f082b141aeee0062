//! Where a row was at which revision.

use super::STAYS_LIMIT;
use crate::policy::{OwnedReach, Reach, View};

/// Who could see a key at which revision. A copy as of a revision holds the row exactly if its holder
/// could see the row where it was *then*: it, and nobody else, has to be told when the row is not to be
/// seen any more.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail {
    /// The revision at which it came to where it is (or at which it departed).
    pub(super) since: u64,
    /// Where it was before, in order. Gaps are times at which it was not there.
    past: Vec<Stay>,
}

#[derive(Clone, Debug)]
struct Stay {
    since: u64,
    /// The first revision at which it was not there any more.
    until: u64,
    reach: OwnedReach,
}

impl Trail {
    /// It is there from `revision` on.
    pub(super) fn from(revision: u64) -> Self {
        Self {
            since: revision,
            past: Vec::new(),
        }
    }

    /// It departed, and is there again.
    pub(super) fn back(self, revision: u64) -> Self {
        Self {
            since: revision,
            ..self
        }
    }

    /// It leaves `reach` at `revision`.
    pub(super) fn leave(&mut self, reach: Reach<'_>, revision: u64) {
        // Within one revision it was never seen there.
        if revision > self.since {
            self.past.push(Stay {
                since: self.since,
                until: revision,
                reach: reach.into(),
            });
        }
        self.since = revision;
    }

    /// Could a copy of `view` as of `revision`, when it was not yet where it is, hold it.
    pub(super) fn seen_before(&self, revision: u64, view: &View) -> bool {
        self.past.iter().any(|stay| {
            (stay.since..stay.until).contains(&revision) && view.allows(stay.reach.as_reach())
        })
    }

    /// Forgets what no cursor can ask for, and the oldest when there is too much of it. Returns the
    /// horizon from then on.
    pub(super) fn prune(&mut self, horizon: u64) -> u64 {
        self.past.retain(|stay| stay.until > horizon);
        if self.past.len() > STAYS_LIMIT {
            return self.past.remove(0).until;
        }
        horizon
    }
}
