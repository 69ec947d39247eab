//! Behaviour 69: the layers that a gateway has outside and inside of the cap, each in one builder, mounted
//! on axum and called over sockets.

use std::convert::Infallible;
use std::time::Duration;

use ::http::{Method, Request, Response, StatusCode};
use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::response::IntoResponse;
use axum::routing::get;
use http_body_util::BodyExt;
use hyper::body::Bytes;
use tower::util::{MapResponseLayer, option_layer};
use tower::{BoxError, ServiceBuilder};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::CorsLayer;
use tower_http::timeout::{RequestBodyTimeoutLayer, ResponseBodyTimeoutLayer, TimeoutLayer};
use tower_http::trace::TraceLayer;
use zset_semaphore::ZSetSemaphore;
use zset_semaphore::tower::{Answer, Error, Rejection, ZSetSemaphoreLayer};

use crate::probe::{idle, semaphore, settled};
use crate::web::{Client, Upload, VERSIONS, Version, Web};
use test_support::wait::{PATIENCE, within};

const LONG: Duration = Duration::from_secs(60);
const TEXT: &str = "token token token token token token token token token token token token";

fn routes() -> Router {
    let panics = async || -> &'static str { panic!("as told") };
    let echo = get(async || TEXT).post(async |body: Bytes| body);
    Router::new().route("/", echo).route("/panics", get(panics))
}

fn cap(chats: &ZSetSemaphore) -> ZSetSemaphoreLayer<Answer> {
    ZSetSemaphoreLayer::new(chats.clone()).reject_when_full().answer()
}

struct Answered {
    status: StatusCode,
    headers: ::http::HeaderMap,
    body: Bytes,
}

async fn asked(server: &Web, version: Version, method: Method, path: &str) -> Answered {
    let mut client = Client::open(version, server).await;
    let upload = match method {
        Method::POST => Upload::whole(Bytes::from_static(TEXT.as_bytes())),
        _ => Upload::none(),
    };
    let headers = [
        ("origin", "http://browser.example"),
        ("accept-encoding", "gzip"),
        ("access-control-request-method", "GET"),
    ];
    let sending = client.send_with(method, path, &headers, upload);
    let (head, body) = within(PATIENCE, sending).await.unwrap().into_parts();
    let body = within(PATIENCE, body.collect()).await.unwrap().to_bytes();
    Answered { status: head.status, headers: head.headers, body }
}

/// The app answers below the limit, rejects above it, and leaves nothing behind.
async fn is_capped(chats: &ZSetSemaphore, server: &Web) {
    for version in VERSIONS {
        for method in [Method::GET, Method::POST] {
            let answered = asked(server, version, method.clone(), "/").await;
            assert_eq!(answered.status, StatusCode::OK);
            if !answered.headers.contains_key("content-encoding") {
                assert_eq!(answered.body, TEXT);
            }
            idle(chats).await;
            let held = chats.acquire(1).await.unwrap();
            let answered = asked(server, version, method, "/").await;
            assert_eq!(answered.status, StatusCode::SERVICE_UNAVAILABLE);
            drop(held);
            idle(chats).await;
        }
    }
}

/// Mounts a layer outside of `cap` and inside of it, and checks that both are capped. The caller says what is
/// asked of each; the first one is the one outside.
macro_rules! mounted {
    ($chats:expr, $layer:expr) => {{
        let around = ServiceBuilder::new().layer($layer).layer(cap($chats));
        let inside = ServiceBuilder::new().layer(cap($chats)).layer($layer);
        let servers =
            [Web::serve(routes().layer(around)).await, Web::serve(routes().layer(inside)).await];
        for server in &servers {
            is_capped($chats, server).await;
        }
        servers
    }};
}

#[tokio::test]
async fn cors() {
    let chats = semaphore(1);
    let [around, inside] = mounted!(&chats, CorsLayer::permissive());
    let _held = chats.acquire(1).await.unwrap();
    let allowed = "access-control-allow-origin";
    for version in VERSIONS {
        let preflight = asked(&around, version, Method::OPTIONS, "/").await;
        assert_eq!(preflight.status, StatusCode::OK, "a preflight takes no permit");
        assert_eq!(preflight.headers[allowed], "*");
        let rejected = asked(&around, version, Method::GET, "/").await;
        assert_eq!(rejected.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(rejected.headers[allowed], "*", "a browser may read why");
        let preflight = asked(&inside, version, Method::OPTIONS, "/").await;
        assert_eq!(preflight.status, StatusCode::SERVICE_UNAVAILABLE);
    }
}

#[tokio::test]
async fn timeouts() {
    let chats = semaphore(1);
    let timeout = |time| TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, time);
    mounted!(&chats, timeout(LONG));
    mounted!(&chats, RequestBodyTimeoutLayer::new(LONG));
    mounted!(&chats, ResponseBodyTimeoutLayer::new(LONG));

    // The outer one ends the wait for a permit as well.
    let patient = ZSetSemaphoreLayer::new(chats.clone()).answer();
    let short = ServiceBuilder::new().layer(timeout(Duration::from_millis(100))).layer(patient);
    let server = Web::serve(routes().layer(short)).await;
    let held = chats.acquire(1).await.unwrap();
    for version in VERSIONS {
        let answered = asked(&server, version, Method::GET, "/").await;
        assert_eq!(answered.status, StatusCode::GATEWAY_TIMEOUT);
        settled(&chats, 1, 0).await;
    }
    drop(held);
    idle(&chats).await;
}

