//! The turns whose answers the driver awaits, and for how long.
//!
//! # Implementation
//!
//! A turn has no timer of its own: the driver checks all of them when the first one may be overdue. Answers
//! usually come in the order of the turns, so a turn is found at the front.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use crate::error::StoreError;
use crate::metrics::SentAt;
use crate::numbers::TurnNumber;
use crate::span::TurnSpan;
use crate::store::{BoxFuture, Session, Turn, TurnAnswer};

use super::cell::SemaphoreCell;
use super::state::{Outgoing, STRETCH};

/// If a check is later than this, the process gets too little CPU time.
const PUNCTUAL: Duration = Duration::from_millis(10);

/// The maximum number of turns that go out together. Their answers come together, too.
const TOGETHER: usize = 32;

/// A turn that was sent, and on which connection.
pub(super) struct SentTurn {
    pub(super) cell: Arc<SemaphoreCell>,
    pub(super) number: TurnNumber,
    pub(super) session: Arc<dyn Session>,
    /// How many callers may await the answer.
    pub(super) callers: usize,
    pub(super) sent: SentAt,
    pub(super) span: TurnSpan,
    /// Whether it counts towards the maximum number of turns in flight.
    pub(super) counts: bool,
}

/// A turn that has come back, or whose answer is overdue.
pub(super) struct Landed {
    pub(super) turn: SentTurn,
    pub(super) answer: TurnAnswer,
}

struct Awaited {
    serial: u64,
    turn: SentTurn,
    wait: Wait,
}

/// The answers to turns that went out together.
struct Coming {
    /// The serial number of the first of the turns.
    first: u64,
    answers: Together,
}

