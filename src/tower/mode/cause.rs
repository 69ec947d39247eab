//! The causes of rejections, as far as clients are told.

use crate::tower::rejection::{Reason, Rejection};

/// The cause of a rejection, as far as a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    Full,
    TooLarge,
    RequestBody,
    Unavailable,
}

impl Cause {
    pub(super) fn of(rejection: &Rejection) -> Self {
        match rejection.reason() {
            _ if rejection.is_full() => Self::Full,
            _ if rejection.is_too_large() => Self::TooLarge,
            Reason::RequestBody => Self::RequestBody,
            _ => Self::Unavailable,
        }
    }

    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Full => "too many requests at once",
            Self::TooLarge => "the request weighs more than the limit",
            Self::RequestBody => "the body of the request is not complete",
            Self::Unavailable => "the service is not available just now",
        }
    }

    /// Returns whether the same request may get a permit later.
    pub(super) fn may_pass(self) -> bool {
        matches!(self, Self::Full | Self::Unavailable)
    }
}
