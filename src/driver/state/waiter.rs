//! One waiter: what is known of it between `enter` and the end of its wait.

use std::sync::Arc;
use std::task::Waker;

use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::error::StoreError;
use crate::hold::Hold;
use crate::id::PermitId;
use crate::numbers::Seq;
use crate::options::Options;
use crate::store::{WakeUp, WhenFull};

use super::known::AnsweredTurn;
use super::removal::Ended;

#[derive(Debug)]
pub(super) struct Waiter {
    pub(super) id: PermitId,
    pub(super) when_full: WhenFull,
    pub(super) options: Arc<Options>,
    pub(super) stage: Stage,
    /// The number of waiters ahead in the queue, as the store last told.
    pub(super) place: Option<u64>,
    /// The last turn that answered "queued".
    pub(super) queued_by: Option<AnsweredTurn>,
    /// A wake-up that came while a turn in flight named this id.
    pub(super) wake_up: Option<WakeUp>,
    /// A turn in flight names it.
    pub(super) named: bool,
    pub(super) backoff: Option<Box<Backoff>>,
    /// Its key in `polls`.
    pub(super) poll_at: Option<Instant>,
    pub(super) tries: u32,
    pub(super) waker: Option<Waker>,
}

#[derive(Debug)]
pub(super) enum Stage {
    /// No turn has named it.
    Fresh,
    /// Named by a turn in flight, or by one whose outcome is unknown.
    Sent,
    Queued {
        ticket: Seq,
    },
    Done(WaitEnd),
}

/// How a wait ended.
#[derive(Debug)]
pub(crate) enum WaitEnd {
    Granted(Arc<Hold>),
    Full { in_use: u64, limit: u32, waiting: u64 },
    QueueFull { waiting: u64 },
    TooLarge { limit: u32 },
    GaveUp { tries: u32 },
    Kicked,
    Closed,
    Failed(StoreError),
}

/// A waiter that has left.
#[must_use = "a waiter that has left must leave the store's queue"]
#[derive(Debug)]
pub(super) struct Left {
    pub(super) ended: Ended,
    /// A grant that its future has not taken.
    pub(super) unclaimed: Option<Arc<Hold>>,
}

/// A waiter that still waits, as a grant needs it.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    pub(super) id: PermitId,
    pub(super) options: &'a Arc<Options>,
    pub(super) queued_by: Option<AnsweredTurn>,
    /// A turn in flight names it.
    pub(super) named: bool,
}

impl Waiter {
    pub(super) fn new(id: PermitId, when_full: WhenFull, options: Arc<Options>) -> Self {
        Self {
            id,
            when_full,
            options,
            stage: Stage::Fresh,
            place: None,
            queued_by: None,
            wake_up: None,
            named: false,
            backoff: None,
            poll_at: None,
            tries: 0,
            waker: None,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done(_))
    }

    /// Returns what has to be removed from the store if the wait ends now.
    pub(super) fn ended(&self) -> Ended {
        match self.stage {
            Stage::Sent | Stage::Queued { .. } => Ended::sent(self.id),
            Stage::Fresh | Stage::Done(_) => Ended::unknown_to_store(self.id),
        }
    }

    pub(super) fn waiting(&self) -> Option<Waiting<'_>> {
        let &Self { id, ref options, queued_by, named, .. } = self;
        (!self.is_done()).then_some(Waiting { id, options, queued_by, named })
    }

    pub(super) fn left(self) -> Left {
        let ended = self.ended();
        let unclaimed = match self.stage {
            Stage::Done(WaitEnd::Granted(hold)) => Some(hold),
            _ => None,
        };
        Left { ended, unclaimed }
    }
}
