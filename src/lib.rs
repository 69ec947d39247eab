#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod acquire;
mod backoff;
mod client;
mod driver;
mod error;
mod hold;
mod id;
mod lease;
mod numbers;
mod permit;
mod semaphore;
mod store;
mod sync;
#[cfg(feature = "tower")]
pub mod tower;

pub use acquire::{Acquire, TryAcquire};
pub use backoff::Backoff;
pub use client::{Client, ClientBuilder};
pub use error::{
    AcquireError, ConfigError, ConnectError, ControlError, ExtendError, ReleaseError,
    ShutdownError, StoreError, StoreErrorKind, TryAcquireError,
};
pub use id::{ClientId, ParseIdError, PermitId};
pub use permit::{LostReason, Permit, PermitWatch, Released};
pub use semaphore::{
    Holder, Inspection, QueuedWaiter, Renew, SemaphoreBuilder, Wake, ZSetSemaphore,
};
pub use store::KickOutcome;
pub use store::memory::Memory;
