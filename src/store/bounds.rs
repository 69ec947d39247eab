//! The spans and bounds that all stores keep; `lua/` has them from here.

use crate::numbers::Millis;

/// How long a grant to a waiter of another client lives until its owner confirms it.
pub(crate) const CLAIM: Millis = Millis::new(3_000);
/// How long a client that was heard waiting counts as alive.
pub(crate) const ALIVE: Millis = Millis::new(3_000);
/// How long permits, queue and clients are kept beyond the last instant that is known to need them.
pub(super) const TTL_SLACK: Millis = Millis::new(10_000);
/// How much longer `meta` is kept: by its epochs a late turn is known to be stale.
pub(super) const META_OUTLIVES: Millis = Millis::new(60_000);
/// How long a client is remembered that is no longer alive.
pub(super) const FORGET_AFTER: Millis = Millis::new(3_600_000);

/// How many ids of the caller go into one turn at most.
pub(crate) const TURN_BOUND: usize = 256;
/// How many expired permits one turn removes at most, and how many heads of the queue it looks at.
pub(crate) const LOOK_BOUND: usize = 96;
/// How many clients that have gone one turn forgets at most.
pub(super) const FORGET_BOUND: usize = 16;
/// How many holders and how many waiters `inspect` lists at most.
pub(crate) const INSPECT_BOUND: usize = 500;
