//! The layer around an axum router, with real clients on real sockets.

use std::convert::Infallible;
use std::io;

use ::http::{Method, Request, StatusCode};
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use futures_util::{Stream, StreamExt, stream};
use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tower::{Layer, ServiceExt};
use zset_semaphore::tower::ZSetSemaphoreLayer;

use crate::probe::{Tally, idle, semaphore, settled};
use crate::wire::{Connection, serve};
use test_support::wait::POLL_EVERY;

const LIMIT: u32 = 4;

/// Counts as running until it has been dropped.
fn counted<S>(tally: &Tally, stream: S) -> Body
where
    S: Stream<Item = &'static str> + Send + 'static,
{
    let running = tally.enter();
    Body::from_stream(stream.map(move |token| {
        let _ = &running;
        Ok::<_, Infallible>(token)
    }))
}

/// A few tokens, each in a poll of its own.
fn tokens(n: usize) -> impl Stream<Item = &'static str> {
    stream::iter(0..n).then(async |_| {
        tokio::task::yield_now().await;
        "token "
    })
}

/// A chat that sends its first token at once, and no other.
fn endless(tally: &Tally) -> Body {
    counted(tally, tokens(1).chain(stream::pending()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_streams_counted_by_the_handler_reach_the_limit_and_never_pass_it() {
    let chats = semaphore(LIMIT);
    let tally = Tally::default();
    let handler = {
        let tally = tally.clone();
        move || async move {
            // The first few wait for each other, which proves that this many can run at once.
            let full = tally.clone();
            let all_here = stream::once(async move {
                while full.peak() < LIMIT as usize {
                    tokio::time::sleep(POLL_EVERY).await;
                }
                "all here "
            });
            counted(&tally, tokens(5).chain(all_here).chain(tokens(5)))
        }
    };
    let server = serve(&chats, Router::new().route("/chat", get(handler))).await;

    let crowd = (0..40).map(async |_| {
        let mut connection = Connection::open(&server).await;
        for _ in 0..3 {
            let response = connection.get("/chat").await;
            assert_eq!(response.status(), StatusCode::OK);
            let text = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(text.split(|byte| *byte == b' ').count(), 13);
        }
    });
    futures_util::future::join_all(crowd).await;

    idle(&chats).await;
    assert_eq!((tally.peak(), tally.running()), (LIMIT as usize, 0));
}

#[tokio::test]
async fn a_client_that_disconnects_mid_stream_frees_its_slot_at_once() {
    let chats = semaphore(1);
    let tally = Tally::default();
    let handler = {
        let tally = tally.clone();
        move || async move { endless(&tally) }
    };
    let server = serve(&chats, Router::new().route("/chat", get(handler))).await;

    let mut first = Connection::open(&server).await;
    let mut chat = first.get("/chat").await;
    assert_eq!(chat.frame().await.unwrap().unwrap().into_data().unwrap(), "token ");
    let mut second = Connection::open(&server).await;
    let mut queued = Box::pin(second.get("/chat"));
    tokio::select! {
        _ = &mut queued => panic!("let in beside the first"),
        () = settled(&chats, 1, 1) => {}
    }

    drop(first);
    assert_eq!(queued.await.status(), StatusCode::OK);
    assert_eq!(tally.peak(), 1);
    drop(second);
    idle(&chats).await;
    assert_eq!(tally.running(), 0);
}

#[tokio::test]
async fn a_queued_client_that_disconnects_leaves_the_queue() {
    let chats = semaphore(1);
    let held = chats.acquire(1).await.unwrap();
    let tally = Tally::default();
    let handler = {
        let tally = tally.clone();
        move || async move { endless(&tally) }
    };
    let server = serve(&chats, Router::new().route("/chat", get(handler))).await;

    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Connection::open(&server).await;
        clients.push(tokio::spawn(async move { drop(client.get("/chat").await) }));
    }
    settled(&chats, 1, 3).await;
    clients[1].abort();
    settled(&chats, 1, 2).await;
    for client in clients {
        client.abort();
    }
    settled(&chats, 1, 0).await;
    drop(held);
    idle(&chats).await;
    assert_eq!(tally.peak(), 0, "none of them reached the handler");
}

/// All of them over one connection, which stays open.
#[tokio::test]
async fn head_204_errors_and_whole_bodies_leave_nothing_held_on_a_kept_connection() {
    let chats = semaphore(1);
    let tally = Tally::default();
    let stream = {
        let tally = tally.clone();
        move || async move { counted(&tally, tokens(3)) }
    };
    let routes = Router::new()
        .route("/stream", get(stream))
        .route("/none", get(async || StatusCode::NO_CONTENT))
        .route("/text", get(async || "text"))
        .route("/error", get(async || (StatusCode::INTERNAL_SERVER_ERROR, "no")));
    let server = serve(&chats, routes).await;
    let mut client = Connection::open(&server).await;
    for (method, path, status, body) in [
        (Method::HEAD, "/stream", 200, ""),
        (Method::HEAD, "/text", 200, ""),
        (Method::GET, "/none", 204, ""),
        (Method::GET, "/error", 500, "no"),
        (Method::GET, "/nowhere", 404, ""),
        (Method::GET, "/text", 200, "text"),
        (Method::GET, "/stream", 200, "token token token "),
    ] {
        let response = client.send(method, path).await.unwrap();
        assert_eq!(response.status(), status, "{path}");
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), body, "{path}");
        idle(&chats).await;
        assert_eq!(tally.running(), 0, "{path}");
    }
}

