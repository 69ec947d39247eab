//! Ids that go back to the store: released, cancelled, lost. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::error::ReleaseError;
use crate::id::PermitId;
use crate::lease;
use crate::released::Released;
use crate::store::CLAIM_MS;

use super::errand::Errand;
use super::line::Line;

pub(crate) type ReleaseDone = oneshot::Sender<Result<Released, ReleaseError>>;

#[derive(Debug)]
pub(super) struct TakeBack {
    pub(super) id: PermitId,
    /// 0 where it is not known to be granted.
    pub(super) token: u64,
    /// Under which the store last had it.
    pub(super) incarnation: u64,
    /// Until then its lease cannot have ended.
    pub(super) alive_until: Instant,
    /// A permit known to be granted need not be looked for in the queue.
    pub(super) anywhere: bool,
    /// By then the server has forgotten it anyway.
    pub(super) forget_at: Instant,
    /// An unanswered turn named it: it may have run.
    pub(super) retried: bool,
    /// A turn up to this one may name it: it goes out when none of them is in flight any more.
    pub(super) behind: u64,
    pub(super) done: Option<ReleaseDone>,
}

impl Line {
    /// Its permit was released; the id goes into the next turn.
    pub(crate) fn give_back(&mut self, counter: u64, done: Option<ReleaseDone>) {
        let Some(held) = self.forget_held(counter) else {
            let gone = |done| Errand::Released(done, Ok(Released::AlreadyGone));
            self.errands.extend(done.map(gone));
            return;
        };
        let (id, token) = (held.hold.id, held.hold.token);
        let forget_at = held.hold.deadline() + lease::margin(id.lease()) * 2;
        let forget_at = forget_at.max(held.server_until);
        let behind = held.named_by.max(held.renewed_by);
        self.take_back(TakeBack {
            id,
            token,
            incarnation: held.incarnation,
            alive_until: held.hold.deadline(),
            anywhere: false,
            forget_at,
            retried: false,
            behind,
            done,
        });
    }

    /// Puts an id on the list of the next turn.
    pub(super) fn take_back(&mut self, take_back: TakeBack) {
        if self.ended {
            let closed = |done| Errand::Released(done, Err(ReleaseError::Closed));
            self.errands.extend(take_back.done.map(closed));
            return;
        }
        let at = take_back.forget_at;
        self.forget_at = Some(self.forget_at.map_or(at, |other| other.min(at)));
        self.take_backs.push_back(take_back);
    }

    pub(super) fn take_back_anywhere(&mut self, id: PermitId, now: Instant) {
        let forget_at = now + longest_grant(id) * 2;
        let behind = self.sent_turns;
        self.take_back(TakeBack {
            id,
            token: 0,
            incarnation: 0,
            alive_until: now,
            anywhere: true,
            forget_at,
            retried: false,
            behind,
            done: None,
        });
    }

    /// An id granted to this client that nobody here knows.
    pub(super) fn give_back_stray(&mut self, id: PermitId, now: Instant) {
        if !self.take_backs.iter().any(|take_back| take_back.id == id) {
            self.take_back_anywhere(id, now);
        }
    }

    /// Gives up what the store has forgotten by itself.
    pub(super) fn forget_take_backs(&mut self, now: Instant) {
        if self.forget_at.is_none_or(|at| at > now) {
            return;
        }
        let oldest = self.oldest_flight();
        let held_up = |it: &&mut TakeBack| it.anywhere && it.behind >= oldest;
        for held_up in self.take_backs.iter_mut().filter(held_up) {
            // The turn that names it may run only now.
            held_up.forget_at = held_up.forget_at.max(now + longest_grant(held_up.id));
        }
        let (over, left) = std::mem::take(&mut self.take_backs)
            .into_iter()
            .partition::<VecDeque<_>, _>(|take_back| take_back.forget_at <= now);
        self.take_backs = left;
        // Not at once again: in an outage there may be many, each with an end of its own.
        let next = self.take_backs.iter().map(|take_back| take_back.forget_at).min();
        self.forget_at = next.map(|at| at.max(now + Duration::from_millis(10)));
        let unconfirmed = |done| Errand::Released(done, Err(ReleaseError::Unconfirmed));
        let over = over.into_iter().filter_map(|take_back| take_back.done);
        self.errands.extend(over.map(unconfirmed));
    }
}

/// How long an id that the store has just heard of may be held there: for its lease, or while a
/// waiter of a silent client can still be granted a claim.
fn longest_grant(id: PermitId) -> Duration {
    id.lease().max(Duration::from_millis(2 * CLAIM_MS))
}
