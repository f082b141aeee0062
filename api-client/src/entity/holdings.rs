//! How much somebody has: counted from the rows, and shown to each as far as they see those rows.

use super::{Entity, User};
use crate::kind::Kind;
use crate::phase::{Phase, phase_of};
use crate::policy::{OwnedReach, Reach};

/// How much somebody has.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Holdings {
    /// Clusters that are up or coming up.
    pub clusters: u32,
    /// Managed jobs that run or wait.
    pub jobs: u32,
    /// Of those, the ones that wait.
    pub jobs_pending: u32,
    /// Managed jobs that failed.
    pub jobs_failed: u32,
    /// Services that are not down.
    pub services: u32,
    /// Accelerators held by clusters.
    pub gpus: f64,
}

/// A part of what somebody has: that of the rows of one reach.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Holding {
    /// Who may know of it.
    pub reach: OwnedReach,
    /// How much it is.
    pub has: Holdings,
}

impl Holdings {
    /// Counts one row of theirs.
    pub fn add(&mut self, row: &Entity) {
        let over = row.phase().is_over();
        match row {
            Entity::Cluster(cluster) if !over && cluster.phase != Phase::Stopped => {
                self.clusters += 1;
                self.gpus += cluster.gpus.unwrap_or(0.0);
            }
            Entity::Job(job) => {
                self.jobs += u32::from(!over);
                self.jobs_pending += u32::from(job.phase == Phase::Pending);
                self.jobs_failed += u32::from(job.phase == Phase::Failed);
            }
            Entity::Service(service) if service.phase != Phase::Gone => self.services += 1,
            _ => {}
        }
    }
}

impl User {
    /// Sets what they have, part by part: the counts are of what everybody may see, and the rest is kept
    /// beside them. `listed` means that everybody may know of them, whatever they have.
    pub fn set_holdings(&mut self, parts: impl IntoIterator<Item = Holding>, listed: bool) {
        let mut everybody_knows = listed;
        self.known_by.clear();
        self.put(&Holdings::default());
        self.holdings.clear();
        for part in parts {
            if part.reach == OwnedReach::Everybody {
                everybody_knows = true;
                self.put(&part.has);
                continue;
            }
            self.known_by.push(part.reach.clone());
            // That there is nothing to count is no news either.
            if part.has != Holdings::default() {
                self.holdings.push(part);
            }
        }
        self.holdings.sort_by(|a, b| a.reach.cmp(&b.reach));
        self.known_by.sort_unstable();
        if everybody_knows {
            self.known_by.clear();
        }
        self.say_whether_active();
    }

    /// It is not the same for all.
    pub(crate) fn is_of_parts(&self) -> bool {
        !self.holdings.is_empty() || !self.known_by.is_empty()
    }

    /// The row for somebody who sees these parts of it.
    pub(crate) fn counting(&self, sees: impl Fn(Reach<'_>) -> bool) -> Self {
        let mut row = self.clone();
        row.known_by = Vec::new();
        for part in std::mem::take(&mut row.holdings) {
            if sees(part.reach.as_reach()) {
                row.clusters += part.has.clusters;
                row.jobs += part.has.jobs;
                row.jobs_pending += part.has.jobs_pending;
                row.jobs_failed += part.has.jobs_failed;
                row.services += part.has.services;
                row.gpus += part.has.gpus;
            }
        }
        row.say_whether_active();
        row
    }

    /// Apart from what only some may know, it is the same row.
    pub(crate) fn is_openly(&self, other: &Self) -> bool {
        let open = |row: &Self| Self {
            holdings: Vec::new(),
            known_by: Vec::new(),
            ..row.clone()
        };
        open(self) == open(other)
    }

    fn put(&mut self, has: &Holdings) {
        self.clusters = has.clusters;
        self.jobs = has.jobs;
        self.jobs_pending = has.jobs_pending;
        self.jobs_failed = has.jobs_failed;
        self.services = has.services;
        self.gpus = has.gpus;
    }

    fn say_whether_active(&mut self) {
        let active = self.clusters + self.jobs + self.services > 0;
        self.status = if active { "active" } else { "idle" }.into();
        self.phase = phase_of(Kind::User, &self.status);
    }
}
