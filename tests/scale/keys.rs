//! A semaphore per key, and keys without end.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use http::{HeaderName, Request, Response};
use http_body_util::Full;
use hyper::body::Bytes;
use tower::{Layer, ServiceExt, service_fn};
use zset_semaphore::Client;
use zset_semaphore::tower::{Header, Keyed, ZSetSemaphoreLayer};

use crate::alone;
use test_support::child_role::{FromParent, runtime, say, setting};
use test_support::processes::Child;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};

const KEYS: usize = 100_000;
const CAPACITY: usize = 1000;
const IN_USE: usize = 256;

/// An outsider may choose keys as he likes: neither this process nor the server keeps them.
///
/// The service is a process of its own, so that nothing else is in the memory that is measured.
#[tokio::test]
async fn a_hundred_thousand_keys_in_a_row_leave_nothing_behind() {
    let alone = alone().await;
    let server = RedisServer::start().await;
    let mut service = Child::spawn("keys/service", &[("URL", server.url())]);
    let most = service.expect_line("@most", PATIENCE * 12).await.parse().unwrap();
    assert!((CAPACITY..=CAPACITY + IN_USE).contains(&most), "{most}");
    let grown: u64 = service.expect_line("@grown", PATIENCE).await.parse().unwrap();
    assert!(grown < 64 << 20, "{} MiB more in that process", grown >> 20);
    drop(alone); // what follows takes long and measures nothing

    // The lease, the slack of ten seconds, and a minute for what must outlive the rest.
    eventually("nothing is left in Redis", Duration::from_secs(100), async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        server.query::<u64>(&["DBSIZE"]).await == 0
    })
    .await;
    // All have been idle for longer than that by now.
    service.send("one more");
    let cached: usize = service.expect_line("@cached", PATIENCE).await.parse().unwrap();
    assert!(cached < CAPACITY);
}

pub(crate) fn play(role: &str, from_parent: FromParent) {
    assert_eq!(role, "service");
    runtime().block_on(serve_and_tell(from_parent));
}

async fn serve_and_tell(mut from_parent: FromParent) {
    let client = Client::builder()
        .url(setting("URL"))
        .call_timeout(Duration::from_secs(20))
        .connect()
        .await
        .unwrap();
    let tenant = Header::new(HeaderName::from_static("x-tenant"));
    let keyed = Keyed::builder(&client, "chats-of", tenant, 1)
        .capacity(CAPACITY)
        .idle_timeout(Duration::from_secs(5))
        .configure_semaphore(|semaphore| semaphore.lease(Duration::from_secs(1)))
        .build()
        .unwrap();
    let service =
        ZSetSemaphoreLayer::keyed(keyed.clone()).layer(service_fn(async |_: Request<()>| {
            Ok::<_, Infallible>(Response::new(Full::<Bytes>::from("token")))
        }));
    let most = AtomicUsize::new(0);
    let before = resident_bytes();
    stream::iter(0..KEYS)
        .for_each_concurrent(IN_USE, async |n| {
            // Some are as long as a header may be.
            let key = if n % 100 == 0 { "k".repeat(4000) + &n.to_string() } else { n.to_string() };
            let chat = within(PATIENCE * 4, service.clone().oneshot(of(&key))).await.unwrap();
            drop(chat);
            most.fetch_max(keyed.cached_keys(), SeqCst);
        })
        .await;
    say(format_args!("most {}", most.into_inner()));
    say(format_args!("grown {}", resident_bytes().saturating_sub(before)));
    from_parent.recv().await.expect("the parent asks");
    drop(service.oneshot(of("one more")).await.unwrap());
    say(format_args!("cached {}", keyed.cached_keys()));
}

fn of(tenant: &str) -> Request<()> {
    Request::builder().header("x-tenant", tenant).body(()).unwrap()
}

fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
