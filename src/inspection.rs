//! What operators are told: the state of a semaphore in the store, and what a kick did.

use std::time::Duration;

use crate::id::{ClientId, PermitId};

/// The state of one semaphore in the store at one moment; made by
/// [`inspect`](crate::ZSetSemaphore::inspect).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The limit in force: the override if there is one, else the declared limit, else the limit of the handle
    /// that asked.
    pub limit: u32,
    /// The highest limit that a handle of any known client has: of the 500 clients that were alive last, and
    /// of those that are listed. `None` if the store knows of none.
    ///
    /// A client declares its limit with its turns. The store forgets a client an hour after its last sign of
    /// life, or with all data of a name that nobody uses.
    pub declared_limit: Option<u32>,
    /// The override that [`set_limit`](crate::ZSetSemaphore::set_limit) set, if any.
    pub limit_override: Option<u32>,
    /// How long nothing new will be given out, after a failover or a restart of the server:
    /// [`failover_grace`](crate::SemaphoreBuilder::failover_grace). `None` as a rule.
    pub failover_grace: Option<Duration>,
    /// The units in use. Those of permits whose lease has just ended may be among them.
    pub in_use: u64,
    /// How many permits are held.
    pub holders_total: u64,
    /// How many wait.
    pub waiters_total: u64,
    /// The permits whose leases end first, at most 500.
    pub holders: Vec<Holder>,
    /// The first waiters in the order in which they will be served, at most 500.
    pub waiters: Vec<QueuedWaiter>,
}

/// A permit in an [`Inspection`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The id of the permit.
    pub id: PermitId,
    /// The client that holds it.
    pub client: ClientId,
    /// The [label](crate::ClientBuilder::label) of that client.
    pub label: Option<String>,
    /// How many units the permit holds.
    pub units: u32,
    /// How long each renewal keeps the permit in the store: [`PermitId::lease`]. An
    /// [extension](crate::Permit::extend) may last longer.
    pub lease: Duration,
    /// How long until the lease ends, by the clock of the store.
    pub expires_in: Duration,
    /// Whether the permit was [kicked](crate::ZSetSemaphore::kick).
    pub kicked: bool,
}

/// A waiter in an [`Inspection`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct QueuedWaiter {
    /// The id of the permit it waits for.
    pub id: PermitId,
    /// The client that waits.
    pub client: ClientId,
    /// The [label](crate::ClientBuilder::label) of that client.
    pub label: Option<String>,
    /// How many units it waits for.
    pub units: u32,
    /// The place in the queue: the waiter with the lowest ticket is served first. A ticket is the time of the
    /// store at which the waiter was queued, in microseconds since 1970, or a little more, so that no two are
    /// the same.
    pub ticket: u64,
    /// How long it has waited, by the clock of the store.
    pub waited: Duration,
}

/// What [`kick`](crate::ZSetSemaphore::kick) and [`kick_now`](crate::ZSetSemaphore::kick_now) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum KickOutcome {
    /// Nobody holds a permit of that id.
    NotHeld,
    /// The permit is marked. It cannot be renewed. Its units are free when its holder has released it,
    /// or when its lease ends.
    Marked,
    /// The permit was removed at once.
    Removed,
}
