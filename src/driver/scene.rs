//! A line and the books, turn by turn, in the hands of a test.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, advance};

use super::batch::Outgoing;
use super::errand::Errand;
use super::line::Line;
use super::waiter::WaitEnd;
use crate::backoff::Backoff;
use crate::hold::Hold;
use crate::id::{ClientId, PermitId};
use crate::options::{Options, Renew, Wake};
use crate::store::memory::Books;
use crate::store::{Rule, Turn, TurnOutcome, TurnReply};

pub(super) const LEASE_MS: u64 = 30_000;

/// One line, and the books that answer it.
pub(super) struct Scene {
    pub(super) line: Line,
    pub(super) books: Books,
    entered: u64,
    pub(super) micros: u64,
    /// The wake-ups that the last foreign turn sent, undelivered.
    pub(super) words: Vec<(PermitId, u64)>,
}

impl Scene {
    /// With one turn answered, so that the line knows where it stands.
    pub(super) fn new(limit: u32) -> Self {
        let mut line = Line::new("abreast".into(), ClientId::from_bits(7));
        line.add_handle(limit, &"".into());
        line.set_hears(true, Instant::now());
        let micros = 1_000_000_000_000_000;
        let mut scene =
            Self { line, books: Books::default(), entered: 0, micros, words: Vec::new() };
        scene.line.nudge();
        let first = scene.next().unwrap();
        scene.run_and_settle(first);
        scene
    }

    /// As after a time in which nobody used the name here.
    pub(super) fn fresh_line(&mut self, limit: u32) {
        self.line = Line::new("abreast".into(), ClientId::from_bits(7));
        self.line.add_handle(limit, &"".into());
        self.line.set_hears(true, Instant::now());
    }

    /// Whether the turn, if it runs now, does nothing.
    pub(super) fn is_void(&mut self, outgoing: &Outgoing) -> bool {
        matches!(self.books.turn(&outgoing.turn, self.micros).0, TurnOutcome::Stale { .. })
    }

    pub(super) fn id(counter: u64) -> PermitId {
        PermitId::new(ClientId::from_bits(7), counter, 1, LEASE_MS)
    }

    pub(super) fn enter(&mut self) -> u64 {
        self.enter_with(Rule::Wait, LEASE_MS)
    }

    pub(super) fn next(&mut self) -> Option<Outgoing> {
        self.line.tick(Instant::now());
        self.line.next_turn(Instant::now(), Duration::from_millis(500), Some(1))
    }

    pub(super) fn run(&mut self, outgoing: &Outgoing) -> TurnReply {
        self.micros += 1_000;
        match self.books.turn(&outgoing.turn, self.micros).0 {
            TurnOutcome::Answered(reply) => reply,
            TurnOutcome::Stale { .. } => panic!("a turn of this epoch counts"),
        }
    }

    pub(super) fn run_and_settle(&mut self, outgoing: Outgoing) {
        let reply = self.run(&outgoing);
        self.line.settle(outgoing.number, reply, Instant::now());
        std::mem::take(&mut self.line.errands).into_iter().for_each(Errand::run);
    }

    pub(super) fn granted(&mut self, counter: u64) -> Option<Arc<Hold>> {
        match self.line.poll_waiter(counter, &mut None) {
            Poll::Ready(WaitEnd::Granted(hold)) => Some(hold),
            Poll::Ready(end) => panic!("the wait ended with {end:?}"),
            Poll::Pending => None,
        }
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
        self.line.give_back(hold.id.counter(), None);
    }

    pub(super) fn enter_with(&mut self, rule: Rule, lease_ms: u64) -> u64 {
        self.enter_as(rule, 1, lease_ms, Wake::Push)
    }

    pub(super) fn enter_as(&mut self, rule: Rule, units: u32, lease_ms: u64, wake: Wake) -> u64 {
        self.enter_full(rule, units, Options { lease_ms, wake, ..auto() })
    }

    pub(super) fn enter_renewing(&mut self, rule: Rule, lease_ms: u64, renew: Renew) -> u64 {
        self.enter_full(rule, 1, Options { lease_ms, renew, ..auto() })
    }

    fn enter_full(&mut self, rule: Rule, units: u32, options: Options) -> u64 {
        self.entered += 1;
        let id = PermitId::new(ClientId::from_bits(7), self.entered, units, options.lease_ms);
        self.line.enter(id, rule, Arc::new(options));
        self.entered
    }

    /// A turn of another client.
    pub(super) fn foreign(&mut self, client: u64, change: impl FnOnce(&mut Turn)) -> TurnReply {
        self.micros += 1_000;
        let mut turn = Turn {
            name: "abreast".into(),
            client: ClientId::from_bits(client),
            label: "".into(),
            epoch: 0,
            limit: 1,
            seen: 0,
            incarnation: 0,
            release: Vec::new(),
            release_from: 0,
            cancel: Vec::new(),
            renew: Vec::new(),
            ask: Vec::new(),
            admit: Vec::new(),
        };
        change(&mut turn);
        let (outcome, notes) = self.books.turn(&turn, self.micros);
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

fn auto() -> Options {
    Options {
        lease_ms: LEASE_MS,
        renew: Renew::Auto,
        max_hold: None,
        backoff: Backoff::default(),
        wake: Wake::Push,
        max_queue: None,
    }
}
