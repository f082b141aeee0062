//! How often to ask: quick where it is cheap, slower as answers take longer, slow when nobody watches.

use std::time::Duration;

/// The waits between looks.
#[derive(Clone, Debug)]
pub struct Pace {
    /// Between two looks at SkyPilot's requests: the cheap sign that something changed.
    pub requests: Duration,
    /// Between two looks at clusters, at least.
    pub clusters: Duration,
    /// Between two looks at managed jobs, at least.
    pub jobs: Duration,
    /// Between two looks at the latest finished jobs.
    pub history: Duration,
    /// How many finished jobs to read at the start, and to keep.
    pub history_rows: usize,
    /// Between two looks at services and pools, at least.
    pub serve: Duration,
    /// Between two looks at users, workspaces and infrastructure.
    pub slow: Duration,
    /// Between two looks at what somebody has in front of him, at least.
    pub focus: Duration,
    /// How long managed jobs are followed closely after a sign that some are being cancelled.
    pub hurry: Duration,
    /// Between two probes of the server's health.
    pub health: Duration,
    /// The least time between two looks at one list, however often it is asked for.
    pub gap: Duration,
    /// How much longer to wait when nobody watches.
    pub unwatched: u32,
    /// How long an answer may take: the first after a restart of SkyPilot takes 40 s and more.
    pub deadline: Duration,
    /// How long a row that disappeared stays, with the reason.
    pub tombstone: Duration,
    /// How often the times of the last looks are published when nothing else changed.
    pub publish: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            requests: Duration::from_secs(1),
            clusters: Duration::from_secs(2),
            jobs: Duration::from_secs(5),
            history: Duration::from_mins(2),
            history_rows: 2000,
            serve: Duration::from_secs(10),
            slow: Duration::from_secs(30),
            focus: Duration::from_secs(4),
            hurry: Duration::from_secs(40),
            health: Duration::from_secs(10),
            gap: Duration::from_millis(500),
            unwatched: 10,
            deadline: Duration::from_mins(2),
            tombstone: Duration::from_hours(1),
            publish: Duration::from_secs(5),
        }
    }
}

/// The wait after a look that took `took`: between `floor` and six times that, so that a slow server
/// is asked less often; longer after `failures` in a row, and when nobody watches.
pub(super) fn wait(floor: Duration, took: Duration, failures: u32, slower: u32) -> Duration {
    let calm = (took * 3).clamp(floor, floor * 6);
    let after_failures = floor
        .saturating_mul(1 << failures.min(6))
        .min(Duration::from_mins(1).max(floor));
    let failing = if failures == 0 { floor } else { after_failures };
    calm.max(failing).max(floor * slower)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: fn(u64) -> Duration = Duration::from_secs;

    #[test]
    fn a_slow_server_is_asked_less_often_but_not_forgotten() {
        assert_eq!(wait(S(5), S(0), 0, 1), S(5));
        assert_eq!(wait(S(5), S(3), 0, 1), S(9));
        assert_eq!(wait(S(5), S(60), 0, 1), S(30));
    }

    #[test]
    fn failures_and_an_empty_room_make_it_slower() {
        assert_eq!(wait(S(2), S(0), 3, 1), S(16));
        assert_eq!(wait(S(2), S(0), 30, 1), S(60));
        assert_eq!(wait(S(2), S(0), 0, 10), S(20));
        assert_eq!(wait(S(2), S(3), 0, 10), S(20));
    }
}
