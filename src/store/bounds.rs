//! The time spans and the bounds of all stores. The scripts in `lua/` use the same constants.

use crate::numbers::Millis;

/// How long a claim lasts: a grant to another client's waiter that the client has not confirmed.
pub(crate) const CLAIM: Millis = Millis::new(3_000);
/// How long a client that has asked about its waiters is presumed alive.
pub(crate) const ALIVE: Millis = Millis::new(3_000);
/// How long the keys `permits`, `queue` and `clients` are kept after the last instant at which they are
/// needed.
pub(super) const TTL_SLACK: Millis = Millis::new(10_000);
/// How much longer `meta` is kept. Its epochs show that a late turn is stale.
pub(super) const META_OUTLIVES: Millis = Millis::new(60_000);
/// How long a client is remembered after it was last alive.
pub(crate) const FORGET_AFTER: Millis = Millis::new(3_600_000);
/// By how much the clock of a server that takes over may be behind, so that numbers still rise above those that
/// nobody has told it.
pub(super) const CLOCKS_DIFFER: Millis = Millis::new(10_000);

/// How many redirections in a row a client follows, to the place that a name has come to.
pub(crate) const HOPS: u32 = 6;
/// The maximum number of ids that the caller may name in one turn.
pub(crate) const TURN_BOUND: usize = 256;
/// The maximum number of expired permits, and of waiters at the head of the queue, that one turn looks at.
pub(crate) const LOOK_BOUND: usize = 96;
/// The maximum number of clients that one turn forgets.
pub(super) const FORGET_BOUND: usize = 16;
/// The maximum number of holders, and of waiters, that `inspect` lists.
pub(crate) const INSPECT_BOUND: usize = 500;

/// The maximum length of a label in bytes.
pub(crate) const LABEL_BOUND: usize = 128;

/// The version of the data of a semaphore in the store.
#[cfg(feature = "redis")]
pub(super) const SCHEMA: u64 = 1;