#[tokio::test]
async fn tracing() {
    let chats = semaphore(1);
    mounted!(&chats, TraceLayer::new_for_http());
}

#[tokio::test]
async fn compression() {
    let chats = semaphore(1);
    for server in mounted!(&chats, CompressionLayer::new()) {
        for version in VERSIONS {
            let answered = asked(&server, version, Method::GET, "/").await;
            assert_eq!(answered.headers["content-encoding"], "gzip");
            assert!(answered.body.starts_with(&[0x1f, 0x8b]), "{:?}", answered.body);
            idle(&chats).await;
        }
    }
}

#[tokio::test]
async fn panics() {
    let chats = semaphore(1);
    for server in mounted!(&chats, CatchPanicLayer::new()) {
        for version in VERSIONS {
            let answered = asked(&server, version, Method::GET, "/panics").await;
            assert_eq!(answered.status, StatusCode::INTERNAL_SERVER_ERROR);
            idle(&chats).await;
        }
    }
}

#[tokio::test]
async fn all_of_them_around_and_inside() {
    let chats = semaphore(1);
    let timeout = TimeoutLayer::with_status_code(StatusCode::GATEWAY_TIMEOUT, LONG);
    let layers = ServiceBuilder::new()
        .layer(TraceLayer::new_for_http())
        .layer(CatchPanicLayer::new())
        .layer(ResponseBodyTimeoutLayer::new(LONG))
        .layer(CorsLayer::permissive())
        .layer(CompressionLayer::new())
        .layer(timeout)
        .layer(RequestBodyTimeoutLayer::new(LONG));
    mounted!(&chats, layers.clone());
}

#[tokio::test]
async fn layers_that_may_be_there_or_not() {
    let chats = semaphore(1);
    for capped in [true, false] {
        let cap = capped.then(|| {
            let body = MapResponseLayer::new(|response: Response<_>| response.map(Body::new));
            (body, cap(&chats))
        });
        let server = Web::serve(routes().layer(option_layer(cap))).await;
        if capped {
            is_capped(&chats, &server).await;
        } else {
            let _held = chats.acquire(1).await.unwrap();
            let answered = asked(&server, Version::Http1, Method::GET, "/").await;
            assert_eq!(answered.body, TEXT);
        }
    }
}

#[tokio::test]
async fn health_checks() {
    let chats = semaphore(1);
    let fine = || get(async || "fine");
    let around = routes().layer(cap(&chats)).route("/health", fine());
    let weigh = |request: &Request<Body>| u32::from(request.uri().path() != "/health");
    let weighed = ZSetSemaphoreLayer::new(chats.clone()).weight(weigh).reject_when_full().answer();
    let inside = routes().route("/health", fine()).layer(weighed);
    for app in [around, inside] {
        let server = Web::serve(app).await;
        is_capped(&chats, &server).await;
        let held = chats.acquire(1).await.unwrap();
        for version in VERSIONS {
            let answered = asked(&server, version, Method::GET, "/health").await;
            assert_eq!((answered.status, &*answered.body), (StatusCode::OK, &b"fine"[..]));
        }
        drop(held);
    }
}

/// Finds our error in a boxed one, and answers `503`.
async fn boxed(error: BoxError) -> impl IntoResponse {
    let rejection = error.downcast::<Rejection>().unwrap();
    (StatusCode::SERVICE_UNAVAILABLE, rejection.limit_name().to_owned())
}

#[tokio::test]
async fn errors_that_an_error_handler_answers() {
    let chats = semaphore(1);
    let cap = ZSetSemaphoreLayer::new(chats.clone()).reject_when_full();
    let typed = async |error: Error<Infallible>| {
        let Error::Rejected(rejection) = error else { panic!("{error}") };
        (StatusCode::SERVICE_UNAVAILABLE, rejection.limit_name().to_owned())
    };
    let typed = ServiceBuilder::new().layer(HandleErrorLayer::new(typed)).layer(cap.clone());
    let boxes = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(boxed))
        .map_err(Error::into_boxed)
        .layer(cap.clone());
    // Errors that are boxed further in, and an error of one layer in the box of another.
    let stacked = ServiceBuilder::new()
        .layer(HandleErrorLayer::new(boxed))
        .timeout(LONG)
        .map_err(Error::into_boxed)
        .layer(cap)
        .timeout(LONG)
        .map_err(Error::into_boxed)
        .layer(ZSetSemaphoreLayer::new(semaphore(1)));
    for app in [routes().layer(typed), routes().layer(boxes), routes().layer(stacked)] {
        is_capped(&chats, &Web::serve(app).await).await;
    }
}

