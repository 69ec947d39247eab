//! Rejections as the SDKs of OpenAI and Anthropic read them, and answers that depend on the request.

use std::sync::{Arc, Mutex};

use ::http::{HeaderMap, Request, StatusCode};
use axum::Router;
use axum::body::Body;
use axum::routing::post;
use http_body_util::BodyExt;
use hyper::body::Bytes;
use serde_json::Value;
use tower::ServiceExt;
use zset_semaphore::tower::{Answer, Dialect, Header, Keyed, ZSetSemaphoreLayer};
use zset_semaphore::{Client, ZSetSemaphore};

use crate::probe::{Script, Step, semaphore};

type Layer<S = zset_semaphore::tower::Single> = ZSetSemaphoreLayer<Answer, S>;

async fn answered(app: Router, request: Request<Body>) -> (StatusCode, HeaderMap, Value) {
    let (head, body) = app.oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, head.headers, serde_json::from_slice(&body).unwrap())
}

fn routes() -> Router {
    Router::new().route("/", post(async |body: Bytes| body))
}

fn full(chats: &ZSetSemaphore) -> Layer {
    ZSetSemaphoreLayer::new(chats.clone()).reject_when_full().answer()
}

/// Both formats: the message, the status, the type and the code.
#[tokio::test(start_paused = true)]
async fn every_rejection_is_told_in_the_words_of_the_api() {
    let chats = Client::in_memory().semaphore(r#"my "chats""#, 1).build().unwrap();
    let held = chats.acquire(1).await.unwrap();
    let too_heavy =
        || ZSetSemaphoreLayer::new(chats.clone()).weight(|_: &Request<Body>| 2).answer();
    let plain = || Body::empty();
    let broken = || Body::new(Script::of([Step::Wait, Step::Fail]));
    let waiting = || ZSetSemaphoreLayer::new(chats.clone()).answer();
    let closed = Client::in_memory().semaphore("chats", 1).build().unwrap();
    closed.close();
    let status = StatusCode::TOO_MANY_REQUESTS;
    for (dialect, expected) in [
        (
            Dialect::OpenAi,
            [
                (503, "service_unavailable_error", "server_is_overloaded"),
                (429, "rate_limit_error", "rate_limit_exceeded"),
                (503, "service_unavailable_error", "service_unavailable"),
                (413, "invalid_request_error", "request_too_large"),
                (400, "invalid_request_error", "request_incomplete"),
            ],
        ),
        (
            Dialect::Anthropic,
            [
                (529, "overloaded_error", ""),
                (429, "rate_limit_error", ""),
                (503, "api_error", ""),
                (413, "request_too_large", ""),
                (400, "invalid_request_error", ""),
            ],
        ),
    ] {
        let apps = [
            (routes().layer(full(&chats).dialect(dialect)), plain()),
            (routes().layer(full(&chats).dialect(dialect).status(status)), plain()),
            (routes().layer(full(&closed).dialect(dialect)), plain()),
            (routes().layer(too_heavy().dialect(dialect)), plain()),
            (routes().layer(waiting().dialect(dialect)), broken()),
        ];
        for ((app, body), (status, kind, code)) in apps.into_iter().zip(expected) {
            let request = Request::post("/").body(body).unwrap();
            let (found, headers, told) = answered(app, request).await;
            assert_eq!(found.as_u16(), status, "{told}");
            assert_eq!(headers["content-type"], "application/json");
            assert_eq!(told["error"]["type"], kind, "{told}");
            assert!(told["error"]["message"].as_str().unwrap().contains("chats"), "{told}");
            match dialect {
                Dialect::OpenAi => {
                    assert_eq!(told["error"]["code"], code);
                    assert_eq!(told["error"]["param"], Value::Null);
                }
                _ => assert_eq!(told["type"], "error"),
            }
            let again = [429, 503, 529].contains(&status);
            assert_eq!(headers["x-should-retry"], if again { "true" } else { "false" });
            assert_eq!(headers.contains_key("retry-after"), again);
            if again {
                let number = |name| headers[name].to_str().unwrap().parse::<u64>().unwrap();
                let (seconds, millis) = (number("retry-after"), number("retry-after-ms"));
                assert_eq!(seconds, millis.div_ceil(1000));
            }
        }
    }
    drop(held);
}

/// SDKs that wait for at most a minute would retry at once.
#[tokio::test(start_paused = true)]
async fn who_is_to_wait_for_longer_than_sdks_do_is_told_not_to_come_again_by_itself() {
    let chats = semaphore(1);
    chats.set_limit(0).await.unwrap();
    let app = routes().layer(full(&chats).dialect(Dialect::Anthropic));
    let (status, headers, _) = answered(app, Request::post("/").body(Body::empty()).unwrap()).await;
    assert_eq!(status.as_u16(), 529);
    assert_eq!(headers["x-should-retry"], "false");
    assert!(headers.contains_key("retry-after"));
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_changed_by_the_head_of_the_request_and_by_its_key() {
    const SECRET: &str = "sk-very-secret";
    let client = Client::in_memory();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let app = |header: Header| {
        let keyed = Keyed::builder(&client, "chats-of", header, 0).build().unwrap();
        let layer = ZSetSemaphoreLayer::keyed(keyed).reject_when_full().answer();
        let seen = Arc::clone(&seen);
        routes().layer(layer.answer_with(move |rejection, request, answer| {
            assert_eq!(request.headers["x-api-key"], SECRET);
            let key = rejection.key().map(str::to_owned);
            let path = request.uri.path().to_owned();
            let shown = format!("{request:?} {rejection:?} {rejection}");
            seen.lock().unwrap().push((request.method.to_string(), path, key, shown));
            match request.uri.query() {
                Some("like=anthropic") => Dialect::Anthropic.answer(rejection, None),
                _ => answer,
            }
        }))
    };
    let request = |query: &str| {
        let request = Request::post(format!("/{query}")).header("x-api-key", SECRET);
        request.header("x-tenant", "acme").body(Body::empty()).unwrap()
    };
    let [secret, tenant, missing] =
        ["x-api-key", "x-tenant", "x-none"].map(|name| name.parse().unwrap());
    let (_, _, told) = answered(app(Header::secret(secret)), request("?like=anthropic")).await;
    assert_eq!(told["type"], "error");
    let (_, _, told) = answered(app(Header::new(tenant)), request("")).await;
    assert_eq!(told["limit_name"], "chats-of");
    answered(app(Header::new(missing)), request("")).await;

    let seen = seen.lock().unwrap();
    let keys: Vec<_> = seen.iter().map(|(_, _, key, _)| key.as_deref()).collect();
    assert!(keys[0].is_some_and(|key| key.len() == 33 && key.starts_with('#')), "{keys:?}");
    assert_eq!(keys[1..], [Some("acme"), None]);
    for (method, path, _, shown) in seen.iter() {
        assert_eq!((&**method, &**path), ("POST", "/"));
        assert!(!shown.contains(SECRET), "{shown}");
    }
}
