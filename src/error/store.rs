//! The error of the store, and its kinds.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

type Source = Arc<dyn Error + Send + Sync>;

/// The error of the store: Redis, or the connection to it, failed.
///
/// It is opaque. [`kind`](Self::kind) and the predicates tell what to do about it, and
/// [`source()`](Error::source) gives the error of the Redis client.
#[derive(Clone)]
pub struct StoreError {
    kind: StoreErrorKind,
    what: Arc<str>,
    source: Option<Source>,
    place: Place,
}

/// What the error of one place of the store tells beyond its kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Right,
    /// The name is at another place than the one that was asked.
    Elsewhere,
    /// The place lost the name while the call ran. So a part of the call may have run, and the rest never
    /// will.
    CutShort,
}

/// The kinds of [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// No connection could be opened.
    Unreachable,
    /// No answer came in time. Whether the call ran is not known.
    Timeout,
    /// The connection broke. Whether the call ran is not known.
    Disconnected,
    /// The server is loading its data, or a cluster is moving it. It will answer again.
    NotReady,
    /// The server is a replica, which takes no writes (`READONLY`).
    ReadOnly,
    /// The server is out of memory (`OOM`).
    OutOfMemory,
    /// The server refuses writes because it cannot persist them (`MISCONF`).
    CannotPersist,
    /// The user name or the password is wrong or missing (`WRONGPASS`, `NOAUTH`).
    Authentication,
    /// The user may not run a command, or touch a key, that is needed (`NOPERM`).
    NotPermitted,
    /// A key of the semaphore holds a value of another type (`WRONGTYPE`).
    WrongType,
    /// A newer version of this crate wrote the data of the semaphore, in a form that this version does not know
    /// (`NEWERSCHEMA`, an error of the crate's own scripts). Nothing was changed.
    NewerSchema,
    /// Fewer replicas than [`replicated`](crate::SemaphoreBuilder::replicated) wants have acknowledged a grant.
    TooFewReplicas {
        /// The number that is wanted.
        wanted: u32,
        /// The number of replicas that had acknowledged it when the server last counted.
        acknowledged: u32,
    },
    /// The URL leads to a node of a cluster although it names one server, or the other way round.
    WrongMode,
    /// The server answered something that this crate does not understand.
    Protocol,
    /// The server answered another error.
    Server,
}

impl StoreError {
    /// Returns what the errors say that hold this one.
    pub(super) fn why_unavailable(&self) -> String {
        match self.kind {
            // The store has answered.
            StoreErrorKind::TooFewReplicas { .. } => format!("too few replicas: {self}"),
            _ => format!("the store is unavailable: {self}"),
        }
    }

    pub(crate) fn new(kind: StoreErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into().into(), source: None, place: Place::Right }
    }

    #[cfg(feature = "redis")]
    pub(crate) fn with_source(
        kind: StoreErrorKind,
        what: impl Into<String>,
        source: impl Error + Send + Sync + 'static,
    ) -> Self {
        Self { source: Some(Arc::new(source)), ..Self::new(kind, what) }
    }

    pub(crate) fn timeout(what: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::Timeout, what)
    }

    /// The name has come to another place than the one that was asked.
    #[cfg(test)]
    pub(crate) fn elsewhere(what: impl Into<String>) -> Self {
        Self::new(StoreErrorKind::NotReady, what).into_elsewhere()
    }

    /// As [`elsewhere`](Self::elsewhere), with what this error says.
    #[cfg(any(test, feature = "redis"))]
    pub(crate) fn into_elsewhere(self) -> Self {
        Self { place: Place::Elsewhere, ..self }
    }

    /// The place lost the name while the call ran: a part of it may have run.
    #[cfg(feature = "redis")]
    pub(crate) fn into_cut_short(self) -> Self {
        Self { place: Place::CutShort, ..self }
    }

    /// Returns whether the place lost the name while the call ran.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.place == Place::CutShort
    }

    /// Returns whether the name has come to another place than the one that was asked. The call did nothing.
    pub(crate) fn is_elsewhere(&self) -> bool {
        self.place == Place::Elsewhere
    }

    /// Returns the kind.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// Whether no answer came in time.
    pub fn is_timeout(&self) -> bool {
        self.kind == StoreErrorKind::Timeout
    }

    /// Whether the failure may pass by itself. Waiters wait until it has passed, and a try is worth
    /// repeating.
    pub fn is_transient(&self) -> bool {
        !self.is_final()
    }

    /// Whether only a change of configuration, or of the version of this crate, can help. Waiters end with it
    /// at once.
    pub fn is_final(&self) -> bool {
        use StoreErrorKind::{
            Authentication, NewerSchema, NotPermitted, Protocol, Server, WrongMode, WrongType,
        };
        matches!(
            self.kind,
            Authentication | NotPermitted | WrongType | NewerSchema | WrongMode | Protocol | Server
        )
    }

    /// Whether the server did not answer, as opposed to a refusal.
    pub(crate) fn is_unanswered(&self) -> bool {
        use StoreErrorKind::{Disconnected, Timeout, Unreachable};
        matches!(self.kind, Disconnected | Timeout | Unreachable)
    }

    /// Whether it is known that the call did nothing.
    pub(crate) fn did_not_run(&self) -> bool {
        matches!(self.kind, StoreErrorKind::NotReady | StoreErrorKind::Unreachable)
            && self.place != Place::CutShort
    }

    /// Whether the connection must be replaced.
    pub(crate) fn breaks_connection(&self) -> bool {
        use StoreErrorKind::{Authentication, Disconnected, Unreachable};
        matches!(self.kind, Disconnected | Unreachable | Authentication)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StoreError({:?}: {})", self.kind, self.what)
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| &**source as &(dyn Error + 'static))
    }
}
