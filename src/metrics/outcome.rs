//! What is counted by how it ended.

use crate::error::StoreError;
use crate::store::TurnOutcome;

/// How a wait for a permit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitOutcome {
    Granted,
    Timeout,
    Full,
    QueueFull,
    TooLarge,
    Kicked,
    Closed,
    Refused,
    Cancelled,
}

/// What became of a request.
#[cfg(feature = "tower")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestOutcome {
    Permit,
    Local,
    Uncounted,
    Weightless,
    /// The future was dropped while the request waited, most likely because its client went away.
    Cancelled,
    Rejected(Rejected),
}

/// Why a request was not let through.
#[cfg(feature = "tower")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rejected {
    Full,
    Timeout,
    QueueFull,
    TooLarge,
    Unavailable,
    Refused,
    Closed,
    Kicked,
    Lookup,
    Body,
}

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TurnEnd {
    Answered,
    Stale,
    Moved,
    Refused,
    Unanswered,
}

impl TurnEnd {
    pub(crate) fn of(outcome: &TurnOutcome) -> Self {
        match outcome {
            TurnOutcome::Answered(_) => Self::Answered,
            TurnOutcome::Stale { .. } => Self::Stale,
        }
    }

    pub(crate) fn of_error(error: &StoreError) -> Self {
        if error.is_elsewhere() {
            Self::Moved
        } else if error.is_unanswered() {
            Self::Unanswered
        } else {
            Self::Refused
        }
    }
}

impl WaitOutcome {
    #[cfg(feature = "metrics")]
    pub(super) const ALL: [Self; 9] = [
        Self::Granted,
        Self::Timeout,
        Self::Full,
        Self::QueueFull,
        Self::TooLarge,
        Self::Kicked,
        Self::Closed,
        Self::Refused,
        Self::Cancelled,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Granted => "granted",
            Self::Timeout => "timeout",
            Self::Full => "full",
            Self::QueueFull => "queue_full",
            Self::TooLarge => "too_large",
            Self::Kicked => "kicked",
            Self::Closed => "closed",
            Self::Refused => "refused",
            Self::Cancelled => "cancelled",
        }
    }
}

#[cfg(all(feature = "metrics", feature = "tower"))]
impl RequestOutcome {
    pub(super) const UNREJECTED: [Self; 5] =
        [Self::Permit, Self::Local, Self::Uncounted, Self::Weightless, Self::Cancelled];

    pub(super) fn index(self) -> usize {
        match self {
            Self::Permit => 0,
            Self::Local => 1,
            Self::Uncounted => 2,
            Self::Weightless => 3,
            Self::Cancelled => 4,
            Self::Rejected(_) => 5,
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Local => "local",
            Self::Uncounted => "uncounted",
            Self::Weightless => "weightless",
            Self::Cancelled => "cancelled",
            Self::Rejected(_) => "rejected",
        }
    }
}

#[cfg(feature = "tower")]
impl Rejected {
    #[cfg(feature = "metrics")]
    pub(super) const ALL: [Self; 10] = [
        Self::Full,
        Self::Timeout,
        Self::QueueFull,
        Self::TooLarge,
        Self::Unavailable,
        Self::Refused,
        Self::Closed,
        Self::Kicked,
        Self::Lookup,
        Self::Body,
    ];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Timeout => "timeout",
            Self::QueueFull => "queue_full",
            Self::TooLarge => "too_large",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
            Self::Closed => "closed",
            Self::Kicked => "kicked",
            Self::Lookup => "lookup",
            Self::Body => "body",
        }
    }
}

impl TurnEnd {
    #[cfg(feature = "metrics")]
    pub(super) const ALL: [Self; 5] =
        [Self::Answered, Self::Stale, Self::Moved, Self::Refused, Self::Unanswered];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Stale => "stale",
            Self::Moved => "moved",
            Self::Refused => "refused",
            Self::Unanswered => "unanswered",
        }
    }
}
