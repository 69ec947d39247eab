//! What the state of a semaphore tells: permits held, waiters, and what replies tell of the cluster.
//!
//! # Implementation
//!
//! The gauges do not move with each grant, release and wait, but by the sum of many of them: with each look at the state,
//! each reply and each wake-up. A look follows each change, and comes before the turn that tells the store of it.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio::time::Instant;

use super::semaphore::{Instruments, Meter};
use super::share::Share;
use crate::compact_instant::CompactInstant;
use crate::hold::Hold;
use crate::id::PermitId;
use crate::lost_reason::LostReason;
use crate::shrink::Shrink;

/// The metrics of one state. What it has added to gauges is taken back when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct StateMeter(Option<Box<Metered>>);

#[derive(Debug)]
struct Metered {
    instruments: Arc<Instruments>,
    shares: Shares,
    cluster: Cluster,
    /// The units of the permits that are held now.
    held: u64,
    /// The callers whose grants are not on replicas yet.
    replicating: u64,
    /// Since when those permits are held whose lease no longer tells it, by their counters.
    since: FxHashMap<u64, CompactInstant>,
    /// The driver has ended: nothing is told any more.
    ended: bool,
}

/// What the last reply told of the cluster.
#[derive(Debug, Default)]
struct Cluster {
    in_use: u64,
    queue: u64,
    limit: u64,
}

/// What this state has added to gauges.
#[derive(Debug)]
struct Shares {
    held: Share,
    waiters: Share,
    in_use: Share,
    queue: Share,
    limit: Share,
}

impl Shares {
    fn of(instruments: &Instruments) -> Self {
        Self {
            held: Share::of(&instruments.held_units),
            waiters: Share::of(&instruments.waiters),
            in_use: Share::of(&instruments.in_use_units),
            queue: Share::of(&instruments.queue_length),
            limit: Share::of(&instruments.limit_units),
        }
    }

    /// Moves the gauges to units that this process holds, waiters of this process, and the cluster.
    fn set(&mut self, held: u64, waiters: u64, cluster: &Cluster) {
        self.held.set(held);
        self.waiters.set(waiters);
        self.in_use.set(cluster.in_use);
        self.queue.set(cluster.queue);
        self.limit.set(cluster.limit);
    }

    /// Adds as much to the gauges of `instruments`, and takes it from the present ones.
    fn move_to(&mut self, instruments: &Instruments) {
        let mut there = Self::of(instruments);
        let in_use = self.in_use.amount();
        let cluster = Cluster { in_use, queue: self.queue.amount(), limit: self.limit.amount() };
        there.set(self.held.amount(), self.waiters.amount(), &cluster);
        *self = there;
    }
}

impl Metered {
    fn new(instruments: &Arc<Instruments>) -> Self {
        Self {
            instruments: Arc::clone(instruments),
            shares: Shares::of(instruments),
            cluster: Cluster::default(),
            held: 0,
            replicating: 0,
            since: FxHashMap::default(),
            ended: false,
        }
    }

    /// Takes out since when a permit is held.
    fn take_since(&mut self, hold: &Hold) -> Instant {
        let noted = self.since.remove(&hold.id.counter());
        noted.map_or_else(|| hold.granted_at(), Instant::from)
    }
}

impl StateMeter {
    /// Sets where the metrics go from now on.
    pub(crate) fn set(&mut self, meter: &Meter) {
        match (&mut self.0, &meter.0) {
            // Moved gauges would show double for a moment.
            (Some(metered), Some(same)) if Arc::ptr_eq(&metered.instruments, same) => {}
            (Some(metered), Some(instruments)) => {
                metered.shares.move_to(instruments);
                metered.instruments = Arc::clone(instruments);
            }
            (metered, instruments) => {
                *metered = instruments.as_ref().map(|it| Box::new(Metered::new(it)));
            }
        }
    }

    /// A permit is held from now on. `is_claim` is whether its lease does not begin with this grant.
    pub(crate) fn granted(&mut self, hold: &Hold, is_claim: bool, now: Instant) {
        if let Some(metered) = &mut self.0 {
            metered.held += u64::from(hold.id.units());
            if is_claim {
                metered.since.insert(hold.id.counter(), now.into());
            }
        }
    }

    /// The lease of a permit is about to be renewed. `hold` is asked for only if somebody listens.
    pub(crate) fn renews(&mut self, hold: impl FnOnce() -> Option<Arc<Hold>>) {
        if let Some(metered) = &mut self.0
            && let Some(hold) = hold()
        {
            let since = || hold.granted_at().into();
            metered.since.entry(hold.id.counter()).or_insert_with(since);
        }
    }

    /// A permit is lost. The store may still [count](Self::gone) it.
    pub(crate) fn lost(&mut self, hold: &Hold, reason: LostReason, now: Instant) {
        if let Some(metered) = &mut self.0 {
            metered.instruments.lost(reason).increment(1);
            let held = now.saturating_duration_since(metered.take_since(hold));
            metered.instruments.held_lost.record(held);
        }
    }

    /// A permit was released at `now`.
    pub(crate) fn released(&mut self, hold: &Hold, now: impl FnOnce() -> Instant) {
        if let Some(metered) = &mut self.0 {
            let held = now().saturating_duration_since(metered.take_since(hold));
            metered.instruments.held_released.record(held);
        }
    }

    /// A permit is no longer held.
    pub(crate) fn gone(&mut self, id: PermitId) {
        if let Some(metered) = &mut self.0 {
            metered.held = metered.held.saturating_sub(id.units().into());
            metered.since.remove(&id.counter()); // of one that was kicked and then renewed
            metered.since.shrink_in_use();
        }
    }

    /// A caller waits until replicas have its grant.
    pub(crate) fn replicating(&mut self) {
        if let Some(metered) = &mut self.0 {
            metered.replicating += 1;
        }
    }

    /// A caller no longer [waits for replicas](Self::replicating).
    pub(crate) fn replicating_ended(&mut self) {
        if let Some(metered) = &mut self.0 {
            metered.replicating = metered.replicating.saturating_sub(1);
        }
    }

    /// A reply told how many units are in use, how many wait, and the limit.
    pub(crate) fn told(&mut self, in_use: u64, waiting: u64, limit: u32) {
        if let Some(metered) = &mut self.0 {
            metered.cluster = Cluster { in_use, queue: waiting, limit: limit.into() };
        }
    }

    /// Moves the gauges to how things are now. `waiters` is how many wait here for a grant. If nobody here holds or waits, no turn
    /// will tell how the cluster changes, so this process shows nothing of it.
    pub(crate) fn show(&mut self, waiters: usize) {
        if let Some(metered) = &mut self.0
            && !metered.ended
        {
            let waiters = waiters as u64 + metered.replicating;
            if metered.held == 0 && waiters == 0 {
                metered.cluster = Cluster::default();
            }
            metered.shares.set(metered.held, waiters, &metered.cluster);
        }
    }

    /// The driver has ended: nobody renews what is still held, and no turn tells anything. This process shows nothing from
    /// now on.
    pub(crate) fn end(&mut self) {
        if let Some(metered) = &mut self.0 {
            metered.ended = true;
            metered.shares.set(0, 0, &Cluster::default());
        }
    }

    /// Gives back the memory of a burst, while nothing is held.
    pub(crate) fn shrink_idle(&mut self) {
        if let Some(metered) = &mut self.0 {
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
