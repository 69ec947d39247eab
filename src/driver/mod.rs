//! The driver: one task per client that owns the connection and talks in turns.
//!
//! # Implementation
//!
//! Callers change a [`Line`] under its own short lock and mark it ready; the driver takes ready
//! lines, lets each build at most one turn, and sends the turns side by side. While a turn is in
//! flight its line gathers. Timers are kept one per line. The store is only ever awaited with a
//! deadline of our own, and the connection is replaced by our own rules.

mod agenda;
mod answer;
mod at_once;
mod batch;
mod connection;
mod errand;
mod held;
mod leases;
mod line;
mod pause;
mod settle;
mod shared;
mod take_back;
mod task;
mod waiter;
mod wipe_log;

#[cfg(test)]
mod abreast;
#[cfg(test)]
mod grants;
#[cfg(test)]
mod late;
#[cfg(test)]
mod lone;
#[cfg(test)]
mod lost;
#[cfg(test)]
mod scene;
#[cfg(test)]
mod simulation;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use crate::sync::lock;

use errand::Errand;

pub(crate) use line::Line;
pub(crate) use shared::{Link, NoDriver, Shared};
pub(crate) use waiter::WaitEnd;

/// A line and the switch that says it waits for the driver.
#[derive(Debug)]
pub(crate) struct LineCell {
    line: Mutex<Line>,
    ready: AtomicBool,
    key: u64,
}

impl LineCell {
    /// Changes the line, tells those concerned, and has the driver look at it.
    fn update<T>(self: &Arc<Self>, shared: &Shared, change: impl FnOnce(&mut Line) -> T) -> T {
        let answer = self.peek(change);
        if !self.turn_inline(shared) {
            shared.make_ready(self);
        }
        answer
    }

    /// As [`update`](Self::update), for changes that leave the driver nothing to do.
    fn peek<T>(&self, change: impl FnOnce(&mut Line) -> T) -> T {
        let mut line = lock(&self.line);
        let answer = change(&mut line);
        let errands = std::mem::take(&mut line.errands);
        drop(line); // an errand may run anything
        errands.into_iter().for_each(Errand::run);
        answer
    }
}

/// A place at a line that keeps the client's driver running.
#[derive(Debug, Clone)]
pub(crate) struct Seat {
    cell: Arc<LineCell>,
    client: Arc<Lifeline>,
}

impl Seat {
    pub(crate) fn new(cell: Arc<LineCell>, client: Arc<Lifeline>) -> Self {
        Self { cell, client }
    }

    /// Changes the line, tells those concerned, and has the driver look at it.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Line) -> T) -> T {
        self.cell.update(self.shared(), change)
    }

    /// As [`update`](Self::update), for changes that leave the driver nothing to do.
    pub(crate) fn peek<T>(&self, change: impl FnOnce(&mut Line) -> T) -> T {
        self.cell.peek(change)
    }

    pub(crate) fn downgrade(&self) -> WeakSeat {
        WeakSeat { cell: Arc::clone(&self.cell), shared: Arc::downgrade(self.shared()) }
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.client.0
    }
}

/// A place at a line that keeps nothing running.
#[derive(Debug, Clone)]
pub(crate) struct WeakSeat {
    cell: Arc<LineCell>,
    shared: Weak<Shared>,
}

impl WeakSeat {
    /// As [`Seat::update`], if there is a driver still.
    pub(crate) fn update<T>(&self, change: impl FnOnce(&mut Line) -> T) -> T {
        match self.shared.upgrade() {
            Some(shared) => self.cell.update(&shared, change),
            None => self.cell.peek(change),
        }
    }
}

/// Held by everything that a user can hold; when the last one goes, the driver hands back what is
/// left and ends.
#[derive(Debug)]
pub(crate) struct Lifeline(pub(crate) Arc<Shared>);

impl Drop for Lifeline {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::SeqCst);
        self.0.work.notify_one();
    }
}
