//! A `zsem` that is stopped alone, so that it can do nothing at the deadline of its permit.

use std::time::Duration;

use test_support::redis_server::RedisServer;
use test_support::wait::within;
use tokio::time::sleep;

use crate::program::{LONG, Program, is_alive, semaphore, until};

/// A command that does not let itself be asked, and has started what has left its session.
const DEAF: &str = "
    trap '' TERM
    setsid sh -c 'echo left $$; while :; do sleep 0.02; done' &
    echo pid $$
    while :; do sleep 0.02; done";

#[tokio::test]
async fn a_command_whose_zsem_is_stopped_is_dead_before_the_next_one_is_let_in() {
    let server = RedisServer::start().await;
    let next = semaphore(&server, "s", 1).await;
    for round in 0..5 {
        let line = if round % 2 == 0 { "--lease 2s s" } else { "--lease 2s --grace 0s s" };
        let mut program = Program::run(&server.url(), line, DEAF);
        let (command, left) = (program.pid_of_command().await, program.pid_of("left").await);
        program.process().freeze();
        let permit = within(LONG, next.acquire(1)).await.unwrap();
        assert!(!is_alive(command) && !is_alive(left), "round {round}: it was let in before");
        drop(permit);
        program.process().thaw();
        let end = program.end().await;
        assert_eq!(end.status, 76, "{end:?}");
        assert!(end.stderr.contains("the permit was lost"), "{end:?}");
    }
}

#[tokio::test]
async fn a_zsem_that_is_stopped_for_a_moment_keeps_its_command() {
    let server = RedisServer::start().await;
    let operator = semaphore(&server, "s", 1).await;
    let script = "echo pid $$; while [ ! -e $DIR/go ]; do sleep 0.02; done; exit 4";
    let mut program = Program::run(&server.url(), "--lease 3s s", script);
    let command = program.pid_of_command().await;
    for _ in 0..3 {
        program.process().freeze();
        sleep(Duration::from_millis(500)).await; // the length of the stop
        program.process().thaw();
        until(&operator, "it is renewed", |seen| {
            seen.holders[0].expires_in > Duration::from_millis(2_700)
        })
        .await;
    }
    assert!(is_alive(command));
    program.touch("go");
    assert_eq!(program.status().await, 4);
}

#[tokio::test]
async fn a_command_that_is_kept_runs_on_while_its_zsem_is_stopped() {
    let server = RedisServer::start().await;
    let next = semaphore(&server, "s", 1).await;
    let script = "echo pid $$; while [ ! -e $DIR/go ]; do sleep 0.02; done; exit 4";
    let mut program = Program::run(&server.url(), "--lease 1s --when-lost keep s", script);
    let command = program.pid_of_command().await;
    program.process().freeze();
    drop(within(LONG, next.acquire(1)).await.unwrap());
    assert!(is_alive(command));
    program.touch("go");
    program.process().thaw();
    assert_eq!(program.status().await, 4);
}
