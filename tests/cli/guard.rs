//! The guard between `zsem` and its command, under signals that are meant for others.

use std::fs;
use std::process::Command;

use rustix::process::{Pid, Signal, kill_process};
use test_support::redis_server::RedisServer;
use test_support::wait::{eventually, within};

use crate::program::{LONG, Program, bash, is_alive, semaphore};

/// A signal without a name, of those for programs.
const REAL_TIME: i32 = 40;

/// Sends a signal to all processes of a group, as a shell does it.
fn send_to_group(group: Pid, signal: i32) {
    let line = format!("kill -{signal} -- -{}", group.as_raw_nonzero());
    assert!(Command::new("bash").args(["-c", &line]).status().unwrap().success());
}

#[tokio::test]
async fn what_is_sent_to_the_group_of_the_command_ends_neither_the_guard_nor_the_permit() {
    let server = RedisServer::start().await;
    let seen = semaphore(&server, "s", 1).await;
    let signals = [Signal::ALARM, Signal::ABORT, Signal::VTALARM, Signal::USR1].map(Signal::as_raw);
    let signals = signals.into_iter().chain([REAL_TIME]);
    let traps: Vec<_> = signals.clone().map(|it| format!("trap 'echo got {it}' {it}")).collect();
    let script = format!(
        "{}; echo guard $PPID; while [ ! -e $DIR/go ]; do sleep 0.02; done; exit 3",
        traps.join("; ")
    );
    let program = Program::run(&server.url(), "s", &script);
    let guard = program.pid_of("guard").await;
    for signal in signals {
        send_to_group(guard, signal);
        program.says(&format!("got {signal}")).await;
    }
    assert!(is_alive(guard) && seen.inspect().await.unwrap().in_use == 1);
    program.touch("go");
    assert_eq!(program.status().await, 3);
}

/// A command that starts a process which leaves its group and its session. Neither ends by itself.
const STARTER: &str =
    "setsid sh -c 'echo left $$; exec sleep 600' & echo guard $PPID; echo pid $$; wait";

#[tokio::test]
async fn a_guard_that_a_signal_ends_lets_nobody_in_while_anything_of_the_command_runs() {
    let server = RedisServer::start().await;
    let signals = [Signal::SEGV, Signal::BUS, Signal::ILL, Signal::FPE];
    for (round, signal) in signals.into_iter().enumerate() {
        let name = format!("s{round}");
        let seen = semaphore(&server, &name, 1).await;
        let program = Program::run(&server.url(), &name, STARTER);
        let (command, left) = (program.pid_of_command().await, program.pid_of("left").await);
        let next = tokio::spawn(seen.acquire(1));
        let guard = program.pid_of("guard").await;
        eventually("the guard has ended", LONG, async || {
            let _ = kill_process(guard, signal); // Rust's runtime may catch the first one
            !is_alive(guard)
        })
        .await;
        let permit = within(LONG, next).await.unwrap().unwrap();
        assert!(
            !is_alive(command) && !is_alive(left),
            "the next one was let in before: {signal:?}"
        );
        assert_eq!(program.status().await, 128 + signal.as_raw());
        drop(permit);
    }
}

/// Whether `killall`, `pkill` and `pidof` take a process for one of this name.
fn is_named(pid: Pid, name: &str) -> bool {
    let folder = format!("/proc/{}", pid.as_raw_nonzero());
    let comm = fs::read_to_string(format!("{folder}/comm")).unwrap();
    let words = fs::read_to_string(format!("{folder}/cmdline")).unwrap();
    let first = words.split('\0').next().unwrap();
    comm.trim_end() == name || first.rsplit('/').next() == Some(name)
}

#[tokio::test]
async fn a_signal_to_all_processes_named_zsem_reaches_the_command_once() {
    let server = RedisServer::start().await;
    let script = "trap 'echo got TERM' TERM; echo guard $PPID; i=0
        while [ $i -lt 25 ]; do sleep 0.02; i=$((i + 1)); done; echo over";
    let program = Program::run(&server.url(), "s", script);
    let guard = program.pid_of("guard").await;
    let named: Vec<_> =
        [program.pid(), guard].into_iter().filter(|it| is_named(*it, "zsem")).collect();
    assert!(named.contains(&program.pid()));
    for pid in named {
        kill_process(pid, Signal::TERM).unwrap();
    }
    program.says("over").await;
    assert_eq!(program.stdout().matches("got TERM").count(), 1, "{}", program.stdout());
    assert_eq!(program.status().await, 0);
}

#[tokio::test]
async fn a_signal_to_zsem_and_the_guard_alone_ends_a_command_that_does_not_catch_it() {
    let server = RedisServer::start().await;
    let program = Program::run(&server.url(), "s", "echo guard $PPID; exec sleep 600");
    let guard = program.pid_of("guard").await;
    for pid in [program.pid(), guard] {
        kill_process(pid, Signal::TERM).unwrap(); // as `kill $(pidof zsem)` does
    }
    assert_eq!(program.status().await, 128 + 15);
}

#[tokio::test]
async fn the_end_of_a_command_is_found_though_the_parent_blocks_the_signal_of_it() {
    let server = RedisServer::start().await;
    let line = "exec env --block-signal=CHLD \"$0\" run s -- sh -c 'exit 3'";
    assert_eq!(Program::of(&mut bash(&server, line)).status().await, 3);
    let line =
        "exec env --block-signal=CHLD \"$0\" run -n 9 s -- sh -c 'echo pid $$; exec sleep 600'";
    let mut program = Program::of(&mut bash(&server, line));
    let command = program.pid_of_command().await;
    program.process().kill();
    eventually("the command is gone", LONG, async || !is_alive(command)).await;
}

#[tokio::test]
async fn the_command_ignores_and_blocks_what_it_would_without_zsem() {
    let server = RedisServer::start().await;
    let look = "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status";
    let with = async |ignored: &str, run: &str| {
        let line = format!("{ignored} exec {run} {look}");
        Program::of(&mut bash(&server, &line)).end().await.stdout
    };
    for ignored in ["", "trap '' HUP ALRM TSTP USR1 ABRT RTMIN+5;"] {
        let (plain, below) = (with(ignored, "").await, with(ignored, "\"$0\" run s --").await);
        assert!(plain.contains("SigIgn"), "{plain}");
        assert_eq!(below, plain, "{ignored}");
    }
}
