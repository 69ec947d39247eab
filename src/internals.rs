//! The pure parts of a turn, for `benches/pure.rs`. Not part of the API: it may change in any release.
//!
//! # Implementation
//!
//! The types of the driver and of the wire are private, so what the benchmark does with them is here, and
//! what it measures and prints is there.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use ::redis::{Cmd, Value};
use tokio::time::Instant;

use crate::driver::{SemaphoreState, WaitEnd};
use crate::id::{ClientId, PermitId};
use crate::numbers::{Millis, TurnNumber};
use crate::options::Options;
use crate::store::redis::wire::{Args, read_turn, write_turn};
use crate::store::{Turn, TurnOutcome, WhenFull};

const LEASE: Millis = Millis::new(30_000);
const CALL_TIMEOUT: Duration = Duration::from_millis(500);
const TOKEN: u64 = 1_795_000_000_000_000;

/// One semaphore of a client: permits that were released, and newcomers that ask for more.
#[derive(Debug)]
pub struct TurnBench {
    state: SemaphoreState,
    client: ClientId,
    entered: u64,
    options: Arc<Options>,
}

/// A turn as it goes out, with its number.
#[derive(Debug)]
pub struct OutgoingTurn {
    turn: Turn,
    number: TurnNumber,
}

/// The reply of the server to a turn that grants all its newcomers.
#[derive(Debug)]
pub struct GrantingReply(Value);

impl TurnBench {
    /// A semaphore whose next turn names `releases` permits and `newcomers` waiters. None if a turn that must be
    /// answered before that went wrong.
    pub fn new(releases: u64, newcomers: u64) -> Option<Self> {
        let client = ClientId::random();
        let mut state = SemaphoreState::new("bench".into(), client);
        state.add_handle(1_000, &"".into());
        let options = Arc::new(Options::with_lease(LEASE));
        let mut bench = Self { state, client, entered: 0, options };
        if releases > 0 {
            bench.enter(releases);
            let turn = bench.next_turn()?;
            bench.settle(&turn, &GrantingReply::new(releases))?;
            for counter in 1..=releases {
                bench.release(counter)?;
            }
        }
        bench.enter(newcomers);
        Some(bench)
    }

    /// Builds the next turn.
    pub fn next_turn(&mut self) -> Option<OutgoingTurn> {
        let outgoing = self.state.next_turn(Instant::now(), CALL_TIMEOUT, None)?;
        Some(OutgoingTurn { turn: outgoing.turn, number: outgoing.number })
    }

    /// Reads the reply to a turn and takes it in.
    pub fn settle(&mut self, outgoing: &OutgoingTurn, reply: &GrantingReply) -> Option<()> {
        match read_turn(&reply.0, &outgoing.turn).ok()? {
            TurnOutcome::Answered(reply) => {
                self.state.answered(outgoing.number, reply, Instant::now());
                Some(())
            }
            TurnOutcome::Stale { .. } => None,
        }
    }

    fn enter(&mut self, count: u64) {
        for _ in 0..count {
            self.entered += 1;
            let id = PermitId::new(self.client, self.entered, 1, LEASE);
            self.state.enter(id, WhenFull::Wait, Arc::clone(&self.options));
        }
    }

    fn release(&mut self, counter: u64) -> Option<()> {
        let Poll::Ready(WaitEnd::Granted(hold)) = self.state.poll_waiter(counter, &mut None) else {
            return None;
        };
        hold.release().then(|| self.state.give_back(counter, None))
    }
}

impl OutgoingTurn {
    /// How many releases and how many newcomers it names.
    pub fn named(&self) -> (usize, usize) {
        (self.turn.release.len(), self.turn.admit.len())
    }

    /// Writes it as a command of Redis.
    pub fn write(&self) -> Vec<u8> {
        let mut cmd = Cmd::new();
        write_turn(&mut Args::new(&mut cmd), &self.turn, None);
        cmd.get_packed_command()
    }

    /// Reads the reply to it.
    pub fn read(&self, reply: &GrantingReply) -> Option<impl Sized + use<>> {
        read_turn(&reply.0, &self.turn).ok()
    }
}

impl GrantingReply {
    /// The reply to a turn with this number of newcomers.
    pub fn new(granted: u64) -> Self {
        let numbers = [1, TOKEN - 9, granted, 0, TOKEN + granted, granted, 1, TOKEN + 1];
        Self(Value::Array(numbers.map(|number| Value::Int(number as i64)).to_vec()))
    }
}
