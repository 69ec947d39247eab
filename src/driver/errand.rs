//! What a change of a line leads to elsewhere, done once the line is unlocked: a waker, the future
//! that an answer wakes, and all that these own are somebody else's, and may lock the line.

use std::sync::Arc;
use std::task::Waker;

use crate::error::{ExtendError, ReleaseError};
use crate::hold::Hold;
use crate::released::Released;

use super::held::ExtendDone;
use super::take_back::ReleaseDone;

#[derive(Debug)]
pub(super) enum Errand {
    Wake(Waker),
    Forget(Waker),
    /// Tells those who await its end.
    Announce(Arc<Hold>),
    Released(ReleaseDone, Result<Released, ReleaseError>),
    Extended(ExtendDone, Result<(), ExtendError>),
    /// Whoever asked looks at the permit.
    Unextended(ExtendDone),
}

impl Errand {
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
