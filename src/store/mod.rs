//! The seam between the driver and whatever keeps the count.
//!
//! A [`Store`] makes [`Session`]s; a session carries turns. Both are sealed by being private: the
//! public types hold them as trait objects, so one boxed future is paid per turn, not per permit.

mod bounds;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::StoreError;
use crate::id::{ClientId, PermitId};
use crate::inspection::{Inspection, KickOutcome};
use crate::numbers::{Epoch, Incarnation, Millis, Seq};

pub(crate) use bounds::{ALIVE, CLAIM, INSPECT_BOUND, LOOK_BOUND, TURN_BOUND};

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A place where permits are counted.
pub(crate) trait Store: Send + Sync {
    /// Opens a connection for `client`, whose wake-ups go to `listener`.
    fn open(
        &self,
        client: ClientId,
        listener: Arc<dyn WakeListener>,
    ) -> BoxFuture<'_, Result<Arc<dyn Session>, StoreError>>;

    /// Runs a turn at once, without a session; `None` by a store that has to be awaited.
    fn turn_inline(&self, _: &Turn) -> Option<TurnOutcome> {
        None
    }

    /// The address as the log shows it, without a password.
    fn address(&self) -> String;
}

/// One open connection.
pub(crate) trait Session: Send + Sync {
    /// Sends all that a client has to say about one semaphore.
    fn turn(&self, turn: Turn) -> BoxFuture<'_, Result<TurnOutcome, StoreError>>;
    /// Whether [`Store::turn_inline`] has an answer.
    fn is_inline(&self) -> bool {
        false
    }
    /// Has the session check its subscription: a waiter learnt by asking what a wake-up should have
    /// told.
    fn doubt_subscription(&self) {}
    fn inspect(&self, name: Arc<str>) -> BoxFuture<'_, Result<Inspection, StoreError>>;
    /// `None` clears the override.
    fn set_limit(
        &self,
        name: Arc<str>,
        limit: Option<u32>,
    ) -> BoxFuture<'_, Result<(), StoreError>>;
    fn kick(
        &self,
        name: Arc<str>,
        id: PermitId,
        kick: Kick,
    ) -> BoxFuture<'_, Result<KickOutcome, StoreError>>;
    /// Whether wake-ups arrive. Where they do not, waiters ask at the pace of their backoff.
    fn is_subscribed(&self) -> bool;
    /// Whether the connection is not known to be broken.
    fn is_alive(&self) -> bool;
}

/// Where a session delivers wake-ups. Each is a hint: it may come late, twice or not at all.
pub(crate) trait WakeListener: Send + Sync {
    fn wake(&self, name: &str, id: PermitId, wake_up: WakeUp);
    /// Wake-ups no longer arrive, or arrive again. Some may have been missed.
    #[cfg(feature = "redis")]
    fn subscription_changed(&self);
    /// The session's connection broke.
    #[cfg(feature = "redis")]
    fn disconnected(&self);
}

/// All that a client says about one semaphore in one call. It names at most [`TURN_BOUND`] ids.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) name: Arc<str>,
    pub(crate) client: ClientId,
    /// Who this is, for `inspect`; empty for no label.
    pub(crate) label: Arc<str>,
    /// The store ignores a turn with an older epoch that runs later.
    pub(crate) epoch: Epoch,
    pub(crate) limit: u32,
    /// The highest token or ticket this client has seen.
    pub(crate) seen: Option<Seq>,
    /// The incarnation under which the renewed permits were granted.
    pub(crate) incarnation: Option<Incarnation>,
    /// Held permits to give back, those of one unit first.
    pub(crate) release: Vec<PermitId>,
    /// No token of those of one unit is lower; `None` where one is not known, or where a lease may
    /// have ended: those are looked for one by one.
    pub(crate) release_from: Option<Seq>,
    /// Ids to remove wherever they are.
    pub(crate) cancel: Vec<PermitId>,
    /// Held permits, and for how long from now.
    pub(crate) renew: Vec<(PermitId, Millis)>,
    /// Waiters sent before, whose fate is in doubt.
    pub(crate) ask: Vec<Ask>,
    /// Waiters never sent before.
    pub(crate) admit: Vec<(PermitId, WhenFull)>,
}

