//! Rejections answered by the layer itself, mounted on an axum router as it is.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::http::{HeaderMap, Method, Request, StatusCode};
use axum::Router;
use axum::body::Body;
use axum::routing::get;
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};
use zset_semaphore::tower::{
    Admitted, Header, KeyLimit, Keyed, ReadAhead, Reason, ZSetSemaphoreLayer,
};
use zset_semaphore::{AcquireError, Client, ZSetSemaphore};

use crate::probe::{Script, Step, Tally, idle, semaphore, settled};
use crate::web::{self, Upload, VERSIONS, Web, bytes};
use test_support::wait::{PATIENCE, within};

type Answered = (StatusCode, HeaderMap, Bytes);

fn routes() -> Router {
    Router::new().route("/", get(async || "token").post(async |body: Bytes| body))
}

/// Sends the request over HTTP/1.1 and HTTP/2, and asserts that the answers are the same.
async fn ask(server: &Web, headers: &[(&str, &str)]) -> Answered {
    let mut answers = Vec::new();
    for version in VERSIONS {
        let mut client = web::Client::open(version, server).await;
        let sending = client.send_with(Method::POST, "/", headers, Upload::whole(bytes(1000)));
        let (mut head, body) = within(PATIENCE, sending).await.unwrap().into_parts();
        head.headers.remove("date");
        answers.push((head.status, head.headers, body.collect().await.unwrap().to_bytes()));
    }
    assert_eq!(without_luck(&answers[0]), without_luck(&answers[1]));
    answers.remove(0)
}

/// Leaves out `retry-after`, which has a random part, and the length of the body, which depends on it.
fn without_luck((status, headers, body): &Answered) -> (StatusCode, HeaderMap, Vec<u8>) {
    let (mut headers, mut body) = (headers.clone(), body.to_vec());
    if headers.remove("retry-after").is_some() {
        headers.remove("content-length");
        if let Some(at) = body.windows(11).position(|name| name == b"retry_after") {
            body.truncate(at);
        }
    }
    (*status, headers, body)
}

fn comes_again(answered: &Answered) -> u64 {
    answered.1["retry-after"].to_str().unwrap().parse().unwrap()
}

fn parsed(answered: &Answered) -> Value {
    assert_eq!(answered.1["content-type"], "application/json");
    serde_json::from_slice(&answered.2).unwrap()
}

/// Without sockets, for tests with a paused clock.
async fn ask_here(app: &Router) -> Answered {
    let response = app.clone().oneshot(Request::new(Body::empty())).await.unwrap();
    let (head, body) = response.into_parts();
    (head.status, head.headers, body.collect().await.unwrap().to_bytes())
}

#[tokio::test]
async fn a_full_service_answers_503_with_what_there_is_to_know() {
    let chats = semaphore(2);
    let held = chats.acquire(2).await.unwrap();
    let layer = ZSetSemaphoreLayer::new(chats.clone()).reject_when_full().answer();
    let server = Web::serve(routes().layer(layer)).await;

    let answered = ask(&server, &[]).await;
    assert_eq!(answered.0, StatusCode::SERVICE_UNAVAILABLE);
    let seconds = comes_again(&answered);
    assert!((1..=3).contains(&seconds), "{seconds}");
    let mut told = parsed(&answered);
    assert!(told["place"].is_null() || told["place"] == 0, "{told}");
    told["place"] = Value::Null;
    let expected = json!({
        "error": "too many requests at once",
        "limit_name": "chats",
        "limit": 2,
        "in_use": 2,
        "place": null,
        "retry_after": seconds,
    });
    assert_eq!(told, expected);

    drop(held);
    idle(&chats).await;
    let answered = ask(&server, &[]).await;
    assert_eq!((answered.0, answered.2), (StatusCode::OK, bytes(1000)));
    idle(&chats).await;
}

