//! A tower layer that takes a permit for each request and holds it until the response has been sent.
//!
//! [`ZSetSemaphoreLayer`] wraps any clonable [`Service`](tower_service::Service), of a server or of a
//! client. A request waits for its permit, first come first served across the whole cluster. Then the inner
//! service is called.
//!
//! | made by | for | a rejection is | the permit is released |
//! |---|---|---|---|
//! | [`new`](ZSetSemaphoreLayer::new) | clients, and servers that map errors themselves | an [`Error`] | when the body ends, fails or is dropped ([`PermitBody`]) |
//! | [`.answer()`](ZSetSemaphoreLayer::answer) | axum, tonic: servers whose layers must not return errors | answered over HTTP or gRPC | the same ([`CappedBody`]) |
//! | [`.end_when_lost()`](ZSetSemaphoreLayer::end_when_lost) | the first two, if no work may go on without its permit | the same | when the body ends, or the permit is lost ([`CappedBody`]) |
//! | [`.stall_timeout(d)`](ZSetSemaphoreLayer::stall_timeout) | the first two, if clients may stop reading | the same | when the body ends, or its reader stalls ([`CappedBody`]) |
//! | [`.release_on_response()`](ZSetSemaphoreLayer::release_on_response) | services of any request and response | an [`Error`] | when the inner service has responded |
//!
//! By default the permit is held until the end of the body. When the head of a streamed response is ready,
//! such as that of a chat with an LLM, its stream has only begun. If the permit were released then, the
//! stream would not be capped.
//!
//! # Behaviour
//!
//! - `poll_ready` is always ready and takes nothing, so idle services and connections hold nothing. The
//!   permit is taken in the future that `call` returns.
//! - The inner service is polled for readiness only after the permit was granted, so a queued request
//!   reserves nothing of it.
//! - A future or a body that is dropped releases its permit. If it is queued, it leaves the queue. A running
//!   future is dropped before its permit is released, and so is a body. A panic of the inner service is
//!   passed on; the permit is released when the future is dropped.
//! - A permit that a handler [takes over](Admitted::take_all) is released when the handler drops it.
//! - The clones of a layer, and all services made from them, share one semaphore.
//! - The [loss](crate::Permit::lost) of a permit does not end its response. With
//!   [`end_when_lost`](ZSetSemaphoreLayer::end_when_lost) it does, even if nobody reads the body.
//! - A handler finds the permits of its request in the request's extensions: [`Admitted`].
//!
//! # Axum
//!
//! A router that streams at most 64 chats at once in the whole cluster, and at most 4 for each API key:
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
//! `LayerExt::named_layer`. See the example `tonic_service`.
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
//! The layers of tower, tower-http and axum can be outside or inside of this layer. An outer layer also runs
//! for rejected requests, and while a request is queued. An inner layer runs only with a permit.
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
//!             // Includes the time in the queue: a request that times out leaves the queue.
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
//! Without [`.answer()`](ZSetSemaphoreLayer::answer) rejections are errors, which axum's `HandleErrorLayer`
//! can answer. If `HandleErrorLayer` takes tower's `BoxError`, as it must with tower's `timeout`, box the
//! errors:
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
//! A layer can be optional, by tower's [`option_layer`]. The responses must have the same type with and
//! without the layer, so the body is converted back to axum's `Body`:
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
//!   `layer`: rejections are still errors. Add [`.answer()`](ZSetSemaphoreLayer::answer).
//! - *"`Service<Request<ReadAhead<Body>>>` is not implemented"*: a service inside of `.answer()` gets
//!   requests of [`ReadAhead<B>`], and this one needs axum's `Body`, as `axum::middleware::from_fn`
//!   does. Call `Router::layer` twice instead of using one `ServiceBuilder`, or put
//!   `.map_request(|request: http::Request<_>| request.map(axum::body::Body::new))` in between.
//! - *"expected `Response<Body>`, found `Response<CappedBody<..>>`"* at `option_layer`, and *"expected
//!   `Box<dyn Error>`, found `Error<Infallible>`"* at `HandleErrorLayer`: see [above](#with-other-layers).
//! - *"`Response<..>: Default` is not satisfied"* or the like at a layer of your own: [`CappedBody`] and
//!   [`PermitBody`] implement `Default` as an empty body. If the layer needs more, box the body with
//!   `.map_response(..)`.
//! - *"`Service<http::Request<_>>` is not implemented for `reqwest::Client`"*: enable the feature `reqwest`.
//! - *"implementation of `FnOnce` is not general enough"*: name the type of the argument of a closure
//!   that extracts keys, `|request: &axum::extract::Request| ...`.
//! - Do not wrap a client with `.answer()`: it reads request bodies ahead, and its rejections look like
//!   responses of the provider.
//!
//! # Clients
//!
//! The layer can also wrap a client, to cap the calls to a provider that limits how many run in parallel:
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
//! With the feature `reqwest` the layer also wraps a [`reqwest::Client`]; the types of its requests and
//! responses stay the same. The permit is released when the response has been read to its end, or is
//! dropped.
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
//! Do not use [`release_on_response`](ZSetSemaphoreLayer::release_on_response) for clients whose responses
//! stream: it releases the permit before the body has been read.
//!
//! # Several limits
//!
//! Layers stack. Put the narrowest limit outside: first the user's, then the model's, then that of the whole
//! cluster. While a request waits for an inner limit, it holds its permits of the outer ones. A user who
//! waits for the cluster then blocks only himself. In the other order a request that waits for its
//! user's limit would hold a unit of the cluster, and block everybody.
//!
//! Stack the limits in the same order everywhere, or two requests may wait for each other until their
//! timeouts. [`Rejection::limit_name`] tells which limit rejected a request.
//!
//! Each layer has its own [`timeout`](ZSetSemaphoreLayer::timeout), and these add up. Limit the total wait
//! of a request by the [`total_timeout`](ZSetSemaphoreLayer::total_timeout) of the outermost layer.
//!
//! # The order of all layers
//!
//! From the outside in:
//!
//! 1. **Tracing and request ids**, so that rejections are traced as well.
//! 2. **CORS**: a browser sends a pre-flight request (`OPTIONS`) before the real one. If CORS were inside of
//!    the limits, each pre-flight request would cost a permit and a wait. Also, a web page cannot read a
//!    rejection that has no CORS headers.
//! 3. **Authentication**, before limits with a key. Each key, even an invented one, costs the store some
//!    hundred bytes for some seconds: a million keys took 382 MB of Redis. Take the key from the result of
//!    the authentication ([`FromExtension`]), not from the header.
//! 4. **The limits**, the narrowest first. [Exempt](ZSetSemaphoreLayer::exempt) the health checks, or route
//!    them around the limits: a gateway that is full is still healthy.
//! 5. **Timeouts of the work**, and the handlers. A timeout outside of the limits includes the wait.
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
//! // The layer that is added last is the outermost.
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
//! On a public server set a timeout or limit the queue, since each queued request may keep up to 256 KiB of
//! its body in memory. A request waits up to the [`timeout`](ZSetSemaphoreLayer::timeout). It is rejected at
//! once if the limit is reached ([`reject_when_full`](ZSetSemaphoreLayer::reject_when_full)), or if too many
//! requests wait already ([`max_queue`](ZSetSemaphoreLayer::max_queue)).
//!
//! With [`answer`](ZSetSemaphoreLayer::answer) a rejection is answered:
//!
//! | reason | HTTP | gRPC |
//! |---|---|---|
//! | limit reached | `503`, or the [`status`](ZSetSemaphoreLayer::status) that is set, with `Retry-After` | `RESOURCE_EXHAUSTED` with `RetryInfo` and `grpc-retry-pushback-ms` |
//! | store unavailable, semaphore closed, permit lost, limit of the key not known | `503` with `Retry-After` | `UNAVAILABLE`, with the same details |
//! | weighs more than the limit | `413` | `INVALID_ARGUMENT` |
//! | request body broke off while queued | `400` | `CANCELLED` |
//!
//! The HTTP body is
//! `{"error":"too many requests at once","limit_name":"chats","limit":64,"in_use":64,"place":7,"retry_after":3}`.
//! It can also have the error format of another API, which the SDKs of that API understand
//! ([`dialect`](ZSetSemaphoreLayer::dialect)), or be made by a closure from the rejection and the request
//! ([`answer_with`](ZSetSemaphoreLayer::answer_with)). A request is gRPC if its content type says so. The
//! answer to a gRPC request has only trailers.
//!
//! `Retry-After` is [`Rejection::retry_after`] in whole seconds: the expected time until enough units are
//! free for the request and those ahead of it. The estimate uses how long earlier permits were held, and for
//! how long the present ones have been held. It tends to be too long rather than too short. It has a random
//! part, so that clients that were rejected together do not come back together.
//!
//! If the permit of a stream of server-sent events is lost, the stream can end with an error event
//! ([`sse_error_event`](ZSetSemaphoreLayer::sse_error_event)).
//!
//! # Clients that go away
//!
//! A queued request whose client goes away leaves the queue. Over HTTP/1.1 a server notices this only by
//! reading, so [`answer`](ZSetSemaphoreLayer::answer) reads the request body ahead, up to
//! [256 KiB](ZSetSemaphoreLayer::read_ahead). In three cases it is noticed only after the request got its
//! permit: if the body is larger, if the client has already sent its next request on the connection, or if
//! the client waits for a `100 Continue`.
//!
//! A client that stays connected but does not read keeps its permit, unless a
//! [`stall_timeout`](ZSetSemaphoreLayer::stall_timeout) ends the body.
//!
//! # WebSockets
//!
//! A response to an upgrade (`101`) has no body, so its permit is released at once. To cap a WebSocket for
//! as long as it lives, its handler [takes over](Admitted::take_all) the permits of the request, and holds
//! them until the socket closes:
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
//! # Outages of the store
//!
//! While the store is unavailable, requests are rejected (the default), let through, or share a cap of this
//! process: see [`OutagePolicy`]. Once the store is known to be unavailable, the policy decides without a
//! wait. A gateway may start before its Redis does (`Client::open`).
//!
//! # Shutdown
//!
//! [`Client::shutdown`](crate::Client::shutdown) ends all waits: queued requests are rejected with `503`,
//! and running ones may finish. It resolves when the last request has finished. Call it while the server
//! stops, as the example `llm_gateway` does.
//!
//! # Metrics
//!
//! With the feature `metrics`, a layer tells the recorder of the `metrics` crate what becomes of its requests and how
//! long they wait. It also tells when the outage policy decides, which units rest after a refusal, and how many keys it
//! knows. The module `zset_semaphore::metrics` lists the metrics of the layer and those of its semaphores.

