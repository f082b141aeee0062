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

    fn fill(&mut self, now: Instant) {
        let passed: Duration = now.saturating_duration_since(self.at);
        self.at = now;
        let filled = self.tokens + passed.as_secs_f64() * self.per_second;
        self.tokens = filled.min(self.per_second * BURST);
    }

    /// Takes so many, whether they are there or not: how long it is until they will have been.
    pub(crate) fn owe(&mut self, count: usize, now: Instant) -> Duration {
        self.fill(now);
        self.tokens -= count as f64;
        Duration::try_from_secs_f64(-self.tokens / self.per_second).unwrap_or_default()
    }

    /// Takes one; false when there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
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
    fn what_was_taken_in_advance_is_waited_for() {
        let begin = Instant::now();
        let mut pace = Pace::new(100, begin);
        assert_eq!(pace.owe(300, begin), Duration::ZERO);
        assert_eq!(pace.owe(50, begin), Duration::from_millis(500));
        let later = begin + Duration::from_millis(500);
        assert_eq!(pace.owe(0, later), Duration::ZERO);
        assert_eq!(pace.owe(100, later), Duration::from_secs(1));
    }

    #[test]
    fn whoever_keeps_to_the_pace_is_never_refused() {
        let begin = Instant::now();
        let mut pace = Pace::new(100, begin);
        let steady = |i: u64| begin + Duration::from_millis(10 * i);
        assert!((0..100_000).all(|i| pace.take(steady(i))));
    }
}
