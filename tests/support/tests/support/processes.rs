use std::time::Duration;

use test_support::child_role::{FromParent, say, setting};
use test_support::ledger::{Ledger, Reporter, monotonic_nanos};
use test_support::processes::{Child, example};
use test_support::wait::PATIENCE;

pub(super) fn echo(mut from_parent: FromParent) {
    say(format_args!("ready {}", setting("GREETING")));
    while let Some(line) = from_parent.blocking_recv() {
        if line == "quit" {
            return;
        }
        say(format_args!("echo {line}"));
    }
}

pub(super) fn holder() {
    let reporter = Reporter::connect(&setting("LEDGER"));
    reporter.enter("work", 3);
    say("holding");
    loop {
        std::thread::park();
    }
}

pub(super) fn deaf() {
    say("ready");
    loop {
        std::thread::park();
    }
}

fn echo_child() -> Child {
    Child::spawn("echo", &[("GREETING", "hello there".to_owned())])
}

#[tokio::test]
async fn a_child_talks_and_ends_by_itself() {
    let mut child = echo_child();
    assert_eq!(child.expect_line("@ready", PATIENCE).await, "hello there");
    child.send("one");
    child.send("two");
    assert_eq!(child.expect_line("@echo two", PATIENCE).await, "");
    child.send("quit");
    assert!(child.wait_for_exit(PATIENCE).await.success());
}

#[tokio::test]
async fn a_frozen_child_is_silent_until_thawed() {
    let mut child = echo_child();
    child.expect_line("@ready", PATIENCE).await;
    child.freeze();
    child.send("one");
    let short = Duration::from_millis(30);
    let silence = tokio::time::timeout(short, child.expect_line("@echo", PATIENCE)).await;
    assert!(silence.is_err());
    child.thaw();
    assert_eq!(child.expect_line("@echo", PATIENCE).await, "one");
    child.terminate();
    assert!(!child.wait_for_exit(PATIENCE).await.success());
}

#[tokio::test]
async fn what_a_child_reported_survives_its_kill_and_ends_there() {
    let ledger = Ledger::start();
    let mut children = Vec::new();
    for _ in 0..3 {
        children.push(Child::spawn("holder", &[("LEDGER", ledger.address())]));
    }
    for child in &mut children {
        child.expect_line("@holding", PATIENCE).await;
    }
    assert_eq!(ledger.overlap().units, 9);

    let killed_at = children[0].kill();
    ledger.kill_all_of(children[0].pid(), killed_at);
    let now = monotonic_nanos();
    assert_eq!(ledger.overlap_within(now..u64::MAX).units, 6);
    let ended = ledger.holds().into_iter().find(|hold| hold.process == children[0].pid());
    assert_eq!(ended.unwrap().until_ns, killed_at);
}

#[tokio::test]
async fn a_child_whose_parent_is_gone_ends() {
    let mut child = Child::spawn("deaf", &[]);
    child.expect_line("@ready", PATIENCE).await;
    child.close_input();
    assert!(child.wait_for_exit(PATIENCE).await.success());
}

#[tokio::test]
#[should_panic(expected = "closed its output")]
async fn a_child_that_ends_too_soon_is_told() {
    let mut child = echo_child();
    child.expect_line("@ready", PATIENCE).await;
    child.send("quit");
    child.expect_line("@never", PATIENCE).await;
}

#[test]
#[should_panic(expected = "the example `no-such-example` is not built")]
fn a_missing_example_is_named() {
    example("no-such-example");
}
