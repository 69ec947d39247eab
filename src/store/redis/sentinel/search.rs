//! One search for the primary.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::error::{StoreError, StoreErrorKind};
use crate::store::redis::url::Address;
use crate::store::{BoxFuture, Opened};

use super::answer::Known;
use super::council::Council;
use super::refusal;
use super::{Connect, Sentinels};

/// The pause before a primary that could not be used is tried again, while the sentinels are listened to. It doubles.
const PAUSE: Duration = Duration::from_millis(50);

/// How long an open connection waits until more than half of the sentinels have answered. If the first one to answer
/// was cut off and names an old primary, another one tells so meanwhile.
const SECOND_OPINION: Duration = Duration::from_millis(100);

pub(super) struct Search<'a> {
    sentinels: Sentinels,
    connect: Connect<'a>,
    council: Council,
    attempt: Option<Attempt<'a>>,
    found: Option<Found>,
    /// The primaries that could not be used, and when they are tried again.
    failed: Vec<(Known, StoreError)>,
    again_at: Option<Instant>,
}

/// A connection that is being opened to what may be the primary.
struct Attempt<'a> {
    to: Known,
    opening: BoxFuture<'a, Result<(Opened, Address), StoreError>>,
}

/// An open connection to what may be the primary.
struct Found {
    primary: Known,
    opened: Opened,
    /// Until when the other sentinels may say otherwise.
    until: Instant,
}

enum Event {
    /// A sentinel has spoken.
    Heard,
    Opened(Known, Opened),
    Failed(Known, StoreError),
    /// Nothing is being opened: what the sentinels name has failed, or all of them have refused.
    Stuck,
}

impl<'a> Search<'a> {
    pub(super) fn new(sentinels: Sentinels, connect: Connect<'a>) -> Self {
        Self {
            council: Council::new(sentinels.clone()),
            sentinels,
            connect,
            attempt: None,
            found: None,
            failed: Vec::new(),
            again_at: None,
        }
    }

    /// Returns a connection to the primary, which ends when the primary has moved.
    pub(super) async fn run(mut self) -> Result<Opened, StoreError> {
        self.sentinels.forget_tried();
        let deadline = Instant::now() + self.sentinels.patience();
        let mut pause = PAUSE;
        loop {
            self.follow_newest();
            if let Some(found) = self.settled() {
                return Ok(self.end(found));
            }
            match self.event().await {
                Some(Event::Heard) => {}
                Some(Event::Opened(primary, opened)) => {
                    let until = Instant::now() + SECOND_OPINION;
                    self.found = Some(Found { primary, opened, until });
                }
                Some(Event::Failed(primary, error)) => self.failed.push((primary, error)),
                Some(Event::Stuck) => {
                    let now = Instant::now();
                    let error = self.error();
                    if self.failed.is_empty() || error.is_final() || now >= deadline {
                        return Err(error);
                    }
                    self.again_at = Some(now + pause);
                    pause *= 2;
                }
                None if self.found.is_some() => {}
                None => {
                    self.again_at = None;
                    self.failed.clear();
                }
            }
        }
    }

    /// Takes the open connection, if it is time to use it.
    fn settled(&mut self) -> Option<Found> {
        let heard_out = self.council.is_heard_out();
        self.found.take_if(|found| heard_out || Instant::now() >= found.until)
    }

    fn end(self, Found { primary, opened, .. }: Found) -> Opened {
        self.sentinels.found(&primary);
        let Opened { session, io } = opened;
        Opened { session, io: Some(self.council.beside(io, primary)) }
    }

    /// Connects to the newest primary that the sentinels name, unless that has failed. Gives up an attempt to
    /// connect to an older one.
    fn follow_newest(&mut self) {
        let has_failed = |known: &Known| self.failed.iter().any(|(failed, _)| failed == known);
        let mut newest = self.council.opinions().newest();
        let Some(newest) = newest.find(|known| !has_failed(known)) else { return };
        if newest.epoch < self.sentinels.epoch() && !self.council.has_spoken() {
            return; // the sentinel that knew a newer primary may still say so
        }
        let attempt = self.attempt.as_ref().map(|attempt| &attempt.to);
        let present = attempt.or(self.found.as_ref().map(|found| &found.primary));
        if present.is_none_or(|present| newest.follows(present)) {
            self.found = None;
            self.sentinels.note_tried(newest);
            let opening = (self.connect)(newest.address.clone());
            self.attempt = Some(Attempt { to: newest.clone(), opening });
            self.again_at = None;
        }
    }

    /// Waits for the next event. `None` if it is time to go on without one.
    async fn event(&mut self) -> Option<Event> {
        let until = self.found.as_ref().map(|found| found.until);
        match until.or(self.again_at) {
            Some(at) => timeout_at(at, poll_fn(|cx| self.poll(cx))).await.ok(),
            None => Some(poll_fn(|cx| self.poll(cx)).await),
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(Attempt { to, opening }) = &mut self.attempt
            && let Poll::Ready(outcome) = opening.as_mut().poll(cx)
        {
            let to = to.clone();
            self.attempt = None;
            return Poll::Ready(match outcome {
                Ok((opened, address)) => Event::Opened(Known { address, ..to }, opened),
                Err(error) => Event::Failed(to, error),
            });
        }
        if self.council.poll(cx).is_ready() {
            return Poll::Ready(Event::Heard);
        }
        let may_be_told = self.failed.is_empty() && !self.council.has_spoken();
        let is_busy = self.attempt.is_some() || self.found.is_some() || self.again_at.is_some();
        let waits = is_busy || may_be_told;
        if waits { Poll::Pending } else { Poll::Ready(Event::Stuck) }
    }

    /// Returns the error of the primary, if the sentinels name one.
    fn error(&self) -> StoreError {
        let master = self.sentinels.master();
        let Some((Known { address, .. }, error)) = self.failed.last() else {
            return refusal::error(master, &self.council.opinions().refusals());
        };
        match error.kind() {
            StoreErrorKind::ReadOnly => {
                let what = format!("{address}, which the sentinels name as {master}, is a replica");
                StoreError::new(StoreErrorKind::ReadOnly, what)
            }
            _ => error.clone(),
        }
    }
}
