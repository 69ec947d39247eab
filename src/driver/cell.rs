//! The cell of a semaphore: its state under a short lock.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::time::Instant;

use crate::metrics::{Meter, NameMeter};
use crate::numbers::{PlaceId, TurnNumber};
use crate::store::TurnOutcome;
use crate::sync::lock;

use super::deferred::{Effect, Effects};
use super::state::SemaphoreState;

/// A state, and whether it waits for the driver.
#[derive(Debug)]
pub(crate) struct SemaphoreCell {
    state: Mutex<SemaphoreState>,
    ready: AtomicBool,
    /// The number of the place that it belongs to.
    place: AtomicU32,
    key: u64,
    meter: NameMeter,
}

impl SemaphoreCell {
    /// `key` distinguishes timers at the same instant.
    pub(super) fn new(state: SemaphoreState, place: PlaceId, key: u64) -> Self {
        let (ready, place) = (AtomicBool::new(false), AtomicU32::new(place.get()));
        Self { state: Mutex::new(state), ready, place, key, meter: NameMeter::default() }
    }

    /// Returns the place that it belongs to: the driver of that place sends its turns.
    pub(super) fn place(&self) -> PlaceId {
        PlaceId::new(self.place.load(Ordering::SeqCst))
    }

    /// Sets the place that it belongs to. Only the driver of its present place may call this.
    pub(super) fn set_place(&self, place: PlaceId) {
        self.place.store(place.get(), Ordering::SeqCst);
    }

    /// Returns the meter of the semaphore.
    pub(super) fn meter(&self) -> &Meter {
        self.meter.get()
    }

    /// Returns whether a handle with this setting of the label changes where the metrics go.
    pub(super) fn lacks_meter(&self, metrics_name: Option<&str>) -> bool {
        self.meter.lacks(metrics_name)
    }

    /// Makes the metrics go to the meter of a handle with this setting of the label.
    pub(super) fn set_meter(&self, metrics_name: Option<&str>, meter: Meter) {
        self.with(|state| {
            self.meter.set(metrics_name, meter);
            state.set_meter(self.meter());
        });
    }

    pub(super) fn key(&self) -> u64 {
        self.key
    }

    /// Changes the state, and then runs the effects of the change with the state unlocked.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut SemaphoreState) -> T) -> T {
        let (answer, effects) = self.with_effects(change);
        effects.into_iter().for_each(Effect::run);
        answer
    }

    /// Changes the state, and returns the effects of the change. The state is unlocked then, because an effect
    /// may run anything.
    fn with_effects<T>(&self, change: impl FnOnce(&mut SemaphoreState) -> T) -> (T, Effects) {
        let mut state = lock(&self.state);
        let answer = change(&mut state);
        (answer, state.take_effects())
    }

    /// Reads the state.
    pub(super) fn read<T>(&self, question: impl FnOnce(&SemaphoreState) -> T) -> T {
        question(&lock(&self.state))
    }

    /// Takes in the outcome of a turn in flight. If the turn shows that the store has lost its data, it
    /// returns the number of permits held. The caller has to run the effects.
    pub(super) fn take_in(
        &self,
        number: TurnNumber,
        outcome: TurnOutcome,
        now: Instant,
    ) -> (Option<usize>, Effects) {
        self.with_effects(|state| {
            match outcome {
                TurnOutcome::Answered(reply) => state.answered(number, reply, now),
                TurnOutcome::Stale { epoch } => state.overtaken(number, epoch),
            }
            state.take_data_loss()
        })
    }

    /// Marks that the state waits for the driver; returns whether it did so already.
    pub(super) fn set_ready(&self) -> bool {
        self.ready.swap(true, Ordering::SeqCst)
    }

    /// Marks that the driver looks at the state now. Later changes make the state ready again.
    pub(super) fn clear_ready(&self) {
        self.ready.store(false, Ordering::SeqCst);
    }
}
