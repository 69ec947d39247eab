//! The drivers of a client: one task per place that owns the connection to it and talks in turns.
//!
//! # Implementation
//!
//! Callers change a [`SemaphoreState`] under its own short lock and mark it ready. The driver takes ready
//! semaphores, lets each build its next turn, and sends the turns side by side. While a turn is in flight,
//! its semaphore gathers what the next turn will say. There is one timer for each semaphore. The store is
//! always awaited with a deadline of this crate, and the connection is replaced by rules of this crate.
//!
//! A semaphore belongs to one place. If its name comes to another place, the driver of the old place hands it
//! over. Turns that are in flight then land where they were sent.

mod alarm;
mod answers;
mod burst;
mod cell;
mod connection;
mod deferred;
mod gathering;
mod handle;
mod inline;
mod lifecycle;
mod link;
mod listener;
mod loss_log;
mod place;
mod places;
mod process;
mod question;
mod registry;
mod replication;
mod self_wakes;
mod shared;
mod state;
mod task;
mod timers;

#[cfg(test)]
mod tests;

pub(crate) use deferred::ReleaseDone;
pub(crate) use handle::{DriverHandle, DropGuard, NoDriver, WeakDriverHandle};
pub(crate) use replication::Lag;
pub(crate) use shared::{NoSession, Shared};
pub(crate) use state::{SemaphoreState, WaitEnd};
