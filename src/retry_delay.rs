//! The delay before a retry: 20 ms, doubled with each failure up to 500 ms, jittered.

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(20);
const DOUBLINGS: u32 = 5;

/// The longest delay before a retry.
pub(crate) const LONGEST: Duration = Duration::from_millis(500);

/// Counts failures in a row, and says how long to wait after each.
#[derive(Debug, Default)]
pub(crate) struct RetryDelay {
    failures: u32,
}

impl RetryDelay {
    /// Counts one more failure; returns how long to wait: between half of the delay and all of it, so
    /// that clients that failed together do not retry together.
    pub(crate) fn after_failure(&mut self) -> Duration {
        let delay = (SHORTEST * 2u32.pow(self.failures.min(DOUBLINGS))).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        delay.mul_f64(0.5 + 0.5 * fastrand::f64())
    }

    /// Begins at the shortest delay again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delay_doubles_up_to_the_longest_and_begins_again() {
        let mut delay = RetryDelay::default();
        for longest in [20, 40, 80, 160, 320, 500, 500] {
            let waited = delay.after_failure();
            let longest = Duration::from_millis(longest);
            assert!(longest / 2 <= waited && waited <= longest, "{waited:?} of {longest:?}");
        }
        delay.reset();
        assert!(delay.after_failure() <= SHORTEST);
    }
}
