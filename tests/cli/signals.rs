//! Signals while a command runs.

use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use test_support::redis_server::RedisServer;
use test_support::wait::{eventually, within};

use crate::program::{LONG, Program, bash, is_alive, semaphore, setsid, until};

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
    let mut took = Vec::new();
    for _ in 0..5 {
        let mut program = Program::run(&server.url(), "-n 9 s", "echo pid $$; exec sleep 600");
        let command = program.pid_of_command().await;
        assert!(is_alive(command));
        program.process().kill();
        let since = Instant::now();
        eventually("the command is gone", LONG, async || !is_alive(command)).await;
        took.push(since.elapsed());
    }
    took.sort_unstable();
    // A busy machine may stop all of them for longer, once or twice.
    assert!(took[2] < Duration::from_millis(100), "{took:?}");
}

/// A command that starts a process which leaves its group and its session. Neither ends by itself.
const STARTER: &str = "\
    setsid sh -c 'echo left $$; exec sleep 600' &
    echo guard $PPID
    echo pid $$
    wait";

#[tokio::test]
async fn a_zsem_that_is_killed_takes_along_what_its_command_has_started() {
    let server = RedisServer::start().await;
    let mut program = Program::run(&server.url(), "-n 9 s", STARTER);
    let (command, left) = (program.pid_of_command().await, program.pid_of("left").await);
    program.process().kill();
    eventually("both are gone", LONG, async || !is_alive(command) && !is_alive(left)).await;
}

#[tokio::test]
async fn a_guard_that_is_killed_ends_the_command_and_what_it_has_started_before_the_release() {
    let server = RedisServer::start().await;
    let seen = semaphore(&server, "s", 1).await;
    let program = Program::run(&server.url(), "s", STARTER);
    let (command, left) = (program.pid_of_command().await, program.pid_of("left").await);
    let next = tokio::spawn(seen.acquire(1));
    kill_process(program.pid_of("guard").await, Signal::KILL).unwrap();
    let permit = within(LONG, next).await.unwrap().unwrap();
    assert!(!is_alive(command) && !is_alive(left), "the next one was let in before");
    assert_eq!(program.status().await, 128 + 9);
    drop(permit);
}

#[tokio::test]
async fn what_a_command_leaves_behind_goes_on_if_it_has_ended_by_itself() {
    let server = RedisServer::start().await;
    let program = Program::run(&server.url(), "s", "sleep 600 & echo pid $!; exit 4");
    let left = program.pid_of_command().await;
    assert_eq!(program.status().await, 4);
    assert!(is_alive(left));
    kill_process(left, Signal::KILL).unwrap();
}

#[tokio::test]
async fn children_from_before_are_not_those_of_the_command() {
    let server = RedisServer::start().await;
    let line = "sleep 600 & echo pid $!; exec \"$0\" run --max-hold 300ms s -- sleep 60";
    let program = Program::of(&mut bash(&server, line));
    let stranger = program.pid_of_command().await;
    assert_eq!(program.status().await, 76);
    assert!(is_alive(stranger));
    kill_process(stranger, Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_killed_zsem_takes_the_command_along_though_term_is_ignored() {
    let server = RedisServer::start().await;
    let line = "trap '' TERM; exec \"$0\" run s -- sh -c 'echo pid $$; sleep 600'";
    let program = Program::of(&mut bash(&server, line));
    let child = program.pid_of_command().await;
    program.send(Signal::KILL);
    eventually("the command has ended", LONG, async || !is_alive(child)).await;
}

/// A command that prints each TERM, and ends by itself after a while.
const COUNTER: &str = "trap 'echo got TERM' TERM; echo guard $PPID; i=0
    while [ $i -lt 25 ]; do sleep 0.02; i=$((i + 1)); done; echo over";

#[tokio::test]
async fn a_sender_that_signals_twice_at_once_is_heard_once() {
    let server = RedisServer::start().await;
    // `timeout` signals its child, and then its group.
    let mut command = setsid();
    command.args(["timeout", "600", env!("CARGO_BIN_EXE_zsem")]);
    command.args(["run", "s", "--", "sh", "-c", COUNTER]);
    command
        .env("ZSEM_URL", server.url())
        .env_remove("REDIS_URL")
        .stdin(std::process::Stdio::null());
    let program = Program::of(&mut command);
    program.says("guard ").await;
    program.send(Signal::TERM);
    program.says("over").await;
    assert_eq!(program.stdout().matches("got TERM").count(), 1, "{}", program.stdout());
    program.status().await;
}

#[tokio::test]
async fn a_sender_that_signals_every_process_is_heard_once() {
    let server = RedisServer::start().await;
    let program = Program::run(&server.url(), "s", &format!("echo pid $$; {COUNTER}"));
    let (command, guard) = (program.pid_of_command().await, program.pid_of("guard").await);
    program.send(Signal::TERM); // as systemd does to all processes of a unit
    for process in [guard, command] {
        kill_process(process, Signal::TERM).unwrap();
    }
    program.says("over").await;
    assert_eq!(program.stdout().matches("got TERM").count(), 1, "{}", program.stdout());
    assert_eq!(program.status().await, 0);
}

#[tokio::test]
async fn orphans_of_the_command_are_collected() {
    let server = RedisServer::start().await;
    let script = "(sh -c 'echo pid $$' &); echo ready; while [ ! -e $DIR/go ]; do sleep 0.02; done";
    let program = Program::run(&server.url(), "s", script);
    let orphan = program.pid_of_command().await;
    let stat = format!("/proc/{}/stat", orphan.as_raw_nonzero());
    eventually("it is collected", LONG, async || !std::path::Path::new(&stat).exists()).await;
    program.touch("go");
    assert_eq!(program.status().await, 0);
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
