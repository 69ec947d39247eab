//! Behaviour 44, over HTTP/1.1 and HTTP/2: clients that go away, read slowly or send much; and what the
//! handler gets of a body that was read ahead.

use std::convert::Infallible;
use std::sync::Arc;

use ::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use hyper::body::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use zset_semaphore::ZSetSemaphore;
use zset_semaphore::tower::ZSetSemaphoreLayer;

use crate::probe::{Tally, idle, semaphore, settled};
use crate::web::{Client, Sent, Upload, VERSIONS, Version, Web, bytes};
use test_support::wait::{PATIENCE, within};

const AHEAD: usize = 256 * 1024;

/// Sends the body back, and its trailers as a header.
async fn echo(tally: Tally, request: Request) -> Response {
    let running = tally.enter();
    let whole = match request.into_body().collect().await {
        Ok(whole) => whole,
        Err(error) => return (StatusCode::BAD_REQUEST, error.to_string()).into_response(),
    };
    let sum = whole.trailers().and_then(|trailers| trailers.get("x-sum")).cloned();
    let text = whole.to_bytes();
    let answer = stream::once(async move {
        drop(running);
        Ok::<_, Infallible>(text)
    });
    let mut response = Response::new(Body::from_stream(answer));
    if let Some(sum) = sum {
        response.headers_mut().insert("x-sum", sum);
    }
    response
}

/// A chat that sends its first token at once, and no other.
async fn endless(tally: Tally, request: Request) -> Response {
    let running = tally.enter();
    if let Err(error) = request.into_body().collect().await {
        return (StatusCode::BAD_REQUEST, error.to_string()).into_response();
    }
    let tokens = stream::iter(["token "]).chain(stream::pending());
    Response::new(Body::from_stream(tokens.map(move |token| {
        let _ = &running;
        Ok::<_, Infallible>(token)
    })))
}

const FLOOD: usize = 64 << 20;

/// More than fits into all buffers between the server and the client.
async fn flood(tally: Tally, poured: Sent) -> Response {
    let running = tally.enter();
    let drops = stream::iter(0..FLOOD / 0x10000).map(move |_| {
        let _ = &running;
        poured.add(0x10000);
        Ok::<_, Infallible>(Bytes::from_static(&[7; 0x10000]))
    });
    Response::new(Body::from_stream(drops))
}

struct Capped {
    chats: ZSetSemaphore,
    tally: Tally,
    /// The bytes that the handler of `/flood` has yielded.
    poured: Sent,
    /// The bytes of request bodies that have reached the layer.
    arrived: Sent,
    server: Web,
}

/// All routes behind one layer.
async fn capped(limit: u32, read_ahead: u64) -> Capped {
    let chats = semaphore(limit);
    let (tally, poured, arrived) = (Tally::default(), Sent::default(), Sent::default());
    let routes = Router::new()
        .route("/echo", {
            let tally = tally.clone();
            post(move |request| echo(tally.clone(), request))
        })
        .route("/endless", {
            let tally = tally.clone();
            post(move |request| endless(tally.clone(), request))
        })
        .route("/flood", {
            let (tally, poured) = (tally.clone(), poured.clone());
            get(move || flood(tally.clone(), poured.clone()))
        })
        .route("/panics", {
            let tally = tally.clone();
            post(async move |body: Bytes| -> StatusCode {
                let _running = tally.enter();
                panic!("as told, with {} bytes", body.len())
            })
        })
        .route("/none", post(async |_: Bytes| StatusCode::NO_CONTENT))
        .route("/error", post(async |_: Bytes| (StatusCode::INTERNAL_SERVER_ERROR, "no")));
    let count = arrived.clone();
    let app = routes
        .layer(ZSetSemaphoreLayer::new(chats.clone()).answer().read_ahead(read_ahead))
        .layer(axum::middleware::map_request(move |request: Request| {
            let count = count.clone();
            async move {
                request.map(|body| {
                    Body::new(body.map_frame(move |frame| {
                        count.add(frame.data_ref().map_or(0, Bytes::len));
                        frame
                    }))
                })
            }
        }));
    let server = Web::serve(app).await;
    Capped { chats, tally, poured, arrived, server }
}

impl Capped {
    async fn client(&self, version: Version) -> Client {
        Client::open(version, &self.server).await
    }

    async fn nothing_is_left(&self) {
        idle(&self.chats).await;
        assert_eq!(self.tally.running(), 0);
    }
}

fn sum() -> HeaderMap {
    HeaderMap::from_iter([("x-sum".parse().unwrap(), HeaderValue::from_static("42"))])
}

