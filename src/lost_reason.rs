//! Why a permit was lost.

use std::fmt;

/// Why a permit was lost while it was held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostReason {
    /// Its lease ended without an [`extend`](crate::Permit::extend), with
    /// [`Renew::Manual`](crate::Renew::Manual).
    Expired,
    /// An operator [kicked](crate::ZSetSemaphore::kick) it. Its units stay in use until it is dropped or
    /// released, or its lease ends.
    Kicked,
    /// The store no longer has it, though its lease had not ended, and there was no room to put it
    /// back. Data was lost or deleted, the clock of the server was stepped, or an operator removed it
    /// with [`kick_now`](crate::ZSetSemaphore::kick_now).
    MissingInStore,
    /// The store confirmed no renewal in time, so it may have granted the units to somebody else.
    RenewalTimeout,
    /// It was held for [`max_hold`](crate::SemaphoreBuilder::max_hold).
    MaxHold,
    /// The client was shut down with [`shutdown_now`](crate::Client::shutdown_now).
    Shutdown,
}

#[cfg(any(test, feature = "metrics"))]
impl LostReason {
    /// All reasons, each at the index that it has as a number.
    pub(crate) const ALL: [Self; 6] = [
        Self::Expired,
        Self::Kicked,
        Self::MissingInStore,
        Self::RenewalTimeout,
        Self::MaxHold,
        Self::Shutdown,
    ];
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "its lease ended",
            Self::Kicked => "it was kicked",
            Self::MissingInStore => "the store no longer has it",
            Self::RenewalTimeout => "no renewal was confirmed in time",
            Self::MaxHold => "it was held too long",
            Self::Shutdown => "the client was shut down",
        })
    }
}

impl std::error::Error for LostReason {}
