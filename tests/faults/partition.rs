//! Partitions: what is cut off loses before others gain, and what comes late changes nothing.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use zset_semaphore::{
    AcquireError, Client, ControlError, LostReason, Released, Renew, ZSetSemaphore,
};

use crate::common::connect::{connect, connected};
use crate::common::inspect::queued;
use test_support::child_role::{FromParent, say, setting};
use test_support::fault_proxy::FaultProxy;
use test_support::ledger::{Ledger, Reporter};
use test_support::processes::Child;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms, within};

fn semaphore(client: &Client, name: &str, limit: u32, lease: Duration) -> ZSetSemaphore {
    client.semaphore(name, limit).lease(lease).build().unwrap()
}

pub(crate) fn play(role: &str, from_parent: FromParent) {
    match role {
        "waiter" => waiter(from_parent),
        _ => panic!("no role {role}"),
    }
}

/// When the holder knew, and when the second one was let in.
async fn cut_off_under_a_holder(server: &RedisServer, round: usize) -> (Instant, Instant) {
    let name = format!("round-{round}");
    let lease = ms(1000);
    let proxy = FaultProxy::start(server.addr()).await;
    let far = connected(Client::builder().url(proxy.url()).call_timeout(PATIENCE)).await;
    let near = connected(Client::builder().url(server.url()).call_timeout(PATIENCE)).await;
    let permit = Arc::new(semaphore(&far, &name, 1, lease).acquire(1).await.unwrap());
    let second = semaphore(&near, &name, 1, lease);
    let let_in = tokio::spawn({
        let (waiting, permit) = (second.acquire(1), Arc::clone(&permit));
        async move {
            let second = waiting.await.unwrap();
            let (known, at) = (permit.is_lost(), Instant::now());
            assert!(known, "the first holder did not know");
            (second, at)
        }
    });
    let lost = tokio::spawn({
        let permit = Arc::clone(&permit);
        async move { (permit.lost().await, Instant::now()) }
    });
    queued(&second, 1).await;
    sleep(lease / 20 * u32::try_from(round).unwrap()).await; // anywhere between two renewals
    assert!(!permit.is_lost());
    proxy.black_hole();
    let (reason, lost_at) = within(PATIENCE, lost).await.unwrap();
    assert_eq!(reason, LostReason::RenewalTimeout);
    let (second, in_at) = within(PATIENCE, let_in).await.unwrap();
    // Its late renewals, once the hole is gone, harm nobody.
    proxy.pass();
    assert!(timeout(lease, second.lost()).await.is_err());
    (lost_at, in_at)
}

// Behaviour 24, invariant 7
#[tokio::test]
async fn a_holder_in_a_black_hole_knows_before_a_second_one_is_let_in_every_time_of_20() {
    let server = RedisServer::start().await;
    let rounds = join_all((0..20).map(|round| cut_off_under_a_holder(&server, round))).await;
    for (round, (lost_at, in_at)) in rounds.into_iter().enumerate() {
        assert!(lost_at <= in_at, "round {round}: let in {:?} too soon", lost_at - in_at);
    }
}

// Behaviour 50
#[tokio::test]
async fn a_grant_whose_answer_came_after_its_lease_is_not_believed() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let lease = ms(1000);
    let patient = Client::builder().url(proxy.url()).call_timeout(Duration::from_secs(8));
    let far = semaphore(&connected(patient).await, "s", 1, lease);
    let near = semaphore(&connect(server.url()).await, "s", 1, lease);
    proxy.hold_replies();
    let before = proxy.traffic().replies_received;
    let outage = tokio::spawn(far.acquire(1));
    proxy.wait_for("the grant, unheard", |t| t.replies_received > before).await;
    // The lease of the grant has to end for this one; it is renewed from here on.
    let live = within(PATIENCE, near.acquire(1)).await.unwrap();
    proxy.pass();
    queued(&near, 1).await;
    assert!(!outage.is_finished(), "a second holder next to a live one");
    assert!(timeout(lease * 2, live.lost()).await.is_err());
    assert!(!outage.is_finished(), "a second holder next to a live one");
    live.release().await.unwrap();
    let permit = within(PATIENCE, outage).await.unwrap().unwrap();
    assert!(timeout(lease * 2, permit.lost()).await.is_err(), "born expired");
}

