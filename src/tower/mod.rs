//! A tower layer that takes a permit for each request and holds it until the answer is through.
//!
//! [`ZSetSemaphoreLayer`] wraps any clonable [`Service`](tower_service::Service), on the server or
//! on the client side. A request waits for its permit, first come first served across the whole
//! cluster; then the inner service is called.
//!
//! | made by | for | rejections are | the permit goes back |
//! |---|---|---|---|
//! | [`new`](ZSetSemaphoreLayer::new) | clients, and servers that map errors themselves | [`Error`] | when the body ends, fails or is dropped ([`PermitBody`]) |
//! | [`.answer()`](ZSetSemaphoreLayer::answer) | axum, tonic: servers where no error may come out | answered over HTTP or gRPC | the same ([`CappedBody`]) |
//! | [`.end_when_lost()`](ZSetSemaphoreLayer::end_when_lost) | the first two, where nothing may run on without its permit | the same | when the body ends, or the permit is lost ([`CappedBody`]) |
//! | [`.stall_timeout(d)`](ZSetSemaphoreLayer::stall_timeout) | the first two, where clients may not read | the same | when the body ends, or its reader stalls ([`CappedBody`]) |
//! | [`.release_on_response()`](ZSetSemaphoreLayer::release_on_response) | services of any request and response | [`Error`] | when the inner service has answered |
//!
//! The body is the default because a streamed answer, as chats with LLMs are, has only begun when
//! its head is there: freed at the head, it would escape the cap.
//!
//! # Behaviour
//!
//! - `poll_ready` is always ready and takes nothing: services and connections that idle hold
//!   nothing. The permit is taken in the future that `call` returns.
//! - The inner service is made ready after the permit is there, so nothing of it is held while the
//!   request is queued.
//! - What a handler [takes over](Admitted::take_all) goes back when the handler drops it.
//! - What is dropped goes back: a queued future leaves the queue, a running one is dropped before
//!   its permit, and so is a body. A panic in the inner service is passed on, and whoever drops
//!   the future gives the permit back.
//! - Clones of a layer, and all services made from it, share one semaphore.
//! - A permit that is [lost](crate::Permit::lost) does not end the response it was taken for, unless
//!   [`end_when_lost`](ZSetSemaphoreLayer::end_when_lost) says so; then also a body that nobody reads.
//! - Handlers find in the extensions of the request what it was let through with: [`Admitted`].
//!
//! # Axum
//!
//! A router that streams at most 64 chats at once, cluster-wide, and at most 4 for each API key:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use axum::{Router, body::{Body, to_bytes}, extract::Request, http::StatusCode, routing::get};
//! use tower::{ServiceBuilder, ServiceExt};
//! use zset_semaphore::{Client, tower::{Header, Keyed, ZSetSemaphoreLayer}};
//!
//! // Client::open("redis://127.0.0.1:6379")? for the whole cluster.
//! let client = Client::in_memory();
//! let chats = client.semaphore("chats", 64).build()?;
//! let key = Header::secret("x-api-key".parse()?);
//! let per_key = Keyed::builder(&client, "chats-of", key, 4).build()?;
//! let wait = Duration::from_secs(10);
//!
//! let app: Router = Router::new().route("/chat", get(|| async { "token token" })).layer(
//!     ServiceBuilder::new()
//!         .layer(ZSetSemaphoreLayer::keyed(per_key).timeout(wait).answer())
//!         .layer(ZSetSemaphoreLayer::new(chats.clone()).timeout(wait).answer()),
//! );
//!
//! let response = app.oneshot(Request::get("/chat").body(Body::empty())?).await?;
//! assert_eq!(response.status(), StatusCode::OK);
//! assert_eq!(chats.inspect().await?.in_use, 1); // until the body has ended
//! assert_eq!(to_bytes(response.into_body(), 1024).await?, "token token");
//! let all = chats.acquire(64).await?; // free again
//! # Ok(())
//! # }
//! ```
//!
//! # Tonic
//!
//! The same layer goes into tonic's `Server::builder().layer(...)`, or around one service by tonic's
//! `LayerExt::named_layer`; see the example `tonic_service`.
//!
//! ```
//! # fn example<S>(layer: zset_semaphore::tower::ZSetSemaphoreLayer, chat: S) {
//! // let layer = ZSetSemaphoreLayer::new(chats).timeout(wait);
//! let server = tonic::transport::Server::builder().layer(layer.answer());
//! # }
//! ```
//!
//! # With other layers
//!
//! The layers of tower, tower-http and axum go around it and inside. What is outside runs for rejected
//! requests, too, and while a request is queued; what is inside, only with a permit.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use axum::{Router, body::Body, extract::Request, http::StatusCode, routing::get};
//! use tower::{ServiceBuilder, ServiceExt};
//! use tower_http::{
//!     catch_panic::CatchPanicLayer, compression::CompressionLayer, cors::CorsLayer,
//!     timeout::TimeoutLayer, trace::TraceLayer,
//! };
//! use zset_semaphore::{Client, tower::ZSetSemaphoreLayer};
//!
//! let chats = Client::in_memory().semaphore("chats", 1).build()?;
//! let app: Router = Router::new()
//!     .route("/chat", get(|| async { "token" }))
//!     .layer(
//!         ServiceBuilder::new()
//!             .layer(TraceLayer::new_for_http()) // sees rejections, and the time in the queue
//!             .layer(CorsLayer::permissive()) // answers preflights, and lets browsers read rejections
//!             // Queueing included: a request that runs into it leaves the queue.
//!             .layer(TimeoutLayer::with_status_code(
//!                 StatusCode::GATEWAY_TIMEOUT,
//!                 Duration::from_secs(60),
//!             ))
//!             .layer(CompressionLayer::new())
//!             .layer(ZSetSemaphoreLayer::new(chats.clone()).reject_when_full().answer())
//!             .layer(CatchPanicLayer::new()), // a panic is answered with 500
//!     )
//!     .route("/health", get(|| async { "fine" })); // behind `layer`: not capped
//!
//! let held = chats.acquire(1).await?;
//! let ask = |path| app.clone().oneshot(Request::get(path).body(Body::empty()).unwrap());
//! assert_eq!(ask("/chat").await?.status(), StatusCode::SERVICE_UNAVAILABLE);
//! assert_eq!(ask("/health").await?.status(), StatusCode::OK);
//! drop(held);
//! assert_eq!(ask("/chat").await?.status(), StatusCode::OK);
//! # Ok(())
//! # }
//! ```
//!
//! Without [`.answer()`](ZSetSemaphoreLayer::answer) rejections are errors, which axum's
//! `HandleErrorLayer` answers. Where it takes tower's `BoxError`, as beside tower's `timeout`, box them:
//!
//! ```
//! # fn example(chats: zset_semaphore::ZSetSemaphore) {
//! use std::time::Duration;
//!
//! use axum::{Router, error_handling::HandleErrorLayer, http::StatusCode, routing::get};
//! use tower::{BoxError, ServiceBuilder};
//! use zset_semaphore::tower::{Error, Rejection, ZSetSemaphoreLayer};
//!
//! async fn answer(error: BoxError) -> (StatusCode, String) {
//!     match error.downcast::<Rejection>() {
//!         Ok(rejection) => (StatusCode::TOO_MANY_REQUESTS, rejection.limit_name().to_owned()),
//!         Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
//!     }
//! }
//!
//! let app: Router = Router::new().route("/chat", get(|| async { "token" })).layer(
//!     ServiceBuilder::new()
//!         .layer(HandleErrorLayer::new(answer))
//!         .timeout(Duration::from_secs(60))
//!         .map_err(Error::into_boxed)
//!         .layer(ZSetSemaphoreLayer::new(chats).reject_when_full()),
//! );
//! # }
//! ```
//!
//! A layer that may be there or not. Both ways through [`option_layer`] must have one type, and the layer
//! makes another body of the response, so it is made axum's again:
//!
//! ```
//! # fn example(chats: Option<zset_semaphore::ZSetSemaphore>) {
//! use axum::{Router, body::Body, http::Response, routing::get};
//! use tower::util::{MapResponseLayer, option_layer};
//! use zset_semaphore::tower::ZSetSemaphoreLayer;
//!
//! let cap = chats.map(|chats| {
//!     let body = MapResponseLayer::new(|response: Response<_>| response.map(Body::new));
//!     (body, ZSetSemaphoreLayer::new(chats).answer())
//! });
//! let app: Router = Router::new().route("/chat", get(|| async { "token" })).layer(option_layer(cap));
//! # }
//! ```
//!
//! [`option_layer`]: https://docs.rs/tower/latest/tower/util/fn.option_layer.html
//!
//! # If it does not compile
//!
//! - *"`Infallible: From<zset_semaphore::tower::Error<Infallible>>` is not satisfied"* at axum's
//!   `layer`: rejections are errors still. Add [`.answer()`](ZSetSemaphoreLayer::answer).
//! - *"`Service<Request<ReadAhead<Body>>>` is not implemented"*: what stands behind `.answer()` gets
//!   requests of [`ReadAhead<B>`], and it wants them of axum's `Body`, as `axum::middleware::from_fn`
//!   does. Use two calls of `Router::layer` instead of one `ServiceBuilder`, or put
//!   `.map_request(|request: http::Request<_>| request.map(axum::body::Body::new))` in between.
//! - *"expected `Response<Body>`, found `Response<CappedBody<..>>`"* at `option_layer`, and *"expected
//!   `Box<dyn Error>`, found `Error<Infallible>`"* at `HandleErrorLayer`: see [above](#with-other-layers).
//! - *"`Response<..>: Default` is not satisfied"* or the like at a layer of your own: a [`CappedBody`] and a
//!   [`PermitBody`] have an empty default; box the body (`.map_response(..)`) where it asks for more.
//! - *"`Service<http::Request<_>>` is not implemented for `reqwest::Client`"*: turn on the feature `reqwest`.
//! - *"implementation of `FnOnce` is not general enough"*: name the type of the argument of a closure
//!   that extracts keys, `|request: &axum::extract::Request| ...`.
//! - A client is not to be wrapped with `.answer()`, which reads bodies ahead and answers in the place
//!   of the provider.
//!
//! # Clients
//!
//! Around an outgoing client the layer caps calls to a provider that limits how many run in parallel:
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use http_body_util::{BodyExt, Full};
//! use hyper::body::Bytes;
//! use hyper_util::{client::legacy::Client as Http, rt::TokioExecutor};
//! use tower::{Layer, ServiceExt};
//! use zset_semaphore::{Client, tower::ZSetSemaphoreLayer};
//!
//! let calls = Client::open("redis://127.0.0.1:6379")?.semaphore("calls-to-provider", 8).build()?;
//! let provider = ZSetSemaphoreLayer::new(calls)
//!     .cooldown_on_429(Duration::from_secs(30))
//!     .layer(Http::builder(TokioExecutor::new()).build_http::<Full<Bytes>>());
//!
//! let request = http::Request::post("http://provider.example/chat").body(Full::from("hello"))?;
//! let answer = provider.oneshot(request).await?.into_body().collect().await?;
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `reqwest` it does the same around a [`reqwest::Client`], whose
//! requests and responses stay what they are. The permit goes back when the response was read to its end,
//! or dropped.
//!
#![cfg_attr(feature = "reqwest", doc = "```")]
#![cfg_attr(not(feature = "reqwest"), doc = "```ignore")]
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use tower::{ServiceBuilder, ServiceExt};
//! use zset_semaphore::{Client, tower::ZSetSemaphoreLayer};
//!
//! let calls = Client::open("redis://127.0.0.1:6379")?.semaphore("calls-to-provider", 8).build()?;
//! let provider = ServiceBuilder::new()
//!     .layer(ZSetSemaphoreLayer::new(calls).timeout(Duration::from_secs(10)))
//!     .service(reqwest::Client::new());
//!
//! let http = reqwest::Client::new(); // only to build requests
//! let request = http.post("http://provider.example/chat").body("hello").build()?;
//! let answer: reqwest::Response = provider.oneshot(request).await?;
//! let text = answer.text().await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`reqwest::Client`]: https://docs.rs/reqwest/0.13/reqwest/struct.Client.html
//!
//! [`release_on_response`](ZSetSemaphoreLayer::release_on_response) is not for clients whose answers stream: it takes any
//! service, and gives the permit back before the body has been read.
//!
//! # Several limits
//!
//! Layers stack. Put the narrowest outside: the user, then the model, then the whole cluster. While
//! a request waits for an inner limit it holds its permits of the outer ones, so the outer limit
//! should be the one whose units are the least wanted by others: a user who queues for the cluster
//! blocks nobody but himself, whereas a request that held a unit of the cluster while it queued for
//! its user's would block everybody. Stack them in the same order everywhere, or two requests may
//! wait for each other until their timeouts. A rejection tells which limit it was:
//! [`Rejection::limit_name`].
//!
//! Each layer has a [`timeout`](ZSetSemaphoreLayer::timeout) of its own, and they add up. How long a
//! request waits in all is the outermost one's [`total_timeout`](ZSetSemaphoreLayer::total_timeout).
//!
//! # What stands around the limits
//!
//! From the outside in:
//!
//! 1. **Tracing and request ids**, so that rejections are seen, too.
//! 2. **CORS**: a browser asks by a pre-flight request (`OPTIONS`) before the real one. Inside the
//!    limits each would cost a permit and a wait, and a rejection without CORS headers is one that a
//!    web page cannot read.
//! 3. **Authentication**, before limits with a key. A key that anybody can make up costs the store some
//!    hundred bytes for some seconds: a million of made-up keys took 382 MB of Redis. Take the key
//!    from what was authenticated ([`FromExtension`]), not from the header.
//! 4. **The limits**, the narrowest first. [`exempt`](ZSetSemaphoreLayer::exempt) the health checks, or route
//!    them around the limits: a full gateway is not a sick one.
//! 5. **Timeouts of the work** and the handlers. A timeout outside the limits counts the wait, too.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use axum::extract::Request;
//! use axum::http::StatusCode;
//! use axum::middleware::{Next, from_fn};
//! use axum::response::{IntoResponse, Response};
//! use axum::{Router, body::Body, routing::post};
//! use tower::ServiceExt;
//! use tower_http::cors::CorsLayer;
//! use zset_semaphore::{Client, tower::{FromExtension, Keyed, Paths, ZSetSemaphoreLayer}};
//!
//! #[derive(Clone)]
//! struct Customer(String);
//!
//! async fn authenticate(mut request: Request, next: Next) -> Response {
//!     let token = request.headers().get("authorization").and_then(|token| token.to_str().ok());
//!     match (token, request.uri().path()) {
//!         (_, "/healthz") => {}
//!         (Some("Bearer good"), _) => {
//!             request.extensions_mut().insert(Customer("acme".to_owned()));
//!         }
//!         _ => return StatusCode::UNAUTHORIZED.into_response(),
//!     }
//!     next.run(request).await
//! }
//!
//! let client = Client::in_memory();
//! let chats = client.semaphore("chats", 64).build()?;
//! let customer = FromExtension::new(|customer: &Customer| Some(customer.0.clone()));
//! let per_customer = Keyed::builder(&client, "chats-of", customer, 4).build()?;
//! let health = Paths::new(["/healthz"]);
//! let ten = Duration::from_secs(10);
//!
//! // The layer that is added last stands outermost.
//! let app: Router = Router::new()
//!     .route("/chat", post(|| async { "token token" }))
//!     .route("/healthz", axum::routing::get(|| async { "well" }))
//!     .layer(ZSetSemaphoreLayer::new(chats.clone()).exempt(health.clone()).answer())
//!     .layer(ZSetSemaphoreLayer::keyed(per_customer.clone()).exempt(health).total_timeout(ten).answer())
//!     .layer(from_fn(authenticate))
//!     .layer(CorsLayer::permissive());
//!
//! let full = chats.acquire(64).await?;
//! for (method, path, status) in [
//!     ("OPTIONS", "/chat", StatusCode::OK),
//!     ("POST", "/chat", StatusCode::UNAUTHORIZED),
//!     ("GET", "/healthz", StatusCode::OK),
//! ] {
//!     let request = Request::builder().method(method).uri(path).body(Body::empty())?;
//!     assert_eq!(app.clone().oneshot(request).await?.status(), status);
//! }
//! assert_eq!(per_customer.cached_keys(), 0); // none of them had a key
//! drop(full);
//! let request = Request::post("/chat").header("authorization", "Bearer good");
//! assert_eq!(app.oneshot(request.body(Body::empty())?).await?.status(), StatusCode::OK);
//! # Ok(())
//! # }
//! ```
//!
//! # Rejections
//!
//! In front of the public set a timeout or a bound of the queue: each queued request may keep up to
//! 256 KiB of its body. A request waits for room up to the [`timeout`](ZSetSemaphoreLayer::timeout), is rejected at once
//! when it is full ([`reject_when_full`](ZSetSemaphoreLayer::reject_when_full)), or where too many
//! wait already ([`max_queue`](ZSetSemaphoreLayer::max_queue)). With
//! [`answer`](ZSetSemaphoreLayer::answer):
//!
//! | why | HTTP | gRPC |
//! |---|---|---|
//! | no room | `503`, or what [`status`](ZSetSemaphoreLayer::status) says, with `Retry-After` | `RESOURCE_EXHAUSTED` with `RetryInfo` and `grpc-retry-pushback-ms` |
//! | the store is away, the semaphore closed, the permit lost, the limit of the key not known | `503` with `Retry-After` | `UNAVAILABLE`, the same |
//! | heavier than the limit | `413` | `INVALID_ARGUMENT` |
//! | its body broke off while it was queued | `400` | `CANCELLED` |
//!
//! The body over HTTP is
//! `{"error":"too many requests at once","limit_name":"chats","limit":64,"in_use":64,"place":7,"retry_after":3}`,
//! or the same in the words of another API, which its SDKs understand
//! ([`dialect`](ZSetSemaphoreLayer::dialect)), or what
//! [`answer_with`](ZSetSemaphoreLayer::answer_with) makes of it and the request. A request is one of gRPC by its
//! content type; its rejection has only trailers.
//!
//! `Retry-After` is [when it is worth trying again](Rejection::retry_after), in whole seconds: when as
//! many units as the request and those ahead of it need are expected to have come free, going by how long
//! permits are held and how long the present ones have been. It errs to the long side, and differs from client to
//! client, so that those who were turned away together do not come back together.
//!
//! A stream of server-sent events that ends since its permit was lost may say so in a last event
//! instead of breaking off ([`sse_error_event`](ZSetSemaphoreLayer::sse_error_event)).
//!
//! # Clients that go away
//!
//! A queued request whose client goes away leaves the queue. Over HTTP/1.1 a server learns of that only
//! by reading on, so [`answer`](ZSetSemaphoreLayer::answer) reads the body ahead, up to
//! [256 KiB](ZSetSemaphoreLayer::read_ahead); a client that goes away behind a larger body, behind a
//! second request that it has sent already, or while it waits for a `100 Continue`, is noticed when its
//! turn comes. A client that stays and reads nothing keeps its permit, unless a
//! [`stall_timeout`](ZSetSemaphoreLayer::stall_timeout) ends what it does not read. A response to an upgrade
//! (`101`) has no body: a WebSocket is not capped for as long as it lives, unless its handler
//! [takes over](Admitted::take_all) what it was let through with, and holds it until the socket closes:
//!
//! ```
//! use axum::{Extension, extract::ws::WebSocketUpgrade, response::Response};
//! use zset_semaphore::tower::Admitted;
//!
//! async fn talk(Extension(admitted): Extension<Admitted>, upgrade: WebSocketUpgrade) -> Response {
//!     let held = admitted.take_all();
//!     upgrade.on_upgrade(async move |mut socket| {
//!         while let Some(Ok(message)) = socket.recv().await {
//!             let _ = socket.send(message).await;
//!         }
//!         drop(held);
//!     })
//! }
//! ```
//!
//! # When the store is away
//!
//! See [`OutagePolicy`]: requests are rejected (the default), let through, or share a cap of this process.
//! Which it is needs no waiting once it is known that the store is away, and a gateway may start
//! before its Redis does ([`Client::open`](crate::Client::open)).
//!
//! # Shutdown
//!
//! [`Client::shutdown`](crate::Client::shutdown) ends all waits: queued requests are rejected with
//! `503`, those that run may finish, and it resolves when the last has. Stop the server beside it, as
//! the example `llm_gateway` does.
//!
//! # Metrics
//!
//! With the feature `metrics` each request counts once in `zset_semaphore_requests_total`, and its wait
//! in the histogram `zset_semaphore_wait_seconds`, with the labels `limit` (a name, never a key) and
//! `outcome`:
//!
//! | outcome | the request |
//! |---|---|
//! | `permit` | was let through with a permit |
//! | `local`, `uncounted` | was let through by the policy while the store was away |
//! | `weightless` | weighed nothing |
//! | `rejected` | was not let through; the counter's label `reason` says why ([`Reason::label`]), and is empty otherwise |
//! | `cancelled` | gave up before: its future was dropped, most likely since its client went away |
//!
//! So the sum over all outcomes is the number of requests that came in.

