//! What the state of a semaphore tells: permits held, and what replies tell of the cluster.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::semaphore::{Instruments, Meter};
use super::share::Share;
use crate::compact_instant::CompactInstant;
use crate::id::PermitId;
use crate::lost_reason::LostReason;
use crate::shrink::Shrink;

/// The metrics of one state. What it has added to gauges is taken back when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct StateMeter(Option<Box<Metered>>);

#[derive(Debug)]
struct Metered {
    instruments: Arc<Instruments>,
    held: Share,
    in_use: Share,
    queue: Share,
    limit: Share,
    /// Since when permits are held, by their counters. Only here, because a permit has to be small where nobody asks.
    since: FxHashMap<u64, CompactInstant>,
}

impl StateMeter {
    pub(crate) fn new(meter: &Meter) -> Self {
        Self(meter.0.as_ref().map(|instruments| {
            Box::new(Metered {
                held: Share::of(&instruments.held_units),
                in_use: Share::of(&instruments.in_use_units),
                queue: Share::of(&instruments.queue_length),
                limit: Share::of(&instruments.limit_units),
                instruments: Arc::clone(instruments),
                since: FxHashMap::default(),
            })
        }))
    }

    /// Returns the meter of the semaphore.
    pub(crate) fn semaphore(&self) -> Meter {
        Meter(self.0.as_ref().map(|metered| Arc::clone(&metered.instruments)))
    }

    /// A permit is held from now on.
    pub(crate) fn granted(&mut self, id: PermitId, now: Instant) {
        if let Some(metered) = &mut self.0 {
            metered.held.add(id.units().into());
            metered.since.insert(id.counter(), now.into());
        }
    }

    /// A permit is lost. It may still be [held](Self::gone) for the store.
    pub(crate) fn lost(&mut self, id: PermitId, reason: LostReason, now: Instant) {
        if let Some(metered) = &mut self.0 {
            metered.instruments.lost(reason).increment(1);
            if let Some(since) = metered.since.remove(&id.counter()) {
                let held = now.saturating_duration_since(since.into());
                metered.instruments.held_lost.record(held);
            }
        }
    }

    /// A permit is no longer held. Unless it was lost before, it was released.
    pub(crate) fn gone(&mut self, id: PermitId) {
        if let Some(metered) = &mut self.0 {
            metered.held.take(id.units().into());
            if let Some(since) = metered.since.remove(&id.counter()) {
                metered.instruments.held_released.record(Instant::from(since).elapsed());
            }
            metered.since.shrink_in_use();
        }
    }

    /// A reply told how many units are in use, how many wait, and the limit.
    pub(crate) fn told(&mut self, in_use: u64, waiting: u64, limit: u32) {
        if let Some(metered) = &mut self.0 {
            metered.in_use.set(in_use);
            metered.queue.set(waiting);
            metered.limit.set(limit.into());
        }
    }

    /// Nobody here holds or waits any more, so no turn will tell how things change.
    pub(crate) fn idle(&mut self) {
        if let Some(metered) = &mut self.0 {
            metered.in_use.set(0);
            metered.queue.set(0);
            metered.limit.set(0);
            metered.since.shrink_idle();
        }
    }

    /// A waiter learnt of its grant by asking, although wake-ups should arrive.
    pub(crate) fn unheard_grant(&self) {
        if let Some(metered) = &self.0 {
            metered.instruments.unheard_grants.increment(1);
        }
    }

    /// The store has lost its data.
    pub(crate) fn data_loss(&self) {
        if let Some(metered) = &self.0 {
            metered.instruments.data_losses.increment(1);
        }
    }
}
