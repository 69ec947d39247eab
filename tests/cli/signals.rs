//! Signals while a command runs.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use test_support::redis_server::RedisServer;
use test_support::wait::eventually;

use crate::program::{LONG, Program, is_alive, semaphore, until};

/// A command that prints each signal that it gets, and ends with 3 on the last one.
const LISTENER: &str = "\
    for name in TERM INT HUP QUIT USR1 WINCH; do trap \"echo got $name\" $name; done
    trap 'echo got USR2; exit 3' USR2
    echo ready
    while :; do sleep 0.01; done";

#[tokio::test]
async fn every_signal_reaches_the_command_and_its_own_status_counts() {
    let server = RedisServer::start().await;
    let program = Program::run(&server.url(), "s", LISTENER);
    program.says("ready").await;
    let sent = [
        ("TERM", Signal::TERM),
        ("INT", Signal::INT),
        ("HUP", Signal::HUP),
        ("QUIT", Signal::QUIT),
        ("USR1", Signal::USR1),
        ("WINCH", Signal::WINCH),
        ("USR2", Signal::USR2),
    ];
    for (name, signal) in sent {
        program.send(signal);
        program.says(&format!("got {name}")).await;
    }
    assert_eq!(program.status().await, 3);
}

#[tokio::test]
async fn a_signal_reaches_what_the_command_has_started_and_not_the_shell_alone() {
    let server = RedisServer::start().await;
    let program = Program::run(&server.url(), "s", "sleep 600 & echo pid $!; wait; exit 0");
    let grandchild = program.pid_of_command().await;
    program.send(Signal::TERM);
    assert_eq!(program.status().await, 128 + 15);
    eventually("what it has started is gone", LONG, async || !is_alive(grandchild)).await;
}

#[tokio::test]
async fn a_zsem_that_is_killed_takes_its_command_along() {
    let server = RedisServer::start().await;
    for _ in 0..5 {
        let mut program = Program::run(&server.url(), "-n 9 s", "echo pid $$; exec sleep 600");
        let command = program.pid_of_command().await;
        assert!(is_alive(command));
        program.process().kill();
        let since = Instant::now();
        while is_alive(command) {
            assert!(since.elapsed() < Duration::from_millis(100), "it is alive after 100 ms");
            std::thread::yield_now();
        }
    }
}

#[tokio::test]
async fn the_units_are_free_once_the_command_has_ended_and_not_before() {
    let server = RedisServer::start().await;
    let seen = semaphore(&server, "s", 1).await;
    let program = Program::run(
        &server.url(),
        "s",
        "trap 'sleep 0.3; exit 0' TERM; echo ready; sleep 60 & wait",
    );
    program.says("ready").await;
    program.send(Signal::TERM);
    assert!(seen.try_acquire(1).await.is_err(), "the command has not ended");
    assert_eq!(program.status().await, 0);
    until(&seen, "the units are free", |seen| seen.in_use == 0).await;
}
