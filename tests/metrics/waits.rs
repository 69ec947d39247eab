//! Each wait for a permit counts once, by how it ended.

use std::time::Duration;

use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, ms, within};
use zset_semaphore::metrics::{WAIT_SECONDS, WAITERS};
use zset_semaphore::{AcquireError, Backoff, Client, MemoryStore, TryAcquireError, Wake};

use crate::common::connect::connect;
use crate::common::inspect::{queue, queued};
use crate::common::recorder::Record;
use crate::counts;

#[tokio::test(start_paused = true)]
async fn each_wait_counts_once_by_how_it_ended() {
    let (record, _guard) = Record::of_this_thread();
    let memory = MemoryStore::new();
    let client = Client::with_memory(&memory);
    let jobs = client.semaphore("jobs", 1).build().unwrap();
    let held = jobs.acquire(1).await.unwrap();
    drop(jobs.acquire(1)); // never polled, so it never waited

    let brief = jobs.acquire(1).timeout(ms(40)).await;
    assert!(matches!(brief, Err(AcquireError::Timeout { .. })));
    let full = jobs.try_acquire(1).await;
    assert!(matches!(full, Err(TryAcquireError::Full { .. })));
    let once = Backoff::fixed(ms(10)).tries(1);
    let polling = client.semaphore("jobs", 1).wake(Wake::Poll).backoff(once).build().unwrap();
    assert!(matches!(polling.acquire(1).await, Err(AcquireError::GaveUp { .. })));
    let no_queue = client.semaphore("jobs", 1).max_queue(0).build().unwrap();
    assert!(matches!(no_queue.acquire(1).await, Err(AcquireError::QueueFull { .. })));
    assert!(matches!(jobs.acquire(2).await, Err(AcquireError::TooLarge { .. })));
    assert!(matches!(jobs.acquire(0).await, Err(AcquireError::ZeroUnits)));

    let cancelled = queue(&jobs, jobs.acquire(1)).await;
    assert_eq!(record.gauge(&format!("{WAITERS} jobs")), 1.0);
    cancelled.abort();
    queued(&jobs, 0).await;
    let closed = queue(&jobs, jobs.acquire(1)).await;
    jobs.close();
    assert!(matches!(closed.await.unwrap(), Err(AcquireError::Closed)));
    assert!(matches!(jobs.try_acquire(1).await, Err(TryAcquireError::Closed)));
    drop(held);

    let expected = [
        ("jobs cancelled", 1),
        ("jobs closed", 2),
        ("jobs full", 2),
        ("jobs granted", 1),
        ("jobs queue_full", 1),
        ("jobs timeout", 1),
        ("jobs too_large", 2),
    ];
    assert_eq!(record.observed(WAIT_SECONDS), counts(expected));
    let waited = &record.values(WAIT_SECONDS)["jobs timeout"];
    assert!((0.040..0.045).contains(&waited[0]), "{waited:?} seconds");
    assert_eq!(record.gauge(&format!("{WAITERS} jobs")), 0.0);
}

#[tokio::test]
async fn a_wait_that_the_store_refuses_counts_as_refused() {
    let server = RedisServer::start().await;
    let (record, _guard) = Record::of_this_thread();
    let jobs = connect(server.url()).await.semaphore("jobs", 1).build().unwrap();
    server.cmd(&["SET", "zsem:{jobs}:permits", "text"]).await;
    let refused = within(PATIENCE, jobs.acquire(1)).await;
    assert!(matches!(refused, Err(AcquireError::Refused(_))), "{refused:?}");
    assert_eq!(record.observed(WAIT_SECONDS), counts([("jobs refused", 1)]));
}

#[tokio::test]
async fn a_wait_whose_grant_was_kicked_before_it_was_heard_counts_as_kicked() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let near = connect(server.url()).await.semaphore("jobs", 1).build().unwrap();
    let (record, _guard) = Record::of_this_thread();
    let far = connect(proxy.url()).await.semaphore("jobs", 1).build().unwrap();
    let permit = near.acquire(1).await.unwrap();
    let waiting = queue(&near, far.acquire(1)).await;
    proxy.refuse(true);
    proxy.cut();
    permit.release().await.unwrap();
    near.kick(near.inspect().await.unwrap().holders[0].id).await.unwrap();
    proxy.refuse(false);
    let end = within(PATIENCE, waiting).await.unwrap();
    assert!(matches!(end, Err(AcquireError::Kicked)), "{end:?}");
    assert_eq!(record.observed(WAIT_SECONDS), counts([("jobs kicked", 1)]));
    assert_eq!(record.gauge(&format!("{WAITERS} jobs")), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_wait_lasts_from_the_first_poll_to_the_grant() {
    let (record, _guard) = Record::of_this_thread();
    let jobs = Client::in_memory().semaphore("jobs", 1).build().unwrap();
    let held = jobs.acquire(1).await.unwrap();
    let acquire = jobs.acquire(1);
    tokio::time::sleep(Duration::from_secs(7)).await; // not yet polled
    let waiting = queue(&jobs, acquire).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    drop(held);
    drop(waiting.await.unwrap().unwrap());
    let waited = &record.values(WAIT_SECONDS)["jobs granted"];
    assert!(waited[0] < 0.01 && (3.0..3.1).contains(&waited[1]), "{waited:?} seconds");
}
