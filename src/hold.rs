//! What this process knows of one permit: shared by the permit, its handles and the driver.
//!
//! # Implementation
//!
//! The clock decides first: from its deadline on, the permit is lost, whether or not the driver has
//! run. The deadline is the end of the lease here, or of `max_hold` if that comes first. The first one
//! who sees that, or who releases the permit, sets the end, which is set once. So a late answer to a
//! renewal never revives a permit that somebody was told is lost.
//!
//! A process may hold very many permits, so a hold keeps in itself only what every permit needs.

use std::future::pending;
use std::sync::OnceLock;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::id::PermitId;
#[cfg(feature = "metrics")]
use crate::lease;
use crate::lease_word::{End, LeaseWord};
use crate::lost_reason::LostReason;
use crate::numbers::Seq;

/// What this process knows of one permit.
#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) id: PermitId,
    pub(crate) token: Seq,
    /// The end of the lease, and how the permit ended.
    word: LeaseWord,
    /// Made when it is needed: most permits are neither awaited nor held for a limited time.
    rare: OnceLock<Box<Rare>>,
}

/// What few permits need.
#[derive(Debug, Default)]
struct Rare {
    /// Until when it may be held, however long its lease.
    max_hold_until: Option<Instant>,
    ended: Notify,
}

/// Whether a permit is held, by the clock and by all that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Truth {
    HeldUntil(Instant),
    Released,
    Lost(LostReason),
}

impl Hold {
    /// A permit whose lease is provably ours until `until`, and ends for the reason `by_lease`.
    pub(crate) fn new(
        id: PermitId,
        token: Seq,
        until: Instant,
        by_lease: LostReason,
        max_hold_until: Option<Instant>,
    ) -> Self {
        let rare = max_hold_until.map_or_else(OnceLock::new, |end| {
            OnceLock::from(Box::new(Rare { max_hold_until: Some(end), ended: Notify::new() }))
        });
        let word = LeaseWord::new(until, by_lease == LostReason::Expired);
        Self { id, token, word, rare }
    }

    fn max_hold_until(&self) -> Option<Instant> {
        self.rare.get()?.max_hold_until
    }

    /// Moves the end of the lease forward; never back.
    pub(crate) fn extend(&self, until: Instant) {
        self.word.extend(until);
    }

    /// Returns the instant until which the lease is provably ours.
    pub(crate) fn lease_until(&self) -> Instant {
        self.word.until()
    }

    /// Returns the instant from which the lease counts. Until the first renewal, that is the grant.
    #[cfg(feature = "metrics")]
    pub(crate) fn granted_at(&self) -> Instant {
        lease::sent_at(self.lease_until(), self.id.lease())
    }

    /// Returns the instant from which on the permit is lost.
    pub(crate) fn deadline(&self) -> Instant {
        let lease = self.lease_until();
        self.max_hold_until().map_or(lease, |end| end.min(lease))
    }

    /// Returns why the permit is lost at `now` by the clock, if it is.
    pub(crate) fn lost_by_clock(&self, now: Instant) -> Option<LostReason> {
        let lease = self.lease_until();
        match self.max_hold_until() {
            Some(end) if end < lease => (end <= now).then_some(LostReason::MaxHold),
            _ => (lease <= now).then(|| self.word.lost_by_lease()),
        }
    }

    /// Returns the time until the deadline; zero once the permit has ended.
    pub(crate) fn remaining(&self) -> Duration {
        match self.truth() {
            Truth::HeldUntil(deadline) => deadline.saturating_duration_since(Instant::now()),
            Truth::Released | Truth::Lost(_) => Duration::ZERO,
        }
    }

    /// Looks at the clock, which may end the permit, and tells how things stand.
    pub(crate) fn truth(&self) -> Truth {
        self.truth_at(Instant::now())
    }

    /// As [`truth`](Self::truth), for a caller that has looked at the clock.
    pub(crate) fn truth_at(&self, now: Instant) -> Truth {
        if let Some(reason) = self.lost_by_clock(now) {
            self.lose(reason);
        }
        match self.word.end() {
            None => Truth::HeldUntil(self.deadline()),
            Some(End::Released) => Truth::Released,
            Some(End::Lost(reason)) => Truth::Lost(reason),
        }
    }

    /// Ends the permit as lost. Returns true to the one caller that ended it.
    pub(crate) fn lose(&self, reason: LostReason) -> bool {
        self.end(End::Lost(reason))
    }

    /// Ends the permit as released. Returns true to the one caller that ended it.
    pub(crate) fn release(&self) -> bool {
        self.end(End::Released)
    }

    /// Ends the permit as released, unless it has ended. Returns whether it is to be given back: by the one caller
    /// that ended it, or because it was kicked.
    pub(crate) fn leave(&self) -> bool {
        self.release() || self.is_kicked()
    }

    /// Whether an operator has kicked the permit. The store keeps it until its holder gives it back.
    pub(crate) fn is_kicked(&self) -> bool {
        self.lost_for() == Some(LostReason::Kicked)
    }

