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

#[cfg(debug_assertions)]
pub(super) fn at(place: &str) {
    debug_assert!(FAIL_POINTS.contains(&place), "{place} is not in the table");
    if std::env::var_os(FAIL_AT).is_some_and(|asked| asked == place) {
        let this = rustix::process::getpid();
        let _ = rustix::process::kill_process(this, rustix::process::Signal::KILL);
    }
}

#[cfg(not(debug_assertions))]
pub(super) fn at(_place: &str) {}
