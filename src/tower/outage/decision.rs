//! Decides what a waiting request does while the store is unavailable. Pure.

use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use super::policy::OutagePolicy;

/// What a waiting request knows of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreState {
    /// The store answers, as far as is known.
    Answers,
    /// The store was asked and has not answered since `since`, or has refused.
    Unavailable {
        since: Instant,
        /// Until when this request still waits for an answer, as a probe.
        probing_until: Option<Instant>,
    },
    /// The store ended the wait of this request: it refused it, or gave no answer within its timeout.
    LeftQueue,
}

/// What the request does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// It waits in the queue of the store.
    Queue,
    /// It waits in the queue of the store until this instant; then the policy decides.
    QueueUntil(Instant),
    /// The policy has decided.
    ByPolicy(Verdict),
}

/// The decision of the policy once an outage counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Reject,
    /// The request passes uncounted.
    LetThrough,
    /// The request waits for a cap of this many units in this process.
    LocalCap(NonZeroU32),
}

/// Decides at `now` about a request. An outage counts once it has lasted for `outage_after`.
pub(crate) fn decide(
    policy: OutagePolicy,
    store: StoreState,
    now: Instant,
    outage_after: Duration,
) -> Decision {
    match store {
        StoreState::Answers => Decision::Queue,
        StoreState::Unavailable { since, probing_until } => {
            match probing_until.or_else(|| since.checked_add(outage_after)) {
                Some(until) if now < until => Decision::QueueUntil(until),
                Some(_) => Decision::ByPolicy(verdict(policy)),
                // The sum overflows. No outage lasts that long.
                None => Decision::Queue,
            }
        }
        StoreState::LeftQueue => Decision::ByPolicy(verdict(policy)),
    }
}

/// Returns what `policy` says once an outage counts.
pub(crate) fn verdict(policy: OutagePolicy) -> Verdict {
    match policy {
        OutagePolicy::FailClosed => Verdict::Reject,
        OutagePolicy::FailOpen => Verdict::LetThrough,
        OutagePolicy::LocalCap(cap) => {
            NonZeroU32::new(cap).map_or(Verdict::Reject, Verdict::LocalCap)
        }
    }
}
