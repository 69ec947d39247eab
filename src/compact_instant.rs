//! An instant in eight bytes. Pure.
//!
//! # Implementation
//!
//! An `Instant` has sixteen bytes, and a process may hold hundreds of thousands of permits with several
//! instants each. A [`CompactInstant`] is the distance from one origin of the process, in nanoseconds. It has
//! a sign, because the paused clock of a test may be behind the origin. It reaches 292 years in both
//! directions; what is beyond counts as the first or the last instant.

use std::sync::OnceLock;
use std::time::Duration;

use tokio::time::Instant;

/// An instant, as the nanoseconds since the origin of this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CompactInstant(i64);

impl CompactInstant {
    pub(crate) fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    pub(crate) fn nanos(self) -> i64 {
        self.0
    }
}

/// The origin is of the system's clock, which does not depend on the runtime that asks first.
fn origin() -> Instant {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(|| Instant::from_std(std::time::Instant::now()))
}

/// As [`Duration::as_nanos`], but without 128 bits: each grant of a turn does this several times.
fn nanos(span: Duration) -> i64 {
    let secs = i64::try_from(span.as_secs()).unwrap_or(i64::MAX);
    secs.saturating_mul(1_000_000_000).saturating_add(span.subsec_nanos().into())
}

impl From<Instant> for CompactInstant {
    fn from(instant: Instant) -> Self {
        let origin = origin();
        Self(match instant.checked_duration_since(origin) {
            Some(after) => nanos(after),
            None => -nanos(origin.saturating_duration_since(instant)),
        })
    }
}

impl From<CompactInstant> for Instant {
    fn from(compact: CompactInstant) -> Self {
        let (origin, distance) = (origin(), Duration::from_nanos(compact.0.unsigned_abs()));
        let instant = match compact.0 {
            0.. => origin.checked_add(distance),
            _ => origin.checked_sub(distance),
        };
        instant.unwrap_or(origin) // no clock of the system ends that early
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instant_before_or_after_the_origin_comes_back_as_it_was() {
        let origin = origin();
        for nanos in [0, 1, 999_999_999, 1_000_000_001, 86_400_000_000_007] {
            let distance = Duration::from_nanos(nanos);
            for instant in [origin + distance, origin.checked_sub(distance).unwrap_or(origin)] {
                assert_eq!(Instant::from(CompactInstant::from(instant)), instant);
            }
        }
    }

    #[test]
    fn compact_instants_have_the_order_of_the_instants() {
        let now = Instant::now();
        let earlier = now.checked_sub(Duration::from_nanos(1)).unwrap_or(now);
        let compact = [earlier, now, now + Duration::from_nanos(1)].map(CompactInstant::from);
        assert!(compact.is_sorted() && compact[1] < compact[2]);
    }

    #[test]
    fn an_instant_beyond_the_reach_is_the_last_one() {
        let far = origin() + Duration::from_secs(400 * 365 * 24 * 3600);
        assert_eq!(CompactInstant::from(far).nanos(), i64::MAX);
        let last = Instant::from(CompactInstant::from(far));
        assert!(last > origin() + Duration::from_secs(290 * 365 * 24 * 3600) && last < far);
    }

    #[test]
    fn a_compact_instant_has_eight_bytes() {
        assert_eq!((size_of::<Instant>(), size_of::<CompactInstant>()), (16, 8));
    }
}
