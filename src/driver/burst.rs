//! The effects of replies, run where they disturb the runtime least.
//!
//! # Implementation
//!
//! A reply may wake a hundred callers. If the driver wakes them one after the other, a runtime of several
//! workers sends a sleeping worker after the first of them. That worker finds few callers, falls asleep
//! again, and is woken for the next ones: ten system calls for one reply. So the wakers are handed to the
//! runtime in the way of a task that [yields](yield_now). It runs them between two tasks, and only then looks
//! for a sleeping worker.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};

use tokio::runtime::Handle;
use tokio::task::yield_now;

use crate::sync::lock;

use super::deferred::Effects;

/// Collects effects, and then runs all of them.
#[derive(Debug, Default)]
pub(super) struct Burst {
    effects: Effects,
    /// Whether the runtime has other workers that may sleep.
    has_sleepers: Option<bool>,
}

impl Burst {
    pub(super) fn add(&mut self, effects: Effects) {
        if self.effects.is_empty() {
            self.effects = effects;
        } else {
            self.effects.extend(effects);
        }
    }

    /// Runs the effects now, or lets the runtime do so after this poll of the driver.
    pub(super) fn run(&mut self) {
        let effects = std::mem::take(&mut self.effects);
        if effects.len() > 1 && self.has_sleepers() {
            let waker = Waker::from(Arc::new(Yielded::new(effects)));
            let _ = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
        } else {
            run(effects);
        }
    }

    fn has_sleepers(&mut self) -> bool {
        let workers = || Handle::try_current().map_or(1, |runtime| runtime.metrics().num_workers());
        *self.has_sleepers.get_or_insert_with(|| workers() > 1)
    }
}

/// Runs all effects, also if the waker of one caller panics: the others are woken, and a panic outside of a
/// task would end a worker of the runtime.
fn run(effects: Effects) {
    for effect in effects {
        let _told_by_the_hook = catch_unwind(AssertUnwindSafe(|| effect.run()));
    }
}

/// Runs effects when it is woken, or dropped by a runtime that ends.
pub(super) struct Yielded(Mutex<Effects>);

impl Yielded {
    pub(super) fn new(effects: Effects) -> Self {
        Self(Mutex::new(effects))
    }

    fn run(&self) {
        run(std::mem::take(&mut *lock(&self.0)));
    }
}

impl Wake for Yielded {
    fn wake(self: Arc<Self>) {
        self.run();
    }
}

impl Drop for Yielded {
    fn drop(&mut self) {
        self.run();
    }
}
