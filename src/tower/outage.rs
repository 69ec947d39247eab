//! What happens to requests while the store is away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::handle::Handle;
use crate::StoreError;

/// What a layer does with requests while the store is away.
///
/// The store counts as away once it has not answered, or refused, for
/// [`outage_after`](super::ZSetSemaphoreLayer::outage_after) (default 1 s) though it was asked. From then
/// on the policy decides at once about requests that come, and about those that wait; those keep
/// their place in the queue until then. One request in a while still waits, to ask the store whether
/// it is back, and so do all that come when nobody has asked lately. As soon as the store answers
/// again, requests queue there as before. Permits that are held live on for as long as their lease is
/// provably alive.
///
/// Stacked layers decide one by one: the outermost that is `FailClosed` rejects, whatever those further
/// in would do. Give each layer its policy.
///
/// A client that was closed, or whose runtime has ended, is not away: its requests are rejected,
/// whatever the policy.
///
/// An outage and its end are each told by one line in the log, for each layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OutagePolicy {
    /// Requests are rejected, with [`Reason::Unavailable`](super::Reason::Unavailable). The
    /// default: the limit holds, whatever it costs.
    #[default]
    FailClosed,
    /// Requests are let through, uncounted; see
    /// [`Admission::is_uncounted`](super::Admission::is_uncounted).
    FailOpen,
    /// Requests share a cap of so many units in this process, first come first served, and wait for
    /// it within their timeout. With a key per request, each key has that cap. Clones of a layer
    /// share it; where they were told different ones, the first that is needed counts. What
    /// it let through still runs, uncounted by the cluster, when the store is back. 0 is as
    /// [`FailClosed`](Self::FailClosed).
    LocalCap(u32),
}

/// One line in the log per outage, and one at its end.
#[derive(Debug, Default)]
pub(super) struct OutageLog {
    told: AtomicBool,
}

impl OutageLog {
    pub(super) fn away(
        &self,
        handle: &Handle,
        policy: OutagePolicy,
        since: Duration,
        error: Option<&StoreError>,
    ) {
        if !self.told.load(Ordering::Relaxed) && !self.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                limit = &*handle.shown,
                ?policy,
                ?since,
                error = error.map(tracing::field::display),
                "the store is away; the policy decides about requests"
            );
        }
    }

    pub(super) fn back(&self, handle: &Handle) {
        if self.told.load(Ordering::Relaxed) && self.told.swap(false, Ordering::Relaxed) {
            tracing::info!(limit = &*handle.shown, "the store is back; requests are counted again");
        }
    }
}
