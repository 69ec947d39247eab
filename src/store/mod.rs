//! The seam between the driver and whatever keeps the count.
//!
//! A [`Store`] makes [`Session`]s; a session carries turns. Both are sealed by being private: the
//! public types hold them as trait objects, so one boxed future is paid per turn, not per permit.

pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;

#[cfg(all(test, feature = "redis"))]
mod agreement;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::StoreError;
use crate::id::{ClientId, PermitId};
use crate::inspection::{Inspection, KickOutcome};

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A grant to somebody else's waiter lives so long until its owner confirms it.
pub(crate) const CLAIM_MS: u64 = 3_000;
/// A client that was heard waiting is presumed alive so long.
pub(crate) const ALIVE_MS: u64 = 3_000;
/// At most so many ids of the caller go into one turn.
pub(crate) const TURN_BOUND: usize = 256;
/// At most so many expired permits and so many heads of the queue are looked at in one turn.
pub(crate) const LOOK_BOUND: usize = 96;
/// At most so many holders and so many waiters are listed by `inspect`.
pub(crate) const INSPECT_BOUND: usize = 500;

/// Somewhere permits are counted.
pub(crate) trait Store: Send + Sync {
    /// Opens a connection for `client`, whose wake-ups go to `ear`.
    fn open(
        &self,
        client: ClientId,
        ear: Arc<dyn Ear>,
    ) -> BoxFuture<'_, Result<Arc<dyn Session>, StoreError>>;

    /// As [`Session::turn`], by a store that needs no waiting, nor a session.
    fn turn_at_once(&self, _: &Turn) -> Option<TurnOutcome> {
        None
    }

    /// What a log line may call this store; never with a password.
    fn place(&self) -> String;
}

/// One open connection.
pub(crate) trait Session: Send + Sync {
    /// Settles all that a client has to say about one semaphore.
    fn turn(&self, turn: Turn) -> BoxFuture<'_, Result<TurnOutcome, StoreError>>;
    /// Whether [`Store::turn_at_once`] has an answer.
    fn is_at_once(&self) -> bool {
        false
    }
    /// A waiter learnt by asking what a wake-up should have told: perhaps they come no more.
    fn doubt_hearing(&self) {}
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
        now: bool,
    ) -> BoxFuture<'_, Result<KickOutcome, StoreError>>;
    /// Whether wake-ups reach this session. When they do not, waiters ask at their backoff's pace.
    fn hears(&self) -> bool;
    /// False once the connection is known to be broken.
    fn is_alive(&self) -> bool;
}

/// Where a session delivers wake-ups. A hint only: it may come late, twice or not at all.
pub(crate) trait Ear: Send + Sync {
    /// `number` is the token of the grant, or 0 for "ask about this id".
    fn wake(&self, name: &str, id: PermitId, number: u64);
    /// Wake-ups ceased to be, or are again, heard; some may have been missed.
    #[cfg(feature = "redis")]
    fn hearing_changed(&self);
    /// The session's connection broke.
    #[cfg(feature = "redis")]
    fn gone(&self);
}

/// What a client says in one turn. At most [`TURN_BOUND`] ids in all.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) name: Arc<str>,
    pub(crate) client: ClientId,
    /// Who this is, for `inspect`; empty for no label.
    pub(crate) label: Arc<str>,
    /// How many turns of this client about this semaphore went unanswered: an older turn that runs later is void.
    pub(crate) epoch: u64,
    pub(crate) limit: u32,
    /// The highest token or ticket this client has seen.
    pub(crate) seen: u64,
    /// The incarnation under which the renewed permits were granted.
    pub(crate) incarnation: u64,
    /// Held permits to give back, those of one unit first.
    pub(crate) release: Vec<PermitId>,
    /// No token of those of one unit is lower; 0 where one is not known, or where a lease may have
    /// ended: those are looked for one by one.
    pub(crate) release_from: u64,
    /// Ids to remove wherever they are.
    pub(crate) cancel: Vec<PermitId>,
    /// Held permits, and for how many milliseconds from now.
    pub(crate) renew: Vec<(PermitId, u64)>,
    /// Waiters sent before, whose fate is in doubt.
    pub(crate) ask: Vec<Ask>,
    /// Waiters never sent before.
    pub(crate) admit: Vec<(PermitId, Rule)>,
}

impl Turn {
    /// Then all is looked after.
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
    /// 0 when no reply told a ticket yet.
    pub(crate) ticket: u64,
    pub(crate) rule: Rule,
}

/// What to do with an id that does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    Wait,
    /// Wait unless so many wait already.
    WaitBehind(u32),
    Try,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TurnOutcome {
    Answered(TurnReply),
    /// A newer turn of this client has run: nothing was done.
    Stale {
        epoch: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct TurnReply {
    pub(crate) incarnation: u64,
    pub(crate) in_use: u64,
    pub(crate) limit: u32,
    pub(crate) overridden: bool,
    pub(crate) waiting: u64,
    /// The last token or ticket given out.
    pub(crate) last: u64,
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
    pub(crate) not_plain: Vec<(usize, Renewed)>,
    /// One per ask.
    pub(crate) asked: Vec<Settled>,
    /// One per admit.
    pub(crate) admitted: Vec<Settled>,
    /// Waiters of the caller that it did not ask about and that left the queue: token, or `None`
    /// for one that asks for more than the limit.
    pub(crate) others: Vec<(PermitId, Option<u64>)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewed {
    Gone,
    Kicked,
    /// It was missing since data was lost, and there was room for it.
    PutBack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    Granted {
        token: u64,
        /// It had been granted before this turn, unheard.
        earlier: bool,
    },
    Queued {
        ticket: u64,
        place: u64,
    },
    Refused,
    Kicked,
    TooLarge,
}

impl Settled {
    /// The same of a newcomer so many places later, who fared alike.
    #[cfg(feature = "redis")]
    fn with_numbers_raised_by(self, nth: u64) -> Self {
        match self {
            Self::Granted { token, earlier } => Self::Granted { token: token + nth, earlier },
            Self::Queued { ticket, place } => {
                Self::Queued { ticket: ticket + nth, place: place + nth }
            }
            alike => alike,
        }
    }
}
