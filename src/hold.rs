//! The local truth about one permit, shared by the permit, its watches and the driver.
//!
//! # Implementation
//!
//! Whether a permit is ours is decided by the clock first: past `deadline` it is lost there and
//! then, whether or not the driver has run. Who sees that first makes it stick (`state` leaves
//! `HELD` once, by compare-and-swap), so a renewal that is answered late never revives a permit
//! that somebody was already told is lost.

use std::future::pending;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::id::PermitId;
use crate::lost_reason::LostReason;

const HELD: u8 = 0;
const RELEASED: u8 = 1;
const LOST: u8 = 2; // + the reason

#[derive(Debug)]
pub(crate) struct Hold {
    pub(crate) id: PermitId,
    pub(crate) token: u64,
    /// Why it is lost when its time runs out unseen.
    by_clock: LostReason,
    /// The end of the lease as it was granted.
    base: Instant,
    /// By how many nanoseconds it was pushed since.
    deadline: AtomicU64,
    state: AtomicU8,
    ended: Notify,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Truth {
    HeldUntil(Instant),
    Released,
    Lost(LostReason),
}

impl Hold {
    pub(crate) fn new(id: PermitId, token: u64, until: Instant, by_clock: LostReason) -> Self {
        Self {
            id,
            token,
            by_clock,
            base: until,
            deadline: AtomicU64::new(0),
            state: AtomicU8::new(HELD),
            ended: Notify::new(),
        }
    }

    /// Moves the local end of the lease; never back.
    pub(crate) fn extend(&self, until: Instant) {
        let nanos = until.saturating_duration_since(self.base).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.deadline.fetch_max(nanos, Ordering::SeqCst);
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.base + Duration::from_nanos(self.deadline.load(Ordering::SeqCst))
    }

    /// The clock is asked before the state is read.
    pub(crate) fn truth(&self) -> Truth {
        let deadline = self.deadline();
        if Instant::now() >= deadline {
            self.lose(self.by_clock);
        }
        match self.state.load(Ordering::SeqCst) {
            HELD => Truth::HeldUntil(deadline),
            RELEASED => Truth::Released,
            lost => Truth::Lost(LostReason::from_code(lost - LOST)),
        }
    }

    /// True for the one caller that ended it.
    pub(crate) fn lose(&self, reason: LostReason) -> bool {
        self.leave_held(LOST + reason.code())
    }

    /// True for the one caller that ended it.
    pub(crate) fn release(&self) -> bool {
        self.leave_held(RELEASED)
    }

    fn leave_held(&self, to: u8) -> bool {
        let ended = self.leave_held_unannounced(to);
        if ended {
            self.announce();
        }
        ended
    }

    fn leave_held_unannounced(&self, to: u8) -> bool {
        self.state.compare_exchange(HELD, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// As [`lose`](Self::lose), under a lock: whoever awaits the end is told by
    /// [`announce`](Self::announce), which runs code of others.
    pub(crate) fn lose_unannounced(&self, reason: LostReason) -> bool {
        self.leave_held_unannounced(LOST + reason.code())
    }

    pub(crate) fn announce(&self) {
        self.ended.notify_waiters();
    }

    /// Whether it was lost or released, without a look at the clock.
    pub(crate) fn has_ended(&self) -> bool {
        self.state.load(Ordering::SeqCst) != HELD
    }

    /// Why it was lost, if it was, without a look at the clock.
    pub(crate) fn lost_for(&self) -> Option<LostReason> {
        let state = self.state.load(Ordering::SeqCst);
        state.checked_sub(LOST).map(LostReason::from_code)
    }

    /// Resolves once the permit is lost; never after an ordinary release.
    pub(crate) async fn lost(&self) -> LostReason {
        loop {
            let ended = self.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ClientId;

    fn hold(until: Instant) -> Hold {
        let id = PermitId::new(ClientId::from_bits(1), 1, 1, 30_000);
        Hold::new(id, 1, until, LostReason::RenewalTimeout)
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
}
