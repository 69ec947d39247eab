//! Renewal: a permit lives as long as its holder does, and no longer.

use std::future::pending;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep, timeout};
use zset_semaphore::{Client, ExtendError, LostReason, MemoryStore, Renew, ZSetSemaphore};

use crate::common::connect::connect;
use crate::common::inspect::queued;
use crate::common::stores::Place;
use test_support::child_role::{FromParent, say, setting};
use test_support::fault_proxy::FaultProxy;
use test_support::ledger::{Ledger, Reporter};
use test_support::processes::Child;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms, within};

fn semaphore(client: &Client, limit: u32, lease: Duration) -> ZSetSemaphore {
    client.semaphore("s", limit).lease(lease).build().unwrap()
}

fn manual(client: &Client, limit: u32, lease: Duration) -> ZSetSemaphore {
    client.semaphore("s", limit).lease(lease).renew(Renew::Manual).build().unwrap()
}

pub(crate) fn play(role: &str, from_parent: FromParent) {
    match role {
        "holder" => holder(from_parent),
        _ => panic!("no role {role}"),
    }
}

// Behaviour 22
#[tokio::test]
async fn a_permit_held_for_many_leases_is_still_held_and_the_contender_still_waits() {
    for place in Place::each().await {
        let lease = ms(1500);
        let (one, two) = (place.client(), place.client());
        let permit = semaphore(&one, 1, lease).acquire(1).await.unwrap();
        let contender = semaphore(&two, 1, lease);
        let waiting = tokio::spawn(contender.acquire(1));
        queued(&contender, 1).await;

        assert!(timeout(lease * 3, permit.lost()).await.is_err(), "lost within its holder's life");
        assert!(!permit.is_lost() && !waiting.is_finished());
        let found = contender.inspect().await.unwrap();
        assert_eq!((found.in_use, found.holders[0].id), (1, permit.id()));

        permit.release().await.unwrap();
        let next = within(PATIENCE, waiting).await.unwrap().unwrap();
        assert!(!next.is_lost());
    }
}

// Behaviour 22
#[tokio::test(start_paused = true)]
async fn a_permit_is_held_for_five_thousand_leases() {
    let memory = MemoryStore::new();
    let permit = semaphore(&Client::with_memory(&memory), 1, ms(50)).acquire(1).await.unwrap();
    assert!(timeout(ms(50) * 5000, permit.lost()).await.is_err());
    let other = semaphore(&Client::with_memory(&memory), 1, ms(50));
    assert!(other.try_acquire(1).await.is_err());
}

// Behaviour 22
#[tokio::test]
async fn a_thousand_permits_are_renewed_in_a_handful_of_calls_per_period() {
    const PERIODS: u64 = 3;
    let server = RedisServer::start().await;
    let client = connect(server.url()).await;
    let lease = Duration::from_secs(6);
    let many = semaphore(&client, 1000, lease);
    let permits: Vec<_> = join_all((0..1000).map(|_| many.acquire(1)))
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();

    server.reset_stats().await;
    sleep(lease / 3 * u32::try_from(PERIODS).unwrap()).await;
    let calls = server.script_calls().await;
    // 192 fit into a turn, so it takes 6 and some change.
    assert!((5 * (PERIODS - 1)..=12 * PERIODS).contains(&calls), "{calls} calls");
    assert!(permits.iter().all(|permit| !permit.is_lost()));
    let held: u64 = server.query(&["ZCARD", "zsem:{s}:permits"]).await;
    assert_eq!(held, 1000);
}

// Behaviour 25
#[tokio::test]
async fn one_failed_renewal_within_a_live_lease_is_no_loss() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let client = connect(proxy.url()).await;
    let lease = Duration::from_secs(3);
    let permit = semaphore(&client, 1, lease).acquire(1).await.unwrap();

    proxy.hold_replies();
    let before = proxy.traffic();
    proxy
        .wait_for("a renewal that runs unheard", |t| t.replies_received > before.replies_received)
        .await;
    let unheard = proxy.traffic();
    proxy.wait_for("another try", |t| t.requests_received > unheard.requests_received).await;
    proxy.pass();

    assert!(timeout(lease * 2, permit.lost()).await.is_err(), "one failure cost the permit");
    assert_eq!(proxy.connections_total(), 1, "more than a single renewal had failed");
    permit.release().await.unwrap();
}

// Behaviour 25
#[tokio::test]
async fn a_definite_loss_stops_the_renewals_at_once() {
    let server = RedisServer::start().await;
    let client = connect(server.url()).await;
    let lease = ms(600);
    let semaphore = semaphore(&client, 1, lease);
    let permit = semaphore.acquire(1).await.unwrap();
    server.cmd(&["DEL", "zsem:{s}:permits"]).await;
    assert_eq!(within(PATIENCE, permit.lost()).await, LostReason::MissingInStore);
    // What was lost is handed back, too; that may be under way.
    eventually("the store has nothing to say", PATIENCE, async || {
        server.reset_stats().await;
        sleep(lease).await;
        server.script_calls().await == 0
    })
    .await;
    sleep(lease * 2).await;
    assert_eq!(server.script_calls().await, 0, "a lost permit is still being renewed");
    assert!(permit.is_lost());
}

