//! Why a permit could not be released or extended.

use crate::lost_reason::LostReason;

use super::ConfigError;

/// [`Permit::release`](crate::Permit::release) could not confirm that the units are free. The lease
/// frees them at its end at the latest.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// The store did not answer before the lease ended. The units are free.
    #[error("the store did not confirm the release before the lease ended")]
    Unconfirmed,
    /// The tokio runtime of the client has ended. The units are free at the end of the lease.
    #[error("the client has ended; the lease ends by itself")]
    Closed,
}

/// [`Permit::extend`](crate::Permit::extend) failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ExtendError {
    /// The permit is lost.
    #[error("the permit is lost: {0}")]
    Lost(LostReason),
    /// The permit was released in the meantime, by a [`PermitHandle`](crate::PermitHandle).
    #[error("the permit was released")]
    Released,
    /// The duration is not one that a lease may have.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The tokio runtime of the client has ended.
    #[error("the client has ended")]
    Closed,
}