enum Together {
    One(BoxFuture<'static, TurnAnswer>),
    Several(BoxFuture<'static, Vec<TurnAnswer>>),
}

impl Future for Coming {
    type Output = (u64, Vec<TurnAnswer>);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<(u64, Vec<TurnAnswer>)> {
        let answers = match &mut self.answers {
            Together::One(answer) => answer.as_mut().poll(cx).map(|answer| vec![answer]),
            Together::Several(answers) => answers.as_mut().poll(cx),
        };
        answers.map(|answers| (self.first, answers))
    }
}

#[derive(Default)]
pub(super) struct Answers {
    /// In the order in which the turns were sent.
    awaited: VecDeque<Awaited>,
    /// The last of the turns, which have not gone out yet.
    outbox: Vec<Turn>,
    /// Also of turns that are given up: such an answer finds nobody.
    coming: FuturesUnordered<Coming>,
    come: VecDeque<(u64, TurnAnswer)>,
    last_serial: u64,
    counted: usize,
    /// No answer is overdue before.
    check_at: Option<Instant>,
}

impl Answers {
    /// Sends a turn on `session` with the next [`poll`](Self::poll), and awaits its answer for `patience` at
    /// least. All turns are sent on the same session until [`clear`](Self::clear).
    pub(super) fn send(
        &mut self,
        cell: &Arc<SemaphoreCell>,
        session: &Arc<dyn Session>,
        (outgoing, span): (Outgoing, TurnSpan),
        counts: bool,
        patience: Duration,
        now: Instant,
    ) {
        self.last_serial += 1;
        let (serial, Outgoing { number, turn, .. }) = (self.last_serial, outgoing);
        let (cell, callers) = (Arc::clone(cell), turn.callers());
        let sent = SentAt::new(now, turn.ids());
        let sent =
            SentTurn { cell, number, session: Arc::clone(session), callers, sent, span, counts };
        let wait = Wait::new(now, patience);
        self.check_at = Some(self.check_at.map_or(wait.until, |at| at.min(wait.until)));
        self.counted += usize::from(counts);
        self.awaited.push_back(Awaited { serial, turn: sent, wait });
        self.outbox.push(turn);
    }

    /// Lets the turns of the outbox go out.
    fn post(&mut self) {
        let Some(session) = self.awaited.back().map(|awaited| &awaited.turn.session) else {
            return self.outbox.clear(); // all are given up
        };
        let mut first = self.last_serial + 1 - self.outbox.len() as u64;
        let mut turns = self.outbox.drain(..).peekable();
        while let Some(turn) = turns.next() {
            let session = Arc::clone(session);
            let (count, answers) = if turns.peek().is_none() {
                (1, Together::One(session.turn(turn)))
            } else {
                let mut together = vec![turn];
                together.extend(turns.by_ref().take(TOGETHER - 1));
                (together.len() as u64, Together::Several(session.turns(together)))
            };
            self.coming.push(Coming { first, answers });
            first += count;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.awaited.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.awaited.len()
    }

    /// Returns how many of the turns count towards the maximum number.
    pub(super) fn counted(&self) -> usize {
        self.counted
    }

    /// Returns when to call [`take_overdue`](Self::take_overdue).
    pub(super) fn check_at(&self) -> Option<Instant> {
        self.check_at
    }

    /// Ready with a turn that has come back. When there is no more, turns that were sent go out.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Landed> {
        loop {
            if let Some(landed) = self.poll_come(cx) {
                return Poll::Ready(landed);
            }
            if self.outbox.is_empty() {
                return Poll::Pending;
            }
            self.post();
        }
    }

    /// Returns a turn that has come back. Nothing goes out.
    pub(super) fn poll_come(&mut self, cx: &mut Context<'_>) -> Option<Landed> {
        loop {
            while let Some((serial, answer)) = self.come.pop_front() {
                if let Ok(index) = self.awaited.binary_search_by_key(&serial, |turn| turn.serial)
                    && let Some(turn) = self.remove(index)
                {
                    return Some(Landed { turn, answer });
                }
            }
            let Poll::Ready(Some((first, answers))) = self.coming.poll_next_unpin(cx) else {
                return None;
            };
            self.come.extend((first..).zip(answers));
        }
    }

    fn remove(&mut self, index: usize) -> Option<SentTurn> {
        let turn = self.awaited.remove(index)?.turn;
        self.counted -= usize::from(turn.counts);
        Some(turn)
    }

    /// Takes out the turns whose answers are overdue. `heard_at` is when the server last answered anything.
    pub(super) fn take_overdue(&mut self, now: Instant, heard_at: Instant) -> Vec<Landed> {
        let mut overdue = Vec::new();
        if self.check_at.is_none_or(|at| now < at) {
            return overdue;
        }
        let mut index = 0;
        while let Some(awaited) = self.awaited.get_mut(index) {
            let Err(waited) = awaited.wait.check(now, heard_at) else {
                index += 1;
                continue;
            };
            let error = StoreError::timeout(format!("no answer to a turn within {waited:?}"));
            overdue.extend(self.remove(index).map(|turn| Landed { turn, answer: Err(error) }));
        }
        self.check_at = self.awaited.iter().map(|turn| turn.wait.until).min();
        overdue
    }

    /// Gives up all answers, and returns the turns. They were sent on a connection that was given up.
    pub(super) fn give_up(&mut self) -> impl Iterator<Item = SentTurn> + use<> {
        self.outbox.clear();
        self.coming.clear();
        self.come.clear();
        self.counted = 0;
        self.check_at = None;
        std::mem::take(&mut self.awaited).into_iter().map(|awaited| awaited.turn)
    }
}

/// For how long an answer is awaited: `patience`, and longer while the server answers other turns, because
/// then the turn is only queued there. The time for which this process was asleep does not count as silence
/// of the server: the answer may have arrived in that time.
#[derive(Debug)]
struct Wait {
    sent: Instant,
    patience: Duration,
    until: Instant,
    longest: Duration,
}

impl Wait {
    fn new(sent: Instant, patience: Duration) -> Self {
        Self { sent, patience, until: sent + patience, longest: patience * STRETCH }
    }

    /// Extends the wait, or returns for how long the answer was awaited if it is overdue.
    fn check(&mut self, now: Instant, heard_at: Instant) -> Result<(), Duration> {
        let &mut Self { sent, patience, until, .. } = self;
        if now < until {
            return Ok(());
        }
        let late = now.saturating_duration_since(until).saturating_sub(PUNCTUAL);
        let grace = (late * 4).min(late + patience); // after a long sleep as long as for a new turn
        self.longest += grace;
        self.until = (heard_at + patience).max(until + grace).min(sent + self.longest);
        if self.until <= until { Err(until - sent) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(500);

    #[test]
    fn what_a_process_slept_through_is_given_back_to_an_answer_once() {
        let sent = Instant::now();
        let mut wait = Wait::new(sent, PATIENCE);
        assert_eq!(wait.check(sent + PATIENCE - Duration::from_millis(1), sent), Ok(()));
        let woken = sent + Duration::from_secs(10);
        assert_eq!(wait.check(woken, sent), Ok(()));
        let awaited = wait.until - woken;
        assert!(awaited <= PATIENCE && awaited > PATIENCE * 9 / 10, "{awaited:?}");
        assert!(wait.check(wait.until, sent).is_err());
    }

    #[test]
    fn a_server_that_answers_others_is_awaited_longer_but_not_for_ever() {
        let sent = Instant::now();
        let mut wait = Wait::new(sent, PATIENCE);
        let mut now = sent;
        while wait.check(now, now).is_ok() {
            assert!(wait.until > now);
            now = wait.until;
        }
        assert_eq!(now - sent, PATIENCE * STRETCH);
        let mut unheard = Wait::new(sent, PATIENCE);
        assert_eq!(unheard.check(sent + PATIENCE, sent), Err(PATIENCE));
    }
}
