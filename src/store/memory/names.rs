//! The state of each name of a store, and the listener of each client.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::{Arc, Weak};

use crate::id::ClientId;
use crate::numbers::{Incarnation, Seq};
use crate::store::WakeListener;

use super::meta::Origin;
use super::state::MemoryState;

/// The number of turns between two sweeps, and the number of names that one sweep looks at.
const SWEEP_EVERY: u32 = 16;

/// The maps are trees, because a hash table moves all its entries at once when it grows.
#[derive(Default)]
pub(super) struct Names {
    states: BTreeMap<Arc<str>, Box<MemoryState>>,
    listeners: BTreeMap<ClientId, Weak<dyn WakeListener>>,
    /// The latest time at which a turn ran, in microseconds.
    now: u64,
    /// No number of any dropped state is higher.
    last: Option<Seq>,
    /// The last name whose state became blank. Its state is dropped only when that of another name becomes
    /// blank, so a name that is used repeatedly keeps its state.
    blank: Option<Arc<str>>,
    turns_since_sweep: u32,
    /// The name at which the last sweep ended.
    swept: Option<Arc<str>>,
}

impl Names {
    pub(super) fn len(&self) -> usize {
        self.states.len()
    }

    /// Returns the names that have something to remember.
    pub(super) fn in_use(&mut self, now: u64) -> Vec<String> {
        self.now = self.now.max(now);
        let now_ms = self.now / 1000;
        let states = self.states.iter_mut();
        let in_use = states.filter_map(|(name, state)| {
            state.expire(now_ms);
            (!state.is_blank()).then(|| name.to_string())
        });
        in_use.collect()
    }

    pub(super) fn listen(&mut self, client: ClientId, listener: Weak<dyn WakeListener>) {
        self.listeners.insert(client, listener);
    }

    pub(super) fn forget_listener(&mut self, client: ClientId) {
        self.listeners.remove(&client);
    }

    pub(super) fn listener(&self, client: ClientId) -> Option<Arc<dyn WakeListener>> {
        self.listeners.get(&client).and_then(Weak::upgrade)
    }

    /// Runs `act` on the state of `name`, at a time of at least `now`. If there is no state, it is made. If
    /// `act` leaves it blank, it is soon dropped.
    pub(super) fn with_state<T>(
        &mut self,
        name: &Arc<str>,
        now: u64,
        incarnation: Incarnation,
        act: impl FnOnce(&mut MemoryState, u64) -> T,
    ) -> T {
        self.now = self.now.max(now);
        self.sweep();
        let (now, last) = (self.now, self.last);
        let state = match self.states.get_mut(&**name) {
            Some(state) => state,
            None => {
                let state = Box::new(MemoryState::new(Origin { incarnation, last }));
                self.states.entry(Arc::clone(name)).or_insert(state)
            }
        };
        let answer = act(state, now);
        if state.is_blank()
            && self.blank.as_ref() != Some(name)
            && let Some(before) = self.blank.replace(Arc::clone(name))
        {
            self.drop_if_blank(&before);
        }
        answer
    }

    fn drop_if_blank(&mut self, name: &str) {
        if let Some(state) = self.states.get(name)
            && state.is_blank()
        {
            self.last = self.last.max(state.last());
            self.states.remove(name);
        }
    }

    /// Expires the keys of the next few names, in every 16th turn. This is needed because a name may never
    /// be used again.
    fn sweep(&mut self) {
        self.turns_since_sweep += 1;
        if self.turns_since_sweep < SWEEP_EVERY {
            return;
        }
        self.turns_since_sweep = 0;
        let from = self.swept.take();
        let from = from.as_deref().map_or(Unbounded, Excluded);
        let mut blank = Vec::new();
        let names = self.states.range_mut::<str, _>((from, Unbounded));
        for (name, state) in names.take(SWEEP_EVERY as usize) {
            state.expire(self.now / 1000);
            if state.is_blank() {
                blank.push(Arc::clone(name));
            }
            self.swept = Some(Arc::clone(name));
        }
        for name in blank {
            self.drop_if_blank(&name);
        }
    }
}
