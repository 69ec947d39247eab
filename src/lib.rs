#![doc = include_str!("../README.md")]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod acquire;
mod backoff;
mod client;
mod control;
mod driver;
mod error;
mod hold;
mod id;
mod inspection;
mod lease;
mod lost_reason;
mod options;
#[cfg(feature = "tower")]
mod outlook;
mod permit;
mod released;
mod semaphore;
mod semaphore_builder;
mod semaphore_inner;
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
pub use inspection::{Holder, Inspection, KickOutcome, QueuedWaiter};
pub use lost_reason::LostReason;
pub use options::{Renew, Wake};
pub use permit::{Permit, PermitHandle};
pub use released::Released;
pub use semaphore::ZSetSemaphore;
pub use semaphore_builder::SemaphoreBuilder;
pub use store::memory::MemoryStore;
