//! How long to wait before trying again.

use std::time::Duration;

/// Exponential backoff with full jitter between a floor and a ceiling.
#[derive(Clone, Debug)]
pub struct Backoff {
    floor: Duration,
    ceiling: Duration,
    attempt: u32,
}

impl Backoff {
    /// Waits rise from `floor` to `ceiling`; a ceiling below the floor is raised to it.
    pub fn new(floor: Duration, ceiling: Duration) -> Self {
        Self {
            floor,
            ceiling: ceiling.max(floor),
            attempt: 0,
        }
    }

    /// How many waits were asked for since the last success.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The next wait. `random` in 0..1 spreads the clients of a restarted server.
    pub fn next(&mut self, random: f64) -> Duration {
        let grown = self
            .floor
            .saturating_mul(1u32.checked_shl(self.attempt).unwrap_or(u32::MAX));
        let top = grown.min(self.ceiling);
        self.attempt = self.attempt.saturating_add(1).min(31);
        let spread = top
            .saturating_sub(self.floor)
            .mul_f64(random.clamp(0.0, 1.0));
        self.floor + spread
    }

    /// It worked.
    pub fn reset(&mut self) {
        self.attempt = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn waits_stay_between_floor_and_ceiling(
            floor in 0u64..10_000, ceiling in 0u64..100_000, random in 0.0f64..1.0, tries in 1usize..80,
        ) {
            let floor = Duration::from_millis(floor);
            let ceiling = Duration::from_millis(ceiling);
            let mut backoff = Backoff::new(floor, ceiling);
            for _ in 0..tries {
                let wait = backoff.next(random);
                prop_assert!(wait >= floor && wait <= ceiling.max(floor));
            }
        }
    }
}
