//! The turns that the driver has sent: which go out together, and which answers find their turn.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::Instant;

use super::slow_store::{Sent, Slow};
use crate::driver::answers::{Answers, Landed};
use crate::driver::cell::SemaphoreCell;
use crate::driver::state::SemaphoreState;
use crate::id::{ClientId, PermitId};
use crate::numbers::{Epoch, Millis, PlaceId};
use crate::options::Options;
use crate::span::TurnSpan;
use crate::store::{Session, TurnAnswer, TurnOutcome, WhenFull};

const PATIENCE: Duration = Duration::from_millis(500);

/// The answer to the turn `nth`, which the test can tell from others.
fn answer(nth: u64) -> TurnAnswer {
    Ok(TurnOutcome::Stale { epoch: Epoch::new(nth) })
}

/// Turns of names that count from 0.
struct Desk {
    answers: Answers,
    slow: Arc<Slow>,
    session: Arc<dyn Session>,
    now: Instant,
    names: usize,
}

impl Desk {
    fn new() -> Self {
        let (slow, answers) = (Arc::<Slow>::default(), Answers::default());
        Self { answers, session: Arc::clone(&slow) as _, slow, now: Instant::now(), names: 0 }
    }

    fn send(&mut self, count: usize) {
        for _ in 0..count {
            let (client, lease) = (ClientId::random(), Millis::new(30_000));
            let mut state = SemaphoreState::new(self.names.to_string().into(), client);
            let id = PermitId::new(client, 1, 1, lease);
            state.enter(id, WhenFull::Wait, Arc::new(Options::with_lease(lease)));
            let outgoing = state.next_turn(self.now, PATIENCE, None).unwrap();
            let cell = Arc::new(SemaphoreCell::new(state, PlaceId::FIRST, self.names as u64));
            let span = TurnSpan::begin(&outgoing.turn, None, String::new);
            self.answers.send(&cell, &self.session, (outgoing, span), true, PATIENCE, self.now);
            self.names += 1;
        }
    }

    /// Polls until nothing is ready. Returns the names that landed, each with the number of its answer.
    fn landed(&mut self) -> Vec<(u64, u64)> {
        let mut landed = Vec::new();
        while let Some(Landed { turn, answer }) = poll_fn(|cx| self.answers.poll(cx)).now_or_never()
        {
            let Ok(TurnOutcome::Stale { epoch }) = answer else { panic!("{answer:?}") };
            landed.push((turn.cell.key(), epoch.get()));
        }
        landed
    }
}

fn names(sent: &Sent) -> Vec<&str> {
    sent.turns.iter().map(|turn| &*turn.name).collect()
}

#[tokio::test]
async fn turns_of_one_poll_go_out_together_in_their_order() {
    let mut desk = Desk::new();
    desk.send(1);
    assert!(desk.slow.take().is_empty(), "not before the poll");
    assert!(desk.landed().is_empty());
    let first = desk.slow.take();
    assert_eq!(first.iter().map(names).collect::<Vec<_>>(), [["0"]]);
    desk.send(70);
    assert!(desk.landed().is_empty());
    let sent = desk.slow.take();
    assert_eq!(sent.iter().map(|sent| sent.turns.len()).collect::<Vec<_>>(), [32, 32, 6]);
    let order: Vec<usize> = sent.iter().flat_map(names).map(|name| name.parse().unwrap()).collect();
    assert_eq!(order, (1..=70).collect::<Vec<_>>());
}

#[tokio::test]
async fn each_answer_finds_its_turn_in_whatever_order_they_come() {
    let mut desk = Desk::new();
    for count in [3, 1, 2] {
        desk.send(count);
        assert!(desk.landed().is_empty());
    }
    assert_eq!((desk.answers.len(), desk.answers.counted()), (6, 6));
    let [first, second, third] = desk.slow.take().try_into().ok().unwrap();
    third.done.send(vec![answer(14), answer(15)]).unwrap();
    assert_eq!(desk.landed(), [(4, 14), (5, 15)]);
    second.done.send(vec![answer(13)]).unwrap();
    first.done.send(vec![answer(10), answer(11), answer(12)]).unwrap();
    let mut landed = desk.landed();
    landed.sort_unstable();
    assert_eq!(landed, [(0, 10), (1, 11), (2, 12), (3, 13)]);
    assert!(desk.answers.is_empty());
    assert_eq!(desk.answers.counted(), 0);
}

#[tokio::test]
async fn an_overdue_turn_is_given_up_alone_and_its_late_answer_finds_nobody() {
    let mut desk = Desk::new();
    let start = desk.now;
    desk.send(2);
    assert!(desk.landed().is_empty());
    desk.now += PATIENCE / 2;
    desk.send(1);
    assert!(desk.landed().is_empty());
    assert_eq!(desk.answers.check_at(), Some(start + PATIENCE));
    assert!(desk.answers.take_overdue(start + PATIENCE / 2, start).is_empty());
    let overdue = desk.answers.take_overdue(start + PATIENCE, start);
    assert_eq!(overdue.iter().map(|landed| landed.turn.cell.key()).collect::<Vec<_>>(), [0, 1]);
    assert!(overdue.iter().all(|landed| landed.answer.as_ref().unwrap_err().is_timeout()));
    assert_eq!(desk.answers.check_at(), Some(start + PATIENCE / 2 + PATIENCE));
    let [late, other] = desk.slow.take().try_into().ok().unwrap();
    late.done.send(vec![answer(10), answer(11)]).unwrap();
    assert!(desk.landed().is_empty());
    other.done.send(vec![answer(12)]).unwrap();
    assert_eq!(desk.landed(), [(2, 12)]);
}

#[tokio::test]
async fn what_was_given_up_neither_goes_out_nor_comes_back() {
    let mut desk = Desk::new();
    desk.send(2);
    assert!(desk.landed().is_empty());
    desk.send(1); // still in the outbox
    drop(desk.answers.give_up());
    assert!(desk.landed().is_empty());
    let [sent] = desk.slow.take().try_into().ok().unwrap();
    assert!(sent.done.send(vec![answer(10), answer(11)]).is_err(), "nobody awaits it");
    assert_eq!((desk.answers.check_at(), desk.answers.counted()), (None, 0));
    desk.send(1);
    assert!(matches!(poll_fn(|cx| Poll::Ready(desk.answers.poll(cx))).await, Poll::Pending));
    assert_eq!(desk.slow.take().iter().map(names).collect::<Vec<_>>(), [["3"]]);
}

#[tokio::test]
async fn a_turn_that_follows_those_that_were_given_up_goes_out_alone() {
    let mut desk = Desk::new();
    desk.send(2);
    drop(desk.answers.give_up());
    desk.send(1);
    assert!(desk.landed().is_empty());
    let [sent] = desk.slow.take().try_into().ok().unwrap();
    assert_eq!(names(&sent), ["2"]);
    sent.done.send(vec![answer(12)]).unwrap();
    assert_eq!(desk.landed(), [(2, 12)]);
}
