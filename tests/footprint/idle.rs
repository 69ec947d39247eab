//! Names whose handles live on while nobody uses them.

use std::convert::Infallible;
use std::time::Duration;

use http::Request;
use http_body_util::Empty;
use hyper::body::Bytes;
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Handle;
use tokio::time::sleep;
use tower::{Layer, ServiceExt, service_fn};
use zset_semaphore::tower::{Header, Keyed, ZSetSemaphoreLayer};
use zset_semaphore::{Client, ZSetSemaphore};

use crate::common::connect::connected;
use crate::{alone, alone_with_paused_time};
use test_support::redis_server::RedisServer;
use test_support::wait::PATIENCE;

const NAMES: usize = 10_000;
const LEASE: Duration = Duration::from_secs(1);

async fn used_once(client: &Client) -> Vec<ZSetSemaphore> {
    let mut handles = Vec::new();
    for name in 0..NAMES {
        let semaphore = client.semaphore(format!("name-{name}"), 1).lease(LEASE).build().unwrap();
        semaphore.acquire(1).await.unwrap().release().await.unwrap();
        handles.push(semaphore);
    }
    handles
}

/// A layer that has seen a request of each key.
async fn used_keys(client: &Client) -> Keyed<Header> {
    let tenant = Header::new("x-tenant".parse().unwrap());
    let keyed = Keyed::builder(client, "chats-of", tenant, 1)
        .capacity(NAMES)
        .configure_semaphore(|semaphore| semaphore.lease(LEASE))
        .build()
        .unwrap();
    let service = ZSetSemaphoreLayer::keyed(keyed.clone()).layer(service_fn(async |_| {
        Ok::<_, Infallible>(http::Response::new(Empty::<Bytes>::new()))
    }));
    for key in 0..NAMES {
        let request = Request::builder().header("x-tenant", key.to_string()).body(()).unwrap();
        drop(service.clone().oneshot(request).await.unwrap());
    }
    assert_eq!(keyed.cached_keys(), NAMES);
    keyed
}

/// How often this runtime has gone to sleep: after each time that it had anything to do.
fn parks() -> u64 {
    Handle::current().metrics().worker_park_count(0)
}

/// What all threads of this process have worked.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[test]
fn ten_thousand_idle_names_in_memory_wake_nobody_for_ten_minutes() {
    alone_with_paused_time(async || {
        let client = Client::in_memory();
        let kept = (used_once(&client).await, used_keys(&client).await);
        sleep(LEASE).await; // the timers of the permits that were held
        let before = parks();
        sleep(Duration::from_secs(600)).await;
        let woken = parks() - before;
        // The timer of tokio looks at a sleep of ten minutes several times, the last time to end it.
        assert!(woken <= 8, "woken {woken} times");
        drop(kept);
    });
}

#[test]
fn ten_thousand_idle_names_over_a_server_cost_no_call_and_no_processor_time() {
    alone(async || {
        let server = RedisServer::start().await;
        let client = connected(Client::builder().url(server.url()).call_timeout(PATIENCE)).await;
        let kept = (used_once(&client).await, used_keys(&client).await);
        sleep(LEASE).await; // the timers of the permits that were held
        let (calls, before, parked) = (server.script_calls().await, worked(), parks());
        sleep(Duration::from_secs(3)).await;
        let (spent, woken) = (worked() - before, parks() - parked);
        assert_eq!(server.script_calls().await, calls);
        println!("{spent:?} of processor time in 3 s, woken {woken} times");
        assert!(spent < Duration::from_millis(30), "{spent:?} of processor time in 3 s");
        drop(kept);
    });
}
