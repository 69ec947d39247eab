//! Paces turns that the server answers with an error.

use std::time::Duration;

use tokio::time::Instant;

/// Paces turns that the server answers with an error: 20 ms to 500 ms, jittered.
#[derive(Debug, Default)]
pub(super) struct Pause {
    failures: u32,
    pub(super) until: Option<Instant>,
}

impl Pause {
    pub(super) fn lengthen(&mut self, now: Instant) {
        let longest = Duration::from_millis((20 << self.failures.min(5)).min(500));
        self.failures += 1;
        self.until = Some(now + longest.mul_f64(0.5 + 0.5 * fastrand::f64()));
    }

    pub(super) fn end(&mut self) {
        *self = Self::default();
    }
}
