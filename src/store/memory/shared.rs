//! The data that the handles and the sessions of one store share.

use std::sync::{Arc, Mutex, Weak};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::id::{ClientId, PermitId};
use crate::inspection::{Inspection, KickOutcome};
use crate::numbers::Incarnation;
use crate::store::{Kick, Turn, TurnOutcome, WakeListener};
use crate::sync::lock;

use super::names::Names;
use super::state::{MemoryState, WakeUps};

pub(super) struct Shared {
    names: Mutex<Names>,
    clock: Clock,
    incarnation: Incarnation,
}

impl Shared {
    pub(super) fn new() -> Self {
        let clock = Clock::start();
        let incarnation = Incarnation::at(clock.start_micros);
        Self { names: Mutex::default(), clock, incarnation }
    }

    /// Returns how many names have a state.
    pub(super) fn names(&self) -> usize {
        lock(&self.names).len()
    }

    pub(super) fn names_in_use(&self) -> Vec<String> {
        lock(&self.names).in_use(self.clock.now_micros())
    }

    pub(super) fn turn(&self, turn: &Turn) -> TurnOutcome {
        let (outcome, wake_ups) = self.with_state(&turn.name, |state, now| state.turn(turn, now));
        self.wake(&turn.name, wake_ups);
        outcome
    }

    pub(super) fn inspect(&self, name: &Arc<str>) -> Inspection {
        self.with_state(name, |state, now| state.inspect(now))
    }

    pub(super) fn set_limit(&self, name: &Arc<str>, limit: Option<u32>) {
        self.with_state(name, |state, now| state.set_limit(limit, now));
    }

    pub(super) fn kick(&self, name: &Arc<str>, id: PermitId, kick: Kick) -> KickOutcome {
        let (outcome, wake_ups) =
            self.with_state(name, |state, now| state.kick(id, kick, now / 1000));
        self.wake(name, wake_ups);
        outcome
    }

    pub(super) fn listen(&self, client: ClientId, listener: Weak<dyn WakeListener>) {
        lock(&self.names).listen(client, listener);
    }

    pub(super) fn forget_listener(&self, client: ClientId) {
        lock(&self.names).forget_listener(client);
    }

    fn with_state<T>(&self, name: &Arc<str>, act: impl FnOnce(&mut MemoryState, u64) -> T) -> T {
        let now = self.clock.now_micros();
        lock(&self.names).with_state(name, now, self.incarnation, act)
    }

    /// Delivers wake-ups. Nothing may be locked, because a listener runs foreign code.
    fn wake(&self, name: &str, wake_ups: impl IntoIterator<Item = WakeUps>) {
        for (client, wake_ups) in wake_ups {
            let listener = lock(&self.names).listener(client);
            if let Some(listener) = listener {
                for (id, wake_up) in wake_ups {
                    listener.wake(name, id, wake_up);
                }
            }
        }
    }
}

/// A clock that starts at the wall-clock time when the store was made, and runs with tokio's clock.
struct Clock {
    start: Instant,
    start_micros: u64,
}

impl Clock {
    fn start() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let start_micros = u64::try_from(since.as_micros()).unwrap_or(0);
        Self { start: Instant::now(), start_micros }
    }

    /// Returns the time in microseconds. Outside a runtime it returns the start time, because tokio's clock
    /// may be paused in the runtime but runs outside. A time that is too early is safe.
    fn now_micros(&self) -> u64 {
        if Handle::try_current().is_err() {
            return self.start_micros;
        }
        let since = self.start.elapsed().as_micros();
        self.start_micros + u64::try_from(since).unwrap_or(u64::MAX / 2)
    }
}
