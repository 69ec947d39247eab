//! Effects that are deferred until the state of a semaphore is unlocked.
//!
//! A waker, and the future that an answer wakes, are foreign code. They may own permits, so they may lock
//! the state again when they run or are dropped.

use std::sync::Arc;
use std::task::Waker;

use tokio::sync::oneshot;

use crate::error::{ExtendError, ReleaseError};
use crate::hold::Hold;
use crate::released::Released;

pub(crate) type ReleaseDone = oneshot::Sender<Result<Released, ReleaseError>>;
pub(crate) type ExtendDone = oneshot::Sender<Result<(), ExtendError>>;

/// The effects that a change of a state collects, in the order in which they run.
pub(super) type Effects = Vec<Effect>;

#[derive(Debug)]
pub(super) enum Effect {
    Wake(Waker),
    /// Drops a waker that is no longer needed.
    Forget(Waker),
    /// Wakes those who await the end of the permit.
    Announce(Arc<Hold>),
    Released(ReleaseDone, Result<Released, ReleaseError>),
    Extended(ExtendDone, Result<(), ExtendError>),
    /// Drops the reply without an answer. The caller then looks at the permit.
    Unextended(ExtendDone),
}

impl Effect {
    pub(super) fn run(self) {
        // An answer may find nobody: its future was dropped.
        match self {
            Self::Wake(waker) => waker.wake(),
            Self::Forget(waker) => drop(waker),
            Self::Announce(hold) => hold.announce(),
            Self::Released(done, answer) => drop(done.send(answer)),
            Self::Extended(done, answer) => drop(done.send(answer)),
            Self::Unextended(done) => drop(done),
        }
    }
}