mod admit;
mod answer;
mod body;
mod dialect;
mod entry;
mod error;
mod exempt;
mod future;
mod grpc;
mod handle;
mod hold;
mod key;
mod key_limit;
mod keyed;
mod keys;
mod layer;
mod lookup_log;
mod meter;
mod metrics;
mod outage;
mod pass;
mod read_ahead;
#[cfg(feature = "reqwest")]
mod reqwest;
mod rest;
mod retry;
mod select;
mod service;
mod settings;
mod turn;
mod wait_until;
mod watched;

pub use admit::AdmissionFuture;
pub use answer::Answer;
pub use body::{CappedBody, PermitBody};
pub use dialect::Dialect;
pub use error::{Error, PermitLost, ReaderStalled, Reason, Rejection};
pub use exempt::{Exempt, Exemption, Paths};
pub use future::ResponseFuture;
pub use hold::{HoldBody, OnRequest, OnResponse, ReleaseOnResponse, WatchBody};
pub use key::{BearerToken, FromExtension, Header, Key, KeyExtractor, PathSegment, PeerAddr};
pub use key_limit::KeyLimit;
pub use keyed::{Keyed, KeyedBuilder};
pub use layer::ZSetSemaphoreLayer;
pub use outage::OutagePolicy;
pub use pass::{Admission, Admitted, OwnedAdmission};
pub use read_ahead::ReadAhead;
pub use select::{SelectSemaphore, Single, Weighted};
pub use service::ZSetSemaphoreService;
pub use wait_until::WaitDeadline;

/// Keeps [`OnRequest`], [`OnResponse`] and [`SelectSemaphore`] ours, so that they can grow.
mod sealed {
    use std::fmt;

    pub trait Sealed: fmt::Debug {}
}