    fn end(&self, end: End) -> bool {
        let ended = self.word.set_end(end);
        if ended {
            self.announce();
        }
        ended
    }

    /// As [`lose`](Self::lose), for a caller that holds a lock: it calls
    /// [`announce`](Self::announce), which runs code of others, once the lock is free.
    pub(crate) fn lose_unannounced(&self, reason: LostReason) -> bool {
        self.word.set_end(End::Lost(reason))
    }

    /// Wakes all who await the end.
    pub(crate) fn announce(&self) {
        if self.word.is_awaited()
            && let Some(rare) = self.rare.get()
        {
            rare.ended.notify_waiters();
        }
    }

    /// Whether the permit was lost or released, without a look at the clock.
    pub(crate) fn has_ended(&self) -> bool {
        self.word.end().is_some()
    }

    /// Why the permit was lost, if it was, without a look at the clock.
    pub(crate) fn lost_for(&self) -> Option<LostReason> {
        match self.word.end() {
            Some(End::Lost(reason)) => Some(reason),
            Some(End::Released) | None => None,
        }
    }

    /// Resolves once the permit is lost; never if it was released.
    pub(crate) async fn lost(&self) -> LostReason {
        let rare = self.rare.get_or_init(Box::default);
        loop {
            let ended = rare.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            self.word.set_awaited(); // before the look at the end
            match self.truth() {
                Truth::Lost(reason) => return reason,
                Truth::Released => return pending().await,
                Truth::HeldUntil(deadline) => tokio::select! {
                    () = ended => {}
                    () = sleep_until(deadline) => {}
                },
            }
        }
    }

    /// Runs `work` until it is done or the permit is lost.
    pub(crate) async fn run<F: Future>(&self, work: F) -> Result<F::Output, LostReason> {
        tokio::select! {
            biased;
            reason = self.lost() => Err(reason),
            output = work => Ok(output),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ClientId;
    use crate::numbers::Millis;

    fn hold(until: Instant) -> Hold {
        let id = PermitId::new(ClientId::from_bits(1), 1, 1, Millis::new(30_000));
        Hold::new(id, Seq::after(None), until, LostReason::RenewalTimeout, None)
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_decides_before_any_flag_and_a_late_extension_revives_nothing() {
        let hold = hold(Instant::now() + Duration::from_secs(1));
        assert!(matches!(hold.truth(), Truth::HeldUntil(_)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(hold.truth(), Truth::Lost(LostReason::RenewalTimeout));
        hold.extend(Instant::now() + Duration::from_secs(9));
        assert_eq!(hold.truth(), Truth::Lost(LostReason::RenewalTimeout));
        assert!(!hold.release());
    }

    #[tokio::test(start_paused = true)]
    async fn lost_follows_the_extended_deadline_and_answers_those_who_ask_late() {
        let hold = hold(Instant::now() + Duration::from_secs(1));
        hold.extend(Instant::now() + Duration::from_secs(3));
        hold.extend(Instant::now() + Duration::from_secs(2)); // never back
        let start = Instant::now();
        assert_eq!(hold.lost().await, LostReason::RenewalTimeout);
        assert_eq!(start.elapsed(), Duration::from_secs(3));
        assert_eq!(hold.lost().await, LostReason::RenewalTimeout);
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_loss_is_told_at_once() {
        let hold = hold(Instant::now() + Duration::from_secs(9));
        let start = Instant::now();
        let ends = async { assert!(hold.lose(LostReason::Kicked)) };
        let (why, ()) = tokio::join!(hold.lost(), ends);
        assert_eq!((why, start.elapsed()), (LostReason::Kicked, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn lost_never_fires_on_a_release() {
        let hold = hold(Instant::now() + Duration::from_secs(1));
        assert!(hold.release());
        let lost = tokio::time::timeout(Duration::from_secs(60), hold.lost());
        assert!(lost.await.is_err());
    }

    #[test]
    fn each_permit_costs_the_shared_part_56_bytes() {
        assert_eq!(size_of::<Hold>(), 56);
    }

    #[tokio::test(start_paused = true)]
    async fn the_maximum_hold_ends_a_permit_before_its_lease_but_not_after_it() {
        let start = Instant::now();
        let secs = |secs| start + Duration::from_secs(secs);
        let id = PermitId::new(ClientId::from_bits(1), 1, 1, Millis::new(30_000));
        let by_lease = LostReason::Expired;
        let hold = Hold::new(id, Seq::after(None), secs(2), by_lease, Some(secs(3)));
        assert_eq!((hold.deadline(), hold.lost_by_clock(secs(2))), (secs(2), Some(by_lease)));
        hold.extend(secs(4));
        assert_eq!((hold.deadline(), hold.lease_until()), (secs(3), secs(4)));
        assert_eq!(hold.lost().await, LostReason::MaxHold);
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }
}
