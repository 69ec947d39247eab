//! What gauges show, and that nothing stays in them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use futures_util::FutureExt;
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Bytes;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms, within};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};
use zset_semaphore::metrics::{
    CONNECTED, HELD_UNITS, IN_USE_UNITS, LIMIT_UNITS, OUTAGE, QUEUE_LENGTH, WAITERS,
};
use zset_semaphore::tower::{OutagePolicy, ZSetSemaphoreLayer};
use zset_semaphore::{AcquireError, Client, MemoryStore, Permit, ZSetSemaphore};

use crate::common::inspect::{queue, queued};
use crate::common::recorder::Record;
use crate::common::stores::Place;

async fn nothing_left(record: &Record) {
    eventually("all gauges are 0", PATIENCE, async || record.gauges_left().is_empty()).await;
}

/// Units held here, waiters here; units in use, waiters and the limit in the cluster.
fn jobs(record: &Record) -> [f64; 5] {
    [HELD_UNITS, WAITERS, IN_USE_UNITS, QUEUE_LENGTH, LIMIT_UNITS]
        .map(|metric| record.gauge(&format!("{metric} jobs")))
}

#[tokio::test(start_paused = true)]
async fn gauges_of_the_process_add_up_and_those_of_the_cluster_are_the_same_everywhere() {
    let memory = MemoryStore::new();
    let (records, semaphores): (Vec<_>, Vec<_>) = (0..2)
        .map(|_| {
            let (record, _guard) = Record::of_this_thread();
            (record, Client::with_memory(&memory).semaphore("jobs", 5).build().unwrap())
        })
        .unzip();
    let [one, two] = [&semaphores[0], &semaphores[1]];
    let (first, second) = (one.acquire(3).await.unwrap(), two.acquire(2).await.unwrap());
    let waiting = queue(two, two.acquire(4)).await;
    sleep(Duration::from_secs(11)).await; // both have renewed
    assert_eq!(jobs(records[0]), [3.0, 0.0, 5.0, 1.0, 5.0]);
    assert_eq!(jobs(records[1]), [2.0, 1.0, 5.0, 1.0, 5.0]);
    drop(second);
    // Who neither holds nor waits is told nothing more, so it tells nothing.
    waiting.abort();
    queued(two, 0).await;
    assert_eq!(jobs(records[0])[..3], [3.0, 0.0, 5.0], "the last turn told so");
    assert_eq!(jobs(records[1]), [0.0; 5]);
    drop((first, semaphores));
    for record in records {
        nothing_left(record).await;
    }
}

#[tokio::test]
async fn whatever_ends_a_wait_or_a_permit_leaves_nothing_in_the_gauges() {
    for place in Place::each().await {
        let (record, _guard) = Record::of_this_thread();
        let client = place.client();
        let jobs = client.semaphore("jobs", 2).build().unwrap();
        let held = |units: f64| record.gauge(&format!("{HELD_UNITS} jobs")) == units;
        // A panic of its task.
        let panicking = jobs.clone();
        let panics = tokio::spawn(async move {
            let _permit = panicking.acquire(2).await.unwrap();
            panic!("on purpose");
        });
        assert!(panics.await.unwrap_err().is_panic());
        eventually("it is given back", PATIENCE, async || held(0.0)).await;
        // A kick: its units are in use until the holder gives them back.
        let kicked = within(PATIENCE, jobs.acquire(2)).await.unwrap();
        jobs.kick(kicked.id()).await.unwrap();
        within(PATIENCE, kicked.lost()).await;
        assert!(held(2.0));
        // A waiter that is cancelled, and one that holds what nobody looks at.
        let waiting = queue(&jobs, jobs.acquire(2)).await;
        assert_eq!(record.gauge(&format!("{WAITERS} jobs")), 1.0);
        waiting.abort();
        queued(&jobs, 0).await;
        assert_eq!(record.gauge(&format!("{WAITERS} jobs")), 0.0);
        let mut unlooked = Box::pin(jobs.acquire(1));
        assert!(unlooked.as_mut().now_or_never().is_none());
        drop(kicked);
        eventually("it is granted", PATIENCE, async || held(1.0)).await;
        drop(unlooked);
        eventually("it is given back", PATIENCE, async || held(0.0)).await;
        drop((jobs, client));
        nothing_left(record).await;
    }
}

