//! The spans and bounds that all stores keep; `lua/` has them from here.

use crate::numbers::Millis;

/// How long a grant to another client's waiter lives unless that client confirms it.
pub(crate) const CLAIM: Millis = Millis::new(3_000);
/// How long a client that has asked about its waiters is presumed alive.
pub(crate) const ALIVE: Millis = Millis::new(3_000);
/// How long permits, queue and clients are kept beyond the last instant that is known to need them.
pub(super) const TTL_SLACK: Millis = Millis::new(10_000);
/// How much longer `meta` is kept: by its epochs a late turn is known to be stale.
pub(super) const META_OUTLIVES: Millis = Millis::new(60_000);
/// How long a client is remembered that is no longer alive.
pub(super) const FORGET_AFTER: Millis = Millis::new(3_600_000);

/// The most ids of the caller in one turn.
pub(crate) const TURN_BOUND: usize = 256;
/// The most expired permits, and the most heads of the queue, that one turn looks at.
pub(crate) const LOOK_BOUND: usize = 96;
/// The most clients that one turn forgets.
pub(super) const FORGET_BOUND: usize = 16;
/// The most holders, and the most waiters, that `inspect` lists.
pub(crate) const INSPECT_BOUND: usize = 500;
