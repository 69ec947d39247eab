//! Behaviour 67: readers that take nothing keep no stream alive past `max_hold` or the stall timeout. Over
//! real sockets, with an upstream that counts its own streams.

use std::convert::Infallible;
use std::time::Duration;

use ::http::Request;
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use futures_util::{FutureExt, StreamExt, stream};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tower::{Layer, ServiceExt};
use zset_semaphore::tower::{Answer, CappedBody, PermitLost, ReaderStalled, ZSetSemaphoreLayer};
use zset_semaphore::{Client, LostReason, ZSetSemaphore};

use crate::lost::kick;
use crate::probe::Step::{Data, Hang, Wait};
use crate::probe::{Probe, Script, Step, Tally, ask, idle, semaphore, settled};
use crate::web::{self, VERSIONS, Web};
use test_support::wait::{PATIENCE, eventually, within};

const LIMIT: u32 = 2;

/// Streams that yield one frame, nothing for long, or frames without end.
fn routes(tally: &Tally) -> Router {
    let (chatting, pouring) = (tally.clone(), tally.clone());
    let chat = async move || {
        let running = chatting.enter();
        let tokens = stream::iter(["token "]).chain(stream::pending());
        Body::from_stream(tokens.map(move |token| {
            let _ = &running;
            Ok::<_, Infallible>(token)
        }))
    };
    let flood = async move || {
        let running = pouring.enter();
        Body::from_stream(stream::repeat_with(move || {
            let _ = &running;
            Ok::<_, Infallible>(Bytes::from_static(&[7; 0x10000]))
        }))
    };
    Router::new().route("/chat", get(chat)).route("/flood", get(flood))
}

struct Gateway {
    chats: ZSetSemaphore,
    /// What the upstream counts of its own streams.
    upstream: Tally,
    web: Web,
}

impl Gateway {
    /// As many clients as the limit allows ask for a flood, and read nothing of it.
    async fn flood(&self, version: web::Version) -> Vec<(web::Client, Incoming)> {
        let mut clients = Vec::new();
        for _ in 0..LIMIT {
            let mut client = web::Client::open(version, &self.web).await;
            let body = within(PATIENCE, client.get("/flood")).await.into_body();
            clients.push((client, body));
        }
        clients
    }

    async fn ending_when_lost(max_hold: Duration) -> Self {
        let chats = Client::in_memory().semaphore("chats", LIMIT).max_hold(max_hold);
        Self::of(chats.build().unwrap(), |layer| layer.end_when_lost()).await
    }

    async fn ending_when_stalled(patience: Duration) -> Self {
        Self::of(semaphore(LIMIT), |layer| layer.stall_timeout(patience)).await
    }

    async fn of(
        chats: ZSetSemaphore,
        ending: impl FnOnce(ZSetSemaphoreLayer<Answer>) -> ZSetSemaphoreLayer<Answer>,
    ) -> Self {
        let upstream = Tally::default();
        let layer = ending(ZSetSemaphoreLayer::new(chats.clone()).answer());
        let web = Web::serve(routes(&upstream).layer(layer)).await;
        Self { chats, upstream, web }
    }

    async fn nothing_is_left(&self) {
        idle(&self.chats).await;
        eventually("no stream", PATIENCE, async || self.upstream.running() == 0).await;
    }
}

/// A client of HTTP/2 whose streams have a window of this many bytes.
struct Narrow {
    sender: http2::SendRequest<Empty<Bytes>>,
    connection: AbortHandle,
}

impl Narrow {
    async fn open(server: &Web, window: u32) -> Self {
        let io = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(window)
            .handshake(io)
            .await
            .unwrap();
        let connection = tokio::spawn(async { drop(connection.await) }).abort_handle();
        Self { sender, connection }
    }

