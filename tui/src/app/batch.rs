//! Requests that were made together: one line tells how all of them fare.

use std::collections::BTreeSet;

use skytower_api_client::Key;

use super::model::Severity;

/// Requests that were made together.
#[derive(Debug)]
pub struct Batch {
    /// What they start: `the sample team`.
    what: &'static str,
    /// What that is, in numbers.
    sum: String,
    /// Asked for and not answered, by their idempotency keys.
    asked: BTreeSet<String>,
    /// Accepted and not over.
    open: BTreeSet<Key>,
    total: usize,
    /// Why some did not do what was asked.
    bad: Vec<String>,
}

impl Batch {
    pub(crate) fn new(what: &'static str, sum: String, asked: BTreeSet<String>) -> Self {
        Self {
            what,
            sum,
            total: asked.len(),
            asked,
            open: BTreeSet::new(),
            bad: Vec::new(),
        }
    }

    /// The answer to one that was asked for. Says whether it is one of these.
    pub(crate) fn answered(&mut self, asked: &str, answer: Result<&Key, String>) -> bool {
        if !self.asked.remove(asked) {
            return false;
        }
        match answer {
            Ok(key) => {
                self.open.insert(key.clone());
            }
            Err(why) => self.bad.push(why),
        }
        true
    }

    /// Is it one of these.
    pub(crate) fn holds(&self, request: &Key) -> bool {
        self.open.contains(request)
    }

    /// One of them is over; with a reason, it did not do what was asked.
    pub(crate) fn over(&mut self, request: &Key, why: Option<String>) {
        if self.open.remove(request) {
            self.bad.extend(why);
        }
    }

    /// None of them is under way any more.
    pub(crate) fn is_over(&self) -> bool {
        self.asked.is_empty() && self.open.is_empty()
    }

    /// How they fare.
    pub(crate) fn said(&self) -> (Severity, String) {
        let (what, total) = (self.what, self.total);
        let over = total - self.asked.len() - self.open.len();
        match self.bad.first() {
            _ if !self.is_over() => (
                Severity::Info,
                format!("Starting {what}: {over} of {total}"),
            ),
            None => (Severity::Good, format!("{what} is here: {}", self.sum)),
            Some(why) => (
                Severity::Bad,
                format!("{what}: {} of {total} not started: {why}", self.bad.len()),
            ),
        }
    }
}
