//! The outage of the store, as far as one semaphore knows of it. Pure.
//!
//! # Implementation
//!
//! An outage begins when the store was asked and did not answer, or when it refused. A refusal is an answer:
//! it counts for this semaphore alone, and a new connection does not disprove it.

use std::time::Duration;

use tokio::time::Instant;

use crate::error::StoreError;
use crate::numbers::Replicas;
use crate::retry_delay::RetryDelay;
use crate::store::HOPS;

/// The pause before the second hop. Each further one is twice as long.
const FIRST_HOP_PAUSE: Duration = Duration::from_millis(2);

/// The pauses after turns that the server did not run double from the first to the longest.
const FIRST_BRIEF_PAUSE: Duration = Duration::from_millis(10);
const BRIEF_DOUBLINGS: u32 = 5;
const LONGEST_BRIEF_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Default)]
pub(super) struct Outage {
    error: Option<StoreError>,
    /// Since when the store has not answered although it was asked.
    since: Option<Instant>,
    /// When the store last failed to answer, or last refused.
    heard_at: Option<Instant>,
    too_few: Option<TooFewReplicas>,
    /// The server refused a turn of this semaphore.
    refused: bool,
    /// When a caller was last let through to ask whether it is over.
    probed_at: Option<Instant>,
    /// No turn goes out before this instant.
    paused_until: Option<Instant>,
    delay: RetryDelay,
    /// How many brief pauses there were in a row, up to the number of doublings.
    brief_pauses: u32,
    /// How many turns in a row were sent to a place that no longer had the name.
    redirected: u32,
}

/// Grants are not known to be on as many replicas as somebody wants. Turns are answered all the same, so it concerns
/// only those who want as many.
#[derive(Debug)]
struct TooFewReplicas {
    wanted: Replicas,
    since: Instant,
    error: StoreError,
}

/// What follows from a turn that was sent to a place that no longer has the name.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Redirected {
    /// The next turn goes to the new place.
    Follow,
    /// The places do not agree about where the name is.
    TooOften,
}

/// Whether the futures of waiters have to check for an outage.
#[must_use]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    /// It has begun, or is over.
    BeganOrEnded,
}

impl Outage {
    pub(super) fn error(&self) -> Option<&StoreError> {
        self.error.as_ref()
    }

    fn too_few(&self, wanted: Option<Replicas>) -> Option<&TooFewReplicas> {
        self.too_few.as_ref().filter(|too_few| wanted >= Some(too_few.wanted))
    }

    /// Returns why there is an outage for those who want grants on this number of replicas.
    pub(super) fn error_for(&self, wanted: Option<Replicas>) -> Option<&StoreError> {
        self.error().or_else(|| Some(&self.too_few(wanted)?.error))
    }

    /// Notes that grants have not been on `wanted` replicas since `since`, as far as is known.
    pub(super) fn too_few_replicas(
        &mut self,
        wanted: Replicas,
        error: StoreError,
        since: Instant,
        now: Instant,
    ) -> Change {
        self.heard_at = Some(now);
        let before = self.too_few.take();
        let change = if before.is_some() { Change::None } else { Change::BeganOrEnded };
        let (wanted, since) = before
            .map_or((wanted, since), |before| (before.wanted.min(wanted), before.since.min(since)));
        self.too_few = Some(TooFewReplicas { wanted, since, error });
        change
    }

    /// Notes that a grant is on `wanted` replicas.
    pub(super) fn enough_replicas(&mut self, wanted: Replicas) -> Change {
        match self.too_few.take_if(|too_few| too_few.wanted <= wanted) {
            Some(_) => Change::BeganOrEnded,
            None => Change::None,
        }
    }

    /// Notes that the store has not answered as it should since `since`.
    pub(super) fn note(&mut self, error: &StoreError, since: Instant, now: Instant) -> Change {
        self.heard_at = Some(now);
        self.error = Some(error.clone());
        self.refused &= !error.is_unanswered();
        if self.since.is_some() {
            return Change::None;
        }
        self.since = Some(since);
        Change::BeganOrEnded
    }

    /// Notes that a turn that was sent at `sent` was not answered as it should be.
    pub(super) fn turn_failed(
        &mut self,
        error: &StoreError,
        sent: Instant,
        now: Instant,
    ) -> Change {
        let change = self.note(error, sent, now);
        self.refused = !error.is_unanswered();
        change
    }

    /// The store has answered a turn.
    pub(super) fn answered(&mut self) -> Change {
        self.error = None;
        self.paused_until = None;
        self.delay.reset();
        self.brief_pauses = 0;
        self.redirected = 0;
        self.end()
    }

    /// Notes that the name has come to another place. The next turn follows at once. If places send it to and
    /// fro, pauses grow, because one of them is about to hear of the move.
    pub(super) fn redirected(&mut self, now: Instant) -> Redirected {
        self.redirected = self.redirected.saturating_add(1);
        if self.redirected > HOPS {
            return Redirected::TooOften;
        }
        if let Some(doublings) = self.redirected.checked_sub(2) {
            self.paused_until = Some(now + FIRST_HOP_PAUSE * 2_u32.pow(doublings));
        }
        Redirected::Follow
    }

