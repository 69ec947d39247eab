use std::num::NonZeroU32;
use std::time::Duration;

use tokio::time::Instant;

use crate::tower::outage::decision::{Decision, StoreState, Verdict, decide};
use crate::tower::outage::policy::OutagePolicy::{FailClosed, FailOpen, LocalCap};

const AFTER: Duration = Duration::from_secs(1);

/// An outage that began this long before the decision, for a request that is no probe.
fn unavailable(now: Instant, lasted: Duration) -> StoreState {
    StoreState::Unavailable { since: now.checked_sub(lasted).unwrap(), probing_until: None }
}

/// An instant that `checked_sub` can go back from.
fn now() -> Instant {
    Instant::now() + Duration::from_secs(3600)
}

fn local_cap(units: u32) -> Decision {
    Decision::ByPolicy(Verdict::LocalCap(NonZeroU32::new(units).unwrap()))
}

#[test]
fn each_policy_decides_once_the_outage_counts_or_the_store_ended_the_wait() {
    let now = now();
    for (policy, decision) in [
        (FailClosed, Decision::ByPolicy(Verdict::Reject)),
        (FailOpen, Decision::ByPolicy(Verdict::LetThrough)),
        (LocalCap(0), Decision::ByPolicy(Verdict::Reject)),
        (LocalCap(1), local_cap(1)),
        (LocalCap(u32::MAX), local_cap(u32::MAX)),
    ] {
        for store in [unavailable(now, AFTER), unavailable(now, 2 * AFTER), StoreState::LeftQueue] {
            assert_eq!(decide(policy, store, now, AFTER), decision, "{policy:?}, {store:?}");
        }
    }
}

#[test]
fn no_policy_decides_before_the_outage_counts() {
    let now = now();
    let probe =
        |until| StoreState::Unavailable { since: now - 9 * AFTER, probing_until: Some(until) };
    for policy in [FailClosed, FailOpen, LocalCap(0), LocalCap(4)] {
        for (store, decision) in [
            (StoreState::Answers, Decision::Queue),
            (unavailable(now, Duration::ZERO), Decision::QueueUntil(now + AFTER)),
            (unavailable(now, AFTER / 4), Decision::QueueUntil(now + AFTER * 3 / 4)),
            (probe(now + 3 * AFTER), Decision::QueueUntil(now + 3 * AFTER)),
        ] {
            assert_eq!(decide(policy, store, now, AFTER), decision, "{policy:?}, {store:?}");
        }
    }
}

#[test]
fn a_probe_without_an_answer_is_decided_about_when_its_time_is_up() {
    let now = now();
    let store = StoreState::Unavailable { since: now - 9 * AFTER, probing_until: Some(now) };
    assert_eq!(decide(FailClosed, store, now, AFTER), Decision::ByPolicy(Verdict::Reject));
    assert_eq!(decide(LocalCap(2), store, now, AFTER), local_cap(2));
}

#[test]
fn an_outage_counts_at_once_or_never_at_the_ends_of_the_setting() {
    let now = now();
    let decides = |after| decide(FailOpen, unavailable(now, Duration::ZERO), now, after);
    assert_eq!(decides(Duration::ZERO), Decision::ByPolicy(Verdict::LetThrough));
    assert_eq!(decides(Duration::MAX), Decision::Queue);
    let left = decide(FailOpen, StoreState::LeftQueue, now, Duration::MAX);
    assert_eq!(left, Decision::ByPolicy(Verdict::LetThrough));
}
