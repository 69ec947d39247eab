//! The end of a lease and the end of its permit, in one atomic word.
//!
//! # Implementation
//!
//! A process may hold hundreds of thousands of permits, and one word costs each of them less than a field
//! for every fact. It also needs no lock: whoever ends the permit learns in the same step whether anybody
//! awaits the end.
//!
//! | bits | content |
//! |---|---|
//! | 5 to 63 | the end of the lease, in nanoseconds since the origin of [`CompactInstant`], with a sign; they reach nine years |
//! | 4 | whether somebody has awaited the end of the permit |
//! | 3 | whether nobody renews the lease, so that the permit has expired when it ends |
//! | 0 to 2 | how the permit has ended; 0 if it has not |

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use crate::compact_instant::CompactInstant;
use crate::lost_reason::LostReason;

const END: u64 = 0b111;
const EXPIRES: u64 = 1 << 3;
const AWAITED: u64 = 1 << 4;
const SHIFT: u32 = 5;
/// The instants that fit.
const LATEST: i64 = i64::MAX >> SHIFT;
const EARLIEST: i64 = i64::MIN >> SHIFT;

/// How a permit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Released,
    Lost(LostReason),
}

impl End {
    fn code(self) -> u64 {
        match self {
            Self::Released => 1,
            Self::Lost(LostReason::Expired) => 2,
            Self::Lost(LostReason::Kicked) => 3,
            Self::Lost(LostReason::MissingInStore) => 4,
            Self::Lost(LostReason::RenewalTimeout) => 5,
            Self::Lost(LostReason::MaxHold) => 6,
            Self::Lost(LostReason::Shutdown) => 7,
        }
    }

    fn of_code(code: u64) -> Option<Self> {
        Some(match code {
            1 => Self::Released,
            2 => Self::Lost(LostReason::Expired),
            3 => Self::Lost(LostReason::Kicked),
            4 => Self::Lost(LostReason::MissingInStore),
            5 => Self::Lost(LostReason::RenewalTimeout),
            6 => Self::Lost(LostReason::MaxHold),
            7 => Self::Lost(LostReason::Shutdown),
            _ => return None,
        })
    }
}

/// The end of a lease and the end of its permit.
#[derive(Debug)]
pub(crate) struct LeaseWord(AtomicU64);

impl LeaseWord {
    /// A lease until `until`. Without a renewal, the permit ends as `RenewalTimeout`, or as `Expired` if it
    /// `expires`.
    pub(crate) fn new(until: Instant, expires: bool) -> Self {
        let flags = if expires { EXPIRES } else { 0 };
        Self(AtomicU64::new(pack(until) | flags))
    }

    /// Returns the end of the lease.
    pub(crate) fn until(&self) -> Instant {
        unpack(self.load()).into()
    }

    /// Moves the end of the lease forward; never back.
    pub(crate) fn extend(&self, until: Instant) {
        let packed = pack(until);
        self.update(|word| (unpack(packed) > unpack(word)).then_some(packed | flags(word)));
    }

    /// Returns why the permit is lost when its lease ends.
    pub(crate) fn lost_by_lease(&self) -> LostReason {
        match self.load() & EXPIRES {
            0 => LostReason::RenewalTimeout,
            _ => LostReason::Expired,
        }
    }

    /// Returns how the permit has ended, if it has.
    pub(crate) fn end(&self) -> Option<End> {
        End::of_code(self.load() & END)
    }

    /// Ends the permit. Returns true to the one caller that ended it.
    pub(crate) fn set_end(&self, end: End) -> bool {
        self.update(|word| (word & END == 0).then_some(word | end.code()))
    }

    /// Notes that somebody awaits the end. Whoever calls this first and then finds no end is seen by the one
    /// who sets the end, because both change the same word.
    pub(crate) fn set_awaited(&self) {
        self.0.fetch_or(AWAITED, Ordering::SeqCst);
    }

    /// Returns whether somebody has awaited the end.
    pub(crate) fn is_awaited(&self) -> bool {
        self.load() & AWAITED != 0
    }

    fn load(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn update(&self, change: impl FnMut(u64) -> Option<u64>) -> bool {
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, change).is_ok()
    }
}

fn pack(instant: Instant) -> u64 {
    let nanos = CompactInstant::from(instant).nanos().clamp(EARLIEST, LATEST);
    (nanos << SHIFT).cast_unsigned()
}

fn unpack(word: u64) -> CompactInstant {
    CompactInstant::from_nanos(word.cast_signed() >> SHIFT)
}

fn flags(word: u64) -> u64 {
    word & ((1 << SHIFT) - 1)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

    #[test]
    fn each_fact_of_a_word_stays_when_the_others_change() {
        let start = Instant::now();
        for expires in [false, true] {
            let word = LeaseWord::new(start, expires);
            let by_lease = if expires { LostReason::Expired } else { LostReason::RenewalTimeout };
            assert_eq!((word.until(), word.end(), word.is_awaited()), (start, None, false));
            word.set_awaited();
            word.extend(start + Duration::from_nanos(1));
            word.extend(start);
            assert_eq!(word.until(), start + Duration::from_nanos(1));
            assert!(word.set_end(End::Lost(LostReason::Shutdown)));
            word.extend(start + YEAR);
            word.set_awaited();
            let seen = (word.until(), word.end(), word.is_awaited(), word.lost_by_lease());
            let end = Some(End::Lost(LostReason::Shutdown));
            assert_eq!(seen, (start + YEAR, end, true, by_lease));
        }
    }

    #[test]
    fn a_word_ends_once_and_keeps_how() {
        let lost = LostReason::ALL.map(End::Lost);
        for end in lost.into_iter().chain([End::Released]) {
            let word = LeaseWord::new(Instant::now(), true);
            assert!(word.set_end(end));
            assert!(!word.set_end(End::Released) && !word.set_end(End::Lost(LostReason::Kicked)));
            assert_eq!(word.end(), Some(end));
        }
    }

    #[test]
    fn an_instant_beyond_the_reach_of_a_word_is_the_latest_that_fits() {
        let start = Instant::now();
        let word = LeaseWord::new(start + 20 * YEAR, true);
        assert!(word.until() > start + 9 * YEAR && word.until() < start + 10 * YEAR);
        assert_eq!((word.end(), word.is_awaited()), (None, false));
    }
}
