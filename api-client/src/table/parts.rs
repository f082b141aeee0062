//! Rows that are not the same for all: when each part of one last changed.

use super::STAYS_LIMIT;
use crate::entity::{Entity, Holding, User};
use crate::policy::{OwnedReach, View};

/// When each part of a row last changed, so that whoever does not see a part does not hear of it when
/// only that part changed. Rows of one piece, which is nearly all of them, need no memory for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts(Option<Box<Changes>>);

#[derive(Clone, Debug)]
struct Changes {
    /// The revision that last changed what everybody may see.
    open: u64,
    /// The revision that last changed each other part, also one that is not there any more.
    each: Vec<(OwnedReach, u64)>,
}

fn user(row: &Entity) -> Option<&User> {
    row.as_user()
}

fn part<'a>(of: &'a User, reach: &OwnedReach) -> Option<&'a Holding> {
    of.holdings.iter().find(|part| part.reach == *reach)
}

impl Parts {
    /// The parts of a row that came at `revision`.
    pub(super) fn of(row: &Entity, revision: u64) -> Self {
        let parts = user(row).filter(|user| user.is_of_parts());
        Self(parts.map(|user| {
            let each = user.holdings.iter();
            Box::new(Changes {
                open: revision,
                each: each.map(|part| (part.reach.clone(), revision)).collect(),
            })
        }))
    }

    /// The row, which was last changed at `changed`, becomes another one at `revision`.
    pub(super) fn change(&mut self, before: &Entity, after: &Entity, changed: u64, revision: u64) {
        let (Some(before), Some(after)) = (user(before), user(after)) else {
            *self = Self::of(after, revision);
            return;
        };
        if self.0.is_none() && !before.is_of_parts() && !after.is_of_parts() {
            return;
        }
        let known = self.0.get_or_insert_with(|| {
            Box::new(Changes {
                open: changed,
                each: Vec::new(),
            })
        });
        if !before.is_openly(after) {
            known.open = revision;
        }
        let gone = before.holdings.iter();
        let gone = gone.filter(|old| part(after, &old.reach).is_none());
        let other = after.holdings.iter();
        let other = other.filter(|new| part(before, &new.reach) != Some(new));
        for Holding { reach, .. } in gone.chain(other) {
            match known.each.iter_mut().find(|(known, _)| known == reach) {
                Some((_, at)) => *at = revision,
                None => known.each.push((reach.clone(), revision)),
            }
        }
    }

    /// It is not the same row for all.
    pub(super) fn are_several(&self) -> bool {
        self.0.is_some()
    }

    /// The revision that last changed what `view` sees of the row, which was last changed at `changed`.
    pub(super) fn changed(&self, view: &View, changed: u64) -> u64 {
        let Some(known) = &self.0 else {
            return changed;
        };
        let seen = known.each.iter();
        let seen = seen.filter(|(reach, _)| view.allows(reach.as_reach()));
        seen.map(|(_, at)| *at).fold(known.open, u64::max)
    }

    /// Forgets parts that are not there any more, when no cursor can ask for them, and the oldest of them
    /// when there are too many. Returns the horizon from then on.
    pub(super) fn prune(&mut self, row: &Entity, horizon: u64) -> u64 {
        let Some(known) = &mut self.0 else {
            return horizon;
        };
        let there = |reach: &OwnedReach| user(row).is_some_and(|user| part(user, reach).is_some());
        known
            .each
            .retain(|(reach, at)| *at > horizon || there(reach));
        let gone = known.each.iter().enumerate();
        let gone = gone.filter(|(_, (reach, _))| !there(reach));
        if gone.clone().count() <= STAYS_LIMIT {
            return horizon;
        }
        let oldest = gone.min_by_key(|(_, (_, at))| *at).map(|(place, _)| place);
        oldest.map_or(horizon, |place| known.each.swap_remove(place).1)
    }
}
