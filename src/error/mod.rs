//! Errors: one type for each operation, as data.

mod acquire;
mod client;
mod config;
mod permit;
mod rounded;
mod store;

pub use acquire::{AcquireError, TryAcquireError};
pub use client::{ConnectError, ControlError, ShutdownError};
pub use config::ConfigError;
#[cfg(any(feature = "redis", feature = "tower"))]
pub(crate) use config::has_forbidden_characters;
pub(crate) use config::{is_plain_name, is_semaphore_name};
pub use permit::{ExtendError, ReleaseError};
pub use store::{StoreError, StoreErrorKind};
