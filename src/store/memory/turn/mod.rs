//! The turn: one call with all that a client has to say about one semaphore. The twin of `lua/turn.lua`.

mod admit;
mod ask;
mod ask_newcomers;
mod begin;
mod client;
mod finish;
mod meet;
mod permits;
mod prune;
mod remove;
mod renew;
mod reply;
mod serve;

use std::collections::HashMap;

use crate::id::PermitId;
use crate::numbers::Seq;
use crate::store::{Ask, Turn, TurnOutcome, TurnReply, WaiterOutcome, WhenFull};

use super::meta::Meta;
use super::state::{MemoryState, WakeUps};

impl MemoryState {
    /// Runs a turn at `now`, in microseconds. Returns its outcome and the wake-ups of other
    /// clients.
    pub(crate) fn turn(&mut self, turn: &Turn, now: u64) -> (TurnOutcome, Vec<WakeUps>) {
        self.expire(now / 1000);
        match RunningTurn::begin(self, turn, now) {
            Ok(running) => running.run(),
            Err(epoch) => (TurnOutcome::Stale { epoch }, Vec::new()),
        }
    }
}

/// A turn that is not stale, and the results of its steps so far.
struct RunningTurn<'a> {
    state: &'a mut MemoryState,
    turn: &'a Turn,
    /// In microseconds.
    now: u64,
    now_ms: u64,
    limit: u32,
    /// The last number given out.
    last: Option<Seq>,
    /// The latest instant until which any key is needed.
    needed_until: u64,
    wrote_clients: bool,
    pruned: bool,
    /// When the grace ends that is under way; 0 without one.
    grace_ends: u64,
    /// A lower bound of the scores of all permits; `None` if it is not known.
    earliest: Option<u64>,
    /// The first waiter. It is set once the waiter is known not to fit.
    head: Option<PermitId>,
    /// The asks of the turn, and then the newcomers that are asked about.
    asks: Vec<Ask>,
    /// The outcome of each of `asks`; `None` if it is admitted later.
    outcomes: Vec<Option<WaiterOutcome>>,
    /// The asks whose waiters stand in the queue, as indices into `asks`.
    pending: HashMap<PermitId, usize>,
    /// The newcomers that are not asked about.
    admits: &'a [(PermitId, WhenFull)],
    wake_ups: Vec<WakeUps>,
    reply: TurnReply,
}

impl RunningTurn<'_> {
    fn run(mut self) -> (TurnOutcome, Vec<WakeUps>) {
        self.keep_client();
        if self.turn.says_nothing() {
            self.prune();
        }
        self.remove();
        self.renew();
        self.ask_newcomers();
        self.ask();
        self.serve();
        self.admit();
        self.finish();
        self.reply()
    }

    fn meta(&mut self) -> &mut Meta {
        self.state.meta_at(self.now)
    }

    fn next_number(&mut self) -> Seq {
        let next = Seq::after(self.last.max(Seq::new(self.now - 1)));
        self.last = Some(next);
        next
    }

    fn in_use(&mut self) -> u64 {
        self.state.permits.len() + self.meta().extra
    }

    fn fits(&mut self, units: u32) -> bool {
        self.in_use() + u64::from(units) <= u64::from(self.limit)
    }

    /// Returns whether nothing new is given out.
    fn is_in_grace(&self) -> bool {
        self.grace_ends > 0
    }

    fn is_too_large(&self, units: u32) -> bool {
        self.limit > 0 && units > self.limit
    }
}
