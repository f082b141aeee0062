//! Places where a test ends the process as `kill -9` would.

/// Names the place, in the environment of the process that is to end there. Builds for people do not
/// look at it.
pub const FAIL_AT: &str = "SKYTOWER_FAIL_AT";

/// All places: each step of [`super::Keepers::start`] and of a keeper that writes or spawns.
pub const FAIL_POINTS: &[&str] = &[
    "start.folder",
    "start.spec",
    "start.spawned",
    "keeper.begun",
    "keeper.forked",
    "keeper.told",
    "keeper.locked",
    "keeper.reserved",
    "keeper.claimed",
    "keeper.durable",
    "keeper.log_opened",
    "keeper.executed",
    "keeper.recorded",
    "keeper.reported",
    "keeper.log_read",
    "keeper.log_written",
    "keeper.task_ended",
    "keeper.tree_ended",
    "keeper.drained",
    "keeper.exit_written",
    "keeper.exit_durable",
];

pub(super) fn at(place: &str) {
    debug_assert!(FAIL_POINTS.contains(&place), "{place} is not in the table");
    end_if_asked(place);
}

/// Ends this process where that was asked for: places are separated by commas.
#[cfg(debug_assertions)]
pub(crate) fn end_if_asked(place: &str) {
    let asked = std::env::var(FAIL_AT).unwrap_or_default();
    if asked.split(',').any(|asked| asked == place) {
        let this = rustix::process::getpid();
        let _ = rustix::process::kill_process(this, rustix::process::Signal::KILL);
    }
}

/// See the one of builds for tests.
#[cfg(not(debug_assertions))]
pub(crate) fn end_if_asked(_place: &str) {}
