//! A semaphore per key: which requests share one, what a flood of keys costs, and which keys stay cached.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderName, Request, Response};
use http_body_util::Full;
use hyper::body::Bytes;
use tokio::sync::Notify;
use tower::{Layer, Service, ServiceExt, service_fn};
use zset_semaphore::tower::{
    Error, Header, KeyExtractor, KeyLimit, Keyed, PermitBody, Reason, ZSetSemaphoreLayer,
};
use zset_semaphore::{AcquireError, Client, MemoryStore};

use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms, within};

fn tenant() -> Header {
    Header::new(HeaderName::from_static("x-tenant"))
}

fn of(tenant: impl AsRef<str>) -> Request<()> {
    Request::builder().header("x-tenant", tenant.as_ref()).body(()).unwrap()
}

/// A streaming response; it holds its permit until it is dropped.
type Chat = Response<PermitBody<Full<Bytes>>>;

fn chats<K>(
    layer: ZSetSemaphoreLayer<zset_semaphore::tower::HoldBody, Keyed<K>>,
) -> impl Service<Request<()>, Response = Chat, Error = Error<Infallible>, Future: Send> + Clone
where
    K: KeyExtractor<Request<()>> + Clone + Send + Sync + 'static,
{
    layer.layer(service_fn(async |_: Request<()>| {
        Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("token")))
    }))
}

