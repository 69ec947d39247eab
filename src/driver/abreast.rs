//! Two turns of one name in flight: what the second one may say, and in which order they may land.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Instant, advance};

use super::batch::Outgoing;
use super::line::Line;
use super::waiter::WaitEnd;
use crate::backoff::Backoff;
use crate::error::StoreError;
use crate::hold::Hold;
use crate::id::{ClientId, PermitId};
use crate::semaphore::{Options, Renew, Wake};
use crate::store::memory::Books;
use crate::store::{Rule, TurnOutcome, TurnReply};

const LEASE_MS: u64 = 30_000;

struct Scene {
    line: Line,
    books: Books,
    entered: u64,
    micros: u64,
}

impl Scene {
    /// With one turn answered, so that the line knows where it stands.
    fn new(limit: u32) -> Self {
        let mut line = Line::new("abreast".into(), ClientId::from_bits(7));
        line.add_handle(limit, &"".into());
        line.set_hears(true, Instant::now());
        let micros = 1_000_000_000_000_000;
        let mut scene = Self { line, books: Books::default(), entered: 0, micros };
        scene.line.nudge();
        let first = scene.next().unwrap();
        scene.run_and_settle(first);
        scene
    }

    fn id(counter: u64) -> PermitId {
        PermitId::new(ClientId::from_bits(7), counter, 1, LEASE_MS)
    }

    fn enter(&mut self) -> u64 {
        self.entered += 1;
        let options = Options {
            lease_ms: LEASE_MS,
            renew: Renew::Auto,
            max_hold: None,
            backoff: Backoff::default(),
            wake: Wake::Push,
            max_queue: None,
        };
        self.line.enter(Self::id(self.entered), Rule::Wait, Arc::new(options));
        self.entered
    }

    fn next(&mut self) -> Option<Outgoing> {
        self.line.tick(Instant::now());
        self.line.next_turn(Instant::now(), 0, Duration::from_millis(500), Some(1))
    }

    fn run(&mut self, outgoing: &Outgoing) -> TurnReply {
        self.micros += 1_000;
        match self.books.turn(&outgoing.turn, self.micros).0 {
            TurnOutcome::Answered(reply) => reply,
            TurnOutcome::Stale { .. } => panic!("a turn of this epoch counts"),
        }
    }

    fn run_and_settle(&mut self, outgoing: Outgoing) {
        let reply = self.run(&outgoing);
        self.line.settle(outgoing.number, reply, Instant::now());
    }

    fn granted(&mut self, counter: u64) -> Option<Arc<Hold>> {
        match self.line.poll_waiter(counter, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(WaitEnd::Granted(hold)) => Some(hold),
            Poll::Ready(end) => panic!("the wait ended with {end:?}"),
            Poll::Pending => None,
        }
    }
}

fn admitted(outgoing: &Outgoing) -> Vec<u64> {
    outgoing.turn.admit.iter().map(|(id, _)| id.counter()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_third_turn_waits_and_what_comes_meanwhile_is_gathered() {
    let mut scene = Scene::new(9);
    let turns = [1, 2].map(|counter| {
        assert_eq!(scene.enter(), counter);
        scene.next().unwrap()
    });
    assert_eq!(turns.each_ref().map(admitted), [[1], [2]]);
    scene.enter();
    scene.enter();
    assert!(scene.next().is_none());
    let [first, second] = turns;
    scene.run_and_settle(first);
    assert_eq!(admitted(&scene.next().unwrap()), [3, 4]);
    scene.run_and_settle(second);
    assert!(scene.granted(1).is_some() && scene.granted(2).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_waiter_is_taken_back_behind_the_turn_that_names_it() {
    let mut scene = Scene::new(9);
    let cancelled = scene.enter();
    let first = scene.next().unwrap();
    scene.line.cancel(cancelled, Instant::now());
    scene.enter();
    let second = scene.next().unwrap();
    assert!(second.turn.cancel.is_empty(), "it would run for nothing if it overtook the other");
    scene.run_and_settle(second);
    assert!(scene.next().is_none(), "the first one is still out");
    scene.run_and_settle(first);
    assert_eq!(scene.next().unwrap().turn.cancel, [Scene::id(cancelled)]);
}

#[tokio::test(start_paused = true)]
async fn a_permit_released_amid_its_renewal_is_taken_back_behind_it() {
    let mut scene = Scene::new(9);
    let counter = scene.enter();
    let turn = scene.next().unwrap();
    scene.run_and_settle(turn);
    let hold = scene.granted(counter).unwrap();
    advance(Duration::from_millis(LEASE_MS / 2)).await;
    let renewal = scene.next().unwrap();
    assert_eq!(renewal.turn.renew.len(), 1);
    assert!(hold.release());
    scene.line.give_back(counter, None);
    scene.enter();
    let second = scene.next().unwrap();
    assert!(second.turn.release.is_empty(), "after a loss of data the renewal would put it back");
    scene.run_and_settle(renewal);
    scene.run_and_settle(second);
    assert_eq!(scene.next().unwrap().turn.release, [hold.id]);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_lands_late_does_not_reopen_a_wait_that_has_ended() {
    let mut scene = Scene::new(1);
    let holder = scene.enter();
    let turn = scene.next().unwrap();
    scene.run_and_settle(turn);
    let hold = scene.granted(holder).unwrap();
    // The first turn queues one; the second frees the unit, and so grants it.
    let waiter = scene.enter();
    let queues = scene.next().unwrap();
    assert!(hold.release());
    scene.line.give_back(holder, None);
    let frees = scene.next().unwrap();
    let (queued, freed) = (scene.run(&queues), scene.run(&frees));
    assert_eq!(freed.others.len(), 1);
    scene.line.settle(frees.number, freed, Instant::now());
    scene.line.settle(queues.number, queued, Instant::now());
    assert!(scene.granted(waiter).is_some());
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_a_turn_while_something_is_amiss() {
    type Amiss = fn(&mut Line);
    let amiss: [(&str, Amiss); 4] = [
        ("a new connection", Line::reconnected),
        ("trouble", |line| {
            line.turn_failed(&StoreError::timeout("away"), Instant::now(), Instant::now());
        }),
        ("a question", Line::nudge),
        ("lost data", Line::renew_all),
    ];
    for (what, happens) in amiss {
        let mut scene = Scene::new(9);
        scene.enter();
        assert!(scene.next().is_some());
        scene.enter();
        happens(&mut scene.line);
        assert!(scene.next().is_none(), "{what}");
    }
}
