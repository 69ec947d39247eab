//! How long permits are held lately, and what follows for those who come too late. Pure.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(120);
/// Each hold moves the average by an eighth, as TCP smooths its round trips (RFC 6298).
const WEIGHT: u64 = 8;

/// A moving average of how long permits are held.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// 0 = none yet.
    mean_nanos: AtomicU64,
}

impl Meter {
    pub(super) fn record(&self, held: Duration) {
        let held = u64::try_from(held.as_nanos()).unwrap_or(u64::MAX).max(1);
        // Two at once may count as one: it is an estimate.
        let mean = match self.mean_nanos.load(Ordering::Relaxed) {
            0 => held,
            mean => mean - mean / WEIGHT + held / WEIGHT,
        };
        self.mean_nanos.store(mean, Ordering::Relaxed);
    }

    /// When one who stands behind `ahead` others may expect a permit.
    pub(super) fn retry_after(&self, ahead: u64, limit: u32) -> Duration {
        let mean = Duration::from_nanos(self.mean_nanos.load(Ordering::Relaxed));
        if limit == 0 {
            return LONGEST; // paused
        }
        let turns = (ahead + 1) as f64 / f64::from(limit);
        Duration::try_from_secs_f64(mean.as_secs_f64() * turns)
            .unwrap_or(LONGEST)
            .clamp(SHORTEST, LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn the_estimate_follows_the_holds_the_place_and_the_limit() {
        let meter = Meter::default();
        assert_eq!(meter.retry_after(7, 4), SHORTEST);
        meter.record(secs(20));
        assert_eq!(meter.retry_after(7, 4), secs(40));
        assert_eq!(meter.retry_after(0, 4), secs(5));
        assert_eq!(meter.retry_after(0, 100), SHORTEST);
        assert_eq!(meter.retry_after(u64::MAX - 1, 1), LONGEST);
        assert_eq!(meter.retry_after(0, 0), LONGEST);
        for _ in 0..100 {
            meter.record(secs(10));
        }
        let near = meter.retry_after(7, 4);
        assert!((secs(20)..secs(21)).contains(&near), "{near:?}");
    }

    #[test]
    fn no_hold_is_too_long_for_it() {
        let meter = Meter::default();
        for _ in 0..10 {
            meter.record(Duration::MAX);
        }
        assert_eq!(meter.retry_after(u64::MAX - 1, 1), LONGEST);
    }
}
