//! How fast a client may talk.

use std::time::Duration;

use tokio::time::Instant;

/// So many seconds' worth may come at once.
const BURST: f64 = 3.0;

/// A bucket of tokens: a message takes one, and time fills it up again.
#[derive(Debug)]
pub(crate) struct Pace {
    per_second: f64,
    tokens: f64,
    at: Instant,
}

impl Pace {
    pub(crate) fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self {
            per_second,
            tokens: per_second * BURST,
            at: now,
        }
    }

    /// Takes one; false when there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let passed: Duration = now.saturating_duration_since(self.at);
        self.at = now;
        let filled = self.tokens + passed.as_secs_f64() * self.per_second;
        self.tokens = filled.min(self.per_second * BURST);
        let any = self.tokens >= 1.0;
        if any {
            self.tokens -= 1.0;
        }
        any
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_seconds_worth_come_at_once_and_then_as_many_as_time_allows() {
        let begin = Instant::now();
        let mut pace = Pace::new(10, begin);
        let taken =
            |pace: &mut Pace, at: Duration| (0..1000).filter(|_| pace.take(begin + at)).count();
        assert_eq!(taken(&mut pace, Duration::ZERO), 30);
        assert_eq!(taken(&mut pace, Duration::from_millis(550)), 5);
        // However long it was quiet, it is no more than the burst.
        assert_eq!(taken(&mut pace, Duration::from_hours(1)), 30);
    }

    #[test]
    fn whoever_keeps_to_the_pace_is_never_refused() {
        let begin = Instant::now();
        let mut pace = Pace::new(100, begin);
        let steady = |i: u64| begin + Duration::from_millis(10 * i);
        assert!((0..100_000).all(|i| pace.take(steady(i))));
    }
}
