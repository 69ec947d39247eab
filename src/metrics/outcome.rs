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
    Open,
    Weightless,
    /// The future was dropped while the request waited, most likely because its client went away.
    Cancelled,
    /// Rejected, with the [label](crate::tower::Reason::label) of the reason.
    Rejected(&'static str),
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
        [Self::Permit, Self::Local, Self::Open, Self::Weightless, Self::Cancelled];

    pub(super) fn index(self) -> usize {
        match self {
            Self::Permit => 0,
            Self::Local => 1,
            Self::Open => 2,
            Self::Weightless => 3,
            Self::Cancelled => 4,
            Self::Rejected(_) => 5,
        }
    }

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Permit => "permit",
            Self::Local => "local",
            Self::Open => "uncounted",
            Self::Weightless => "weightless",
            Self::Cancelled => "cancelled",
            Self::Rejected(_) => "rejected",
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
