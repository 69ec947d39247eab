//! The layer during an outage of Redis: what each policy does, that every request ends, and that all are
//! counted again within a second after the outage.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceExt, service_fn};
use zset_semaphore::tower::{Admitted, Error, OutagePolicy, ReadAhead, ZSetSemaphoreLayer};
use zset_semaphore::{Client, ZSetSemaphore};

use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, ms, within};

const LIMIT: u32 = 4;
const AWAY_AFTER: Duration = Duration::from_millis(300);
const POLICIES: [OutagePolicy; 3] =
    [OutagePolicy::FailClosed, OutagePolicy::FailOpen, OutagePolicy::LocalCap(2)];

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum End {
    Counted,
    Uncounted,
    Local,
    Rejected,
}

impl End {
    fn of(policy: OutagePolicy) -> Self {
        match policy {
            OutagePolicy::FailClosed => Self::Rejected,
            OutagePolicy::FailOpen => Self::Uncounted,
            _ => Self::Local,
        }
    }
}

/// What the inner service and the clients have counted.
#[derive(Default)]
struct Tally {
    sent: AtomicUsize,
    ends: Mutex<HashMap<End, usize>>,
    /// Requests that hold a permit, or a unit of the local cap, and the most of each at once.
    running: Mutex<HashMap<End, (usize, usize)>>,
    slowest: Mutex<Duration>,
}

impl Tally {
    fn ends(&self, end: End) -> usize {
        self.ends.lock().unwrap().get(&end).copied().unwrap_or(0)
    }

    fn peak(&self, end: End) -> usize {
        self.running.lock().unwrap().get(&end).map_or(0, |&(_, peak)| peak)
    }

    fn enter(&self, end: End) {
        let mut running = self.running.lock().unwrap();
        let (now, peak) = running.entry(end).or_default();
        *now += 1;
        *peak = (*now).max(*peak);
    }

    fn leave(&self, end: End) {
        self.running.lock().unwrap().entry(end).or_default().0 -= 1;
    }
}

type Reply = Result<Response<Bytes>, Infallible>;

/// The layer with a policy, around a service that counts how its requests were let through.
fn capped(
    semaphore: &ZSetSemaphore,
    policy: OutagePolicy,
    tally: &Arc<Tally>,
) -> impl Service<Request<Full<Bytes>>, Response = Response<Bytes>, Error = Infallible, Future: Send>
+ Clone
+ Send
+ 'static {
    let tally = Arc::clone(tally);
    let inner = service_fn(move |request: Request<ReadAhead<Full<Bytes>>>| {
        let tally = Arc::clone(&tally);
        async move {
            let admitted = request.extensions().get::<Admitted>().unwrap();
            let admission = admitted.iter().next().unwrap();
            let end = match (admission.permit(), admission.is_uncounted()) {
                (Some(_), _) => End::Counted,
                (None, true) => End::Uncounted,
                (None, false) => End::Local,
            };
            tally.enter(end);
            sleep(ms(5)).await;
            tally.leave(end);
            Ok::<_, Infallible>(
                Response::builder().extension(end).body(Full::<Bytes>::default()).unwrap(),
            )
        }
    });
    ZSetSemaphoreLayer::new(semaphore.clone())
        .outage_policy(policy)
        .outage_after(AWAY_AFTER)
        .answer()
        .layer(inner)
        .and_then(async |response: Response<_>| -> Reply {
            let (head, body) = response.into_parts();
            let bytes = BodyExt::collect(body).await.unwrap().to_bytes();
            Ok(Response::from_parts(head, bytes))
        })
}

/// One request; however it ends, it ends soon.
async fn send<S>(service: S, tally: &Tally) -> End
where
    S: Service<Request<Full<Bytes>>, Response = Response<Bytes>, Error = Infallible>,
{
    tally.sent.fetch_add(1, SeqCst);
    let start = Instant::now();
    let response = within(PATIENCE, service.oneshot(Request::default())).await.unwrap();
    let end = match response.extensions().get::<End>() {
        Some(end) => *end,
        None => {
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            End::Rejected
        }
    };
    *tally.ends.lock().unwrap().entry(end).or_default() += 1;
    let mut slowest = tally.slowest.lock().unwrap();
    *slowest = start.elapsed().max(*slowest);
    end
}