    /// The head is there, and nothing is read of the body.
    async fn asks(&mut self, path: &str) -> Incoming {
        let request = Request::get(format!("http://here{path}")).body(Empty::new()).unwrap();
        within(PATIENCE, self.sender.send_request(request)).await.unwrap().into_body()
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Rounds of as many streams as the limit allows; each round is let through when the one before was held for
/// too long.
async fn rounds(path: &str, window: u32) {
    let gateway = Gateway::ending_when_lost(Duration::from_millis(100)).await;
    let mut client = Narrow::open(&gateway.web, window).await;
    let mut streams = Vec::new();
    for _ in 0..4 {
        for _ in 0..LIMIT {
            streams.push(client.asks(path).await);
        }
        settled(&gateway.chats, 0, 0).await;
    }
    assert!(gateway.upstream.peak() <= LIMIT as usize, "{} at once", gateway.upstream.peak());
    gateway.nothing_is_left().await;
    drop(streams);
}

#[tokio::test]
async fn streams_without_a_window_do_not_outlive_their_permits() {
    rounds("/chat", 0).await;
    rounds("/flood", 0).await;
}

#[tokio::test]
async fn streams_that_nobody_reads_do_not_outlive_their_permits() {
    rounds("/chat", 0x10000).await;
    rounds("/flood", 0x10000).await;
}

/// The stream over HTTP/1.1 has filled all buffers on the way.
#[tokio::test]
async fn responses_that_nobody_reads_do_not_outlive_their_permits() {
    for version in VERSIONS {
        let gateway = Gateway::ending_when_lost(Duration::from_millis(100)).await;
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.extend(gateway.flood(version).await);
            settled(&gateway.chats, 0, 0).await;
        }
        assert!(gateway.upstream.peak() <= LIMIT as usize, "{version:?}");
        gateway.nothing_is_left().await;
    }
}

/// The body ends with an error, so that it does not look complete.
#[tokio::test]
async fn a_reader_that_comes_back_late_gets_an_error_and_the_connection_goes_on() {
    let gateway = Gateway::ending_when_lost(Duration::from_millis(100)).await;
    let mut client = Narrow::open(&gateway.web, 0x10000).await;
    let mut late = client.asks("/flood").await;
    gateway.nothing_is_left().await;
    let end = loop {
        match within(PATIENCE, late.frame()).await {
            Some(Ok(_)) => {}
            end => break end,
        }
    };
    assert!(matches!(end, Some(Err(_))), "{end:?}");
    let mut next = client.asks("/chat").await;
    assert_eq!(next.frame().await.unwrap().unwrap().into_data().unwrap(), "token ");
    gateway.nothing_is_left().await;
}

/// As many clients as the limit allows stall, and as many others wait.
#[tokio::test]
async fn clients_that_read_nothing_lose_their_slots_to_those_who_wait() {
    for version in VERSIONS {
        let gateway = Gateway::ending_when_stalled(Duration::from_millis(200)).await;
        let mut clients = Vec::new();
        for _ in 0..4 {
            clients.extend(gateway.flood(version).await);
        }
        gateway.nothing_is_left().await;
        assert_eq!(gateway.upstream.peak(), LIMIT as usize, "{version:?}");
    }
}

#[tokio::test]
async fn streams_without_a_window_lose_their_slots_to_those_who_wait() {
    for path in ["/chat", "/flood"] {
        let gateway = Gateway::ending_when_stalled(Duration::from_millis(200)).await;
        let mut client = Narrow::open(&gateway.web, 0).await;
        let mut streams = Vec::new();
        for _ in 0..4 * LIMIT {
            streams.push(client.asks(path).await);
        }
        gateway.nothing_is_left().await;
        assert_eq!(gateway.upstream.peak(), LIMIT as usize, "{path}");
    }
}

const STALL: Duration = Duration::from_secs(5);

/// A response of these steps, by a layer with a stall timeout, with `answer` and without.
async fn response(answer: bool, steps: &[Step]) -> (ZSetSemaphore, Tally, CappedBody<Script>) {
    let (chats, probe) = (semaphore(1), Probe::streaming(steps));
    let (layer, tally) = (ZSetSemaphoreLayer::new(chats.clone()), probe.tally.clone());
    let response = if answer {
        let layer = layer.end_when_lost().stall_timeout(STALL).answer();
        let service = layer.layer(probe.map_request(|_| ()));
        service.oneshot(Request::new(Body::empty())).await.unwrap()
    } else {
        layer.stall_timeout(STALL).end_when_lost().layer(probe).oneshot(ask()).await.unwrap()
    };
    (chats, tally, response.into_body())
}

async fn told<E>(body: &mut CappedBody<Script>) -> E
where
    E: std::error::Error + Send + Sync + 'static,
{
    let error = within(PATIENCE, body.frame()).await.unwrap().unwrap_err();
    let error = *error.downcast::<E>().unwrap();
    assert!(body.frame().await.is_none(), "once");
    error
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_reads_ends_with_the_stall_time_and_its_reader_is_told() {
    for read in [0, 1] {
        for answer in [false, true] {
            let start = Instant::now();
            let (chats, upstream, mut body) =
                response(answer, &[Data("to"), Data("ken"), Hang]).await;
            for _ in 0..read {
                body.frame().await.unwrap().unwrap();
            }
            settled(&chats, 1, 0).await;
            assert_eq!(upstream.running(), 1);
            drop(within(STALL * 2, chats.acquire(1)).await.unwrap());
            assert!(start.elapsed() - STALL < Duration::from_secs(1), "{:?}", start.elapsed());
            assert_eq!(upstream.running(), 0, "dropped before its permit went back");
            assert!(!body.is_end_stream());
            assert_eq!(told::<ReaderStalled>(&mut body).await, ReaderStalled(STALL));
            assert!(body.is_end_stream());
        }
    }
}

/// The body has nothing to give, so the reader cannot stall.
#[tokio::test(start_paused = true)]
async fn a_silent_body_and_a_slow_reader_do_not_stall() {
    for answer in [false, true] {
        let (chats, _, mut body) =
            response(answer, &[Data("to"), Data("k"), Data("en"), Hang]).await;
        for _ in 0..3 {
            tokio::time::sleep(STALL * 9 / 10).await;
            body.frame().await.unwrap().unwrap();
        }
        let silence = tokio::time::timeout(STALL * 100, body.frame());
        assert!(silence.await.is_err());
        settled(&chats, 1, 0).await;
        drop(body);
        idle(&chats).await;
    }
}

/// A reader may have looked once, found nothing, and not come again though it was woken.
#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_heed_its_wake_up_stalls() {
    for answer in [false, true] {
        let (chats, upstream, mut body) =
            response(answer, &[Data("to"), Wait, Data("ken"), Hang]).await;
        body.frame().await.unwrap().unwrap();
        assert!(body.frame().now_or_never().is_none());
        drop(within(STALL * 2, chats.acquire(1)).await.unwrap());
        assert_eq!(upstream.running(), 0);
        assert_eq!(told::<ReaderStalled>(&mut body).await, ReaderStalled(STALL));
    }
}

/// The reader is told the first reason that ends a body, and is woken if it waits.
#[tokio::test(start_paused = true)]
async fn both_ends_of_a_body_are_kept_in_whatever_order_they_are_asked_for() {
    for answer in [false, true] {
        let (chats, upstream, mut body) = response(answer, &[Data("token"), Hang]).await;
        body.frame().await.unwrap().unwrap();
        let reader = tokio::spawn(async move { told::<PermitLost>(&mut body).await });
        settled(&chats, 1, 0).await;
        kick(&chats).await;
        assert_eq!(reader.await.unwrap(), PermitLost(LostReason::Kicked));
        assert_eq!(upstream.running(), 0);
        idle(&chats).await;
    }
}

/// The watcher is gone.
#[tokio::test(start_paused = true)]
async fn a_body_that_was_read_to_its_end_cannot_stall() {
    for answer in [false, true] {
        let (chats, _, mut body) = response(answer, &[Data("to"), Data("ken")]).await;
        for _ in 0..2 {
            body.frame().await.unwrap().unwrap();
        }
        idle(&chats).await;
        tokio::time::sleep(STALL * 10).await;
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }
}

/// A body that has panicked is gone.
#[tokio::test(start_paused = true)]
async fn a_body_that_panics_gives_its_permit_back() {
    for answer in [false, true] {
        let (chats, upstream, mut body) = response(answer, &[Data("to"), Step::Panic]).await;
        body.frame().await.unwrap().unwrap();
        let polled = tokio::spawn(async move {
            let panicked = std::panic::AssertUnwindSafe(body.frame()).catch_unwind().await;
            assert!(panicked.is_err());
            body
        });
        let mut body = polled.await.unwrap();
        idle(&chats).await;
        assert_eq!(upstream.running(), 0);
        assert!(body.is_end_stream());
        assert!(body.frame().await.is_none());
    }
}

/// The reader is told all the same.
#[tokio::test(start_paused = true)]
async fn a_body_that_panics_as_it_is_dropped_gives_its_permit_back_and_wakes_its_reader() {
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("as it is dropped");
        }
    }
    let chats = semaphore(1);
    let bad = async || {
        let (tokens, bad) = (stream::iter(["token"]).chain(stream::pending()), Bad);
        Body::from_stream(tokens.map(move |token| {
            let _ = &bad;
            Ok::<_, Infallible>(token)
        }))
    };
    let layer = ZSetSemaphoreLayer::new(chats.clone()).end_when_lost().answer();
    let app: Router = Router::new().route("/", get(bad)).layer(layer);
    let mut body = app.oneshot(Request::new(Body::empty())).await.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    let reader = tokio::spawn(async move { body.frame().await.unwrap().is_err() });
    settled(&chats, 1, 0).await;
    kick(&chats).await;
    assert!(within(PATIENCE, reader).await.unwrap());
    idle(&chats).await;
}