// Behaviour 50
#[tokio::test]
async fn an_acquire_that_sat_out_an_outage_is_let_in_alone_and_with_a_whole_lease() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let lease = ms(1800);
    let far = semaphore(&connect(proxy.url()).await, "s", 1, lease);
    let near = semaphore(&connect(server.url()).await, "s", 1, lease);
    let first = near.acquire(1).await.unwrap();
    let outage = tokio::spawn(far.acquire(1));
    queued(&near, 1).await;
    proxy.black_hole();
    let behind = tokio::spawn(near.acquire(1));
    queued(&near, 2).await;
    // Granted to the one that is cut off; it never hears of it.
    first.release().await.unwrap();
    let live = within(PATIENCE, behind).await.unwrap().unwrap();
    proxy.pass();
    assert!(timeout(lease * 2, live.lost()).await.is_err());
    assert!(!outage.is_finished(), "a second holder next to a live one");
    live.release().await.unwrap();
    let permit = within(PATIENCE, outage).await.unwrap().unwrap();
    assert!(!permit.is_lost(), "born expired");
    let lost = timeout(lease * 2, permit.lost()).await;
    assert!(lost.is_err(), "{lost:?}");
}

// Behaviour 51
#[tokio::test]
async fn when_redis_dies_a_holder_knows_within_its_lease_and_a_waiter_ends_on_time() {
    for freeze in [false, true] {
        let mut server = RedisServer::start().await;
        let (one, two) = (connect(server.url()).await, connect(server.url()).await);
        let lease = ms(1000);
        let permit = semaphore(&one, "s", 1, lease).acquire(1).await.unwrap();
        let contender = semaphore(&two, "s", 1, lease);
        let (start, wait) = (Instant::now(), ms(1500));
        let waiting = tokio::spawn(contender.acquire(1).timeout(wait));
        queued(&contender, 1).await;
        if freeze {
            server.freeze();
        } else {
            server.kill();
        }
        let died = Instant::now();
        sleep_until(died + lease).await;
        assert!(permit.is_lost(), "its lease is over");
        assert_eq!(permit.lost().now_or_never(), Some(LostReason::RenewalTimeout));

        match within(PATIENCE, waiting).await.unwrap() {
            Err(AcquireError::Timeout { waited, place, outage }) => {
                assert!(waited >= wait && start.elapsed() < wait + ms(1000), "{waited:?}");
                assert_eq!(place, Some(0));
                assert!(outage.is_some(), "it must tell what was wrong");
            }
            other => panic!("{other:?}"),
        }
    }
}

// Behaviour 55
#[tokio::test]
async fn an_acquire_that_runs_late_from_an_old_socket_takes_nothing() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let hasty = Client::builder().url(proxy.url()).call_timeout(ms(150));
    let far = semaphore(&connected(hasty).await, "s", 1, ms(30_000));
    let near = semaphore(&connect(server.url()).await, "s", 1, ms(30_000));

    // One acquire that would be granted, and one that would be queued behind it.
    let old = proxy.freeze_existing();
    let held = far.acquire(1);
    let waiting = tokio::spawn(far.acquire(1));
    let permit = within(PATIENCE, held).await.unwrap();
    queued(&near, 1).await;
    waiting.abort();
    assert_eq!(permit.release().await.unwrap(), Released::Freed);
    queued(&near, 0).await;
    assert_eq!(near.inspect().await.unwrap().in_use, 0);

    run_what_is_left_in(old, &server, &proxy).await;
    let found = near.inspect().await.unwrap();
    assert_eq!((found.in_use, found.waiters_total), (0, 0));
}

