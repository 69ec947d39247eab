//! An id that has ended here, and what removes it from the store.
//!
//! # Implementation
//!
//! *What ends here ends in the store* is kept by a type. A function that takes a waiter or a permit out of
//! its part returns an [`Ended`]. It must be passed to [`Removals`](super::removals::Removals), or be ended
//! explicitly because a reply has told that the id is gone. If a call ignores it, the compiler warns. If it
//! is dropped later, for example in a variable, a debug build panics.

use std::mem::ManuallyDrop;
use std::thread;

use tokio::time::Instant;

use crate::id::PermitId;
use crate::numbers::{Incarnation, Seq};

use super::super::deferred::ReleaseDone;
use super::after_turn::AfterTurn;

/// An id that has ended here.
#[must_use = "what ends here must end in the store: hand it to `Removals`"]
#[derive(Debug)]
pub(super) struct Ended {
    id: PermitId,
    sent: bool,
}

impl Ended {
    /// A turn has named the id, so the store may know it.
    pub(super) fn sent(id: PermitId) -> Self {
        Self { id, sent: true }
    }

    /// No turn has named the id, or a reply has told of its end: there is nothing to remove.
    pub(super) fn unknown_to_store(id: PermitId) -> Self {
        Self { id, sent: false }
    }

    /// A reply of the store has told of the end.
    pub(super) fn told_by_store(self) {
        let _ = ManuallyDrop::new(self);
    }

    /// The id to remove, if there is anything to remove.
    pub(super) fn into_removable(self) -> Option<PermitId> {
        let ended = ManuallyDrop::new(self);
        ended.sent.then_some(ended.id)
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        debug_assert!(thread::panicking(), "{} has ended here, but not in the store", self.id);
    }
}

/// An id that the next turns must remove from the store. It is dropped only when a reply or the clock shows
/// that it is gone.
#[must_use = "an id that is not removed holds its units until its lease ends"]
#[derive(Debug)]
pub(super) struct Removal {
    pub(super) id: PermitId,
    pub(super) kind: RemovalKind,
    /// The last turn that may name the id: the removal goes out after it.
    pub(super) after: AfterTurn,
    /// By then the store has forgotten the id anyway.
    pub(super) forget_at: Instant,
    /// A turn without an answer named it: it may have run.
    pub(super) retried: bool,
    pub(super) done: Option<ReleaseDone>,
}

#[derive(Debug)]
pub(super) enum RemovalKind {
    /// A permit that is known to be granted, so the store need not look in the queue.
    Release(Grant),
    /// Of an id that may be in the queue or among the permits: only the store knows.
    Cancel,
}

/// The proof that a permit must still be in the store. It is used when many are released in one command.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) token: Seq,
    /// Under which the store last had it.
    pub(super) incarnation: Option<Incarnation>,
    /// Until then its lease cannot have ended.
    pub(super) alive_until: Instant,
}

impl Removal {
    pub(super) fn is_cancel(&self) -> bool {
        matches!(self.kind, RemovalKind::Cancel)
    }

    /// The token, where the permit must still be there at `until`.
    pub(super) fn vouched_token(
        &self,
        until: Instant,
        incarnation: Option<Incarnation>,
    ) -> Option<Seq> {
        match &self.kind {
            // After a loss of data some were put back and some were not.
            RemovalKind::Release(grant)
                if grant.alive_until > until && grant.incarnation == incarnation =>
            {
                Some(grant.token)
            }
            _ => None,
        }
    }
}
