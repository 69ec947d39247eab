//! Why a permit was lost.

use std::fmt;

/// Why a permit is no longer ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostReason {
    /// A manual lease ran out without an [`extend`](crate::Permit::extend).
    Expired,
    /// An operator kicked it.
    Kicked,
    /// Redis no longer knows it though its lease had not ended: data was lost or deleted, or the
    /// server's clock was stepped, and there was no room to put it back; or an operator removed it
    /// with [`kick_now`](crate::ZSetSemaphore::kick_now).
    MissingInStore,
    /// No renewal was confirmed in time: Redis may have given the units to somebody else.
    RenewalTimeout,
    /// It was held for [`max_hold`](crate::SemaphoreBuilder::max_hold).
    MaxHold,
    /// The client was shut down with [`shutdown_now`](crate::Client::shutdown_now).
    Shutdown,
}

impl LostReason {
    const ALL: [Self; 6] = [
        Self::Expired,
        Self::Kicked,
        Self::MissingInStore,
        Self::RenewalTimeout,
        Self::MaxHold,
        Self::Shutdown,
    ];

    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Self {
        Self::ALL.get(usize::from(code)).copied().unwrap_or(Self::RenewalTimeout)
    }
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Expired => "its lease ran out",
            Self::Kicked => "it was kicked",
            Self::MissingInStore => "Redis forgot it",
            Self::RenewalTimeout => "no renewal was confirmed in time",
            Self::MaxHold => "it was held too long",
            Self::Shutdown => "the client was shut down",
        })
    }
}

impl std::error::Error for LostReason {}