/// The ways to send a body of this many bytes, each with how many bytes of it are sent in the end.
fn bodies(sizes: &[usize]) -> Vec<(Upload, usize)> {
    let of = |&size: &usize| {
        let (all, half) = (bytes(size), size / 2);
        [
            (Upload::whole(all.clone()), size),
            (Upload::chunked(all.clone()), size),
            (Upload::chunked(all.clone()).trailed_by(sum()), size),
            (Upload::whole(all.clone()).stalling_after(half), half),
            (Upload::chunked(all).stalling_after(half), half),
        ]
    };
    sizes.iter().flat_map(of).collect()
}

async fn who_goes_away_leaves_the_queue(version: Version) {
    let capped = capped(1, AHEAD as u64).await;
    let held = capped.chats.acquire(1).await.unwrap();
    for all_sent in [false, true] {
        for (upload, size) in bodies(&[0, 1000, 20_000, 200_000]) {
            let sent = upload.sent();
            let queued = capped.client(version).await.posting("/echo", upload);
            settled(&capped.chats, 1, 1).await;
            if all_sent {
                sent.reaches(size).await;
            }
            queued.abort();
            settled(&capped.chats, 1, 0).await;
        }
    }
    assert_eq!(capped.tally.peak(), 0, "none of them reached the handler");
    drop(held);
    capped.nothing_is_left().await;
}

#[tokio::test]
async fn a_queued_client_that_goes_away_leaves_the_queue_over_http_1() {
    who_goes_away_leaves_the_queue(Version::Http1).await;
}

#[tokio::test]
async fn a_queued_client_that_goes_away_leaves_the_queue_over_http_2() {
    who_goes_away_leaves_the_queue(Version::Http2).await;
}

/// The purpose of reading ahead. A later event proves that nothing came before it.
#[tokio::test]
async fn without_reading_ahead_http_1_does_not_see_that_a_client_with_a_large_body_has_gone() {
    let capped = capped(1, 0).await;
    let held = capped.chats.acquire(1).await.unwrap();
    let upload = Upload::whole(bytes(200_000));
    let sent = upload.sent();
    let large = capped.client(Version::Http1).await.posting("/echo", upload);
    settled(&capped.chats, 1, 1).await;
    sent.reaches(200_000).await;
    large.abort();
    for _ in 0..10 {
        let small = capped.client(Version::Http1).await.posting("/echo", Upload::none());
        settled(&capped.chats, 1, 2).await;
        small.abort();
        settled(&capped.chats, 1, 1).await;
    }
    drop(held);
    capped.nothing_is_left().await;
}

async fn the_handler_gets_the_body_as_it_was_sent(version: Version) {
    let capped = capped(1, AHEAD as u64).await;
    for size in [0, 1, 1000, 20_000, 200_000, AHEAD - 1, AHEAD, AHEAD + 1, 1_000_000] {
        let all = bytes(size);
        for (upload, trailers) in [
            (Upload::whole(all.clone()), false),
            (Upload::chunked(all.clone()), false),
            (Upload::chunked(all.clone()).trailed_by(sum()), true),
        ] {
            let held = capped.chats.acquire(1).await.unwrap();
            let queued = capped.client(version).await.posting("/echo", upload);
            settled(&capped.chats, 1, 1).await;
            drop(held);
            let (_client, response) = within(PATIENCE, queued).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
            assert_eq!(response.headers().contains_key("x-sum"), trailers, "{size}");
            let got = response.into_body().collect().await.unwrap().to_bytes();
            assert!(got == all, "{size} bytes came back as {}, or other ones", got.len());
            capped.nothing_is_left().await;
        }
    }
}

#[tokio::test]
async fn the_handler_gets_a_body_read_ahead_as_it_was_sent_over_http_1() {
    the_handler_gets_the_body_as_it_was_sent(Version::Http1).await;
}

#[tokio::test]
async fn the_handler_gets_a_body_read_ahead_as_it_was_sent_over_http_2() {
    the_handler_gets_the_body_as_it_was_sent(Version::Http2).await;
}

#[tokio::test]
async fn no_more_is_read_ahead_than_the_bound_and_the_rest_comes_when_the_handler_reads() {
    for version in VERSIONS {
        for ahead in [0, 1000, AHEAD] {
            let capped = capped(1, ahead as u64).await;
            let held = capped.chats.acquire(1).await.unwrap();
            let all = bytes(8 << 20);
            let upload = Upload::chunked(all.clone());
            let queued = capped.client(version).await.posting("/echo", upload);
            settled(&capped.chats, 1, 1).await;
            // Less than the bound, since the bookkeeping counts as well.
            capped.arrived.reaches(ahead * 9 / 10).await;
            let arrived = capped.arrived.stalls().await;
            // The frame that reached the bound was read whole; hyper has up to 400 KiB in one.
            let most = if ahead == 0 { 0 } else { ahead + 400 * 1024 };
            assert!(arrived <= most, "{version:?}: {arrived} bytes of {ahead}");
            drop(held);
            let (_client, response) = within(PATIENCE, queued).await.unwrap();
            let got = response.into_body().collect().await.unwrap().to_bytes();
            assert!(got == all, "{version:?}: {} bytes came back, or other ones", got.len());
            assert_eq!(capped.arrived.bytes(), all.len());
            capped.nothing_is_left().await;
        }
    }
}