#[tokio::test]
async fn it_answers_429_where_it_is_told_to() {
    let chats = semaphore(1);
    let _held = chats.acquire(1).await.unwrap();
    let layer = ZSetSemaphoreLayer::new(chats)
        .reject_when_full()
        .answer()
        .status(StatusCode::TOO_MANY_REQUESTS);
    let server = Web::serve(routes().layer(layer)).await;
    let answered = ask(&server, &[]).await;
    assert_eq!(answered.0, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(parsed(&answered)["retry_after"], comes_again(&answered));
}

/// A `HEAD` is answered like the `GET`, but without the body.
#[tokio::test]
async fn a_rejected_head_has_the_headers_and_no_body() {
    let chats = semaphore(1);
    let _held = chats.acquire(1).await.unwrap();
    let layer = ZSetSemaphoreLayer::new(chats).reject_when_full().answer();
    let server = Web::serve(routes().layer(layer)).await;
    for version in VERSIONS {
        let mut client = web::Client::open(version, &server).await;
        for _ in 0..2 {
            let response = client.send(Method::HEAD, "/", Upload::none()).await.unwrap();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert!(response.headers().contains_key("retry-after"));
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_follows_how_long_permits_are_held() {
    let chats = semaphore(1);
    let slow = get(async || sleep(Duration::from_millis(19_500)).await);
    let layer = ZSetSemaphoreLayer::new(chats.clone()).reject_when_full().answer();
    let app = Router::new().route("/", slow).layer(layer);
    assert_eq!(ask_here(&app).await.0, StatusCode::OK);
    idle(&chats).await;

    let _held = chats.acquire(1).await.unwrap();
    let answered = ask_here(&app).await;
    assert_eq!(answered.0, StatusCode::SERVICE_UNAVAILABLE);
    let seconds = comes_again(&answered);
    assert!((20..=25).contains(&seconds), "whole seconds, not less: {seconds}");
    assert_eq!(parsed(&answered)["retry_after"], seconds);
}

#[tokio::test]
async fn a_paused_service_says_so() {
    let chats = semaphore(4);
    chats.set_limit(0).await.unwrap();
    let layer = ZSetSemaphoreLayer::new(chats.clone()).reject_when_full().answer();
    let server = Web::serve(routes().layer(layer)).await;
    let answered = ask(&server, &[]).await;
    assert_eq!(answered.0, StatusCode::SERVICE_UNAVAILABLE);
    let seconds = comes_again(&answered);
    assert!((96..=120).contains(&seconds), "{seconds}");
    let told = parsed(&answered);
    assert_eq!((&told["limit"], &told["in_use"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn a_closure_makes_the_answers() {
    let chats = semaphore(1);
    let held = chats.acquire(1).await.unwrap();
    let layer = ZSetSemaphoreLayer::new(chats.clone()).reject_when_full().answer().answer_with(
        |why, _, _| {
            let text = match why.reason() {
                Reason::Acquire(AcquireError::Timeout { .. }) if why.is_full() => {
                    format!("{} of {} in use", why.in_use().unwrap(), why.limit())
                }
                other => other.to_string(),
            };
            let response =
                ::http::Response::builder().status(420).header("x-why", why.semaphore_name());
            response.body(Bytes::from(text)).unwrap()
        },
    );
    let server = Web::serve(routes().layer(layer)).await;
    let answered = ask(&server, &[]).await;
    assert_eq!((answered.0.as_u16(), &*answered.2), (420, &b"1 of 1 in use"[..]));
    assert_eq!(answered.1["x-why"], "chats");
    assert!(!answered.1.contains_key("retry-after"));

    chats.close();
    let answered = ask(&server, &[]).await;
    assert_eq!((answered.0.as_u16(), &*answered.2), (420, &b"the semaphore is closed"[..]));
    drop(held);
}

#[tokio::test]
async fn an_answer_without_a_body_is_one() {
    let chats = semaphore(1);
    let _held = chats.acquire(1).await.unwrap();
    let layer = ZSetSemaphoreLayer::new(chats)
        .reject_when_full()
        .answer()
        .answer_with(|_, _, _| ::http::Response::builder().status(429).body(Bytes::new()).unwrap());
    let server = Web::serve(routes().layer(layer)).await;
    let answered = ask(&server, &[]).await;
    assert_eq!((answered.0.as_u16(), &*answered.2), (429, &b""[..]));
}

#[tokio::test(start_paused = true)]
async fn responses_tell_how_full_it_is_and_how_long_the_request_waited() {
    let chats = semaphore(4);
    let layer = ZSetSemaphoreLayer::new(chats.clone()).answer();
    let silent = routes().layer(layer.clone());
    let app = routes().layer(layer.add_limit_headers());
    let held = chats.acquire(4).await.unwrap();
    let asked = tokio::spawn({
        let app = app.clone();
        async move { ask_here(&app).await }
    });
    settled(&chats, 4, 1).await;
    let start = Instant::now();
    sleep(Duration::from_millis(1500)).await;
    drop(held);
    let (status, headers, _) = asked.await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(headers["x-concurrency-limit"], "4");
    assert_eq!(headers["x-concurrency-in-use"], "1");
    let waited: u128 = headers["x-concurrency-waited-ms"].to_str().unwrap().parse().unwrap();
    let real = start.elapsed().as_millis();
    assert!((1500..=real + 10).contains(&waited), "{waited} ms, really {real}");

    let (_, headers, _) = ask_here(&silent).await;
    assert!(!headers.keys().any(|name| name.as_str().starts_with("x-concurrency")));
}

#[tokio::test]
async fn a_request_that_weighs_more_than_the_limit_is_answered_413_and_not_to_be_repeated() {
    let chats = semaphore(4);
    let layer = ZSetSemaphoreLayer::new(chats.clone())
        .weight(|request: &Request<Body>| {
            let weight = request.headers().get("x-weight");
            weight.map_or(1, |weight| weight.to_str().unwrap().parse().unwrap())
        })
        .answer()
        .status(StatusCode::TOO_MANY_REQUESTS);
    let server = Web::serve(routes().layer(layer)).await;
    let answered = ask(&server, &[("x-weight", "5")]).await;
    assert_eq!(answered.0, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(!answered.1.contains_key("retry-after"));
    let told = parsed(&answered);
    assert_eq!(told["error"], "the request weighs more than the limit");
    assert_eq!((&told["limit"], &told["retry_after"]), (&json!(4), &Value::Null));

    for weight in ["4", "0"] {
        assert_eq!(ask(&server, &[("x-weight", weight)]).await.0, StatusCode::OK);
    }
    idle(&chats).await;
}

#[tokio::test]
async fn a_closed_semaphore_is_answered_503() {
    let chats = semaphore(1);
    let layer = ZSetSemaphoreLayer::new(chats.clone()).answer().status(StatusCode::IM_A_TEAPOT);
    let server = Web::serve(routes().layer(layer)).await;
    let held = chats.acquire(1).await.unwrap();
    let mut queued = Vec::new();
    for version in VERSIONS {
        let client = web::Client::open(version, &server).await;
        queued.push(client.posting("/", Upload::whole(bytes(1000))));
    }
    settled(&chats, 1, 2).await;
    chats.close();
    for queued in queued {
        let (_client, response) = within(PATIENCE, queued).await.unwrap();
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    }
    let answered = ask(&server, &[]).await;
    assert_eq!(answered.0, StatusCode::SERVICE_UNAVAILABLE);
    assert!(answered.1.contains_key("retry-after"));
    assert_eq!(parsed(&answered)["error"], "the service is not available just now");
    drop(held);
}

#[tokio::test]
async fn who_finds_too_many_waiting_is_told_how_many() {
    let chats = semaphore(1);
    let layer = ZSetSemaphoreLayer::new(chats.clone()).max_queue(2).answer();
    let server = Web::serve(routes().layer(layer)).await;
    let held = chats.acquire(1).await.unwrap();
    let mut queued = Vec::new();
    for version in VERSIONS {
        let client = web::Client::open(version, &server).await;
        queued.push(client.posting("/", Upload::whole(bytes(1000))));
    }
    settled(&chats, 1, 2).await;
    let answered = ask(&server, &[]).await;
    assert_eq!(answered.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(parsed(&answered)["place"], 2);
    settled(&chats, 1, 2).await;
    drop(held);
    for queued in queued {
        let (_client, response) = within(PATIENCE, queued).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), bytes(1000));
    }
    idle(&chats).await;
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_ran_out_tells_the_place_that_was_reached() {
    let chats = semaphore(1);
    let _held = chats.acquire(1).await.unwrap();
    let layer = ZSetSemaphoreLayer::new(chats.clone()).timeout(Duration::from_secs(5)).answer();
    let app = routes().layer(layer);
    let others: Vec<_> = (0..3).map(|_| tokio::spawn(chats.acquire(1))).collect();
    settled(&chats, 1, 3).await;
    let start = Instant::now();
    let answered = ask_here(&app).await;
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!(answered.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(parsed(&answered)["place"], 3);
    others.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn names_with_quotes_give_valid_json() {
    for name in [r#"the "best" chats"#, r"back\slash", r#"\"#, r#""\u0022""#, "ünïcödé 漢字"]
    {
        let chats = Client::in_memory().semaphore(name, 1).build().unwrap();
        let _held = chats.acquire(1).await.unwrap();
        let layer = ZSetSemaphoreLayer::new(chats).reject_when_full().answer();
        let server = Web::serve(routes().layer(layer)).await;
        assert_eq!(parsed(&ask(&server, &[]).await)["limit_name"], name);
    }
}

/// One for each user, one for each model, one for all.
struct Gateway {
    store: Client,
    cluster: ZSetSemaphore,
    tally: Tally,
    server: Web,
}

impl Gateway {
    async fn of(user: u32, model: u32, cluster: u32, waits: bool) -> Self {
        let store = Client::in_memory();
        let all = store.semaphore("cluster", cluster).build().unwrap();
        let of = |name: &str, header: &str, limit: u32| {
            let header = Header::new(header.parse().unwrap());
            let keyed = Keyed::builder(&store, name, header, limit).build().unwrap();
            let layer = ZSetSemaphoreLayer::keyed(keyed);
            if waits { layer } else { layer.reject_when_full() }.answer()
        };
        let cluster = ZSetSemaphoreLayer::new(all.clone());
        let cluster = if waits { cluster } else { cluster.reject_when_full() }.answer();
        let tally = Tally::default();
        let counting = {
            let tally = tally.clone();
            async move |body: Bytes| {
                let _running = tally.enter();
                body
            }
        };
        let stack = ServiceBuilder::new()
            .layer(of("per-user", "x-user", user))
            .layer(of("per-model", "x-model", model))
            .layer(cluster);
        let routes = Router::new().route("/", axum::routing::post(counting));
        let server = Web::serve(routes.layer(stack)).await;
        Self { store, cluster: all, tally, server }
    }

    /// The semaphore of a key.
    fn keyed(&self, name: &str) -> ZSetSemaphore {
        self.store.semaphore(name, 1000).build().unwrap()
    }

    /// Which limit was full, if one was.
    async fn full_for(&self, user: &str, model: &str) -> Option<String> {
        let answered = ask(&self.server, &[("x-user", user), ("x-model", model)]).await;
        if answered.0 == StatusCode::OK {
            assert_eq!(answered.2, bytes(1000));
            return None;
        }
        let told = parsed(&answered);
        assert_eq!(answered.0, StatusCode::SERVICE_UNAVAILABLE);
        Some(told["limit_name"].as_str().unwrap().to_owned())
    }
}

#[tokio::test]
async fn of_stacked_layers_the_one_that_was_full_is_named() {
    let gateway = Gateway::of(1, 2, 3, false).await;
    let alice = gateway.keyed("per-user/alice");
    let llama = gateway.keyed("per-model/llama");
    assert_eq!(gateway.full_for("alice", "llama").await, None);

    // Handles with another limit; the override sets the cap.
    for (semaphore, limit) in [(&alice, 1), (&llama, 2)] {
        semaphore.set_limit(limit).await.unwrap();
    }
    let held = alice.acquire(1).await.unwrap();
    assert_eq!(gateway.full_for("alice", "llama").await.unwrap(), "per-user");
    assert_eq!(gateway.full_for("bob", "llama").await, None);
    drop(held);

    let held = llama.acquire(2).await.unwrap();
    assert_eq!(gateway.full_for("alice", "llama").await.unwrap(), "per-model");
    assert_eq!(gateway.full_for("alice", "gpt").await, None);
    drop(held);

    let held = gateway.cluster.acquire(3).await.unwrap();
    assert_eq!(gateway.full_for("alice", "llama").await.unwrap(), "cluster");
    drop(held);
    for semaphore in [&alice, &llama, &gateway.cluster] {
        idle(semaphore).await;
    }
}

#[tokio::test]
async fn what_was_taken_further_out_is_held_while_waiting_further_in_and_freed_when_the_client_goes()
 {
    let gateway = Gateway::of(2, 2, 1, true).await;
    let (nobody, no_model) = (gateway.keyed("per-user/-"), gateway.keyed("per-model/-"));
    let held = gateway.cluster.acquire(1).await.unwrap();
    for version in VERSIONS {
        let client = web::Client::open(version, &gateway.server).await;
        let queued = client.posting("/", Upload::whole(bytes(200_000)));
        settled(&gateway.cluster, 1, 1).await;
        settled(&nobody, 1, 0).await;
        settled(&no_model, 1, 0).await;
        queued.abort();
        settled(&gateway.cluster, 1, 0).await;
        idle(&nobody).await;
        idle(&no_model).await;
    }
    assert_eq!(gateway.tally.peak(), 0);

    let client = web::Client::open(web::Version::Http1, &gateway.server).await;
    let queued = client.posting("/", Upload::whole(bytes(1_000_000)));
    settled(&gateway.cluster, 1, 1).await;
    drop(held);
    let (_client, response) = within(PATIENCE, queued).await.unwrap();
    // Three layers have read it ahead, and it is complete.
    assert!(response.into_body().collect().await.unwrap().to_bytes() == bytes(1_000_000));
    for semaphore in [&nobody, &no_model, &gateway.cluster] {
        idle(semaphore).await;
    }
}

#[tokio::test]
async fn a_limit_that_cannot_be_found_out_is_answered_503() {
    let client = Client::in_memory();
    let header = Header::new("x-user".parse().unwrap());
    let limit = KeyLimit::lookup(async |key: String| match &*key {
        "alice" => Ok(1),
        _ => Err(std::io::Error::other("no such customer")),
    });
    let keyed = Keyed::builder(&client, "per-user", header, limit).build().unwrap();
    let layer = ZSetSemaphoreLayer::keyed(keyed).answer();
    let server = Web::serve(routes().layer(layer)).await;
    assert_eq!(ask(&server, &[("x-user", "alice")]).await.0, StatusCode::OK);
    let answered = ask(&server, &[("x-user", "mallory")]).await;
    assert_eq!(answered.0, StatusCode::SERVICE_UNAVAILABLE);
    let told = parsed(&answered);
    assert_eq!((&told["limit_name"], &told["in_use"]), (&json!("per-user"), &Value::Null));
}

/// The error of the service is that of the inner one: none.
#[test]
fn the_service_can_be_mounted_where_no_error_may_come_out() {
    fn infallible<S: tower::Service<Request<Body>, Error = Infallible>>(_: &S) {}
    let layer = ZSetSemaphoreLayer::new(semaphore(1)).answer();
    let inner = service_fn(async |request: Request<_>| {
        let _: ReadAhead<Body> = request.into_body();
        Ok::<_, Infallible>(::http::Response::new(Body::empty()))
    });
    infallible(&Layer::layer(&layer, inner));
}

/// Its client may still listen, having closed only its own half of the connection.
#[tokio::test]
async fn a_request_whose_body_breaks_off_while_it_is_queued_is_answered_400() {
    let chats = semaphore(1);
    let held = chats.acquire(1).await.unwrap();
    let layer = ZSetSemaphoreLayer::new(chats.clone()).answer();
    let server = Web::serve(routes().layer(layer)).await;
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 1000\r\n\r\n and no more";
    socket.write_all(head.as_bytes()).await.unwrap();
    settled(&chats, 1, 1).await;
    socket.shutdown().await.unwrap();
    let mut answer = String::new();
    within(PATIENCE, socket.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    assert!(!answer.contains("retry-after:"), "{answer}");
    settled(&chats, 1, 0).await;
    drop(held);
    idle(&chats).await;
}

/// The same without sockets: bodies may fail for reasons of their own.
#[tokio::test(start_paused = true)]
async fn a_body_that_fails_while_its_request_waits_ends_the_wait() {
    let chats = semaphore(1);
    let broken = Body::new(Script::of([Step::Data("to"), Step::Wait, Step::Fail]));
    let told = Arc::new(Mutex::new(Vec::new()));
    let layer = ZSetSemaphoreLayer::new(chats.clone()).answer().answer_with({
        let told = Arc::clone(&told);
        move |why, _, _| {
            told.lock().unwrap().push(matches!(why.reason(), Reason::RequestBody));
            ::http::Response::new(Bytes::new())
        }
    });
    let app = routes().layer(layer);
    let held = chats.acquire(1).await.unwrap();
    let request = Request::post("/").body(broken).unwrap();
    let response = within(PATIENCE, app.oneshot(request)).await.unwrap();
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "");
    assert_eq!(*told.lock().unwrap(), [true]);
    settled(&chats, 1, 0).await;
    drop(held);
    idle(&chats).await;
}

/// Nobody reads the rest of what it sends.
#[tokio::test]
async fn a_rejected_client_gets_its_answer_though_it_sends_much() {
    let chats = semaphore(1);
    let _held = chats.acquire(1).await.unwrap();
    let layer = ZSetSemaphoreLayer::new(chats).reject_when_full().answer();
    let server = Web::serve(routes().layer(layer)).await;
    for version in VERSIONS {
        for size in [20_000, 200_000] {
            let mut client = web::Client::open(version, &server).await;
            let sending = client.send(Method::POST, "/", Upload::whole(bytes(size)));
            let response = within(PATIENCE, sending).await.unwrap();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            let text = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(serde_json::from_slice::<Value>(&text).unwrap()["limit"], 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_set_before_answer_stays_set() {
    let calls = semaphore(2);
    let inner = || {
        service_fn(async |request: Request<ReadAhead<Full<Bytes>>>| {
            assert!(request.extensions().get::<Admitted>().is_some());
            std::future::pending::<()>().await;
            Ok::<_, Infallible>(::http::Response::new(Full::<Bytes>::default()))
        })
    };
    let request = || Request::new(Full::<Bytes>::default());
    let ending = ZSetSemaphoreLayer::new(calls.clone()).end_when_lost().answer().layer(inner());
    let asked = tokio::spawn(ending.oneshot(request()));
    settled(&calls, 1, 0).await;
    calls.kick(calls.inspect().await.unwrap().holders[0].id).await.unwrap();
    assert_eq!(asked.await.unwrap().unwrap().status(), 503);

    let busy = service_fn(async |_: Request<ReadAhead<Full<Bytes>>>| {
        let answer = ::http::Response::builder().status(429).header("retry-after", "5");
        Ok::<_, Infallible>(answer.body(Full::<Bytes>::default()).unwrap())
    });
    let rest = Duration::from_secs(30);
    let resting = ZSetSemaphoreLayer::new(calls.clone()).cooldown_on_429(rest).answer().layer(busy);
    drop(resting.oneshot(request()).await.unwrap());
    settled(&calls, 1, 0).await;
    let start = Instant::now();
    drop(calls.acquire(2).await.unwrap());
    assert_eq!(start.elapsed().as_secs(), 5);
}

/// It has no permit, but its handler finds what it asks for.
#[tokio::test(start_paused = true)]
async fn a_request_that_weighs_nothing_finds_an_empty_admission() {
    let layer = ZSetSemaphoreLayer::new(semaphore(1)).weight(|_: &Request<()>| 0);
    let service = layer.layer(service_fn(async |request: Request<()>| {
        let admissions = request.extensions().get::<Admitted>().unwrap().iter().count();
        Ok::<_, Infallible>(::http::Response::new(Full::<Bytes>::from(admissions.to_string())))
    }));
    let said = service.oneshot(Request::new(())).await.unwrap().into_body().collect().await;
    assert_eq!(said.unwrap().to_bytes(), "0");
}