#[tokio::test]
async fn a_connection_counts_while_it_is_open() {
    let mut server = RedisServer::start().await;
    let (record, _guard) = Record::of_this_thread();
    let client = Client::open(server.url()).unwrap();
    let is = async |open: f64| {
        let what = format!("{open} connections");
        eventually(&what, PATIENCE, async || record.gauge(CONNECTED) == open).await;
    };
    let jobs = client.semaphore("jobs", 1).build().unwrap();
    drop(within(PATIENCE, jobs.acquire(1)).await.unwrap());
    is(1.0).await;
    server.kill();
    is(0.0).await;
    server.restart().await;
    is(1.0).await;
    drop((client, jobs));
    is(0.0).await;
    nothing_left(record).await;
}

#[test]
fn a_runtime_that_ends_with_everything_leaves_nothing_in_the_gauges() {
    let (record, _guard) = Record::of_this_thread();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = Client::in_memory();
    let jobs = client.semaphore("jobs", 1).build().unwrap();
    let permit = runtime.block_on(async {
        let permit = jobs.acquire(1).await.unwrap();
        tokio::spawn(jobs.acquire(1));
        tokio::task::yield_now().await;
        permit
    });
    let waiters = || record.gauge(&format!("{WAITERS} jobs"));
    assert_eq!((record.gauge(&format!("{HELD_UNITS} jobs")), waiters()), (1.0, 1.0));
    drop(runtime);
    assert_eq!(waiters(), 0.0);
    drop((permit, jobs, client));
    assert_eq!(record.gauges_left(), BTreeMap::new());
}

#[tokio::test]
async fn a_handle_of_a_permit_that_is_gone_keeps_nothing_in_the_gauges() {
    let mut server = RedisServer::start().await;
    let (record, _guard) = Record::of_this_thread();
    let client = Client::open(server.url()).unwrap();
    let semaphore = client.semaphore("jobs", 4).lease(ms(300)).build().unwrap();
    let permit = within(PATIENCE, semaphore.acquire(1)).await.unwrap();
    assert_eq!(jobs(record), [1.0, 0.0, 1.0, 0.0, 4.0]);
    let handle = permit.handle();
    server.kill(); // so the store never confirms the end
    within(PATIENCE, handle.lost()).await;
    drop((permit, semaphore));
    eventually("all but the client is 0", PATIENCE, async || jobs(record) == [0.0; 5]).await;
    drop(client);
    nothing_left(record).await;
    drop(handle);
    nothing_left(record).await;
}

#[tokio::test]
async fn an_idle_process_shows_nothing_of_the_cluster_even_if_the_store_is_away() {
    let mut server = RedisServer::start().await;
    let (record, _guard) = Record::of_this_thread();
    let client = Client::open(server.url()).unwrap();
    let semaphore = client.semaphore("jobs", 4).build().unwrap();
    let permit = within(PATIENCE, semaphore.acquire(3)).await.unwrap();
    server.kill();
    eventually("it is noticed", PATIENCE, async || record.gauge(CONNECTED) == 0.0).await;
    assert_eq!(jobs(record), [3.0, 0.0, 3.0, 0.0, 4.0]);
    drop(permit);
    eventually("all is 0", PATIENCE, async || jobs(record) == [0.0; 5]).await;
}

/// Holds two units that no replica has, and waits for one.
async fn wait_for_a_replica(
    record: &Record,
) -> (RedisServer, Client, ZSetSemaphore, JoinHandle<Result<Permit, AcquireError>>) {
    let server = RedisServer::start().await; // without a replica
    let client = Client::open(server.url()).unwrap();
    let semaphore = client.semaphore("jobs", 4).replicated(1).build().unwrap();
    let waiting = tokio::spawn(semaphore.acquire(2));
    let what = "it is held, and waits";
    eventually(what, PATIENCE, async || jobs(record)[..2] == [2.0, 1.0]).await;
    (server, client, semaphore, waiting)
}

