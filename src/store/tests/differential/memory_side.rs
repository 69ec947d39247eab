//! The memory store: the state of one name.

use crate::id::{ClientId, PermitId};
use crate::inspection::{Inspection, KickOutcome};
use crate::numbers::ServerId;
use crate::store::memory::{Content, MemoryState};
use crate::store::{Kick, Turn, TurnOutcome, WakeUp};

use super::generator::Key;

#[derive(Default)]
pub(super) struct MemorySide {
    state: MemoryState,
    wake_ups: Vec<(ClientId, Vec<(PermitId, WakeUp)>)>,
}

impl MemorySide {
    pub(super) fn turn(&mut self, turn: &Turn, now: u64) -> TurnOutcome {
        let (outcome, wake_ups) = self.state.turn(turn, now);
        self.wake_ups.extend(wake_ups);
        outcome
    }

    pub(super) fn set_server(&mut self, server: ServerId) {
        self.state.move_to(server);
    }

    pub(super) fn snapshot(&self) -> MemoryState {
        self.state.clone()
    }

    pub(super) fn roll_back(&mut self, snapshot: &MemoryState) {
        self.state = snapshot.clone();
    }

    pub(super) fn set_limit(&mut self, limit: Option<u32>, now: u64) {
        self.state.set_limit(limit, now);
    }

    pub(super) fn kick(&mut self, id: PermitId, kick: Kick, now: u64) -> KickOutcome {
        let (outcome, wake_ups) = self.state.kick(id, kick, now / 1000);
        self.wake_ups.extend(wake_ups);
        outcome
    }

    pub(super) fn inspect(&mut self, now: u64) -> Inspection {
        self.state.inspect(now)
    }

    /// Returns how many permits and waiters there are.
    pub(super) fn ids(&self) -> u64 {
        self.state.ids()
    }

    pub(super) fn content(&self, now: u64) -> Content {
        self.state.content(now / 1000)
    }

    pub(super) fn lose(&mut self, key: Key) {
        match key {
            Key::Permits => self.state.lose_permits(),
            Key::Queue => self.state.lose_queue(),
            Key::Clients => self.state.lose_clients(),
            Key::Meta => self.state.lose_meta(),
        }
    }

    pub(super) fn lose_all_keys(&mut self) {
        self.state = MemoryState::default();
    }

    /// Returns the wake-ups of each client since the last call, in the order of `clients`.
    pub(super) fn take_wake_ups(
        &mut self,
        clients: impl Iterator<Item = ClientId>,
    ) -> Vec<Vec<(PermitId, WakeUp)>> {
        let all = std::mem::take(&mut self.wake_ups);
        let of = |client| {
            let own = all.iter().filter(move |(other, _)| *other == client);
            own.flat_map(|(_, wake_ups)| wake_ups.clone()).collect()
        };
        clients.map(of).collect()
    }
}