// Behaviour 26
#[tokio::test(start_paused = true)]
async fn max_hold_ends_a_hung_holder_at_its_time_and_the_next_one_is_let_in() {
    let memory = MemoryStore::new();
    let (one, two) = (Client::with_memory(&memory), Client::with_memory(&memory));
    let capped = one.semaphore("s", 1).max_hold(Duration::from_secs(100)).build().unwrap();
    let permit = capped.acquire(1).await.unwrap();
    let start = Instant::now();
    let next = tokio::spawn(semaphore(&two, 1, Duration::from_secs(30)).acquire(1));

    assert_eq!(permit.run(pending::<()>()).await, Err(LostReason::MaxHold));
    let held_for = start.elapsed();
    assert!((ms(100_000)..ms(100_005)).contains(&held_for), "{held_for:?}");
    let next = next.await.unwrap().unwrap();
    assert!(start.elapsed() < ms(100_010), "{:?}", start.elapsed());
    // Only handles that ask for it are capped.
    assert!(timeout(Duration::from_secs(1000), next.lost()).await.is_err());
}

// Behaviour 26
#[tokio::test]
async fn max_hold_ends_a_hung_holder_on_redis() {
    let server = RedisServer::start().await;
    let client = connect(server.url()).await;
    let capped = client.semaphore("s", 1).max_hold(ms(700)).build().unwrap();
    let start = Instant::now();
    let hung = capped.acquire(1).await.unwrap();
    let other = connect(server.url()).await;
    let next = within(PATIENCE, semaphore(&other, 1, ms(30_000)).acquire(1)).await.unwrap();
    assert!(start.elapsed() >= ms(700));
    assert_eq!(hung.lost().now_or_never(), Some(LostReason::MaxHold));
    drop(next);
}

fn holder(mut from_parent: FromParent) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reporter = Reporter::connect(&setting("LEDGER"));
    runtime.block_on(async {
        let client = connect(setting("URL")).await;
        let permit = semaphore(&client, 1, ms(1000)).acquire(1).await.unwrap();
        reporter.enter("child", 1);
        say("holding");
        assert_eq!(from_parent.recv().await.as_deref(), Some("look"));
        // Nothing awaited in between: no timer, no driver can have told.
        let (is_lost, lost) = (permit.is_lost(), permit.lost().now_or_never());
        say(format_args!("{is_lost} {lost:?}"));
        from_parent.recv().await;
    });
}

// Behaviour 26, invariant 7
#[tokio::test]
async fn a_process_frozen_past_its_lease_knows_at_once_that_its_permit_is_lost() {
    let server = RedisServer::start().await;
    let ledger = Ledger::start();
    let env = [("URL", server.url()), ("LEDGER", ledger.address())];
    let mut child = Child::spawn("renewal/holder", &env);
    child.expect_line("@holding", PATIENCE).await;
    let client = connect(server.url()).await;
    let contender = semaphore(&client, 1, ms(1000));
    assert!(contender.try_acquire(1).await.is_err());

    child.freeze();
    let next = within(PATIENCE, contender.acquire(1)).await.unwrap();
    child.send("look");
    child.thaw();
    let answer = child.expect_line("@true ", PATIENCE).await;
    assert_eq!(answer, "Some(RenewalTimeout)");
    // The late renewals of the thawed process do no harm.
    assert!(timeout(ms(2000), next.lost()).await.is_err());
    assert_eq!(ledger.holds().len(), 1);
}

// Behaviour 26
#[tokio::test(start_paused = true)]
async fn a_manual_lease_ends_by_itself_before_the_next_one_is_let_in() {
    let memory = MemoryStore::new();
    let (one, two) = (Client::with_memory(&memory), Client::with_memory(&memory));
    let start = Instant::now();
    let permit = manual(&one, 1, Duration::from_secs(10)).acquire(1).await.unwrap();
    let next = tokio::spawn(manual(&two, 1, Duration::from_secs(10)).acquire(1));
    assert_eq!(permit.lost().await, LostReason::Expired);
    // The margin of this lease is 200 ms.
    assert!((ms(9_790)..=ms(9_810)).contains(&start.elapsed()), "{:?}", start.elapsed());
    assert!(!next.is_finished());
    // What is lost here is handed back: the next one need not wait for the margin to pass.
    let _next = next.await.unwrap().unwrap();
    assert!(start.elapsed() <= ms(9_815), "{:?}", start.elapsed());
    let late = permit.extend(Duration::from_secs(10)).await;
    assert!(matches!(late, Err(ExtendError::Lost(LostReason::Expired))), "{late:?}");
}