// Behaviour 55
#[tokio::test]
async fn a_renewal_that_runs_late_from_an_old_socket_pushes_nothing() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let hasty = Client::builder().url(proxy.url()).call_timeout(ms(150));
    let manual = connected(hasty).await.semaphore("s", 1).renew(Renew::Manual).build().unwrap();
    let permit = manual.acquire(1).await.unwrap();
    let old = proxy.freeze_existing();
    // The first tries are left in the old socket, another one makes it over a new connection.
    within(PATIENCE, permit.extend(ms(60_000))).await.unwrap();
    let score = ["ZSCORE", "zsem:{s}:permits", &permit.id().to_string()];
    let extended: f64 = server.query(&score).await;
    run_what_is_left_in(old, &server, &proxy).await;
    assert_eq!(server.query::<f64>(&score).await, extended);
}

#[tokio::test]
async fn who_only_inspects_gets_a_new_connection_when_the_old_one_goes_silent() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let hasty = Client::builder().url(proxy.url()).call_timeout(ms(100));
    let watcher = semaphore(&connected(hasty).await, "s", 1, ms(30_000));
    let _silent = proxy.freeze_existing();
    let error = watcher.inspect().await.unwrap_err();
    assert!(matches!(error, ControlError::Unavailable(ref e) if e.is_timeout()), "{error:?}");
    eventually("it is answered", PATIENCE, async || watcher.inspect().await.is_ok()).await;
}

/// Lets the held bytes go on, and returns once the server has run them.
async fn run_what_is_left_in(
    old: test_support::fault_proxy::FrozenConnections,
    server: &RedisServer,
    proxy: &FaultProxy,
) {
    let (calls, traffic) = (server.script_calls().await, proxy.traffic());
    let held = traffic.requests_received - traffic.requests_forwarded;
    assert!(held > 0, "nothing was left in the old socket");
    old.release();
    let all = traffic.requests_received;
    proxy.wait_for("what was held", |t| t.requests_forwarded >= all).await;
    eventually("it has run", PATIENCE, async || server.script_calls().await > calls).await;
}

// Behaviour 56
#[tokio::test]
async fn a_wake_up_read_late_from_the_second_connection_lets_nobody_in() {
    // Without HELLO there is no RESP3: wake-ups come on a connection of their own.
    let server = RedisServer::builder().arg("--rename-command").arg("HELLO").arg("").start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let lease = ms(1000);
    let patient = Client::builder().url(proxy.url()).call_timeout(Duration::from_secs(8));
    let far = semaphore(&connected(patient).await, "s", 1, lease);
    let near = semaphore(&connect(server.url()).await, "s", 1, lease);
    let first = near.acquire(1).await.unwrap();
    let late = tokio::spawn(far.acquire(1));
    queued(&near, 1).await;
    proxy.hold_requests();
    proxy.hold_wake_ups();
    let before = proxy.traffic();
    first.release().await.unwrap();
    proxy.wait_for("the wake-up", |t| t.replies_received > before.replies_received).await;
    // The claim ends, and this one is let in.
    let live = within(PATIENCE, near.acquire(1)).await.unwrap();
    assert_eq!(proxy.traffic().replies_forwarded, before.replies_forwarded);
    proxy.hold_requests(); // holds requests alone: the wake-up passes now
    proxy.wait_for("the late wake-up", |t| t.replies_forwarded > before.replies_forwarded).await;
    assert!(timeout(lease, live.lost()).await.is_err());
    assert!(!late.is_finished(), "let in by hearsay");
    proxy.pass();
    queued(&near, 1).await;
    live.release().await.unwrap();
    assert!(!within(PATIENCE, late).await.unwrap().unwrap().is_lost());
}

fn waiter(mut from_parent: FromParent) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reporter = Reporter::connect(&setting("LEDGER"));
    runtime.block_on(async {
        let client = connect(setting("URL")).await;
        let permit = semaphore(&client, "s", 1, ms(1000)).acquire(1).await.unwrap();
        reporter.enter("child", 1);
        say("entered");
        from_parent.recv().await;
        reporter.leave("child");
        drop(permit);
        client.shutdown().await.unwrap();
    });
}

