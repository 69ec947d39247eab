//! Why a client could not connect, ask the store about a semaphore, or shut down.

use super::{ConfigError, StoreError};

/// [`ClientBuilder::connect`](crate::ClientBuilder::connect) failed, or its short form
/// `Client::connect`.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A setting was refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The first attempt to connect failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no tokio runtime here, or the runtime of the client has ended.
    #[error("no tokio runtime carries this client; connect inside one that stays")]
    Closed,
}

/// A call of an operator failed: [`inspect`](crate::ZSetSemaphore::inspect),
/// [`set_limit`](crate::ZSetSemaphore::set_limit),
/// [`clear_limit`](crate::ZSetSemaphore::clear_limit), [`kick`](crate::ZSetSemaphore::kick) or
/// [`kick_now`](crate::ZSetSemaphore::kick_now).
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The store refused, or did not answer within the
    /// [call timeout](crate::ClientBuilder::call_timeout).
    #[error("the store is unavailable: {0}")]
    Unavailable(#[source] StoreError),
    /// The client was shut down, or its tokio runtime has ended.
    #[error("the client is closed")]
    Closed,
    /// The future was polled outside a tokio runtime.
    #[error("no tokio runtime here; poll this future inside one")]
    NoRuntime,
}

/// [`Client::shutdown`](crate::Client::shutdown) could not give everything back. The leases free
/// the rest.
#[derive(Debug, Clone, thiserror::Error)]
#[error(
    "{unconfirmed} permits or waiters were not confirmed as given back; they end with their lease"
)]
pub struct ShutdownError {
    unconfirmed: usize,
}

impl ShutdownError {
    pub(crate) fn new(unconfirmed: usize) -> Self {
        Self { unconfirmed }
    }

    /// Returns how many permits and waiters the store has not confirmed as given back.
    pub fn unconfirmed(&self) -> usize {
        self.unconfirmed
    }
}
