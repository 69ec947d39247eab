//! Wake-ups: who is granted learns of it at once, without them soon, and idle waiting is cheap.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use tracing::Level;
use zset_semaphore::{AcquireError, Backoff, Client, Wake, ZSetSemaphore};

use crate::common::connect::{connect, connected};
use crate::common::log::Log;
use crate::common::stores::Place;
use test_support::child_role::{FromParent, say, setting};
use test_support::fault_proxy::FaultProxy;
use test_support::processes::Child;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms, within};

fn one(client: &Client) -> ZSetSemaphore {
    client.semaphore("s", 1).build().unwrap()
}

async fn without_resp3() -> RedisServer {
    RedisServer::builder().arg("--rename-command").arg("HELLO").arg("").start().await
}

async fn queued(semaphore: &ZSetSemaphore, waiters: u64) {
    let what = format!("{waiters} wait");
    eventually(&what, PATIENCE, async || {
        semaphore.inspect().await.is_ok_and(|found| found.waiters_total == waiters)
    })
    .await;
}

/// How long after its release by `from` the unit was in the hands of `to`, which waited for it.
async fn hand_over(
    from: &ZSetSemaphore,
    to: &ZSetSemaphore,
    meanwhile: impl AsyncFnOnce(),
) -> Duration {
    let permit = within(PATIENCE, from.acquire(1)).await.unwrap();
    let waiting = tokio::spawn(to.acquire(1));
    queued(from, 1).await;
    meanwhile().await;
    let start = Instant::now();
    permit.release().await.unwrap();
    let permit = within(PATIENCE, waiting).await.unwrap().unwrap();
    let took = start.elapsed();
    permit.release().await.unwrap();
    took
}

/// The middle one of seven, so that a busy machine may spoil some.
async fn usual_hand_over(
    from: &ZSetSemaphore,
    to: &ZSetSemaphore,
    meanwhile: impl AsyncFn(),
) -> Duration {
    let mut took = Vec::new();
    for _ in 0..7 {
        took.push(hand_over(from, to, &meanwhile).await);
    }
    took.sort();
    took[3]
}

pub(crate) fn play(role: &str, from_parent: FromParent) {
    match role {
        "crowd" => crowd(from_parent),
        _ => panic!("no role {role}"),
    }
}

// Behaviour 31
#[tokio::test]
async fn a_release_that_crosses_with_an_acquire_is_never_missed() {
    for place in Place::each().await {
        let (a, b) = (one(&place.client()), one(&place.client()));
        let mut slow = 0;
        for round in 0..200_u32 {
            let permit = within(PATIENCE, a.acquire(1)).await.unwrap();
            let waiting = tokio::spawn(b.acquire(1));
            for _ in 0..round % 8 {
                tokio::task::yield_now().await;
            }
            let start = Instant::now();
            drop(permit);
            let permit = within(PATIENCE, waiting).await.unwrap().unwrap();
            slow += u32::from(start.elapsed() > ms(700));
            permit.release().await.unwrap();
        }
        // A missed one would be found by asking, after a second.
        assert!(slow <= 4, "{slow} of 200 were found out by asking");
    }
}

// Behaviour 31, invariant 3
#[tokio::test]
async fn a_free_unit_is_granted_by_the_very_turn_that_freed_it() {
    for place in Place::each().await {
        let (a, b) = (one(&place.client()), place.client());
        let permit = a.acquire(1).await.unwrap();
        let waiting = tokio::spawn(one(&b).acquire(1));
        queued(&a, 1).await;
        let waiter = a.inspect().await.unwrap().waiters[0].id;
        permit.release().await.unwrap();
        let found = a.inspect().await.unwrap();
        assert_eq!((found.in_use, found.waiters_total), (1, 0));
        assert_eq!(found.holders[0].id, waiter);
        assert_eq!(within(PATIENCE, waiting).await.unwrap().unwrap().id(), waiter);
    }
}

// Behaviour 31, invariant 3
#[tokio::test]
async fn a_lost_wake_up_costs_one_asking_period() {
    let server = RedisServer::start().await;
    // Granting goes on without the right to publish; only the message is lost.
    server.cmd(&["ACL", "SETUSER", "mute", "on", ">pw", "~*", "&*", "+@all", "-publish"]).await;
    let mute = Client::builder().url(server.url()).credentials("mute", "pw");
    let (from, to) = (one(&connected(mute).await), one(&connect(server.url()).await));
    for _ in 0..3 {
        let took = hand_over(&from, &to, async || {}).await;
        assert!(took < ms(1000) + ms(600), "{took:?}");
    }
    let took = usual_hand_over(&to, &from, async || {}).await;
    assert!(took < ms(500), "{took:?}: this direction has its wake-ups");
}

// Behaviour 32
#[tokio::test]
async fn wake_ups_come_at_once_over_resp3_and_where_hello_fails_over_resp2() {
    for (server, connections) in [(RedisServer::start().await, 1), (without_resp3().await, 2)] {
        let proxy = FaultProxy::start(server.addr()).await;
        let patient = Client::builder().url(proxy.url()).call_timeout(PATIENCE);
        let to = one(&connected(patient).await);
        let from = one(&connect(server.url()).await);
        let took = usual_hand_over(&from, &to, async || {}).await;
        assert!(took < ms(400), "{took:?}: found out by asking");
        let subscribed: Vec<String> = server.query(&["PUBSUB", "CHANNELS"]).await;
        assert_eq!(subscribed.len(), 2);
        // RESP3 is tried first, on a connection that RESP2 then has no use for.
        let opened = proxy.connections_total();
        assert_eq!(opened, if connections == 1 { 1 } else { 3 });
    }
}

