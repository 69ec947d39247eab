//! The driver: one task per client that owns the connection and talks in turns.
//!
//! # Implementation
//!
//! Callers change a [`SemaphoreState`] under its own short lock and mark it ready. The driver takes ready
//! semaphores, lets each build its next turn, and sends the turns side by side. While a turn is in flight,
//! its semaphore gathers what the next turn will say. There is one timer for each semaphore. The store is
//! always awaited with a deadline of this crate, and the connection is replaced by rules of this crate.

mod alarm;
mod answers;
mod burst;
mod cell;
mod connection;
mod data_loss_log;
mod deferred;
mod gathering;
mod handle;
mod inline;
mod lifecycle;
mod link;
mod process;
mod registry;
mod self_wakes;
mod shared;
mod state;
mod task;
mod timers;

#[cfg(test)]
mod tests;

pub(crate) use deferred::ReleaseDone;
pub(crate) use handle::{DriverHandle, DropGuard, NoDriver, WeakDriverHandle};
pub(crate) use shared::{NoSession, Shared};
pub(crate) use state::{SemaphoreState, WaitEnd};
