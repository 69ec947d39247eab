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
//! | [`.hold_head()`](ZSetSemaphoreLayer::hold_head) | services of any request and response | [`Error`] | when the inner service has answered |
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
//! - What is dropped goes back: a queued future leaves the queue, a running one is dropped before
//!   its permit, and so is a body. A panic in the inner service is passed on, and whoever drops
//!   the future gives the permit back.
//! - Clones of a layer, and all services made from it, share one semaphore.
//! - A permit that is [lost](crate::Permit::lost) does not end the response it was taken for, unless
//!   [`end_when_lost`](ZSetSemaphoreLayer::end_when_lost) says so.
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
//! # Clients
//!
//! Around an outgoing client the layer caps calls to a provider that allows so many in parallel:
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
//!     .rest_on_429(Duration::from_secs(30))
//!     .layer(Http::builder(TokioExecutor::new()).build_http::<Full<Bytes>>());
//!
//! let request = http::Request::post("http://provider.example/chat").body(Full::from("hello"))?;
//! let answer = provider.oneshot(request).await?.into_body().collect().await?;
//! # Ok(())
//! # }
//! ```
//!
//! `reqwest`, whose service has types of its own, goes between tower's `map_request` and
//! `map_response`; see the example `outbound`.
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
//! # Rejections
//!
//! A request waits for room up to the [`timeout`](ZSetSemaphoreLayer::timeout), is rejected at once
//! when it is full ([`reject_when_full`](ZSetSemaphoreLayer::reject_when_full)), or where so many
//! wait already ([`max_queue`](ZSetSemaphoreLayer::max_queue)). With
//! [`answer`](ZSetSemaphoreLayer::answer):
//!
//! | why | HTTP | gRPC |
//! |---|---|---|
//! | no room | `503`, or what [`status`](ZSetSemaphoreLayer::status) says, with `Retry-After` | `RESOURCE_EXHAUSTED` with `RetryInfo` and `grpc-retry-pushback-ms` |
//! | the store is away, the semaphore closed, the permit lost, the limit of the key not known | `503` with `Retry-After` | `UNAVAILABLE`, the same |
//! | heavier than the limit | `413` | `INVALID_ARGUMENT` |
//! | the body of the request failed while it was queued | `400` | `CANCELLED` |
//!
//! The body over HTTP is
//! `{"error":"too many requests at once","limit_name":"chats","limit":64,"in_use":64,"place":7,"retry_after":3}`,
//! or what [`answer_with`](ZSetSemaphoreLayer::answer_with) makes. A request is one of gRPC by its
//! content type; its rejection has only trailers.
//!
//! # When the store is away
//!
//! See [`Outage`]: requests are rejected (the default), let through, or share a cap of this process.
//! Which it is needs no waiting once it is known that the store is away, and a gateway may start
//! before its Redis does ([`Client::open`](crate::Client::open)).
//!
//! # Metrics
//!
//! With the feature `metrics` each request counts in `zset_semaphore_requests_total`, and its wait
//! in the histogram `zset_semaphore_wait_seconds`, with the labels `limit` and `outcome` (`permit`,
//! `rejected`, `local`, `uncounted`, `weightless`).

mod admit;
mod answer;
mod body;
mod error;
mod future;
mod grpc;
mod handle;
mod hold;
mod key;
mod keyed;
mod layer;
mod meter;
mod metrics;
mod outage;
mod pass;
mod read_ahead;
mod select;
mod service;
mod settings;

pub use admit::Admit;
pub use answer::Answer;
pub use body::{CappedBody, PermitBody};
pub use error::{Error, PermitLost, Reason, Rejection};
pub use future::ResponseFuture;
pub use hold::{EndBody, Hold, HoldBody, HoldHead, Reply};
pub use key::{BearerToken, Extension, Header, Key, KeyExtractor, PathSegment, PeerAddr};
pub use keyed::{KeyLimit, Keyed, KeyedBuilder};
pub use layer::ZSetSemaphoreLayer;
pub use outage::Outage;
pub use pass::{Admission, Admitted};
pub use read_ahead::ReadAhead;
pub use select::{Select, Single, Weighted};
pub use service::ZSetSemaphoreService;

/// Keeps [`Hold`], [`Reply`] and [`Select`] ours, so that they can grow.
mod sealed {
    use std::fmt;

    pub trait Sealed: fmt::Debug {
        /// Of what holds permits: whether it was told to end requests whose permit is lost.
        fn was_told_to_end(&self) -> bool {
            false
        }
    }
}
