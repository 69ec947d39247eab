//! A permit that is lost, or about to be.

use std::fs;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustix::process::{Pid, Signal, kill_process};
use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::{eventually, within};
use tokio::time::sleep;

use crate::program::{LONG, Program, is_alive, semaphore, until, until_told, zsem};

/// A command that does not let itself be asked.
const DEAF: &str = "trap '' TERM; echo pid $$; while :; do sleep 0.02; done";

/// A holder is cut off while another one waits.
async fn hand_over(server: &RedisServer, name: String) {
    let proxy = FaultProxy::start(server.addr()).await;
    let line = format!("--lease 5s --grace 500ms {name}");
    let first = Program::run(&proxy.url(), &line, DEAF);
    let holder = first.pid_of_command().await.as_raw_nonzero();
    proxy.black_hole();
    // One that only waits to be collected runs no more.
    let look = format!("grep -s '^State:' /proc/{holder}/status | grep -v '[ZX] ('; echo started");
    let next = Program::run(&server.url(), &line, &look).end().await;
    assert_eq!((next.status, next.stdout.as_str()), (0, "started\n"), "{name}");
    let end = first.end().await;
    assert_eq!(end.status, 76, "{end:?}");
}

#[tokio::test]
async fn a_holder_that_is_cut_off_is_dead_before_the_next_one_starts_each_time() {
    let server = RedisServer::start().await;
    join_all((0..20).map(|round| hand_over(&server, format!("s{round}")))).await;
}

#[tokio::test]
async fn a_claim_is_confirmed_before_the_command_starts_however_long_the_grace() {
    let server = RedisServer::start().await;
    let full = semaphore(&server, "s", 1).await;
    let held = full.acquire(1).await.unwrap();
    let program = Program::run(&server.url(), "--lease 60s --grace 30s s", "echo $ZSEM_ID");
    until(&full, "it waits", |seen| seen.waiters_total == 1).await;
    held.release().await.unwrap();
    let end = program.end().await;
    assert_eq!((end.status, end.stderr.as_str()), (0, ""), "{end:?}");
}

#[tokio::test]
async fn a_command_is_asked_to_end_before_it_is_killed_and_may_do_so() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let script = "trap 'echo asked; exit 0' TERM; echo pid $$; while :; do sleep 0.02; done";
    let program = Program::run(&proxy.url(), "--lease 2s --grace 900ms s", script);
    program.pid_of_command().await;
    proxy.black_hole();
    let end = program.end().await;
    assert_eq!(end.status, 76, "it did not end by itself: {end:?}");
    assert!(end.stdout.contains("asked") && end.stderr.contains("the permit was lost"), "{end:?}");
}

#[tokio::test]
async fn another_signal_asks_where_it_is_set() {
    let server = RedisServer::start().await;
    let script = "trap 'echo asked' USR1; echo ready; sleep 60 & wait; exit 0";
    let program =
        Program::run(&server.url(), "--signal USR1 --max-hold 1s --grace 500ms s", script);
    let end = program.end().await;
    assert_eq!((end.status, end.stdout.as_str()), (76, "ready\nasked\n"), "{end:?}");
}

#[tokio::test]
async fn a_kicked_command_has_its_grace_and_the_units_are_free_when_it_is_gone() {
    let server = RedisServer::start().await;
    let operator = semaphore(&server, "s", 1).await;
    let program = Program::run(&server.url(), "--lease 4s --grace 1500ms s", DEAF);
    let command = program.pid_of_command().await;
    let holder = operator.inspect().await.unwrap().holders[0].id;
    let next = tokio::spawn(operator.acquire(1));
    operator.kick(holder).await.unwrap();
    let permit = within(LONG, next).await.unwrap().unwrap();
    assert!(!is_alive(command), "the next one was let in before the command had ended");
    let end = program.end().await;
    assert_eq!(end.status, 76, "{end:?}");
    assert!(end.stderr.contains("kicked"), "{end:?}");
    drop(permit);
}

#[tokio::test]
async fn where_it_is_kept_the_command_goes_on_and_its_status_counts() {
    let server = RedisServer::start().await;
    let program =
        Program::run(&server.url(), "--when-lost keep --max-hold 100ms s", &until_told(5));
    program.says("ready").await;
    eventually("the loss is told", LONG, async || program.stderr().contains("warning")).await;
    let seen = semaphore(&server, "s", 1).await;
    until(&seen, "the units are free", |seen| seen.in_use == 0).await;
    program.touch("go");
    let end = program.end().await;
    assert_eq!(end.status, 5, "{end:?}");
}

#[tokio::test]
async fn a_release_that_is_not_confirmed_is_a_warning_and_no_other_status() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let program = Program::run(&proxy.url(), "--call-deadline 300ms s", &until_told(7));
    program.says("ready").await;
    proxy.black_hole();
    program.touch("go");
    let since = Instant::now();
    let end = program.end().await;
    assert_eq!(end.status, 7, "{end:?}");
    assert!(end.stderr.starts_with("zsem: warning: "), "{end:?}");
    assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
}

#[tokio::test]
async fn an_outage_that_is_shorter_than_the_lease_is_not_noticed_by_the_command() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let program = Program::run(&proxy.url(), "--lease 3s --grace 500ms s", &until_told(0));
    program.says("ready").await;
    proxy.refuse(true);
    proxy.cut();
    sleep(Duration::from_millis(700)).await; // the length of the outage
    proxy.refuse(false);
    let seen = semaphore(&server, "s", 1).await;
    until(&seen, "it is renewed", |seen| {
        seen.holders.first().is_some_and(|holder| holder.expires_in > Duration::from_millis(2_500))
    })
    .await;
    program.touch("go");
    let end = program.end().await;
    assert_eq!((end.status, end.stderr.as_str()), (0, ""));
}

