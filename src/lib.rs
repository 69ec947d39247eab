#![cfg_attr(all(feature = "redis", feature = "tower"), doc = include_str!("../README.md"))]
#![cfg_attr(
    not(all(feature = "redis", feature = "tower")),
    doc = "A counting semaphore for a whole cluster."
)]
#![cfg_attr(not(test), warn(clippy::too_many_lines, clippy::excessive_nesting))]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod acquire;
mod backoff;
mod client;
mod compact_instant;
mod control;
mod driver;
mod error;
mod hold;
mod id;
mod inspection;
#[cfg(feature = "__internals")]
#[doc(hidden)]
pub mod internals;
#[cfg(feature = "tower")]
mod last_known;
mod lease;
mod lease_word;
mod lost_reason;
#[cfg(feature = "metrics")]
pub mod metrics;
#[cfg(not(feature = "metrics"))]
mod metrics;
mod names;
mod numbers;
mod options;
mod permit;
mod permit_handle;
mod released;
mod replicated;
mod retry_delay;
mod semaphore;
mod semaphore_builder;
mod semaphore_inner;
mod shrink;
mod span;
mod store;
mod sync;
#[cfg(feature = "tower")]
pub mod tower;
mod try_acquire;
mod wait;
#[cfg(feature = "serde")]
mod whole_millis;

pub use acquire::Acquire;
pub use backoff::Backoff;
pub use client::{Client, ClientBuilder};
pub use error::{
    AcquireError, ConfigError, ConnectError, ControlError, ExtendError, ReleaseError,
    ShutdownError, StoreError, StoreErrorKind, TryAcquireError,
};
pub use id::{ClientId, ParseIdError, PermitId};
pub use inspection::{Holder, Inspection, KickOutcome, QueuedWaiter};
pub use lost_reason::LostReason;
pub use names::Names;
pub use options::{Renew, Wake};
pub use permit::Permit;
pub use permit_handle::PermitHandle;
pub use released::Released;
pub use semaphore::ZSetSemaphore;
pub use semaphore_builder::SemaphoreBuilder;
pub use store::memory::MemoryStore;
pub use try_acquire::TryAcquire;
