//! The child's side of [`processes`](crate::processes): what a test binary does when it was started to play a role.

use std::fmt::Display;
use std::io::{Write, stdin, stdout};
use std::thread;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

/// Names the role in the child's environment.
pub(super) const ROLE: &str = "ZSET_SEMAPHORE_TEST_ROLE";

/// The lines that the parent sends.
pub type FromParent = mpsc::UnboundedReceiver<String>;

/// Plays the role this process was started for, if it was; else returns at once.
///
/// A test binary that uses `Child::spawn` calls this from a test at its root with the name `child_process`:
///
/// ```ignore
/// #[test]
/// fn child_process() {
///     child_role::play(|role, from_parent| match role {
///         "holder" => holder(from_parent),
///         _ => panic!("no role {role}"),
///     });
/// }
/// ```
///
/// The process ends when its parent is gone, whatever the role is doing.
pub fn play(roles: impl FnOnce(&str, FromParent)) {
    if let Ok(role) = std::env::var(ROLE) {
        roles(&role, listen_to_parent());
    }
}

/// Tells the parent `@event`, on a line of its own.
pub fn say(event: impl Display) {
    let mut out = stdout().lock();
    // The test harness may have left half a line.
    write!(out, "\n@{event}\n").and_then(|()| out.flush()).expect("the parent reads");
}

/// A setting that the parent passed in the environment.
pub fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|error| panic!("the parent must set {name}: {error}"))
}

/// The runtime of a role that works on two threads.
pub fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn listen_to_parent() -> FromParent {
    let (sender, lines) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in stdin().lines().map_while(Result::ok) {
            // A role need not listen; the end of the input matters all the same.
            let _ = sender.send(line);
        }
        std::process::exit(0);
    });
    lines
}