#[tokio::test]
async fn a_caller_waits_until_replicas_have_its_grant() {
    let (record, _guard) = Record::of_this_thread();
    let (_server, _client, _semaphore, waiting) = wait_for_a_replica(record).await;
    waiting.abort();
    eventually("all is 0", PATIENCE, async || jobs(record) == [0.0; 5]).await;
}

#[test]
fn a_caller_that_waits_for_replicas_shows_nothing_once_its_runtime_has_ended() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let server = runtime.block_on(RedisServer::start()); // without a replica
    let (record, _guard) = Record::of_this_thread();
    let client = Client::open(server.url()).unwrap();
    let semaphore = client.semaphore("jobs", 4).replicated(1).build().unwrap();
    let mut waiting = Box::pin(semaphore.acquire(2));
    runtime.block_on(eventually("it is held, and waits", PATIENCE, async || {
        assert!(waiting.as_mut().now_or_never().is_none());
        jobs(record)[..2] == [2.0, 1.0]
    }));
    drop(runtime);
    assert_eq!(record.gauges_left(), BTreeMap::new(), "the future is kept");
    drop((waiting, semaphore, client));
    assert_eq!(record.gauges_left(), BTreeMap::new());
}

#[tokio::test]
async fn a_caller_that_waits_for_replicas_moves_with_the_label_of_its_name() {
    let (record, _guard) = Record::of_this_thread();
    let (_server, client, semaphore, waiting) = wait_for_a_replica(record).await;
    let labelled = client.semaphore("jobs", 4).metrics_name("work").build().unwrap();
    assert_eq!(jobs(record), [0.0; 5]);
    assert_eq!(record.gauge(&format!("{WAITERS} work")), 1.0);
    waiting.abort();
    drop((semaphore, client, labelled));
    nothing_left(record).await;
}

/// A process that has a permit of a store, a waiter, and a layer in an outage, and then ends its runtime.
fn end_a_runtime(record: &Record, client: &Client, mut lose_store: impl FnMut(), outage: f64) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let semaphore = client.semaphore("jobs", 1).lease(ms(200)).build().unwrap();
    let layer = ZSetSemaphoreLayer::new(semaphore.clone()).outage_policy(OutagePolicy::FailOpen);
    let permit = runtime.block_on(async {
        let permit = within(PATIENCE, semaphore.acquire(1)).await.unwrap();
        tokio::spawn(semaphore.acquire(1));
        let waiters = || record.gauge(&format!("{WAITERS} jobs"));
        eventually("it waits", PATIENCE, async || waiters() == 1.0).await;
        assert_eq!(record.gauge(&format!("{HELD_UNITS} jobs")), 1.0);
        permit
    });
    lose_store();
    runtime.spawn(async move {
        let inner = service_fn(async |_: Request<()>| {
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        });
        let service = layer.outage_after(ms(10)).layer(inner);
        drop(service.clone().oneshot(Request::new(())).await.unwrap());
        std::future::pending::<()>().await;
    });
    let in_outage = || record.gauge(&format!("{OUTAGE} jobs")) == outage;
    runtime.block_on(eventually("the layer is in an outage", PATIENCE, async || in_outage()));
    drop(runtime);
    assert_eq!(record.gauges_left(), BTreeMap::new(), "the permit is kept");
    let lost = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    lost.block_on(within(PATIENCE, permit.lost()));
    drop(permit);
    assert_eq!(record.gauges_left(), BTreeMap::new(), "the semaphore is kept");
    drop(semaphore);
    assert_eq!(record.gauges_left(), BTreeMap::new());
}

#[test]
fn a_runtime_that_ends_shows_nothing_whatever_is_kept_of_it() {
    let (record, _guard) = Record::of_this_thread();
    let client = Client::in_memory();
    end_a_runtime(record, &client, || {}, 0.0);

    let other = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut server = other.block_on(RedisServer::start());
    let (record, _guard) = Record::of_this_thread();
    let client = Client::open(server.url()).unwrap();
    end_a_runtime(record, &client, || server.kill(), 1.0);
}
