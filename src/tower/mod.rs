//! A tower layer that takes a permit for each request and holds it until the answer is through.
//!
//! [`ZSetSemaphoreLayer`] wraps any clonable [`Service`](tower_service::Service), on the server or
//! on the client side. A request waits for its permit, first come first served across the whole
//! cluster; then the inner service is called. When the permit goes back is the choice of `H`:
//!
//! | `H` | responses | the permit goes back |
//! |---|---|---|
//! | [`HoldBody`], the default | [`http::Response<B>`], which becomes a response of [`PermitBody<B>`] | when the body ends, fails or is dropped |
//! | [`HoldHead`] | any | when the inner service has answered |
//!
//! `HoldBody` is the default because a streamed answer, as chats with LLMs are, has only begun when
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
//! - A permit that is [lost](crate::Permit::lost) does not end the response it was taken for.
//!
//! # Examples
//!
//! An axum router that streams at most 64 chats at once, cluster-wide:
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::{convert::Infallible, time::Duration};
//!
//! use axum::{Router, error_handling::HandleErrorLayer, http::StatusCode, routing::get};
//! use tower::{ServiceBuilder, ServiceExt};
//! use zset_semaphore::{Client, tower::{Error, ZSetSemaphoreLayer}};
//!
//! // Client::connect("redis://127.0.0.1:6379").await? for the whole cluster.
//! let chats = Client::in_memory().semaphore("chats", 64).build()?;
//!
//! let app: Router = Router::new().route("/chat", get(|| async { "token token" })).layer(
//!     ServiceBuilder::new()
//!         .layer(HandleErrorLayer::new(|error: Error<Infallible>| async move {
//!             (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
//!         }))
//!         .layer(ZSetSemaphoreLayer::new(chats.clone()).timeout(Duration::from_secs(10))),
//! );
//!
//! let request = axum::extract::Request::get("/chat").body(axum::body::Body::empty())?;
//! let response = app.oneshot(request).await?;
//! assert_eq!(response.status(), StatusCode::OK);
//! assert_eq!(chats.inspect().await?.in_use, 1); // until the body has ended
//! assert_eq!(axum::body::to_bytes(response.into_body(), 1024).await?, "token token");
//! let all = chats.acquire(64).await?; // free again
//! # Ok(())
//! # }
//! ```

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

    pub trait Sealed: fmt::Debug {}
}
