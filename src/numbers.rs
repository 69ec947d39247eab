//! Numbers with types, so that none is taken for another. `Option` says where there is none yet.

use std::fmt;
use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

/// A ticket or a fencing token. One counter of the store gives out both, so that "was this granted
/// after that turn?" is one comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Seq(NonZeroU64);

impl Seq {
    /// `None` for 0, by which the store says that there is none.
    pub(crate) fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    pub(crate) fn get(self) -> u64 {
        self.0.get()
    }

    /// The number that is given out `nth` after this one.
    pub(crate) fn plus(self, nth: u64) -> Self {
        Self(self.0.saturating_add(nth))
    }

    /// The number that is given out after `last`.
    pub(crate) fn after(last: Option<Self>) -> Self {
        last.map_or(Self(NonZeroU64::MIN), |last| last.plus(1))
    }

    /// As the store writes it: 0 for none.
    pub(crate) fn or_zero(number: Option<Self>) -> u64 {
        number.map_or(0, Self::get)
    }
}

/// Which place of the store, in the order in which the store came to know its places. It is never given to
/// another place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PlaceId(u32);

impl PlaceId {
    /// The place that every store has from the start.
    pub(crate) const FIRST: Self = Self(0);

    pub(crate) const fn new(number: u32) -> Self {
        Self(number)
    }

    pub(crate) fn get(self) -> u32 {
        self.0
    }
}

/// Which turn of one client for one semaphore, in the order in which they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TurnNumber(NonZeroU64);

impl TurnNumber {
    /// The turn that is sent after `last`.
    pub(crate) fn after(last: Option<Self>) -> Self {
        Self(last.map_or(NonZeroU64::MIN, |last| last.0.saturating_add(1)))
    }
}

/// How many turns of one client for one semaphore have had no definite answer. The store ignores a
/// turn whose epoch is lower than the highest it has seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub(crate) struct Epoch(u64);

impl Epoch {
    #[cfg(any(test, feature = "redis"))]
    pub(crate) fn new(number: u64) -> Self {
        Self(number)
    }

    #[cfg(any(test, feature = "redis"))]
    pub(crate) fn get(self) -> u64 {
        self.0
    }

    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// Which life of the data of one semaphore: another one after the data was lost. It is the time of
/// the first turn, in microseconds of the store's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Incarnation(NonZeroU64);

impl Incarnation {
    /// `None` for 0, by which the store says that there is none.
    #[cfg(feature = "redis")]
    pub(crate) fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// The incarnation that begins with a turn at `micros`.
    pub(crate) fn at(micros: u64) -> Self {
        Self(NonZeroU64::new(micros).unwrap_or(NonZeroU64::MIN))
    }

    pub(crate) fn get(self) -> u64 {
        self.0.get()
    }

    /// Whether all numbers given out in this incarnation are above `number`, which is thus of an
    /// earlier one.
    pub(crate) fn began_after(self, number: Seq) -> bool {
        number.get() < self.get()
    }
}

/// Which server runs a script: another one after each start. It is not told from another one by chance with
/// 48 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ServerId(NonZeroU64);

impl ServerId {
    /// `None` for 0, by which the store says that it is not known.
    #[cfg(any(test, feature = "redis"))]
    pub(crate) fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    #[cfg(any(test, feature = "redis"))]
    pub(crate) fn get(self) -> u64 {
        self.0.get()
    }
}

/// How many replicas must have a grant before it is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Replicas(NonZeroU32);

impl Replicas {
    /// `None` for 0: a grant is handed out at once.
    pub(crate) fn new(number: u32) -> Option<Self> {
        NonZeroU32::new(number).map(Self)
    }

    pub(crate) fn get(self) -> u32 {
        self.0.get()
    }

    /// Returns whether this number of acknowledgements is enough.
    pub(crate) fn are_reached_by(self, acknowledged: u32) -> bool {
        acknowledged >= self.get()
    }
}

/// A span of time as the store counts it, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Millis(u64);

impl Millis {
    pub(crate) const fn new(ms: u64) -> Self {
        Self(ms)
    }

    pub(crate) fn get(self) -> u64 {
        self.0
    }

    pub(crate) const fn duration(self) -> Duration {
        Duration::from_millis(self.0)
    }
}

impl From<Duration> for Millis {
    /// Without the part of a millisecond.
    fn from(duration: Duration) -> Self {
        Self(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
