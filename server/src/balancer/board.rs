//! What is counted.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use tokio::sync::Notify;

const MINUTE: usize = 60;

/// Counts, and who wants to know of them.
pub(super) struct Board {
    requests: Cell<u64>,
    failures: Cell<u64>,
    minute: RefCell<Minute>,
    /// Something is not as it was written down last.
    pub(super) changed: Notify,
    /// A connection is kept for the next request.
    pub(super) kept: Notify,
}

impl Board {
    pub(super) fn new() -> Self {
        Self {
            requests: Cell::new(0),
            failures: Cell::new(0),
            minute: RefCell::new(Minute::new(Instant::now())),
            changed: Notify::new(),
            kept: Notify::new(),
        }
    }

    pub(super) fn request(&self) {
        self.requests.set(self.requests.get() + 1);
        self.minute.borrow_mut().count(Instant::now());
        self.changed.notify_one();
    }

    pub(super) fn failure(&self) {
        self.failures.set(self.failures.get() + 1);
        self.changed.notify_one();
    }

    pub(super) fn requests(&self) -> u64 {
        self.requests.get()
    }

    pub(super) fn failures(&self) -> u64 {
        self.failures.get()
    }

    pub(super) fn requests_per_second(&self) -> f64 {
        f64::from(self.minute.borrow_mut().sum(Instant::now())) / MINUTE as f64
    }
}

/// The requests of each of the last sixty seconds.
struct Minute {
    since: Instant,
    second: u64,
    counts: [u32; MINUTE],
}

impl Minute {
    fn new(now: Instant) -> Self {
        Self {
            since: now,
            second: 0,
            counts: [0; MINUTE],
        }
    }

    fn turn(&mut self, now: Instant) -> usize {
        let second = now.duration_since(self.since).as_secs();
        let passed = second.saturating_sub(self.second).min(MINUTE as u64);
        for back in 0..passed {
            self.counts[(second - back) as usize % MINUTE] = 0;
        }
        self.second = second;
        second as usize % MINUTE
    }

    fn count(&mut self, now: Instant) {
        let at = self.turn(now);
        self.counts[at] = self.counts[at].saturating_add(1);
    }

    fn sum(&mut self, now: Instant) -> u32 {
        self.turn(now);
        self.counts
            .iter()
            .fold(0, |all, count| all.saturating_add(*count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_request_counts_for_a_minute() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut minute = Minute::new(start);
        minute.count(at(0));
        minute.count(at(0));
        minute.count(at(30));
        assert_eq!(minute.sum(at(59)), 3);
        assert_eq!(minute.sum(at(60)), 1);
        minute.count(at(89));
        assert_eq!(minute.sum(at(89)), 2);
        assert_eq!(minute.sum(at(90)), 1);
        assert_eq!(minute.sum(at(1000)), 0);
        minute.count(at(1000));
        assert_eq!(minute.sum(at(1001)), 1);
    }
}
