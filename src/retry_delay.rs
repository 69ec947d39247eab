//! The delay before a retry: random, and for longer after each failure in a row.
//!
//! # Implementation
//!
//! The delay is drawn evenly from zero to a bound. This is the "full jitter" of
//! <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>: clients that failed together come
//! back spread over the whole bound.
//!
//! The bound doubles from 50 ms to 500 ms. From then on it is an eighth of all delays so far, and at most 5 s.
//! So a client finds a server again within half a second after a failover of seconds, and within an eighth of
//! the outage after a longer one, while a server that is away for a minute is tried a few times in ten seconds.

use std::time::Duration;

const FIRST_BOUND: Duration = Duration::from_millis(50);
/// The bound while the outage is short.
const SHORT_BOUND: Duration = Duration::from_millis(500);
/// The bound in a long outage, as a part of all delays so far.
const PART: u32 = 8;
const LAST_BOUND: Duration = Duration::from_secs(5);

/// Counts failures in a row, and says how long to wait after each.
#[derive(Debug, Default)]
pub(crate) struct RetryDelay {
    failures: u32,
    /// All delays since the first failure.
    delayed: Duration,
}

impl RetryDelay {
    /// Counts one more failure. Returns how long to wait.
    pub(crate) fn after_failure(&mut self) -> Duration {
        let delay = self.bound().mul_f64(fastrand::f64());
        self.failures = self.failures.saturating_add(1);
        self.delayed = self.delayed.saturating_add(delay);
        delay
    }

    /// Returns the bound of the next delay.
    fn bound(&self) -> Duration {
        let doubled = FIRST_BOUND.saturating_mul(2u32.saturating_pow(self.failures));
        doubled.min(SHORT_BOUND).max(self.delayed / PART).min(LAST_BOUND)
    }

    /// Begins at the first bound again.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(failures: u32, delayed: Duration) -> Duration {
        RetryDelay { failures, delayed }.bound()
    }

    // Behaviour 76
    #[test]
    fn the_bound_doubles_and_then_grows_with_the_outage_up_to_the_last_one() {
        let ms = Duration::from_millis;
        let doubled: Vec<_> = (0..6).map(|failures| after(failures, Duration::ZERO)).collect();
        assert_eq!(doubled, [50, 100, 200, 400, 500, 500].map(ms));
        for (delayed, bound) in [(4_000, 500), (8_000, 1_000), (40_000, 5_000), (400_000, 5_000)] {
            assert_eq!(after(50, ms(delayed)), ms(bound));
        }
        assert_eq!(after(u32::MAX, Duration::MAX), LAST_BOUND);
    }

    // Behaviour 76
    #[test]
    fn a_delay_is_anywhere_from_zero_to_the_bound_and_counts_for_the_next_bound() {
        let (mut shortest, mut longest) = (1.0_f64, 0.0_f64);
        for _ in 0..1_000 {
            let mut delay = RetryDelay { failures: 50, delayed: Duration::from_secs(16) };
            let waited = delay.after_failure();
            assert_eq!(delay.delayed, Duration::from_secs(16) + waited);
            let part = waited.as_secs_f64() / 2.0;
            (shortest, longest) = (shortest.min(part), longest.max(part));
        }
        assert!((0.0..0.05).contains(&shortest) && (0.95..=1.0).contains(&longest));
    }

    #[test]
    fn a_success_begins_again() {
        let mut delay = RetryDelay::default();
        for _ in 0..200 {
            delay.after_failure();
        }
        assert!(delay.bound() > SHORT_BOUND, "{delay:?}");
        delay.reset();
        assert_eq!(delay.bound(), FIRST_BOUND);
    }
}