mod admission;
mod body;
mod error;
mod exempt;
mod future;
mod keyed;
mod layer;
mod metrics;
mod mode;
mod outage;
mod rejection;
mod retry_after;
mod sealed;
mod select;
mod service;
mod settings;

pub use admission::admitted::{Admission, Admitted, OwnedAdmission};
pub use admission::wait_deadline::WaitDeadline;
pub use body::capped::CappedBody;
pub use body::permit::PermitBody;
pub use body::read_ahead::ReadAhead;
pub use error::{Error, PermitLost, ReaderStalled};
pub use exempt::{Exempt, Exemption, Paths};
pub use future::ResponseFuture;
pub use keyed::Keyed;
pub use keyed::builder::KeyedBuilder;
pub use keyed::extract::{BearerToken, FromExtension, Header, KeyExtractor, PathSegment, PeerAddr};
pub use keyed::key::Key;
pub use keyed::limit::KeyLimit;
pub use layer::ZSetSemaphoreLayer;
pub use mode::answer::Answer;
pub use mode::dialect::Dialect;
pub use mode::hold_body::HoldBody;
pub use mode::release_on_response::ReleaseOnResponse;
pub use mode::watch_body::WatchBody;
pub use mode::{OnRequest, OnResponse};
pub use outage::policy::OutagePolicy;
pub use rejection::{Reason, Rejection};
pub use select::{SelectSemaphore, Single, Weighted};
pub use service::ZSetSemaphoreService;