#[tokio::test]
async fn a_handler_that_panics_or_a_body_that_fails_frees_the_slot() {
    let chats = semaphore(1);
    let broken = || async {
        let tokens = stream::iter([Ok("token "), Err(io::Error::other("upstream went away"))]);
        Body::from_stream(tokens)
    };
    let panics = async || -> &'static str { panic!("as told") };
    let routes = Router::new().route("/broken", get(broken)).route("/panics", get(panics));
    let server = serve(&chats, routes).await;

    let mut client = Connection::open(&server).await;
    client.send(Method::GET, "/panics").await.unwrap_err();
    idle(&chats).await;

    let mut client = Connection::open(&server).await;
    // Hyper may close the connection before the head is out.
    let read = async { client.send(Method::GET, "/broken").await?.collect().await };
    read.await.unwrap_err();
    idle(&chats).await;
}

/// Behaviour 45, with as many connections as a test may have in one process.
#[tokio::test]
async fn idle_connections_hold_nothing() {
    let chats = semaphore(LIMIT);
    let tally = Tally::default();
    let handler = {
        let tally = tally.clone();
        move || async move { endless(&tally) }
    };
    let routes = Router::new().route("/text", get(async || "text")).route("/chat", get(handler));
    let server = serve(&chats, routes).await;

    let mut idlers = Vec::new();
    for _ in 0..100 {
        let mut idler = Connection::open(&server).await;
        let response = idler.get("/text").await;
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "text");
        idlers.push(idler);
    }
    idle(&chats).await;
    let mut others = Vec::new();
    for _ in 0..LIMIT {
        let mut other = Connection::open(&server).await;
        let chat = other.get("/chat").await;
        others.push((other, chat));
    }
    settled(&chats, u64::from(LIMIT), 0).await;
    assert_eq!(tally.running(), LIMIT as usize);
    drop(others);
    idle(&chats).await;
}

#[tokio::test]
async fn a_rejection_reaches_the_client_as_the_error_handler_says() {
    let chats = semaphore(1);
    let server = serve(&chats, Router::new().route("/text", get(async || "text"))).await;
    chats.close();
    let response = Connection::open(&server).await.get("/text").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, r#"semaphore "chats": the semaphore is closed"#);
}

/// The basis of Behaviour 46: the same layer around an outgoing client.
#[tokio::test]
async fn an_outgoing_client_is_capped() {
    let (unlimited, calls) = (semaphore(1000), semaphore(2));
    let tally = Tally::default();
    let handler = {
        let tally = tally.clone();
        move || async move { counted(&tally, tokens(5)) }
    };
    let server = serve(&unlimited, Router::new().route("/chat", get(handler))).await;
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let client = ZSetSemaphoreLayer::new(calls.clone()).layer(client);

    let crowd = (0..20).map(async |_| {
        let uri = format!("http://{}/chat", server.address);
        let request = Request::get(uri).body(Empty::new()).unwrap();
        let response = client.clone().oneshot(request).await.unwrap();
        response.into_body().collect().await.unwrap().to_bytes()
    });
    for text in futures_util::future::join_all(crowd).await {
        assert_eq!(text, "token token token token token ");
    }
    assert!(tally.peak() <= 2, "{} at once", tally.peak());
    idle(&calls).await;
}
