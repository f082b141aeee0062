//! Places where a test ends the server as `kill -9` would, in the course of carrying out an order.

use crate::keeper::fail::end_if_asked;

/// All places, in their order.
pub(crate) const FAIL_POINTS: &[&str] = &[
    "engine.ordered",
    "engine.written",
    "engine.answered",
    "engine.carried_out",
    "engine.shown",
];

pub(super) fn at(place: &str) {
    debug_assert!(FAIL_POINTS.contains(&place), "{place} is not in the table");
    end_if_asked(place);
}
