//! Redis goes away during a wait: 69 where it is away when the time is over, 75 where it answers then.

use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::eventually;

use crate::program::{LONG, Program, semaphore, until};

#[tokio::test]
async fn a_wait_whose_time_is_over_has_69_where_redis_is_away_by_then() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let full = semaphore(&server, "s", 1).await;
    let _held = full.acquire(1).await.unwrap();
    for (wait, is_silent) in [("1s", true), ("1s", false), ("0", false)] {
        let line = format!("--call-deadline 2s -w {wait} s");
        let program = Program::run(&proxy.url(), &line, "echo ran");
        if is_silent {
            until(&full, "it waits", |seen| seen.waiters_total == 1).await;
            proxy.black_hole(); // nobody has noticed it when the time is over
        }
        let end = program.end().await;
        let status = if is_silent { 69 } else { 75 };
        assert_eq!((end.status, end.stdout.as_str()), (status, ""), "{wait}: {end:?}");
        assert_eq!(end.stderr.lines().count(), 1, "{end:?}");
        proxy.pass();
        until(&full, "its place is gone", |seen| seen.waiters_total == 0).await;
    }
}

#[tokio::test]
async fn a_grant_that_is_not_confirmed_is_waited_for_anew() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let full = semaphore(&server, "s", 1).await;
    for (wait, status) in [(None, 0), (Some("-w 2s"), 69)] {
        let held = full.acquire(1).await.unwrap();
        let line = format!("--call-deadline 500ms {} s", wait.unwrap_or_default());
        let program = Program::run(&proxy.url(), &line, "echo ran");
        until(&full, "it waits", |seen| seen.waiters_total == 1).await;
        // The wake-up arrives, and nothing that it answers.
        proxy.hold_requests();
        held.release().await.unwrap();
        until(&full, "its claim has begun", |seen| seen.in_use == 1).await;
        let is_over = |holder: &zset_semaphore::Holder| holder.expires_in.is_zero();
        until(&full, "its claim has ended", |seen| seen.holders.iter().all(is_over)).await;
        if wait.is_none() {
            proxy.pass();
        }
        let end = program.end().await;
        assert_eq!(end.status, status, "{wait:?}: {end:?}");
        assert_eq!(end.stdout, if status == 0 { "ran\n" } else { "" }, "{end:?}");
        proxy.pass();
        until(&full, "nothing is left", |seen| seen.in_use == 0 && seen.waiters_total == 0).await;
    }
}

#[tokio::test]
async fn a_permit_that_is_held_too_long_before_it_begins_is_a_lost_one() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let full = semaphore(&server, "s", 1).await;
    let held = full.acquire(1).await.unwrap();
    let program = Program::run(&proxy.url(), "--max-hold 1s s", "echo ran");
    until(&full, "it waits", |seen| seen.waiters_total == 1).await;
    proxy.hold_requests();
    held.release().await.unwrap();
    let end = program.end().await;
    assert_eq!((end.status, end.stdout.as_str()), (76, ""), "{end:?}");
}

#[tokio::test]
async fn a_wait_that_redis_refuses_says_so_once_and_goes_on() {
    let server = RedisServer::start().await;
    server.cmd(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let quiet = Program::run(&server.url(), "-q other", "echo ran");
    let program = Program::run(&server.url(), "s", "echo ran");
    eventually("it is told", LONG, async || !program.stderr().is_empty()).await;
    assert_eq!(
        program.stderr(),
        "zsem: Redis does not answer, or refuses; the wait goes on, and -v tells more\n"
    );
    server.cmd(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let end = program.end().await;
    assert_eq!((end.status, end.stdout.as_str(), end.stderr.lines().count()), (0, "ran\n", 1));
    let end = quiet.end().await;
    assert_eq!((end.status, end.stdout.as_str(), end.stderr.as_str()), (0, "ran\n", ""));
}
