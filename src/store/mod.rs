//! The interface between the driver and the store.
//!
//! A [`Store`] makes [`Session`]s; a session carries turns. Both traits are private, so only this crate
//! implements them. The public types hold them as trait objects; this costs one boxed future per turn, not
//! per permit.

mod bounds;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;

#[cfg(test)]
mod tests;

use std::future::{Future, ready};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{StoreError, StoreErrorKind};
use crate::id::{ClientId, PermitId};
use crate::inspection::{Inspection, KickOutcome};
use crate::numbers::{Epoch, Incarnation, Millis, PlaceId, Replicas, Seq, ServerId};

pub(crate) use bounds::{
    ALIVE, CLAIM, FORGET_AFTER, HOPS, INSPECT_BOUND, LABEL_BOUND, LOOK_BOUND, TURN_BOUND,
};

pub(crate) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The answer to a turn.
pub(crate) type TurnAnswer = Result<TurnOutcome, StoreError>;

/// What counts the units of all names. It has one place or more; each name is at one of them.
pub(crate) trait Store: Send + Sync {
    /// Returns the place that counts the units of `name`, as far as is known. It makes no call.
    fn place_of(&self, _name: &str) -> PlaceId {
        PlaceId::FIRST
    }

    /// Returns the places that have names, as far as is known.
    fn places(&self) -> Vec<PlaceId> {
        vec![PlaceId::FIRST]
    }

    /// Opens a connection to a place for `client`. The wake-ups of the client go to `listener`.
    fn open(
        &self,
        place: PlaceId,
        client: ClientId,
        listener: Arc<dyn WakeListener>,
    ) -> BoxFuture<'_, Result<Opened, StoreError>>;

    /// Returns a future that watches over a place to which there is no connection. It ends once another attempt to
    /// connect may succeed. The driver polls it during the pause before that attempt. `None` if the store hears nothing
    /// meanwhile.
    fn watch(
        &self,
        _place: PlaceId,
        _listener: Arc<dyn WakeListener>,
    ) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// Notes that no name uses a place, and that its connection was closed. The store may forget the place until it is
    /// opened again.
    fn leave(&self, _place: PlaceId) {}

    /// Runs a turn immediately, without a session. A store that has to be awaited returns `None`. One that
    /// need not be has a single place.
    fn turn_inline(&self, _: &Turn) -> Option<TurnOutcome> {
        None
    }

    /// Returns whether the store is in this process, so that there is no connection that can break.
    fn is_in_process(&self) -> bool {
        false
    }

    /// Returns what a trace shows of the database that runs turns, if there is one.
    fn database(&self) -> Option<Database<'_>> {
        None
    }

    /// The address as the log shows it, without a password.
    fn address(&self) -> String;

    /// The address of a place as the log shows it.
    fn address_of(&self, _place: PlaceId) -> String {
        self.address()
    }
}

/// The database that runs turns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Database<'a> {
    pub(crate) system: &'static str,
    pub(crate) operation: &'static str,
    /// The SHA-1 of the script.
    pub(crate) procedure: &'a str,
}

/// A connection that was just opened.
pub(crate) struct Opened {
    pub(crate) session: Arc<dyn Session>,
    /// Moves the bytes of the connection while it is polled, and ends when the connection breaks. `None` if
    /// nobody need poll it. The connection is closed when this is dropped.
    pub(crate) io: Option<BoxFuture<'static, ()>>,
}