#[cfg(feature = "reqwest")]
mod reqwest {
    use super::*;
    use crate::lost::kick;
    use crate::probe::Tally;
    use axum::extract::Path;
    use futures_util::{StreamExt, stream};
    use test_support::wait::eventually;
    use tokio::time::Instant;
    use tower::{Layer, ServiceExt};

    /// A provider that streams this many tokens; with none it streams for ever.
    async fn provider(tally: &Tally) -> Web {
        let tally = tally.clone();
        let chat = async move |Path(tokens): Path<usize>| {
            let running = tally.enter();
            let rest = if tokens == 0 {
                stream::pending().left_stream()
            } else {
                stream::empty().right_stream()
            };
            let said = stream::iter(vec!["token "; tokens.max(1)]).chain(rest);
            Body::from_stream(said.map(move |token| {
                let _ = &running;
                Ok::<_, Infallible>(token)
            }))
        };
        let busy = async || (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "1")], "busy");
        Web::serve(Router::new().route("/{tokens}", get(chat)).route("/busy", get(busy))).await
    }

    fn client() -> ::reqwest::Client {
        ::reqwest::Client::builder().no_proxy().build().unwrap()
    }

    fn ask(server: &Web, path: &str) -> ::reqwest::Request {
        client().get(format!("http://{}/{path}", server.address)).build().unwrap()
    }

    #[tokio::test]
    async fn a_client_is_capped_until_its_responses_were_read_to_their_end() {
        let (calls, upstream) = (semaphore(1), Tally::default());
        let server = provider(&upstream).await;
        let capped = ZSetSemaphoreLayer::new(calls.clone()).layer(client());

        let mut response = capped.clone().oneshot(ask(&server, "0")).await.unwrap();
        assert_eq!(response.url().path(), "/0");
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.remote_addr().is_some());
        settled(&calls, 1, 0).await;
        assert_eq!(response.chunk().await.unwrap().unwrap(), "token ");
        let next = tokio::spawn(capped.clone().oneshot(ask(&server, "3")));
        settled(&calls, 1, 1).await;
        drop(response);
        let next = within(PATIENCE, next).await.unwrap().unwrap();
        assert_eq!(next.text().await.unwrap(), "token token token ");
        idle(&calls).await;
        assert_eq!(upstream.peak(), 1);

        calls.close();
        let error = capped.oneshot(ask(&server, "3")).await.unwrap_err();
        assert!(matches!(error, Error::Rejected(_)), "{error}");
    }

    #[tokio::test]
    async fn a_429_rests_and_failures_are_those_of_the_client() {
        let calls = semaphore(1);
        let server = provider(&Tally::default()).await;
        let layer = ZSetSemaphoreLayer::new(calls.clone()).cooldown_on_429(LONG);
        let busy = layer.layer(client()).oneshot(ask(&server, "busy")).await.unwrap();
        let start = Instant::now();
        assert_eq!(busy.text().await.unwrap(), "busy");
        settled(&calls, 1, 0).await;
        idle(&calls).await;
        assert!(start.elapsed() > Duration::from_millis(500), "{:?}", start.elapsed());

        let nowhere = client().get("http://127.0.0.1:1/").build().unwrap();
        let error = layer.layer(client()).oneshot(nowhere).await.unwrap_err();
        assert!(matches!(&error, Error::Inner(error) if error.is_connect()), "{error}");
        idle(&calls).await;
    }

    #[tokio::test]
    async fn a_response_ends_with_its_permit_or_when_nobody_reads_it() {
        let (calls, upstream) = (semaphore(1), Tally::default());
        let server = provider(&upstream).await;
        let layer = ZSetSemaphoreLayer::new(calls.clone()).end_when_lost();
        let mut response = layer.layer(client()).oneshot(ask(&server, "0")).await.unwrap();
        response.chunk().await.unwrap().unwrap();
        kick(&calls).await;
        idle(&calls).await;
        eventually("the provider sees it", PATIENCE, async || upstream.running() == 0).await;
        assert!(within(PATIENCE, response.chunk()).await.is_err());

        let layer =
            ZSetSemaphoreLayer::new(calls.clone()).stall_timeout(Duration::from_millis(100));
        let mut response = layer.layer(client()).oneshot(ask(&server, "0")).await.unwrap();
        idle(&calls).await;
        eventually("the provider sees it", PATIENCE, async || upstream.running() == 0).await;
        assert!(within(PATIENCE, response.chunk()).await.is_err());
    }
}