// Behaviour 56
#[tokio::test]
async fn a_wake_up_read_late_by_a_paused_process_makes_no_second_holder() {
    let server = RedisServer::start().await;
    let ledger = Ledger::start();
    let reporter = Reporter::connect(&ledger.address());
    let near = semaphore(&connect(server.url()).await, "s", 1, ms(1000));
    for round in 0..5 {
        let first = near.acquire(1).await.unwrap();
        let env = [("URL", server.url()), ("LEDGER", ledger.address())];
        let mut child = Child::spawn("partition/waiter", &env);
        queued(&near, 1).await;
        child.freeze();
        first.release().await.unwrap();
        let granted = near.inspect().await.unwrap().holders[0].client;
        let live = within(PATIENCE, near.acquire(1)).await.unwrap();
        assert_ne!(granted, live.id().client(), "the frozen process was granted first");
        reporter.enter(format_args!("round {round}"), 1);
        child.thaw(); // the wake-up has been in its socket all the time
        queued(&near, 1).await;
        assert!(timeout(ms(300), child.expect_line("@entered", PATIENCE)).await.is_err());
        reporter.leave(format_args!("round {round}"));
        live.release().await.unwrap();
        child.expect_line("@entered", PATIENCE).await;
        child.send("leave");
        assert!(child.wait_for_exit(PATIENCE).await.success());
    }
    ledger.assert_never_over(1);
    assert_eq!(ledger.holds().len(), 10);
}

// Behaviour 56
#[tokio::test]
async fn a_wake_up_read_late_by_a_blocked_runtime_makes_no_second_holder() {
    let server = RedisServer::start().await;
    let near = semaphore(&connect(server.url()).await, "s", 1, ms(1000));
    for _ in 0..3 {
        let first = near.acquire(1).await.unwrap();
        let (block, blocked) = tokio::sync::oneshot::channel();
        let (unblock, unblocked) = std::sync::mpsc::channel::<()>();
        let (url, (enter, mut entered)) = (server.url(), tokio::sync::oneshot::channel());
        let far = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let waiting =
                    tokio::spawn(semaphore(&connect(url).await, "s", 1, ms(1000)).acquire(1));
                blocked.await.unwrap();
                unblocked.recv().unwrap(); // no task runs, no socket is read meanwhile
                let permit = waiting.await.unwrap().unwrap();
                enter.send(()).unwrap();
                permit.release().await.unwrap();
            });
        });
        queued(&near, 1).await;
        block.send(()).unwrap();
        first.release().await.unwrap();
        let live = within(PATIENCE, near.acquire(1)).await.unwrap();
        unblock.send(()).unwrap(); // its wake-up is read before its timers fire
        queued(&near, 1).await;
        assert!(timeout(ms(500), &mut entered).await.is_err(), "let in by hearsay");
        live.release().await.unwrap();
        within(PATIENCE, entered).await.unwrap();
        far.join().unwrap();
    }
}

#[tokio::test]
async fn an_idle_connection_that_breaks_is_replaced_without_a_call() {
    let server = RedisServer::start().await;
    for resp2 in [false, true] {
        let proxy = FaultProxy::start(server.addr()).await;
        if resp2 {
            proxy.without_resp3();
        }
        let client = connect(proxy.url()).await;
        let semaphore = semaphore(&client, "idle", 1, ms(30_000));
        semaphore.acquire(1).await.unwrap().release().await.unwrap();
        let before = proxy.connections_total();
        proxy.cut();
        // With RESP2, one of them is for wake-ups.
        proxy.wait_for_connections(before + if resp2 { 2 } else { 1 }).await;
        within(PATIENCE, semaphore.acquire(1)).await.unwrap().release().await.unwrap();
        client.shutdown().await.unwrap();
    }
}
