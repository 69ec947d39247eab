//! A burst of keys, each a semaphore of its own, on a busy machine: the store is slow then, not away.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use http::{HeaderName, Request, Response};
use http_body_util::Full;
use hyper::body::Bytes;
use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};
use zset_semaphore::Client;
use zset_semaphore::tower::{Admitted, Header, KeyLimit, Keyed, OutagePolicy, ZSetSemaphoreLayer};

use crate::alone;
use test_support::redis_server::RedisServer;
use test_support::wait::within;

const KEYS: usize = 20_000;

/// Keeps the processors busy until it is dropped.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn threads(count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..count {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(SeqCst) {
                    std::hint::spin_loop();
                }
            });
        }
        Self(stop)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

// Behaviour 68
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_of_keys_on_a_busy_machine_is_no_outage() {
    let _alone = alone().await;
    let server = RedisServer::start().await;
    let client = Client::connect(server.url()).await.unwrap();
    let tenant = Header::new(HeaderName::from_static("x-tenant"));
    let keyed =
        Keyed::builder(&client, "chats-of", tenant, KeyLimit::from_fn(|_| 1)).build().unwrap();
    let uncounted = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&uncounted);
    let service = ZSetSemaphoreLayer::keyed(keyed).outage_policy(OutagePolicy::FailOpen).layer(
        service_fn(move |request: Request<()>| {
            let admitted = request.extensions().get::<Admitted>().expect("told by the layer");
            let by_whom = admitted.iter().next().expect("there is one layer");
            counts.fetch_add(usize::from(by_whom.is_uncounted()), SeqCst);
            async { Ok::<_, Infallible>(Response::new(Full::<Bytes>::default())) }
        }),
    );
    let _busy = Busy::threads(2);
    let started = Instant::now();
    let burst: Vec<_> = (0..KEYS)
        .map(|key| {
            let request = Request::builder().header("x-tenant", format!("{key}")).body(()).unwrap();
            tokio::spawn(service.clone().oneshot(request))
        })
        .collect();
    for asked in burst {
        within(Duration::from_secs(60), asked).await.unwrap().unwrap();
    }
    println!("{KEYS} keys in {:?}", started.elapsed());
    assert_eq!(uncounted.load(SeqCst), 0, "of {KEYS} were let through uncounted");
}
