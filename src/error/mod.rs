//! Errors: one type for each operation, as data.

mod acquire;
mod client;
mod config;
mod permit;
mod store;

pub use acquire::{AcquireError, TryAcquireError};
pub use client::{ConnectError, ControlError, ShutdownError};
pub use config::ConfigError;
pub(crate) use config::{has_forbidden_characters, is_semaphore_name};
pub use permit::{ExtendError, ReleaseError};
pub use store::{StoreError, StoreErrorKind};
