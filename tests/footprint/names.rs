//! Names that are used once and never again.

use std::convert::Infallible;

use futures_util::{FutureExt, StreamExt, stream};
use http::Request;
use http_body_util::Full;
use hyper::body::Bytes;
use tower::{Layer, ServiceExt, service_fn};
use zset_semaphore::tower::{Header, Keyed, ZSetSemaphoreLayer};
use zset_semaphore::{Client, MemoryStore};

use crate::alone;
use crate::bytes::{allocated, comes_back_to};
use crate::common::connect::connected;
use test_support::redis_server::RedisServer;
use test_support::wait::PATIENCE;

const NAMES: usize = 50_000;
const AT_ONCE: usize = 250;
/// What the use of all names may leave behind: less than two bytes for each.
const LEFT: usize = 64 << 10;

async fn use_once(client: &Client, names: std::ops::Range<usize>) {
    let names = stream::iter(names);
    let each = names.for_each_concurrent(AT_ONCE, async |name| {
        let semaphore = client.semaphore(format!("name-{name}"), 1).build().unwrap();
        semaphore.acquire(1).await.unwrap().release().await.unwrap();
    });
    each.await;
}

async fn leave_nothing(client: &Client) {
    use_once(client, 0..2_000).await; // what the first use allocates stays
    let before = allocated();
    use_once(client, 2_000..2_000 + NAMES).await;
    comes_back_to(before + LEFT, PATIENCE).await;
}

#[test]
fn fifty_thousand_names_used_once_leave_nothing_in_memory() {
    alone(async || {
        leave_nothing(&Client::with_memory(&MemoryStore::new())).await;
    });
}

#[test]
fn fifty_thousand_names_used_once_leave_nothing_over_a_server() {
    alone(async || {
        let server = RedisServer::start().await;
        leave_nothing(&connected(Client::builder().url(server.url()).call_timeout(PATIENCE)).await)
            .await;
    });
}

/// All at the same time, so that every list of the client grows.
#[test]
fn a_burst_of_names_gives_its_memory_back() {
    alone(async || {
        let client = Client::in_memory();
        use_once(&client, 0..1_000).await;
        let before = allocated();
        let mut held = Vec::new();
        for name in 0..NAMES {
            let semaphore = client.semaphore(format!("burst-{name}"), 1).build().unwrap();
            let permit = semaphore.acquire(1).await.unwrap();
            held.push((semaphore, permit));
        }
        assert!(allocated() > before + NAMES * 500, "less than expected");
        drop(held);
        comes_back_to(before + LEFT, PATIENCE).await;
    });
}

/// The waiters of a name are a burst, too.
#[test]
fn a_burst_of_waiters_gives_its_memory_back_though_the_handle_lives_on() {
    alone(async || {
        let client = Client::in_memory();
        let semaphore = client.semaphore("queue", 1).build().unwrap();
        drop(semaphore.acquire(1).await.unwrap());
        let before = allocated();
        let permit = semaphore.acquire(1).await.unwrap();
        let mut waiters = Vec::new();
        for _ in 0..NAMES {
            let mut waiter = Box::pin(semaphore.acquire(1));
            assert!((&mut waiter).now_or_never().is_none());
            waiters.push(waiter);
        }
        drop(waiters);
        drop(permit);
        comes_back_to(before + LEFT, PATIENCE).await;
    });
}

/// Keys that are in use are cached, however many they are. Later requests evict them.
#[test]
fn a_burst_of_keys_gives_its_memory_back() {
    alone(async || {
        let client = Client::in_memory();
        let tenant = Header::new("x-tenant".parse().unwrap());
        let keyed = Keyed::builder(&client, "chats-of", tenant, 1).capacity(1).build().unwrap();
        let service = ZSetSemaphoreLayer::keyed(keyed.clone()).layer(service_fn(async |_| {
            Ok::<_, Infallible>(http::Response::new(Full::<Bytes>::from("token")))
        }));
        let request = async |key: usize| {
            let request = Request::builder().header("x-tenant", key.to_string()).body(()).unwrap();
            service.clone().oneshot(request).await.unwrap()
        };
        drop(request(0).await);
        let before = allocated();
        let mut open = Vec::new();
        for key in 0..NAMES {
            open.push(request(key).await);
        }
        assert_eq!(keyed.cached_keys(), NAMES);
        drop(open);
        for _ in 0..NAMES {
            drop(request(0).await);
        }
        assert_eq!(keyed.cached_keys(), 1);
        comes_back_to(before + LEFT, PATIENCE).await;
    });
}

/// What a handle costs that was used and is kept.
#[test]
fn a_name_that_is_idle_costs_less_than_four_kilobytes() {
    alone(async || {
        let server = RedisServer::start().await;
        let connected = connected(Client::builder().url(server.url()).call_timeout(PATIENCE)).await;
        for (store, client) in [("memory", Client::in_memory()), ("server", connected)] {
            use_once(&client, 0..1_000).await;
            let before = allocated();
            let mut handles = Vec::with_capacity(10_000);
            for name in 0..10_000 {
                let semaphore = client.semaphore(format!("name-{name:08}"), 1).build().unwrap();
                semaphore.acquire(1).await.unwrap().release().await.unwrap();
                handles.push(semaphore);
            }
            let bytes = (allocated() - before) / handles.len();
            println!("{store}: {bytes} bytes for an idle name");
            assert!(bytes < 4_096, "{store}: {bytes} bytes");
        }
    });
}
