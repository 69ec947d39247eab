//! When and why a body is ended from outside.

use std::error::Error as StdError;
use std::future::pending;
use std::time::Duration;

use super::permit::PermitBody;
use super::stall_detector::StallDetector;
use crate::LostReason;
use crate::tower::admission::permit::{RequestPermit, UntilLost};
use crate::tower::error::{PermitLost, ReaderStalled};

/// When a body is ended from outside.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct EndWhen {
    /// When its permit is lost.
    pub(crate) lost: bool,
    /// When its reader has taken nothing for this long.
    pub(crate) stall_timeout: Option<Duration>,
}

/// Why a body was ended from outside.
#[derive(Debug, Clone, Copy)]
pub(super) enum EndReason {
    Lost(LostReason),
    Stalled(Duration),
}

impl EndReason {
    /// Returns the error that the reader gets.
    pub(super) fn into_error(self) -> Box<dyn StdError + Send + Sync> {
        match self {
            Self::Lost(reason) => Box::new(PermitLost(reason)),
            Self::Stalled(timeout) => Box::new(ReaderStalled(timeout)),
        }
    }
}

impl EndWhen {
    /// Returns whether anything can end this body from outside.
    pub(super) fn concerns<B>(self, body: &PermitBody<B>) -> bool {
        let may_be_lost = |permit: &RequestPermit| self.lost && permit.is_granted();
        let may_stall =
            |permit: &RequestPermit| self.stall_timeout.is_some() && permit.limiter().is_some();
        body.permit().is_some_and(|permit| may_be_lost(permit) || may_stall(permit))
    }
}

/// Waits for the first reason to end a body.
pub(super) async fn first_end(
    lost: Option<UntilLost>,
    stall_timeout: Option<Duration>,
    stall: &StallDetector,
) -> EndReason {
    let lost = async {
        match lost {
            Some(lost) => EndReason::Lost(lost.await),
            None => pending().await,
        }
    };
    let stalled = async {
        match stall_timeout {
            Some(timeout) => {
                stall.stalled(timeout).await;
                EndReason::Stalled(timeout)
            }
            None => pending().await,
        }
    };
    tokio::select! {
        biased;
        end = lost => end,
        end = stalled => end,
    }
}
