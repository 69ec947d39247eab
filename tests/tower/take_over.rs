//! Permits that a handler takes over, for work that outlives the response.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ::http::{Request, Response, StatusCode};
use axum::extract::ws::WebSocketUpgrade;
use axum::{Extension, Router, routing::get};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use zset_semaphore::tower::{Admitted, OutagePolicy, OwnedAdmission, ZSetSemaphoreLayer};
use zset_semaphore::{Client, LostReason};

use crate::lost::kick;
use crate::probe::{Script, Step, ask, idle, semaphore, settled};
use crate::web::Web;
use test_support::wait::{PATIENCE, within};

/// Does the handshake of a WebSocket, as a browser does.
async fn web_socket(server: &Web) -> TcpStream {
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = "GET / HTTP/1.1\r\nhost: here\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
                sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(within(PATIENCE, socket.read_u8()).await.unwrap());
    }
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    socket
}

async fn get_head(server: &Web) -> StatusCode {
    let mut client = crate::web::Client::open(crate::web::Version::Http1, server).await;
    within(PATIENCE, client.get("/")).await.status()
}

#[tokio::test]
async fn a_web_socket_holds_its_slots_until_it_closes() {
    let store = Client::in_memory();
    let of = |name: &str| store.semaphore(name, 1).build().unwrap();
    let (user, cluster) = (of("per-user"), of("cluster"));
    let talk = async |Extension(admitted): Extension<Admitted>, upgrade: WebSocketUpgrade| {
        let held = admitted.take_all();
        upgrade.on_upgrade(async move |mut socket| {
            while let Some(Ok(_)) = socket.recv().await {}
            drop(held);
        })
    };
    let stack = ServiceBuilder::new()
        .layer(ZSetSemaphoreLayer::new(user.clone()).reject_when_full().answer())
        .layer(ZSetSemaphoreLayer::new(cluster.clone()).reject_when_full().answer());
    let server = Web::serve(Router::new().route("/", get(talk)).layer(stack)).await;
    for _ in 0..3 {
        let socket = web_socket(&server).await;
        settled(&user, 1, 0).await;
        settled(&cluster, 1, 0).await;
        assert_eq!(get_head(&server).await, StatusCode::SERVICE_UNAVAILABLE);
        drop(socket);
        idle(&user).await;
        idle(&cluster).await;
    }
}

/// Without `take` the permit is released, since the response to an upgrade has no body.
#[tokio::test]
async fn a_web_socket_whose_handler_takes_nothing_is_not_capped() {
    let chats = semaphore(1);
    let talk = async |upgrade: WebSocketUpgrade| {
        upgrade.on_upgrade(async |mut socket| while let Some(Ok(_)) = socket.recv().await {})
    };
    let layer = ZSetSemaphoreLayer::new(chats.clone()).answer();
    let server = Web::serve(Router::new().route("/", get(talk)).layer(layer)).await;
    let _sockets = (web_socket(&server).await, web_socket(&server).await);
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn spawned_work_holds_its_slot_until_it_is_done() {
    let chats = semaphore(1);
    let done = Arc::new(Notify::new());
    let layer = ZSetSemaphoreLayer::new(chats.clone());
    let begin = service_fn({
        let done = Arc::clone(&done);
        move |request: Request<()>| {
            let held = request.extensions().get::<Admitted>().unwrap().take_all();
            let done = Arc::clone(&done);
            tokio::spawn(async move {
                done.notified().await;
                drop(held);
            });
            std::future::ready(Ok::<_, Infallible>(Response::new(Script::of([]))))
        }
    });
    drop(layer.layer(begin).oneshot(ask()).await.unwrap());
    let next = tokio::spawn(chats.acquire(1));
    settled(&chats, 1, 1).await;
    done.notify_one();
    drop(within(PATIENCE, next).await.unwrap().unwrap());
    idle(&chats).await;
}

/// Streams for ever, and hands its admission to the test.
async fn streaming(request: Request<()>) -> Result<Response<Script>, Infallible> {
    let mut response = Response::new(Script::of([Step::Data("token"), Step::Hang]));
    let admitted = request.extensions().get::<Admitted>().unwrap().clone();
    response.extensions_mut().insert(admitted);
    Ok(response)
}

fn admitted<B>(response: &Response<B>) -> Admitted {
    response.extensions().get::<Admitted>().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_has_one_owner_and_what_is_not_goes_with_the_body() {
    let chats = semaphore(1);
    let service = ZSetSemaphoreLayer::new(chats.clone()).layer(service_fn(streaming));

    let response = service.clone().oneshot(ask()).await.unwrap();
    let taken_by = admitted(&response);
    let held = taken_by.iter().next().unwrap().take().unwrap();
    assert_eq!(held.limit_name(), "chats");
    assert_eq!(held.permit().unwrap().id(), taken_by.permit("chats").unwrap().id());
    assert!(taken_by.iter().next().unwrap().take().is_none(), "one owner");
    assert!(taken_by.take_all().is_empty());
    drop(response);
    settled(&chats, 1, 0).await;
    drop(held);
    idle(&chats).await;

    let response = service.oneshot(ask()).await.unwrap();
    let late = admitted(&response);
    settled(&chats, 1, 0).await;
    drop(response);
    idle(&chats).await;
    assert!(late.take_all().is_empty(), "the body gave it back");
}

/// A handler takes over while the response ends: exactly one of the two gets the permit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_first_has_it() {
    let chats = semaphore(1);
    let service = ZSetSemaphoreLayer::new(chats.clone()).layer(service_fn(streaming));
    for _ in 0..500 {
        let response = within(PATIENCE, service.clone().oneshot(ask())).await.unwrap();
        let takes = admitted(&response);
        let taking = tokio::spawn(async move { takes.take_all() });
        drop(response);
        let held: Vec<OwnedAdmission> = taking.await.unwrap();
        assert!(held.len() <= 1);
        if let [held] = &*held {
            assert!(!held.permit().unwrap().is_lost());
            assert_eq!(chats.inspect().await.unwrap().in_use, 1);
        }
        drop(held);
    }
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn a_response_ends_with_its_permit_though_that_was_taken_where_it_is_asked_to() {
    let chats = semaphore(1);
    let layer = ZSetSemaphoreLayer::new(chats.clone()).end_when_lost();
    let response = layer.layer(service_fn(streaming)).oneshot(ask()).await.unwrap();
    let held = admitted(&response).take_all().remove(0);
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    kick(&chats).await;
    assert!(within(PATIENCE, body.frame()).await.unwrap().is_err());
    assert_eq!(within(PATIENCE, held.permit().unwrap().lost()).await, LostReason::Kicked);
}

/// A unit of the local cap can be taken over as well.
#[cfg(feature = "redis")]
#[tokio::test]
async fn the_cap_of_this_process_is_taken_over_too() {
    let away = Client::open("redis://127.0.0.1:1").unwrap().semaphore("chats", 1).build().unwrap();
    let layer = ZSetSemaphoreLayer::new(away)
        .outage_policy(OutagePolicy::LocalCap(1))
        .outage_after(Duration::from_millis(10))
        .timeout(Duration::from_millis(50));
    let service = layer.layer(service_fn(streaming));
    let response = service.clone().oneshot(ask()).await.unwrap();
    let held = admitted(&response).take_all();
    drop(response);
    assert_eq!((held.len(), held[0].permit().is_none()), (1, true));
    assert!(service.clone().oneshot(ask()).await.is_err());
    drop(held);
    assert!(service.oneshot(ask()).await.is_ok());
}