#[tokio::test(start_paused = true)]
async fn each_key_has_its_own_limit_and_those_without_one_share_one() {
    let memory = MemoryStore::new();
    let client = Client::with_memory(&memory);
    let limit = KeyLimit::from_fn(|key| if key == "boss" { 3 } else { 1 });
    let keyed = Keyed::builder(&client, "chats-of", tenant(), limit).build().unwrap();
    let layer = ZSetSemaphoreLayer::keyed(keyed.clone()).reject_when_full();
    let service = chats(layer);
    let ask = async |request| service.clone().oneshot(request).await;

    let mut held = Vec::new();
    for (tenant, limit) in [("boss", 3), ("alice", 1), ("bob", 1)] {
        for _ in 0..limit {
            held.push(ask(of(tenant)).await.unwrap());
        }
        let Err(Error::Rejected(rejection)) = ask(of(tenant)).await else { panic!("let in") };
        assert!(rejection.is_full());
        assert_eq!(rejection.semaphore_name(), format!("chats-of/{tenant}"));
        assert_eq!(rejection.limit_name(), "chats-of");
        assert_eq!((rejection.in_use(), rejection.limit()), (Some(limit.into()), limit));
    }
    held.push(ask(Request::new(())).await.unwrap());
    assert!(matches!(ask(Request::new(())).await, Err(Error::Rejected(_))));
    assert_eq!(keyed.cached_keys(), 4);
    // The semaphore of a key is like any other.
    let alice = client.semaphore("chats-of/alice", 1).build().unwrap();
    assert_eq!(alice.inspect().await.unwrap().in_use, 1);
    drop(held);
    drop(ask(of("alice")).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_limit_is_looked_up_once_for_all_who_wait_for_it_and_anew_when_it_is_old() {
    let (lookups, plan, known) =
        (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(1)), Arc::new(Notify::new()));
    let limit = {
        let (lookups, plan, known) = (Arc::clone(&lookups), Arc::clone(&plan), Arc::clone(&known));
        KeyLimit::lookup(move |_| {
            lookups.fetch_add(1, SeqCst);
            let (plan, known) = (Arc::clone(&plan), Arc::clone(&known));
            async move {
                known.notified().await;
                Ok::<_, Infallible>(plan.load(SeqCst) as u32)
            }
        })
    };
    let keyed = Keyed::builder(&Client::in_memory(), "chats-of", tenant(), limit)
        .refresh_after(Duration::from_secs(60))
        .build()
        .unwrap();
    let service = chats(ZSetSemaphoreLayer::keyed(keyed).reject_when_full());
    let crowd: Vec<_> =
        (0..10).map(|_| tokio::spawn(service.clone().oneshot(of("alice")))).collect();
    while lookups.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    known.notify_one();
    let mut held = Vec::new();
    for asked in crowd {
        held.extend(asked.await.unwrap().ok());
    }
    assert_eq!((held.len(), lookups.load(SeqCst)), (1, 1));

    plan.store(3, SeqCst); // she pays for more
    tokio::time::sleep(Duration::from_secs(61)).await;
    // The old limit is used until the new one is known.
    assert!(service.clone().oneshot(of("alice")).await.is_err());
    known.notify_one();
    for _ in 0..2 {
        eventually("let in by the new limit", PATIENCE, async || {
            let chat = service.clone().oneshot(of("alice")).await.ok();
            let is_in = chat.is_some();
            held.extend(chat);
            is_in
        })
        .await;
    }
    assert!(service.oneshot(of("alice")).await.is_err());
    assert_eq!((held.len(), lookups.load(SeqCst)), (3, 2));
}

#[tokio::test(start_paused = true)]
async fn a_lookup_that_fails_ends_the_request_and_is_tried_again_by_the_next() {
    let tries = Arc::new(AtomicUsize::new(0));
    let limit = {
        let tries = Arc::clone(&tries);
        KeyLimit::lookup(move |_| {
            let first = tries.fetch_add(1, SeqCst) == 0;
            async move { if first { Err(io::Error::other("no database")) } else { Ok(1) } }
        })
    };
    let keyed = Keyed::builder(&Client::in_memory(), "chats-of", tenant(), limit).build().unwrap();
    let service = chats(ZSetSemaphoreLayer::keyed(keyed));
    let Err(Error::Rejected(rejection)) = service.clone().oneshot(of("alice")).await else {
        panic!("let in")
    };
    assert!(matches!(rejection.reason(), Reason::LimitLookup(_)), "{rejection:?}");
    let said = rejection.to_string();
    assert_eq!(said, r#"semaphore "chats-of/alice": the limit is not known: no database"#);
    tokio::time::sleep(Duration::from_secs(2)).await;
    service.oneshot(of("alice")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_in_use_is_remembered_beside_those_that_are_forgotten() {
    let keyed = Keyed::builder(&Client::in_memory(), "chats-of", tenant(), 1)
        .capacity(2)
        .idle_timeout(Duration::from_secs(5))
        .build()
        .unwrap();
    let layer = ZSetSemaphoreLayer::keyed(keyed.clone());
    let (service, hasty) = (chats(layer.clone()), chats(layer.reject_when_full()));
    let held = service.clone().oneshot(of("alice")).await.unwrap();
    let waiting = tokio::spawn(service.clone().oneshot(of("alice")));
    tokio::task::yield_now().await; // else it would come only when all others are through
    for n in 0..10 {
        drop(service.clone().oneshot(of(format!("other{n}"))).await.unwrap());
        assert!(keyed.cached_keys() <= 2);
    }
    assert!(hasty.clone().oneshot(of("alice")).await.is_err());
    tokio::time::sleep(Duration::from_secs(6)).await;
    drop(service.clone().oneshot(of("bob")).await.unwrap());
    assert_eq!(keyed.cached_keys(), 2);
    assert!(hasty.clone().oneshot(of("alice")).await.is_err());
    drop(held);
    drop(within(PATIENCE, waiting).await.unwrap().unwrap());

    // More keys are in use than the capacity, and the others have as much room as before.
    let mut held = Vec::new();
    for n in 0..10 {
        held.push(service.clone().oneshot(of(format!("busy{n}"))).await.unwrap());
    }
    assert!((10..=12).contains(&keyed.cached_keys()), "{}", keyed.cached_keys());
    for n in 0..20 {
        drop(service.clone().oneshot(of(format!("other{n}"))).await.unwrap());
    }
    assert!((11..=14).contains(&keyed.cached_keys()), "{}", keyed.cached_keys());
    for n in 0..10 {
        assert!(hasty.clone().oneshot(of(format!("busy{n}"))).await.is_err());
    }
    drop(held);
    for _ in 0..5 {
        drop(service.clone().oneshot(of("bob")).await.unwrap());
    }
    assert_eq!(keyed.cached_keys(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_said_of_the_semaphores_of_keys_adds_up() {
    let client = Client::in_memory();
    let keyed = Keyed::builder(&client, "chats-of", tenant(), 1)
        .configure_semaphore(|semaphore| semaphore.max_queue(0))
        .configure_semaphore(|semaphore| semaphore.label("gateway"))
        .build()
        .unwrap();
    let service = chats(ZSetSemaphoreLayer::keyed(keyed));
    let _held = service.clone().oneshot(of("alice")).await.unwrap();
    let Err(Error::Rejected(rejection)) = within(PATIENCE, service.oneshot(of("alice"))).await
    else {
        panic!("let in")
    };
    let no_permit = rejection.reason();
    assert!(matches!(no_permit, Reason::Acquire(AcquireError::QueueFull { .. })), "{rejection:?}");
    let alice = client.semaphore("chats-of/alice", 1).build().unwrap();
    let books = alice.inspect().await.unwrap();
    assert_eq!(books.holders[0].label.as_deref(), Some("gateway"));
}

#[test]
fn wrong_settings_are_named() {
    let client = Client::in_memory();
    let error = |name: &str, capacity| {
        let builder = Keyed::builder(&client, name, tenant(), 1).capacity(capacity);
        builder.build().unwrap_err().to_string()
    };
    assert_eq!(error("a", 0), "capacity is 0; allowed: 1 key or more");
    let allowed = "up to 440 bytes without control characters and without { or }";
    for name in ["x".repeat(441), "x".repeat(100_000), "a{b}".into(), "a\n".into()] {
        let shown: String = name.chars().take(80).collect();
        let expected = format!("name of a keyed limit is {shown:?}; allowed: {allowed}");
        assert_eq!(error(&name, 1), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_share_the_limit_of_each_key_by_redis() {
    let server = RedisServer::start().await;
    let running = Arc::new(Mutex::new(HashMap::<String, (usize, usize)>::new()));
    let mut gateways = Vec::new();
    for _ in 0..2 {
        let client = Client::connect(server.url()).await.unwrap();
        let keyed = Keyed::builder(&client, "chats-of", tenant(), 2).build().unwrap();
        let running = Arc::clone(&running);
        gateways.push(ZSetSemaphoreLayer::keyed(keyed).release_on_response().layer(service_fn(
            move |request: Request<()>| {
                let tenant = request.headers()["x-tenant"].to_str().unwrap().to_owned();
                let running = Arc::clone(&running);
                async move {
                    {
                        let mut running = running.lock().unwrap();
                        let (now, peak) = running.entry(tenant.clone()).or_default();
                        *now += 1;
                        *peak = (*now).max(*peak);
                    }
                    tokio::time::sleep(ms(3)).await;
                    running.lock().unwrap().get_mut(&tenant).unwrap().0 -= 1;
                    Ok::<_, Infallible>(())
                }
            },
        )));
    }
    let requests = (0..200).map(|n| {
        let service = gateways[n % 2].clone();
        within(PATIENCE, service.oneshot(of(["alice", "bob", "carol"][n % 3])))
    });
    for ended in futures_util::future::join_all(requests).await {
        ended.unwrap();
    }
    let running = running.lock().unwrap();
    assert_eq!(running.len(), 3);
    for (tenant, &(now, peak)) in running.iter() {
        assert_eq!((now, peak), (0, 2), "{tenant}");
    }
}