impl Turn {
    fn says_nothing(&self) -> bool {
        let Self { release, cancel, renew, ask, admit, .. } = self;
        release.is_empty()
            && cancel.is_empty()
            && renew.is_empty()
            && ask.is_empty()
            && admit.is_empty()
    }
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) id: PermitId,
    /// `None` when no reply told a ticket yet.
    pub(crate) ticket: Option<Seq>,
    pub(crate) when_full: WhenFull,
}

/// What the store does with a newcomer that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenFull {
    Wait,
    /// Wait, unless at least this many wait already.
    WaitBehind(u32),
    Refuse,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TurnOutcome {
    Answered(TurnReply),
    /// A newer turn of this client has run: nothing was done.
    Stale {
        epoch: Epoch,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TurnReply {
    pub(crate) incarnation: Incarnation,
    pub(crate) in_use: u64,
    pub(crate) limit: u32,
    pub(crate) overridden: bool,
    pub(crate) waiting: u64,
    /// The last token or ticket given out.
    pub(crate) last: Option<Seq>,
    /// Waiters that the caller asked about had been lost, and are back in the queue at their places
    /// or have left it in this turn: others may be lost, too.
    pub(crate) put_back: bool,
    /// Work was left for another turn.
    pub(crate) more: bool,
    /// Until the next deadline; only for the owner of the head of the queue.
    pub(crate) earliest: Option<Duration>,
    /// Indices of releases that found nothing, from 0.
    pub(crate) missing: Vec<usize>,
    /// Indices of renewals that were not plain, from 0.
    pub(crate) renewal_exceptions: Vec<(usize, RenewalException)>,
    /// One per ask.
    pub(crate) asked: Vec<WaiterOutcome>,
    /// One per admit.
    pub(crate) admitted: Vec<WaiterOutcome>,
    /// Waiters of the caller that it did not ask about and that left the queue: token, or `None`
    /// for one that asks for more than the limit.
    pub(crate) others: Vec<(PermitId, Option<Seq>)>,
}

impl TurnReply {
    /// A reply that tells of no permit and no waiter.
    pub(crate) fn new(incarnation: Incarnation, limit: u32) -> Self {
        Self {
            incarnation,
            in_use: 0,
            limit,
            overridden: false,
            waiting: 0,
            last: None,
            put_back: false,
            more: false,
            earliest: None,
            missing: Vec::new(),
            renewal_exceptions: Vec::new(),
            asked: Vec::new(),
            admitted: Vec::new(),
            others: Vec::new(),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RenewalException {
    Gone,
    Kicked,
    /// It was missing since data was lost, and there was room for it.
    PutBack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaiterOutcome {
    Granted {
        token: Seq,
        /// It had been granted before this turn, unheard.
        earlier: bool,
    },
    Queued {
        ticket: Seq,
        place: u64,
    },
    Refused,
    Kicked,
    TooLarge,
}

impl WaiterOutcome {
    /// Returns the outcome of the newcomer `nth` places later in a run of the same outcome.
    #[cfg(feature = "redis")]
    fn with_numbers_raised_by(self, nth: u64) -> Self {
        match self {
            Self::Granted { token, earlier } => Self::Granted { token: token.plus(nth), earlier },
            Self::Queued { ticket, place } => {
                Self::Queued { ticket: ticket.plus(nth), place: place + nth }
            }
            alike => alike,
        }
    }
}

/// What a client is told of one of its ids between its turns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum WakeUp {
    /// Something has changed: the next turn is to ask about the id.
    Ask,
    /// A turn of another client granted it, with this token.
    Granted(Seq),
}

impl WakeUp {
    /// As the store writes it: the token of a grant, or 0.
    #[cfg(feature = "redis")]
    fn from_number(number: u64) -> Self {
        Seq::new(number).map_or(Self::Ask, Self::Granted)
    }
}

/// How a permit is ended on an operator's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kick {
    /// It can no longer be renewed.
    Mark,
    /// It is removed at once, before its holder knows.
    Remove,
}
