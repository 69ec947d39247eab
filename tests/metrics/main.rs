//! What semaphores and clients tell a recorder of metrics, and what they trace.

// `allow-unwrap-in-tests` does not reach the helpers of tests.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod gauges;
mod held;
mod labels;
mod model;
mod names;
mod prometheus;
mod spans;
mod turns;
mod waits;

use std::collections::BTreeMap;

use test_support::child_role;

#[test]
fn child_process() {
    child_role::play(|role, _| match role {
        "labels" => labels::play(),
        "late" => names::play_late(),
        _ => panic!("no role {role}"),
    });
}

/// So many of each.
fn counts<const N: usize>(expected: [(&str, u64); N]) -> BTreeMap<String, u64> {
    expected.map(|(labels, count)| (labels.to_owned(), count)).into()
}