/// One open connection.
pub(crate) trait Session: Send + Sync {
    /// Sends all that a client has to say about one semaphore.
    fn turn(self: Arc<Self>, turn: Turn) -> BoxFuture<'static, TurnAnswer>;
    /// Sends turns about different semaphores together, and returns their answers in the same order once all
    /// are there.
    fn turns(self: Arc<Self>, turns: Vec<Turn>) -> BoxFuture<'static, Vec<TurnAnswer>>;
    /// Returns whether [`Store::turn_inline`] returns an answer.
    fn is_inline(&self) -> bool {
        false
    }
    /// Makes the session check its subscription. It is called when a waiter learnt of its grant by asking,
    /// so the wake-up was probably lost.
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
    /// Returns which server the connection leads to, if the server tells.
    fn server(&self) -> Option<ServerId> {
        None
    }
    /// Opens a second connection to the same address, which asks about replicas.
    fn replication(&self) -> BoxFuture<'_, Result<Box<dyn Replication>, StoreError>> {
        let what = "this store has no replicas, so `replicated` must be 0";
        Box::pin(ready(Err(StoreError::new(StoreErrorKind::Server, what))))
    }
    /// Returns names that are in use at this place. A name may be on several pages.
    fn names(&self, page: NamesCursor) -> BoxFuture<'_, Result<NamesPage, StoreError>>;
    /// Returns whether wake-ups arrive. If they do not, waiters ask at the intervals of their backoff.
    fn is_subscribed(&self) -> bool;
    /// Returns false if the connection is known to be broken.
    fn is_alive(&self) -> bool;
}

/// A connection that asks how many replicas have what its server has. The question blocks the connection, so turns
/// have another one.
pub(crate) trait Replication: Send {
    /// Returns which server the connection leads to, if the server tells.
    fn server(&self) -> Option<ServerId>;
    /// Waits until `wanted` replicas have acknowledged all that the server ran before, but not longer than
    /// `patience`. Replicas acknowledge what they are sent, so the question about new grants has to write
    /// something; `writes` tells whether it does.
    fn count<'a>(
        &'a mut self,
        grants: &'a Grants,
        writes: bool,
        wanted: Replicas,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Acknowledged, StoreError>>;
}

/// Grants, by the names of their semaphores.
pub(crate) type Grants = Vec<(Arc<str>, Vec<PermitId>)>;

/// The answer to the question how many replicas have some grants.
#[derive(Debug)]
pub(crate) struct Acknowledged {
    /// How many replicas have acknowledged all that the server ran before the question.
    pub(crate) replicas: u32,
    /// For each name, whether the server itself has each of the grants.
    pub(crate) held: Vec<Result<Vec<bool>, StoreError>>,
}

/// Where a page of names begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NamesCursor(pub(crate) u64);

/// A part of the names at a place.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct NamesPage {
    pub(crate) names: Vec<String>,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<NamesCursor>,
}

/// The receiver of a session's wake-ups. A wake-up is a hint: it may come late, twice or not at all.
pub(crate) trait WakeListener: Send + Sync {
    fn wake(&self, name: &str, id: PermitId, wake_up: WakeUp);
    /// Wake-ups no longer arrive, or arrive again. Some may have been missed.
    #[cfg(feature = "redis")]
    fn subscription_changed(&self);
    /// The session's connection broke.
    #[cfg(feature = "redis")]
    fn disconnected(&self);
    /// [`Store::place_of`] may return other places than before.
    #[cfg(any(test, feature = "redis"))]
    fn places_changed(&self);
}

/// All that a client says about one semaphore in one call. It names at most [`TURN_BOUND`] ids.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) name: Arc<str>,
    pub(crate) client: ClientId,
    /// The name of the client for `inspect`; empty if it has none.
    pub(crate) label: Arc<str>,
    /// What the store has to know if the client may meet it for the first time.
    pub(crate) meets: Option<Meeting>,
    /// Whether the store has to keep the label and the limit of the client.
    pub(crate) declares: bool,
    /// The epoch. The store ignores turns of a lower epoch that run after this one.
    pub(crate) epoch: Epoch,
    pub(crate) limit: u32,
    /// The highest token or ticket this client has seen.
    pub(crate) seen: Option<Seq>,
    /// The incarnation under which the renewed permits were granted.
    pub(crate) incarnation: Option<Incarnation>,
    /// Held permits to give back, those of one unit first.
    pub(crate) release: Vec<PermitId>,
    /// A lower bound of the tokens of the released permits of one unit. `None` if a token is not known, or a
    /// lease may have ended. Then the store looks for each permit.
    pub(crate) release_from: Option<Seq>,
    /// Ids to remove wherever they are.
    pub(crate) cancel: Vec<PermitId>,
    /// Held permits, each with the time from now for which it is to be held.
    pub(crate) renew: Vec<(PermitId, Millis)>,
    /// Waiters that were sent before and whose state is in doubt.
    pub(crate) ask: Vec<Ask>,
    /// Waiters never sent before.
    pub(crate) admit: Vec<(PermitId, WhenFull)>,
}