/// The request was let through with what had come of its body.
#[tokio::test]
async fn a_client_that_goes_away_while_the_handler_reads_its_body_frees_its_slot() {
    for version in VERSIONS {
        let capped = capped(1, AHEAD as u64).await;
        for upload in [Upload::whole(bytes(200_000)), Upload::chunked(bytes(200_000))] {
            let held = capped.chats.acquire(1).await.unwrap();
            let upload = upload.stalling_after(100_000);
            let queued = capped.client(version).await.posting("/echo", upload);
            settled(&capped.chats, 1, 1).await;
            drop(held);
            let reading = || capped.tally.running() == 1;
            test_support::wait::eventually("let in", PATIENCE, async || reading()).await;
            settled(&capped.chats, 1, 0).await;
            queued.abort();
            capped.nothing_is_left().await;
        }
    }
}

#[tokio::test]
async fn a_client_that_goes_away_mid_stream_frees_its_slot_at_once_whatever_it_has_sent() {
    for version in VERSIONS {
        let capped = capped(1, AHEAD as u64).await;
        for size in [0, 1000, 20_000, 200_000, 1_000_000] {
            let mut first = capped.client(version).await;
            let mut chat = first.post("/endless", Upload::chunked(bytes(size))).await;
            assert_eq!(chat.frame().await.unwrap().unwrap().into_data().unwrap(), "token ");
            let second = capped.client(version).await.posting("/endless", Upload::none());
            settled(&capped.chats, 1, 1).await;
            drop(first);
            let second = within(PATIENCE, second).await.unwrap();
            assert_eq!(capped.tally.running(), 1);
            drop(second);
            capped.nothing_is_left().await;
        }
        assert_eq!(capped.tally.peak(), 1);
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_frees_its_slot_and_the_connection_goes_on() {
    let capped = capped(1, AHEAD as u64).await;
    let mut client = capped.client(Version::Http2).await;
    for _ in 0..5 {
        let mut chat = client.post("/endless", Upload::whole(bytes(1000))).await;
        chat.frame().await.unwrap().unwrap();
        settled(&capped.chats, 1, 0).await;
        // First queued on the same connection, then not.
        tokio::select! {
            _ = client.post("/endless", Upload::whole(bytes(200_000))) => panic!("let in"),
            () = settled(&capped.chats, 1, 1) => {}
        }
        settled(&capped.chats, 1, 0).await;
        drop(chat);
        capped.nothing_is_left().await;
    }
    assert_eq!(capped.tally.peak(), 1);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_its_slot_until_it_reads_or_goes_away() {
    for version in VERSIONS {
        for reads in [true, false] {
            let capped = capped(1, AHEAD as u64).await;
            let mut slow = capped.client(version).await;
            let flood = slow.get("/flood").await;
            let poured = capped.poured.stalls().await;
            assert!(0 < poured && poured < FLOOD, "{version:?}: {poured} bytes");
            settled(&capped.chats, 1, 0).await;
            let next = capped.client(version).await.posting("/echo", Upload::none());
            settled(&capped.chats, 1, 1).await;
            assert_eq!(capped.poured.bytes(), poured, "nobody read meanwhile");
            if reads {
                let mut got = 0;
                let mut body = flood.into_body();
                while let Some(frame) = within(PATIENCE, body.frame()).await {
                    got += frame.unwrap().data_ref().map_or(0, Bytes::len);
                }
                assert_eq!(got, FLOOD);
            } else {
                drop(slow);
            }
            let (_client, response) = within(PATIENCE, next).await.unwrap();
            response.into_body().collect().await.unwrap();
            capped.nothing_is_left().await;
            assert_eq!(capped.tally.peak(), 1);
        }
    }
}

#[tokio::test]
async fn many_requests_over_one_connection_leave_nothing_held_in_between() {
    for version in VERSIONS {
        let capped = capped(1, AHEAD as u64).await;
        let mut client = capped.client(version).await;
        for size in [0, 1000, 200_000] {
            let all = bytes(size);
            for (method, path, status, body) in [
                (Method::POST, "/echo", 200, None),
                (Method::POST, "/none", 204, Some("")),
                (Method::POST, "/error", 500, Some("no")),
                (Method::POST, "/nowhere", 404, Some("")),
                (Method::PUT, "/echo", 405, Some("")),
                (Method::HEAD, "/flood", 200, Some("")),
                (Method::POST, "/echo", 200, None),
            ] {
                // A server may close a connection over a body that no handler has read.
                let upload = match status {
                    404 | 405 => Upload::none(),
                    _ if method == Method::HEAD => Upload::none(),
                    _ => Upload::whole(all.clone()),
                };
                let response = client.send(method, path, upload).await.unwrap();
                assert_eq!(response.status(), status, "{version:?} {path}");
                let got = response.into_body().collect().await.unwrap().to_bytes();
                let expected = body.map_or(all.clone(), Bytes::from);
                assert!(got == expected, "{version:?} {path} {size}");
                capped.nothing_is_left().await;
            }
        }
        assert_eq!(capped.tally.peak(), 1);
    }
}

#[tokio::test]
async fn a_handler_that_panics_frees_its_slot_whatever_it_was_sent() {
    for version in VERSIONS {
        let capped = capped(1, AHEAD as u64).await;
        for size in [0, 1000, 200_000] {
            let held = capped.chats.acquire(1).await.unwrap();
            let mut client = capped.client(version).await;
            let asked = tokio::spawn(async move {
                client.send(Method::POST, "/panics", Upload::whole(bytes(size))).await.map(drop)
            });
            settled(&capped.chats, 1, 1).await;
            drop(held);
            within(PATIENCE, asked).await.unwrap().unwrap_err();
            capped.nothing_is_left().await;
        }
        assert_eq!(capped.tally.peak(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crowd_that_comes_and_goes_never_passes_the_limit_and_leaves_nothing() {
    const LIMIT: u32 = 3;
    let capped = Arc::new(capped(LIMIT, 10_000).await);
    let crowd: Vec<_> = (0..80)
        .map(|n| {
            let capped = Arc::clone(&capped);
            tokio::spawn(async move {
                let version = VERSIONS[n % 2];
                let size = [0, 1000, 20_000, 200_000][n / 2 % 4];
                let upload = Upload::chunked(bytes(size));
                let sent = upload.sent();
                let client = capped.client(version).await;
                match n % 5 {
                    // The client goes away at an arbitrary point.
                    0 => {
                        let asked = client.posting("/echo", upload);
                        sent.reaches(size / 2).await;
                        asked.abort();
                    }
                    1 => {
                        let asked = client.posting("/endless", upload.stalling_after(size / 2));
                        sent.reaches(size / 2).await;
                        asked.abort();
                    }
                    2 => {
                        let (_client, mut chat) = client.posting("/endless", upload).await.unwrap();
                        chat.frame().await.unwrap().unwrap();
                    }
                    _ => {
                        let (_client, response) = client.posting("/echo", upload).await.unwrap();
                        let got = response.into_body().collect().await.unwrap().to_bytes();
                        assert!(got == bytes(size));
                    }
                }
            })
        })
        .collect();
    for one in crowd {
        within(PATIENCE, one).await.unwrap();
    }
    idle(&capped.chats).await;
    assert!(capped.tally.peak() <= LIMIT as usize, "{} at once", capped.tally.peak());
    assert_eq!(capped.tally.running(), 0);
}

/// `Expect: 100-continue`: the client sends its body when it is told to. One that goes away before is
/// noticed then.
#[tokio::test]
async fn a_client_that_asks_first_is_told_to_send_its_body_when_it_is_let_in() {
    for goes_away in [true, false] {
        let capped = capped(1, AHEAD as u64).await;
        let held = capped.chats.acquire(1).await.unwrap();
        let mut socket = TcpStream::connect(capped.server.address).await.unwrap();
        let head = "POST /echo HTTP/1.1\r\nhost: here\r\ncontent-length: 200000\r\n\
                    connection: close\r\nexpect: 100-continue\r\n\r\n";
        socket.write_all(head.as_bytes()).await.unwrap();
        settled(&capped.chats, 1, 1).await;
        if goes_away {
            drop(socket);
            drop(held);
            capped.nothing_is_left().await;
            continue;
        }
        drop(held);
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
        let mut told = vec![0; go_on.len()];
        within(PATIENCE, socket.read_exact(&mut told)).await.unwrap();
        assert_eq!(told, go_on);
        settled(&capped.chats, 1, 0).await;
        socket.write_all(&bytes(200_000)).await.unwrap();
        let mut answer = Vec::new();
        within(PATIENCE, socket.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert_eq!(capped.tally.peak(), 1);
        capped.nothing_is_left().await;
    }
}