#[tokio::test]
async fn a_short_maximum_hold_leaves_the_command_its_time() {
    let server = RedisServer::start().await;
    let end = Program::run(&server.url(), "--max-hold 5s s", "exit 3").end().await;
    assert_eq!((end.status, end.stderr.as_str()), (3, ""), "{end:?}");
    let end = Program::run(&server.url(), "--max-hold 5s --grace 5s s", "exit 3").end().await;
    assert_eq!(end.status, 78, "{end:?}");
}

#[tokio::test]
async fn what_a_stopped_command_leaves_behind_is_killed() {
    let server = RedisServer::start().await;
    let operator = semaphore(&server, "s", 1).await;
    let script = "sh -c 'trap \"\" TERM; echo pid $$; while :; do sleep 0.02; done' & wait";
    let program = Program::run(&server.url(), "--lease 3s --grace 500ms s", script);
    let left = program.pid_of_command().await;
    let holder = operator.inspect().await.unwrap().holders[0].id;
    operator.kick(holder).await.unwrap();
    assert_eq!(program.status().await, 76);
    eventually("what it left is gone", LONG, async || !is_alive(left)).await;
}

#[tokio::test]
async fn a_command_that_was_asked_and_kept_its_permit_has_its_own_status() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let script =
        "trap 'echo asked' TERM; echo ready; while [ ! -e $DIR/go ]; do sleep 0.02; done; exit 3";
    let program = Program::run(&proxy.url(), "--lease 6s --grace 3s s", script);
    program.says("ready").await;
    proxy.refuse(true);
    proxy.cut();
    program.says("asked").await;
    proxy.refuse(false);
    let seen = semaphore(&server, "s", 1).await;
    until(&seen, "it is renewed", |seen| {
        seen.holders.first().is_some_and(|holder| holder.expires_in > Duration::from_secs(5))
    })
    .await;
    program.touch("go");
    let end = program.end().await;
    // The shell may tell that its `sleep` was asked, too.
    assert!(end.status == 3 && !end.stderr.contains("zsem"), "{end:?}");
    assert_eq!(end.stdout.matches("asked").count(), 1, "{end:?}");
}

#[tokio::test]
async fn what_a_command_leaves_behind_that_was_asked_and_ended_is_killed_though_the_permit_was_kept()
 {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let script =
        "sh -c 'trap \"\" TERM; echo left $$; while [ -e $DIR/stdout ]; do sleep 0.02; done' &
        trap 'echo asked; exit 3' TERM; while :; do sleep 0.02; done";
    let program = Program::run(&proxy.url(), "--lease 6s --grace 3s s", script);
    let left = program.pid_of("left").await;
    proxy.refuse(true);
    proxy.cut();
    program.says("asked").await;
    proxy.refuse(false);
    let end = program.end().await;
    assert!(end.status == 76 && end.stderr.contains("its end was near"), "{end:?}");
    assert!(!is_alive(left));
}

/// Returns the guard of a `zsem`, as soon as it is there.
async fn guard_of(zsem: Pid) -> Pid {
    let children = format!("/proc/{0}/task/{0}/children", zsem.as_raw_nonzero());
    loop {
        let listed = fs::read_to_string(&children).unwrap();
        if let Some(guard) = listed.split_whitespace().next() {
            return Pid::from_raw(guard.parse().unwrap()).unwrap();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_command_that_starts_after_the_kick_is_asked_to_end() {
    let server = RedisServer::start().await;
    let operator = semaphore(&server, "s", 1).await;
    for _ in 0..5 {
        let mut line = zsem(
            &server.url(),
            ["run", "--lease", "100s", "--grace", "50s", "s", "--", "sleep", "600"],
        );
        let program = Program::of(&mut line);
        let guard = within(LONG, guard_of(program.pid())).await;
        kill_process(guard, Signal::STOP).unwrap(); // it takes long to start the command
        let holder = operator.inspect().await.unwrap().holders[0].id;
        operator.kick(holder).await.unwrap();
        sleep(Duration::from_millis(300)).await; // `zsem` hears of it
        kill_process(guard, Signal::CONT).unwrap();
        assert_eq!(program.status().await, 76);
    }
}

#[tokio::test]
async fn what_a_shell_has_started_has_the_grace_to_end_although_the_shell_is_gone() {
    let server = RedisServer::start().await;
    let operator = semaphore(&server, "s", 1).await;
    let script = "sh -c 'trap \"sleep 0.3; echo tidy; exit\" TERM; echo ready; while :; do sleep 0.02; done' &
        echo pid $$; wait";
    let program = Program::run(&server.url(), "--lease 30s --grace 9s s", script);
    program.says("ready").await;
    let holder = operator.inspect().await.unwrap().holders[0].id;
    let since = Instant::now();
    operator.kick(holder).await.unwrap();
    let end = program.end().await;
    assert_eq!(end.status, 76, "{end:?}");
    assert!(end.stdout.contains("tidy"), "it was killed: {end:?}");
    assert!(since.elapsed() < Duration::from_secs(8), "it is over once nothing runs");
}