impl Turn {
    /// Makes a turn that says nothing.
    pub(crate) fn new(name: Arc<str>, client: ClientId, label: Arc<str>, limit: u32) -> Self {
        Self {
            name,
            client,
            label,
            meets: None,
            declares: false,
            epoch: Epoch::default(),
            limit,
            seen: None,
            incarnation: None,
            release: Vec::new(),
            release_from: None,
            cancel: Vec::new(),
            renew: Vec::new(),
            ask: Vec::new(),
            admit: Vec::new(),
        }
    }

    /// Returns how many callers may await its answer.
    pub(crate) fn callers(&self) -> usize {
        self.release.len() + self.ask.len() + self.admit.len()
    }

    /// Returns how many ids it names.
    pub(crate) fn ids(&self) -> usize {
        self.callers() + self.cancel.len() + self.renew.len()
    }

    fn says_nothing(&self) -> bool {
        self.ids() == 0
    }
}

/// What a client tells in its first turn about a name on a connection: another server may have taken over, whose
/// data are older than what the client was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meeting {
    /// The incarnation of the last reply. `None` before the first one.
    pub(crate) known: Option<Incarnation>,
    /// How long nothing new is to be given out if the server is another one.
    pub(crate) grace: Millis,
    /// The server. `None` if the session is to tell the one that its connection leads to.
    pub(crate) server: Option<Server>,
}

/// The server at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Server {
    pub(crate) id: ServerId,
    /// How long it has been up, or less.
    pub(crate) up: Millis,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Ask {
    pub(crate) id: PermitId,
    /// `None` if no reply has told a ticket yet.
    pub(crate) ticket: Option<Seq>,
    pub(crate) when_full: WhenFull,
}

/// Says what the store does with a newcomer that does not fit.
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
    /// Whether waiters that the caller asked about had been lost. They are back at their places in the
    /// queue, or have left it in this turn. Other waiters may be lost, too.
    pub(crate) put_back: bool,
    /// Work was left for another turn.
    pub(crate) more: bool,
    /// The time until the next deadline; only for the owner of the head of the queue.
    pub(crate) earliest: Option<Duration>,
    /// Indices, from 0, of releases that found nothing.
    pub(crate) missing: Vec<usize>,
    /// Indices, from 0, of renewals that found no permit or a kicked one, each with its outcome.
    pub(crate) renewal_exceptions: Vec<(usize, RenewalException)>,
    /// One per ask.
    pub(crate) asked: Vec<WaiterOutcome>,
    /// One per admit.
    pub(crate) admitted: Vec<WaiterOutcome>,
    /// Waiters of the caller that left the queue although it did not ask about them. Each has its token, or
    /// `None` if it wants more than the limit.
    pub(crate) others: Vec<(PermitId, Option<Seq>)>,
}

impl TurnReply {
    /// Makes a reply that says nothing about permits or waiters.
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
    /// It was missing after a loss of data. There was room for it, so it was put back.
    PutBack,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaiterOutcome {
    Granted {
        token: Seq,
        /// It had been granted before this turn, but the client had not learnt of it.
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
    /// Returns the outcome of the newcomer that is `nth` places later in the same run.
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
    /// Something has changed, so the next turn has to ask about the id.
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

/// How an operator ends a permit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kick {
    /// It can no longer be renewed.
    Mark,
    /// It is removed at once, before its holder knows.
    Remove,
}