    /// Notes a new connection. It proves that the server answers, but not that it now accepts what it has
    /// refused.
    pub(super) fn reconnected(&mut self) -> Change {
        if self.refused { Change::None } else { self.end() }
    }

    fn end(&mut self) -> Change {
        self.refused = false;
        if self.since.take().is_none() {
            return Change::None;
        }
        self.probed_at = None;
        Change::BeganOrEnded
    }

    /// Returns since when there is an outage for those who want grants on `wanted` replicas. `heard` is when the
    /// store last answered anybody.
    ///
    /// If the store answers others, there is no outage: the turn without an answer is still on its way to
    /// it.
    #[cfg(feature = "tower")]
    pub(super) fn since(&self, heard: Instant, wanted: Option<Replicas>) -> Option<Instant> {
        let since = self.since.map(|since| if self.refused { since } else { since.max(heard) });
        let too_few = self.too_few(wanted).map(|too_few| too_few.since);
        since.into_iter().chain(too_few).min()
    }

    /// Returns whether this caller may ask the store during the outage. One caller may in each `every`. All
    /// callers may if nothing has shown the outage for twice as long.
    #[cfg(feature = "tower")]
    pub(super) fn may_probe(&mut self, now: Instant, every: Duration) -> bool {
        let ago = |at: Instant| now.saturating_duration_since(at);
        let stale = self.heard_at.is_none_or(|at| ago(at) / 2 >= every);
        let due = stale || self.probed_at.is_none_or(|at| ago(at) >= every);
        if due {
            self.probed_at = Some(now);
        }
        due
    }

    /// Holds turns back for a while; for longer after each failure in a row, up to `longest`.
    pub(super) fn pause(&mut self, now: Instant, longest: Option<Duration>) {
        let pause = self.delay.after_failure();
        self.pause_for(pause, now, longest);
    }

    /// As [`pause`](Self::pause), but shorter: the server did not run the turn, and is about to run turns again.
    pub(super) fn pause_briefly(&mut self, now: Instant, longest: Option<Duration>) {
        let bound =
            (FIRST_BRIEF_PAUSE * 2_u32.saturating_pow(self.brief_pauses)).min(LONGEST_BRIEF_PAUSE);
        self.brief_pauses = (self.brief_pauses + 1).min(BRIEF_DOUBLINGS);
        self.pause_for(bound.mul_f64(0.5 + 0.5 * fastrand::f64()), now, longest);
    }

    fn pause_for(&mut self, pause: Duration, now: Instant, longest: Option<Duration>) {
        self.paused_until = Some(now + longest.map_or(pause, |longest| pause.min(longest)));
    }

    /// Returns whether turns are held back; forgets a pause that is over.
    pub(super) fn is_paused(&mut self, now: Instant) -> bool {
        self.paused_until = self.paused_until.filter(|&until| now < until);
        self.paused_until.is_some()
    }

    pub(super) fn paused_until(&self) -> Option<Instant> {
        self.paused_until
    }

    /// The first instant from `at` on that no pause covers.
    pub(super) fn after_pause(&self, at: Instant) -> Instant {
        self.paused_until.map_or(at, |until| until.max(at))
    }
}

#[cfg(all(test, feature = "tower"))]
mod tests {
    use super::*;

    #[test]
    fn too_few_replicas_are_an_outage_for_those_who_want_as_many() {
        let error = || StoreError::timeout("too few");
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let wanted = Replicas::new;
        let note = |outage: &mut Outage, replicas, since| {
            outage.too_few_replicas(wanted(replicas).unwrap(), error(), at(since), at(9))
        };
        let since = |outage: &Outage| [0, 1, 2, 3].map(|it| outage.since(at(0), wanted(it)));

        let mut outage = Outage::default();
        assert_eq!(note(&mut outage, 2, 5), Change::BeganOrEnded);
        assert_eq!(since(&outage), [None, None, Some(at(5)), Some(at(5))]);
        assert_eq!([1, 2].map(|it| outage.error_for(wanted(it)).is_some()), [false, true]);
        assert!(outage.error().is_none() && outage.error_for(None).is_none());
        let every = Duration::from_secs(1);
        assert_eq!([(); 2].map(|()| outage.may_probe(at(9), every)), [true, false]);

        assert_eq!(outage.enough_replicas(wanted(1).unwrap()), Change::None);
        assert_eq!(note(&mut outage, 1, 7), Change::None);
        assert_eq!(since(&outage), [None, Some(at(5)), Some(at(5)), Some(at(5))]);
        assert_eq!(outage.enough_replicas(wanted(2).unwrap()), Change::BeganOrEnded);
        assert_eq!(since(&outage), [None; 4]);
        assert_eq!(outage.enough_replicas(wanted(2).unwrap()), Change::None);

        let _ = note(&mut outage, 1, 5);
        let _ = outage.note(&error(), at(3), at(9));
        assert_eq!(outage.since(at(0), wanted(1)), Some(at(3)));
        let _ = outage.answered();
        assert_eq!(since(&outage)[..2], [None, Some(at(5))], "an answered turn does not end it");
    }
}
