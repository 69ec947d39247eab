//! What an operator sees of a semaphore, and what came of a kick.

use std::time::Duration;

use crate::id::{ClientId, PermitId};

/// The store's books about one semaphore at one moment; made by
/// [`inspect`](crate::ZSetSemaphore::inspect).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The limit in force: the override if there is one, else that of the handle that asked.
    pub limit: u32,
    /// What [`set_limit`](crate::ZSetSemaphore::set_limit) set.
    pub limit_override: Option<u32>,
    /// Units in use, including those of permits whose lease has just ended.
    pub in_use: u64,
    /// How many permits are held.
    pub holders_total: u64,
    /// How many wait.
    pub waiters_total: u64,
    /// The holders whose leases end first, at most 500.
    pub holders: Vec<Holder>,
    /// The first waiters in the order in which they will be served, at most 500.
    pub waiters: Vec<QueuedWaiter>,
}

/// One permit in an [`Inspection`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Its id.
    pub id: PermitId,
    /// The client that holds it.
    pub client: ClientId,
    /// What that client calls itself.
    pub label: Option<String>,
    /// How many units it holds.
    pub units: u32,
    /// How long its lease still runs by the store's clock.
    pub expires_in: Duration,
    /// Whether it was kicked.
    pub kicked: bool,
}

/// One waiter in an [`Inspection`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueuedWaiter {
    /// The id of the permit it waits for.
    pub id: PermitId,
    /// The client that waits.
    pub client: ClientId,
    /// What that client calls itself.
    pub label: Option<String>,
    /// How many units it waits for.
    pub units: u32,
}

/// What [`kick`](crate::ZSetSemaphore::kick) found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KickOutcome {
    /// No permit of that id is held.
    NotHeld,
    /// The permit is marked: it cannot be renewed, and its units are free when its holder has let
    /// go, or at its deadline at the latest.
    Marked,
    /// The permit was removed at once.
    Removed,
}
