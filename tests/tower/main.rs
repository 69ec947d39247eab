//! The tower layer: what it holds, for how long, and that nothing is left behind.

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]
// What a test crate exports nobody imports.
#![allow(unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;

mod accounting;
mod answer;
mod cooldown;
mod dialect;
mod disconnect;
mod drop_order;
mod grpc;
mod hold_body;
mod http;
mod idle;
mod key_limit;
mod keyed;
mod last_event;
mod layer;
mod local_cap;
mod lookup_log;
mod lost;
#[cfg(feature = "metrics")]
mod metrics;
mod mounting;
mod outage;
mod outage_log;
mod probe;
mod queue;
mod read_ahead;
mod replicas;
mod retry_after;
mod stack;
mod stalled;
mod take_over;
mod web;
mod wire;

use test_support::child_role;

#[test]
fn child_process() {
    child_role::play(|role, from_parent| match role {
        "idlers" => idle::idlers(from_parent),
        _ => panic!("no role {role}"),
    });
}
