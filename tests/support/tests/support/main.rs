//! The test support, tested: a witness that errs proves nothing.

// `allow-unwrap-in-tests` does not reach the helpers of tests.
#![allow(clippy::panic, clippy::unwrap_used)]

mod fault_proxy;
mod ledger;
mod processes;
mod redis_cluster;
mod redis_server;
mod wait;

use test_support::child_role;

#[test]
fn child_process() {
    child_role::play(|role, from_parent| match role {
        "echo" => processes::echo(from_parent),
        "holder" => processes::holder(),
        "deaf" => processes::deaf(),
        _ => panic!("no role {role}"),
    });
}