// Behaviour 61
#[tokio::test]
async fn a_wake_up_connection_that_goes_silent_is_replaced_when_grants_are_learnt_by_asking() {
    let server = without_resp3().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let patient = Client::builder().url(proxy.url()).call_timeout(PATIENCE);
    let to = one(&connected(patient).await);
    let from = one(&connect(server.url()).await);
    let took = usual_hand_over(&from, &to, async || {}).await;
    assert!(took < ms(400), "{took:?}: it hears");
    proxy.hold_wake_ups();
    let silent = Instant::now();
    let mut found_out_by_asking = 0;
    while hand_over(&from, &to, async || {}).await >= ms(400) {
        found_out_by_asking += 1;
        assert!(silent.elapsed() < PATIENCE, "{found_out_by_asking} were found out by asking");
    }
    assert!(found_out_by_asking > 0, "the connection was not silent");
    let took = usual_hand_over(&from, &to, async || {}).await;
    assert!(took < ms(400), "{took:?}: it does not hear again");
}

// Behaviour 32
#[tokio::test]
async fn a_waiter_asks_at_once_when_its_wake_channel_is_back() {
    for server in [RedisServer::start().await, without_resp3().await] {
        let proxy = FaultProxy::start(server.addr()).await;
        let to = one(&connect(proxy.url()).await);
        let from = one(&connect(server.url()).await);
        // Released while it is cut off: the wake-up goes nowhere.
        let took = usual_hand_over(&from, &to, async || {
            proxy.cut();
            eventually("nobody listens", PATIENCE, async || {
                server.query::<Vec<String>>(&["PUBSUB", "CHANNELS"]).await.len() < 2
            })
            .await;
        })
        .await;
        assert!(took < ms(700), "{took:?}: it waited for its asking period");
    }
}

// Behaviour 32
#[tokio::test]
async fn without_the_right_to_subscribe_polling_works_and_one_line_is_logged() {
    let (log, _guard) = Log::of_this_thread(|metadata| *metadata.level() <= Level::WARN);
    let warnings = || log.count(Level::WARN, "no wake-ups");
    for server in [RedisServer::start().await, without_resp3().await] {
        let (before, polling) = (warnings(), ms(50));
        server.cmd(&["ACL", "SETUSER", "deaf", "on", ">pw", "~*", "resetchannels", "+@all"]).await;
        let deaf = Client::builder().url(server.url()).credentials("deaf", "pw");
        let client = connected(deaf).await;
        let to = client.semaphore("s", 1).backoff(Backoff::fixed(polling)).build().unwrap();
        let from = one(&connect(server.url()).await);
        let took = usual_hand_over(&from, &to, async || {}).await;
        assert!(took < ms(500), "{took:?}: it does not poll at the pace of its backoff");
        for _ in 0..3 {
            let took = hand_over(&from, &to, async || {
                server.cmd(&["CLIENT", "KILL", "USER", "deaf"]).await;
            })
            .await;
            assert!(took < ms(5000), "{took:?}");
        }
        assert_eq!(warnings() - before, 1, "{log:?}");
    }
}

// Behaviour 32
#[tokio::test]
async fn who_polls_by_choice_gets_its_turn_at_its_backoffs_pace() {
    let server = RedisServer::start().await;
    let (a, b) = (one(&connect(server.url()).await), connect(server.url()).await);
    let slow = Backoff::fixed(ms(300));
    let to = b.semaphore("s", 1).wake(Wake::Poll).backoff(slow).build().unwrap();
    let took = usual_hand_over(&a, &to, async || {}).await;
    assert!(took < ms(900), "{took:?}");
    // It gives up when its backoff does.
    let few = Backoff::fixed(ms(20)).tries(3);
    let to = b.semaphore("s", 1).wake(Wake::Poll).backoff(few).build().unwrap();
    let _permit = a.acquire(1).await.unwrap();
    let end = within(PATIENCE, to.acquire(1)).await;
    assert!(matches!(end, Err(AcquireError::GaveUp { tries: 4, .. })), "{end:?}");
    queued(&a, 0).await;
}

fn crowd(mut from_parent: FromParent) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let wake = if setting("WAKE") == "poll" { Wake::Poll } else { Wake::Push };
        let client = connect(setting("URL")).await;
        let full = client.semaphore("s", 1).wake(wake).build().unwrap();
        let all = join_all((0..64).map(|_| full.acquire(1)));
        say("waiting");
        tokio::select! {
            _ = all => panic!("there was room"),
            _ = from_parent.recv() => {}
        }
    });
}

/// User and system time of a process, in hundredths of a second.
fn cpu_time(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let after_name = stat.rsplit_once(')').unwrap().1;
    let fields: Vec<_> = after_name.split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

// Behaviour 33
#[tokio::test]
async fn while_full_64_waiters_cost_a_handful_of_calls_and_next_to_no_cpu() {
    for (wake, most) in [("push", 6), ("poll", 12)] {
        let server = RedisServer::start().await;
        let holding = one(&connect(server.url()).await);
        let _permit = holding.acquire(1).await.unwrap();
        let env = [("URL", server.url()), ("WAKE", wake.to_owned())];
        let mut child = Child::spawn("wake/crowd", &env);
        child.expect_line("@waiting", PATIENCE).await;
        queued(&holding, 64).await;
        let before = cpu_time(child.pid());
        server.reset_stats().await;
        sleep(ms(3000)).await;
        let (calls, cpu) = (server.script_calls().await, cpu_time(child.pid()) - before);
        assert!((2..=most).contains(&calls), "{wake}: {calls} calls in 3 s");
        assert!(cpu <= 15, "{wake}: {cpu}0 ms of CPU in 3 s");
    }
}
