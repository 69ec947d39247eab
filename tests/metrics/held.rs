//! Each permit that was held counts once, by how it ended.

use std::time::Duration;

use futures_util::FutureExt;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms, within};
use tokio::time::sleep;
use zset_semaphore::metrics::{DATA_LOSSES_TOTAL, HELD_SECONDS, HELD_UNITS, LOST_TOTAL};
use zset_semaphore::{Client, LostReason, MemoryStore, Renew};

use crate::common::connect::connect;
use crate::common::inspect::{found, queue};
use crate::common::recorder::Record;
use crate::counts;

#[tokio::test(start_paused = true)]
async fn each_permit_counts_once_as_released_or_lost_with_the_time_it_was_held() {
    let (record, _guard) = Record::of_this_thread();
    let client = Client::in_memory();
    let jobs = client.semaphore("jobs", 9).build().unwrap();
    let manual = client.semaphore("jobs", 9).lease(ms(500)).renew(Renew::Manual).build().unwrap();
    let brief = client.semaphore("jobs", 9).max_hold(ms(300)).build().unwrap();

    let [dropped, released] = [jobs.acquire(1).await.unwrap(), jobs.acquire(1).await.unwrap()];
    sleep(Duration::from_secs(2)).await;
    drop(dropped);
    released.release().await.unwrap();
    let lost = [manual.acquire(1).await.unwrap(), brief.acquire(1).await.unwrap()];
    for permit in &lost {
        permit.lost().await;
    }
    let kicked = jobs.acquire(1).await.unwrap();
    jobs.kick(kicked.id()).await.unwrap();
    assert_eq!(kicked.lost().await, LostReason::Kicked);
    drop(kicked); // counted as lost, and no second time
    let _held = jobs.acquire(1).await.unwrap();
    client.shutdown_now().await.unwrap();

    let (reasons, ends) = (record.counts(LOST_TOTAL), record.observed(HELD_SECONDS));
    let expected =
        [("jobs expired", 1), ("jobs kicked", 1), ("jobs max_hold", 1), ("jobs shutdown", 1)];
    assert_eq!(reasons, counts(expected));
    assert_eq!(ends, counts([("jobs lost", 4), ("jobs released", 2)]));
    let held = &record.values(HELD_SECONDS)["jobs released"];
    assert!(held.iter().all(|held| (2.0..2.1).contains(held)), "{held:?} seconds");
    let lost = &record.values(HELD_SECONDS)["jobs lost"];
    assert!(lost[..2].iter().all(|held| (0.29..0.6).contains(held)), "{lost:?} seconds");
}

#[tokio::test]
async fn what_a_server_loses_counts_as_lost_by_its_reason() {
    let mut server = RedisServer::start().await;
    let (record, _guard) = Record::of_this_thread();
    let client = connect(server.url()).await;
    let jobs = client.semaphore("jobs", 2).lease(ms(600)).build().unwrap();
    let missing = jobs.acquire(1).await.unwrap();
    jobs.kick_now(missing.id()).await.unwrap();
    assert_eq!(within(PATIENCE, missing.lost()).await, LostReason::MissingInStore);
    let put_back = jobs.acquire(1).await.unwrap();
    server.cmd(&["FLUSHALL"]).await;
    eventually("the loss of data is noticed", PATIENCE, async || {
        record.counts(DATA_LOSSES_TOTAL) == counts([("jobs", 1)])
    })
    .await;
    found(&jobs, 1, 0).await;
    assert!(!put_back.is_lost());
    server.kill();
    assert_eq!(within(PATIENCE, put_back.lost()).await, LostReason::RenewalTimeout);
    eventually("both are counted", PATIENCE, async || {
        record.counts(LOST_TOTAL)
            == counts([("jobs missing_in_store", 1), ("jobs renewal_timeout", 1)])
    })
    .await;
    assert_eq!(record.observed(HELD_SECONDS), counts([("jobs lost", 2)]));
    assert_eq!(record.gauge(&format!("{HELD_UNITS} jobs")), 0.0);
}

#[tokio::test(start_paused = true)]
async fn held_counts_from_the_grant_however_often_it_is_renewed_and_whenever_it_is_handed_out() {
    let (record, _guard) = Record::of_this_thread();
    let memory = MemoryStore::new();
    let near = Client::with_memory(&memory).semaphore("jobs", 1).build().unwrap();
    let far = Client::with_memory(&memory).semaphore("jobs", 1).build().unwrap();
    let first = near.acquire(1).await.unwrap();
    let waiting = queue(&far, far.acquire(1)).await;
    sleep(Duration::from_secs(27)).await; // with renewals
    first.release().await.unwrap();
    let second = waiting.await.unwrap().unwrap(); // by a wake-up
    let mut unlooked = Box::pin(near.acquire(1));
    assert!(unlooked.as_mut().now_or_never().is_none());
    sleep(Duration::from_secs(45)).await;
    second.release().await.unwrap();
    sleep(Duration::from_secs(3)).await;
    drop(unlooked.await.unwrap());
    sleep(Duration::from_secs(2)).await;
    let held = &record.values(HELD_SECONDS)["jobs released"];
    let expected = [27.0, 45.0, 3.0];
    assert_eq!(held.len(), expected.len(), "{held:?} seconds");
    for (held, expected) in held.iter().zip(expected) {
        assert!((held - expected).abs() < 0.1, "{held} seconds and not {expected}");
    }
}