/// Clients that send one request after the other until they are told to stop.
struct Crowd {
    stop: Arc<AtomicBool>,
    clients: JoinSet<()>,
}

impl Crowd {
    fn start<S>(service: &S, tally: &Arc<Tally>) -> Self
    where
        S: Service<
                Request<Full<Bytes>>,
                Response = Response<Bytes>,
                Error = Infallible,
                Future: Send,
            > + Clone
            + Send
            + 'static,
    {
        let (stop, mut clients) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for _ in 0..16 {
            let (service, tally, stop) = (service.clone(), Arc::clone(tally), Arc::clone(&stop));
            clients.spawn(async move {
                while !stop.load(SeqCst) {
                    if send(service.clone(), &tally).await != End::Counted {
                        sleep(ms(5)).await; // no storm of rejections
                    }
                }
            });
        }
        Self { stop, clients }
    }

    async fn end(self) {
        self.stop.store(true, SeqCst);
        within(PATIENCE, self.clients.join_all()).await;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Frozen,
    Killed,
}

/// Under load: the policy decides once the outage counts, and Redis counts again once it is back.
async fn outage(fault: Fault, policy: OutagePolicy) {
    let what = format!("{fault:?}, {policy:?}");
    let mut server = RedisServer::start().await;
    let client = Client::connect(server.url()).await.unwrap();
    let semaphore = client.semaphore("s", LIMIT).lease(ms(3000)).build().unwrap();
    let tally = Arc::new(Tally::default());
    let service = capped(&semaphore, policy, &tally);
    let crowd = Crowd::start(&service, &tally);
    let by_policy = End::of(policy);
    let more = async |end: End, how_many: usize| {
        let before = tally.ends(end);
        let enough = format!("{what}: {how_many} more ended as {end:?}");
        eventually(&enough, PATIENCE, async || tally.ends(end) >= before + how_many).await;
    };
    more(End::Counted, 50).await;
    assert_eq!(tally.ends(by_policy), 0, "{what}: the policy decided before the outage");

    match fault {
        Fault::Frozen => server.freeze(),
        Fault::Killed => server.kill(),
    }
    more(by_policy, 100).await;
    match fault {
        Fault::Frozen => server.thaw(),
        Fault::Killed => server.restart_empty().await,
    }
    let back = Instant::now();
    more(End::Counted, 1).await;
    let recovered = back.elapsed();
    more(End::Counted, 50).await;
    crowd.end().await;

    let ends = tally.ends.lock().unwrap().clone();
    assert_eq!(ends.values().sum::<usize>(), tally.sent.load(SeqCst), "{what}: {ends:?}");
    assert!(ends.keys().all(|end| [End::Counted, by_policy].contains(end)), "{what}: {ends:?}");
    assert!(tally.peak(End::Local) <= 2, "{what}: {} at once", tally.peak(End::Local));
    if fault == Fault::Frozen {
        let peak = tally.peak(End::Counted);
        assert!(peak <= LIMIT as usize, "{what}: {peak} were counted at once");
    }
    assert!(recovered < ms(1000), "{what}: counted again only after {recovered:?}");
    // The time until the outage counts, until the end of the wait is noticed, and some slack.
    let slowest = *tally.slowest.lock().unwrap();
    assert!(slowest < ms(3000), "{what}: a request took {slowest:?}");
    eventually("nothing is left", PATIENCE, async || {
        semaphore.inspect().await.is_ok_and(|found| (found.in_use, found.waiters_total) == (0, 0))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_frozen_each_policy_decides_and_all_requests_add_up() {
    for policy in POLICIES {
        outage(Fault::Frozen, policy).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_redis_is_dead_each_policy_decides_and_all_requests_add_up() {
    for policy in POLICIES {
        outage(Fault::Killed, policy).await;
    }
}

#[tokio::test]
async fn a_gateway_starts_and_serves_by_its_policy_while_redis_is_still_down() {
    for policy in POLICIES {
        let client = Client::open("redis://127.0.0.1:1").unwrap(); // nobody listens there
        let semaphore = client.semaphore("s", LIMIT).build().unwrap();
        let tally = Arc::new(Tally::default());
        let service = capped(&semaphore, policy, &tally);
        assert_eq!(send(service.clone(), &tally).await, End::of(policy), "{policy:?}");
        // The outage is known, so the next requests need not wait to find out.
        *tally.slowest.lock().unwrap() = Duration::ZERO;
        for _ in 0..20 {
            assert_eq!(send(service.clone(), &tally).await, End::of(policy), "{policy:?}");
        }
        let slowest = *tally.slowest.lock().unwrap();
        assert!(slowest < AWAY_AFTER, "{policy:?}: one waited {slowest:?}");
    }
}

/// A server that accepts connections and sends nothing does not count as a reached limit.
#[tokio::test]
async fn a_timeout_before_the_first_connection_is_up_to_the_policy() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("redis://{}", silent.local_addr().unwrap());
    let semaphore = Client::open(url).unwrap().semaphore("s", LIMIT).build().unwrap();
    let layer = ZSetSemaphoreLayer::new(semaphore).timeout(ms(100)).release_on_response();
    let inner = service_fn(async |n: u32| Ok::<_, Infallible>(n));
    let Err(Error::Rejected(rejection)) = layer.clone().layer(inner).oneshot(1).await else {
        panic!("let in")
    };
    assert!(!rejection.is_full(), "{rejection}");
    layer.outage_policy(OutagePolicy::FailOpen).layer(inner).oneshot(1).await.unwrap();
}

/// In a short outage a request that waits keeps its place.
#[tokio::test]
async fn those_who_wait_keep_their_places_through_a_short_outage() {
    let server = RedisServer::start().await;
    let client = Client::connect(server.url()).await.unwrap();
    let semaphore = client.semaphore("s", 1).build().unwrap();
    let other = Client::connect(server.url()).await.unwrap().semaphore("s", 1).build().unwrap();
    let held = other.acquire(1).await.unwrap();
    let tally = Arc::new(Tally::default());
    let layer = ZSetSemaphoreLayer::new(semaphore)
        .outage_after(Duration::from_secs(20))
        .release_on_response();
    let served = Arc::new(Mutex::new(Vec::new()));
    let service = {
        let served = Arc::clone(&served);
        layer.layer(service_fn(move |n: usize| {
            served.lock().unwrap().push(n);
            async { Ok::<_, Infallible>(()) }
        }))
    };
    let mut requests = JoinSet::new();
    for n in 0..5 {
        requests.spawn(service.clone().oneshot(n));
        eventually("it queues", PATIENCE, async || {
            other.inspect().await.is_ok_and(|found| found.waiters_total == n as u64 + 1)
        })
        .await;
    }
    server.cmd(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    server.cmd(&["CLIENT", "KILL", "TYPE", "pubsub"]).await;
    drop(held);
    for ended in within(PATIENCE, requests.join_all()).await {
        ended.unwrap();
    }
    assert_eq!(*served.lock().unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!(tally.sent.load(SeqCst), 0);
}

/// A permit lives through an outage that is shorter than its lease.
#[tokio::test]
async fn held_permits_survive_an_outage_for_as_long_as_their_lease_is_provable() {
    let mut server = RedisServer::start().await;
    let client = Client::connect(server.url()).await.unwrap();
    let semaphore = client.semaphore("s", 1).lease(Duration::from_secs(20)).build().unwrap();
    let held = semaphore.acquire(1).await.unwrap();
    let tally = Arc::new(Tally::default());
    let service = capped(&semaphore, OutagePolicy::FailClosed, &tally);
    server.freeze();
    assert_eq!(send(service.clone(), &tally).await, End::Rejected);
    assert!(!held.is_lost());
    server.thaw();
    held.release().await.unwrap();
    eventually("counted again", PATIENCE, async || {
        send(service.clone(), &tally).await == End::Counted
    })
    .await;
}

/// A refusal to another semaphore of the client, for example in a failover, says nothing about one that has
/// not asked since: once there is a connection again, none of its requests is rejected.
#[tokio::test]
async fn a_semaphore_that_was_idle_in_an_outage_serves_all_who_come_after_it() {
    let server = RedisServer::start().await;
    let client = Client::connect(server.url()).await.unwrap();
    let busy = client.semaphore("busy", LIMIT).build().unwrap();
    let idle = client.semaphore("idle", LIMIT).build().unwrap();
    idle.acquire(1).await.unwrap().release().await.unwrap();
    server.cmd(&["REPLICAOF", "127.0.0.1", "1"]).await;
    busy.acquire(1).timeout(ms(300)).await.unwrap_err();
    server.cmd(&["REPLICAOF", "NO", "ONE"]).await;
    busy.acquire(1).await.unwrap().release().await.unwrap();

    sleep(AWAY_AFTER * 2).await;
    let tally = Arc::new(Tally::default());
    let service = capped(&idle, OutagePolicy::FailClosed, &tally);
    let requests = (0..10).map(|_| send(service.clone(), &tally));
    let ends = futures_util::future::join_all(requests).await;
    assert_eq!(ends, [End::Counted; 10]);
}

/// Errors that the server answers are an outage as well: there is a connection, or a new one each time, but
/// no permit.
#[tokio::test]
async fn a_server_that_refuses_to_write_counts_as_away_until_it_writes_again() {
    for [refuse, agree] in [
        [&["CONFIG", "SET", "maxmemory", "1"][..], &["CONFIG", "SET", "maxmemory", "0"]],
        [&["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]],
    ] {
        let server = RedisServer::start().await;
        let client = Client::connect(server.url()).await.unwrap();
        let semaphore = client.semaphore("s", LIMIT).build().unwrap();
        let tally = Arc::new(Tally::default());
        let service = capped(&semaphore, OutagePolicy::FailOpen, &tally);
        assert_eq!(send(service.clone(), &tally).await, End::Counted);
        server.cmd(refuse).await;
        // Only one request in a while waits, to find out whether the outage goes on.
        let (start, mut waited) = (Instant::now(), 0);
        while start.elapsed() < AWAY_AFTER * 5 {
            let sent = Instant::now();
            assert_eq!(send(service.clone(), &tally).await, End::Uncounted, "{refuse:?}");
            waited += u32::from(sent.elapsed() > AWAY_AFTER / 2);
            sleep(ms(5)).await;
        }
        assert!((1..=6).contains(&waited), "{refuse:?}: {waited} waited");
        server.cmd(agree).await;
        eventually("counted again", PATIENCE, async || {
            send(service.clone(), &tally).await == End::Counted
        })
        .await;
    }
}

/// A request that does not wait asks all the same; otherwise nobody would find out that the outage is over.
#[tokio::test]
async fn a_layer_without_patience_finds_out_when_the_server_writes_again() {
    let server = RedisServer::start().await;
    let client = Client::connect(server.url()).await.unwrap();
    let semaphore = client.semaphore("s", LIMIT).lease(ms(500)).build().unwrap();
    let layer =
        ZSetSemaphoreLayer::new(semaphore).outage_after(Duration::ZERO).release_on_response();
    let service = layer.layer(service_fn(async |n: u32| Ok::<_, Infallible>(n)));
    let ask = async || within(PATIENCE, service.clone().oneshot(1)).await;
    ask().await.unwrap();
    server.cmd(&["CONFIG", "SET", "maxmemory", "1"]).await;
    ask().await.unwrap_err();
    // For this long the client asks about what that request may have left in the store.
    sleep(Duration::from_secs(13)).await;
    server.cmd(&["CONFIG", "SET", "maxmemory", "0"]).await;
    // Nobody has asked for a while, so all requests that come now may find out.
    for ended in futures_util::future::join_all((0..10).map(|_| ask())).await {
        ended.unwrap();
    }
}
