//! The harness: a test runs one state against the memory store, turn by turn.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, advance};

use crate::driver::deferred::Effect;
use crate::driver::state::{Outgoing, SemaphoreState, WaitEnd};
use crate::hold::Hold;
use crate::id::{ClientId, PermitId};
use crate::numbers::Millis;
use crate::options::{Options, Renew, Wake};
use crate::store::memory::MemoryState;
use crate::store::{Turn, TurnOutcome, TurnReply, WakeUp, WhenFull};

pub(super) const LEASE_MS: u64 = 30_000;
pub(super) const LEASE: Millis = Millis::new(LEASE_MS);

/// One state, and the memory store's that answers it.
pub(super) struct Harness {
    pub(super) state: SemaphoreState,
    pub(super) store: MemoryState,
    entered: u64,
    pub(super) micros: u64,
    /// The wake-ups that the last foreign turn sent, undelivered.
    pub(super) words: Vec<(PermitId, WakeUp)>,
}

impl Harness {
    /// With one turn answered, so that the state knows the incarnation.
    pub(super) fn new(limit: u32) -> Self {
        let mut state = SemaphoreState::new("harness".into(), ClientId::from_bits(7));
        state.add_handle(limit, &"".into());
        state.set_subscribed(true, Instant::now());
        let micros = 1_000_000_000_000_000;
        let mut harness =
            Self { state, store: MemoryState::default(), entered: 0, micros, words: Vec::new() };
        harness.state.request_turn();
        let first = harness.next().unwrap();
        harness.run_and_settle(first);
        harness
    }

    /// As after a time in which nobody used the name here.
    pub(super) fn fresh_state(&mut self, limit: u32) {
        self.state = SemaphoreState::new("harness".into(), ClientId::from_bits(7));
        self.state.add_handle(limit, &"".into());
        self.state.set_subscribed(true, Instant::now());
    }

    /// Returns whether the turn, if it runs now, does nothing.
    pub(super) fn is_void(&mut self, outgoing: &Outgoing) -> bool {
        matches!(self.store.turn(&outgoing.turn, self.micros).0, TurnOutcome::Stale { .. })
    }

    pub(super) fn id(counter: u64) -> PermitId {
        PermitId::new(ClientId::from_bits(7), counter, 1, LEASE)
    }

    pub(super) fn enter(&mut self) -> u64 {
        self.enter_with(WhenFull::Wait, LEASE_MS)
    }

    pub(super) fn next(&mut self) -> Option<Outgoing> {
        self.state.tick(Instant::now());
        self.state.next_turn(Instant::now(), Duration::from_millis(500), Some(1))
    }

    pub(super) fn run(&mut self, outgoing: &Outgoing) -> TurnReply {
        self.micros += 1_000;
        match self.store.turn(&outgoing.turn, self.micros).0 {
            TurnOutcome::Answered(reply) => reply,
            TurnOutcome::Stale { .. } => panic!("a turn of this epoch counts"),
        }
    }

    pub(super) fn run_and_settle(&mut self, outgoing: Outgoing) {
        let reply = self.run(&outgoing);
        self.state.answered(outgoing.number, reply, Instant::now());
        self.state.take_effects().into_iter().for_each(Effect::run);
    }

    pub(super) fn granted(&mut self, counter: u64) -> Option<Arc<Hold>> {
        match self.state.poll_waiter(counter, &mut None) {
            Poll::Ready(WaitEnd::Granted(hold)) => Some(hold),
            Poll::Ready(end) => panic!("the wait ended with {end:?}"),
            Poll::Pending => None,
        }
    }

    /// Returns whether a try has ended because there is no room.
    pub(super) fn is_refused(&mut self, counter: u64) -> bool {
        matches!(self.state.poll_waiter(counter, &mut None), Poll::Ready(WaitEnd::Full { .. }))
    }

    /// A permit granted at once.
    pub(super) fn hold(&mut self) -> Arc<Hold> {
        let counter = self.enter();
        let turn = self.next().unwrap();
        self.run_and_settle(turn);
        self.granted(counter).unwrap()
    }

    pub(super) fn release(&mut self, hold: &Hold) {
        assert!(hold.release());
        self.state.give_back(hold.id.counter(), None);
    }

    pub(super) fn enter_with(&mut self, when_full: WhenFull, lease_ms: u64) -> u64 {
        self.enter_as(when_full, 1, lease_ms, Wake::Push)
    }

    pub(super) fn enter_as(
        &mut self,
        when_full: WhenFull,
        units: u32,
        lease_ms: u64,
        wake: Wake,
    ) -> u64 {
        self.enter_full(
            when_full,
            units,
            Options { wake, ..Options::with_lease(Millis::new(lease_ms)) },
        )
    }

    pub(super) fn enter_renewing(
        &mut self,
        when_full: WhenFull,
        lease_ms: u64,
        renew: Renew,
    ) -> u64 {
        self.enter_full(
            when_full,
            1,
            Options { renew, ..Options::with_lease(Millis::new(lease_ms)) },
        )
    }

    fn enter_full(&mut self, when_full: WhenFull, units: u32, options: Options) -> u64 {
        self.entered += 1;
        let id = PermitId::new(ClientId::from_bits(7), self.entered, units, options.lease);
        self.state.enter(id, when_full, Arc::new(options));
        self.entered
    }

    /// A turn of another client.
    pub(super) fn foreign(&mut self, client: u64, change: impl FnOnce(&mut Turn)) -> TurnReply {
        self.micros += 1_000;
        let mut turn = Turn::new("harness".into(), ClientId::from_bits(client), "".into(), 1);
        change(&mut turn);
        let (outcome, notes) = self.store.turn(&turn, self.micros);
        self.words = notes.into_iter().flat_map(|(_, words)| words).collect();
        match outcome {
            TurnOutcome::Answered(reply) => reply,
            TurnOutcome::Stale { .. } => panic!("a turn of this epoch counts"),
        }
    }

    pub(super) async fn pass(&mut self, ms: u64) {
        advance(Duration::from_millis(ms)).await;
        self.micros += ms * 1_000;
    }
}