// Behaviour 26
#[tokio::test]
async fn extend_pushes_a_manual_lease_and_never_shortens_it() {
    for place in Place::each().await {
        let client = place.client();
        let semaphore = manual(&client, 1, ms(2000));
        let permit = semaphore.acquire(1).await.unwrap();
        for _ in 0..4 {
            sleep(ms(700)).await;
            permit.extend(ms(2000)).await.unwrap();
        }
        assert!(!permit.is_lost(), "it was extended past its first lease");
        permit.extend(ms(60_000)).await.unwrap();
        permit.extend(ms(50)).await.unwrap();
        let left = semaphore.inspect().await.unwrap().holders[0].expires_in;
        assert!(left > ms(40_000), "{left:?}");
        assert!(timeout(ms(2500), permit.lost()).await.is_err());
        let bad = permit.extend(ms(49)).await;
        assert!(matches!(bad, Err(ExtendError::Config(_))), "{bad:?}");
        assert_eq!(semaphore.inspect().await.unwrap().in_use, 1);
    }
}

/// A manual permit of 30 s that was granted by somebody else's turn: 3 s at first.
async fn manual_by_hand_over(memory: &MemoryStore) -> zset_semaphore::Permit {
    let lease = Duration::from_secs(30);
    let first = manual(&Client::with_memory(memory), 1, lease).acquire(1).await.unwrap();
    let second = manual(&Client::with_memory(memory), 1, lease);
    let waiting = tokio::spawn(second.acquire(1));
    queued(&second, 1).await;
    drop(first);
    waiting.await.unwrap().unwrap()
}

// Behaviour 26
#[tokio::test(start_paused = true)]
async fn a_manual_permit_that_was_handed_over_lives_for_its_whole_lease() {
    let permit = manual_by_hand_over(&MemoryStore::new()).await;
    assert!(timeout(Duration::from_secs(28), permit.lost()).await.is_err());
    assert_eq!(within(Duration::from_secs(5), permit.lost()).await, LostReason::Expired);
}

// Behaviour 26
#[tokio::test(start_paused = true)]
async fn a_short_extension_right_after_a_hand_over_does_not_cost_the_rest_of_the_lease() {
    let permit = manual_by_hand_over(&MemoryStore::new()).await;
    permit.extend(ms(100)).await.unwrap();
    assert!(timeout(Duration::from_secs(28), permit.lost()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_remains_of_a_permit_is_its_lease_less_the_margin_until_it_is_extended() {
    let jobs = manual(&Client::in_memory(), 1, ms(10_000));
    let permit = jobs.acquire(1).await.unwrap();
    let (handle, deadline) = (permit.handle(), permit.deadline());
    assert_eq!(deadline - Instant::now(), ms(9_800));

    sleep(ms(4_000)).await;
    assert_eq!((permit.remaining(), permit.deadline()), (ms(5_800), deadline));
    assert_eq!((handle.remaining(), handle.deadline()), (ms(5_800), deadline));

    permit.extend(ms(20_000)).await.unwrap();
    assert_eq!((permit.remaining(), handle.remaining()), (ms(19_600), ms(19_600)));
    assert_eq!(permit.deadline() - Instant::now(), ms(19_600));

    sleep(ms(19_599)).await;
    assert!(!permit.is_lost());
    assert_eq!(permit.remaining(), ms(1));
    sleep(ms(1)).await;
    assert!(permit.is_lost());
    assert_eq!((permit.remaining(), handle.remaining()), (Duration::ZERO, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn nothing_remains_of_a_permit_that_was_released_or_lost_before_its_time() {
    let client = Client::in_memory();
    let jobs = semaphore(&client, 2, ms(10_000));
    let (released, lost) = (jobs.acquire(1).await.unwrap(), jobs.acquire(1).await.unwrap());
    let handle = released.handle();
    assert!(handle.remaining() > Duration::ZERO);
    released.release().await.unwrap();
    assert_eq!(handle.remaining(), Duration::ZERO);

    client.shutdown_now().await.unwrap();
    assert!(lost.is_lost());
    assert!(lost.deadline() > Instant::now(), "it was lost before its time");
    assert_eq!(lost.remaining(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn no_more_remains_of_a_permit_than_its_longest_hold() {
    let client = Client::in_memory();
    let jobs = client.semaphore("s", 1).max_hold(ms(1_000)).build().unwrap();
    let permit = jobs.acquire(1).await.unwrap();
    let (handle, end) = (permit.handle(), Instant::now() + ms(1_000));
    assert_eq!((permit.remaining(), permit.deadline()), (ms(1_000), end));

    permit.extend(ms(60_000)).await.unwrap();
    assert_eq!((permit.remaining(), permit.deadline()), (ms(1_000), end));
    assert_eq!((handle.remaining(), handle.deadline()), (ms(1_000), end));

    // No driver runs meanwhile: the clock alone tells.
    tokio::time::advance(ms(1_000)).await;
    assert_eq!(permit.lost().now_or_never(), Some(LostReason::MaxHold));
    assert_eq!(permit.remaining(), Duration::ZERO);
}
