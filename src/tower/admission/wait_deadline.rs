//! The deadline for all waits of a request, passed from layer to layer.

use std::time::Duration;

use tokio::time::Instant;

/// Stands for "never": as far as every clock goes for sure.
const FAR: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);

/// The deadline for all waits of a request for permits, whatever the timeouts of the layers are; an
/// extension of an HTTP request.
///
/// [`total_timeout`](crate::tower::ZSetSemaphoreLayer::total_timeout) puts it there for the layers further
/// in. A middleware of your own can do so as well, for example by a header that says how long the
/// client waits. Of two deadlines the earlier one counts. Layers that
/// [release on response](crate::tower::ReleaseOnResponse) ignore it.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use axum::{Router, body::Body, extract::Request, http::StatusCode, routing::get};
/// use tower::{ServiceBuilder, ServiceExt};
/// use zset_semaphore::{Client, tower::{WaitDeadline, ZSetSemaphoreLayer}};
///
/// /// The client says for how long it waits.
/// fn patience(mut request: Request) -> Request {
///     let header = request.headers().get("x-patience-ms").and_then(|ms| ms.to_str().ok());
///     if let Some(ms) = header.and_then(|ms| ms.parse().ok()) {
///         request.extensions_mut().insert(WaitDeadline::after(Duration::from_millis(ms)));
///     }
///     request
/// }
///
/// let chats = Client::in_memory().semaphore("chats", 1).build()?;
/// let app: Router = Router::new().route("/", get(|| async { "token" })).layer(
///     ServiceBuilder::new()
///         .map_request(patience)
///         .layer(ZSetSemaphoreLayer::new(chats.clone()).timeout(Duration::from_secs(30)).answer()),
/// );
/// let held = chats.acquire(1).await?;
/// let hasty = Request::get("/").header("x-patience-ms", "20").body(Body::empty())?;
/// assert_eq!(app.oneshot(hasty).await?.status(), StatusCode::SERVICE_UNAVAILABLE);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WaitDeadline(Instant);

impl WaitDeadline {
    /// Makes a deadline `wait` from now.
    pub fn after(wait: Duration) -> Self {
        let now = Instant::now();
        Self(now.checked_add(wait).unwrap_or_else(|| now + FAR))
    }

    /// Returns how long a request may still wait; zero once the deadline has passed.
    pub fn remaining(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub(crate) fn at(instant: Instant) -> Self {
        Self(instant)
    }

    pub(crate) fn of(extensions: &http::Extensions) -> Option<Instant> {
        extensions.get::<Self>().map(|until| until.0)
    }
}
