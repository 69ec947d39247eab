//! The layer: a builder of the settings that all services made from it share.

use std::sync::Arc;
use std::time::Duration;

use tower_layer::Layer;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};

use super::body::end::EndWhen;
use super::exempt::Exempt;
use super::keyed::Keyed;
use super::mode::answer::Answer;
use super::mode::dialect::Dialect;
use super::mode::hold_body::HoldBody;
use super::mode::release_on_response::ReleaseOnResponse;
use super::mode::watch_body::WatchBody;
use super::outage::policy::OutagePolicy;
use super::rejection::Rejection;
use super::select::{Single, Weighted};
use super::service::ZSetSemaphoreService;
use super::settings::Settings;
use crate::ZSetSemaphore;
use crate::metrics::LayerMeter;

/// A layer that calls the inner service once the request has a permit.
///
/// `M` is the mode: until when the permit is held, and what a rejection becomes ([`HoldBody`], [`WatchBody`],
/// [`ReleaseOnResponse`], [`Answer`]). `S` selects the semaphore and the units of a request ([`Single`],
/// [`Keyed`], [`Weighted`], [`Exempt`]). See the [module](super) for the behaviour.
///
/// # Default
///
/// | setting | default |
/// |---|---|
/// | the permit is held | until the body has ended ([`HoldBody`]) |
/// | a rejection is | an error; [`answer`](Self::answer) answers it |
/// | [`timeout`](Self::timeout) | none |
/// | [`total_timeout`](Self::total_timeout) | none |
/// | [`max_queue`](Self::max_queue) | that of the semaphore |
/// | [`weight`](Self::weight) | 1 |
/// | [`exempt`](Self::exempt) | none |
/// | [`outage_policy`](Self::outage_policy) | [`OutagePolicy::FailClosed`] |
/// | [`outage_after`](Self::outage_after) | 1 s |
/// | [`min_retry_after`](Self::min_retry_after) | 1 s |
/// | [`end_when_lost`](Self::end_when_lost) | off |
/// | [`stall_timeout`](Self::stall_timeout) | off |
/// | [`cooldown_on_429`](Self::cooldown_on_429) | off |
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::{convert::Infallible, time::Duration};
///
/// use http_body_util::BodyExt;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
/// use zset_semaphore::{Client, tower::ZSetSemaphoreLayer};
///
/// let uploads = Client::in_memory().semaphore("uploads", 10).build()?;
/// let service = ServiceBuilder::new()
///     .layer(
///         ZSetSemaphoreLayer::new(uploads)
///             .timeout(Duration::from_secs(5))
///             .weight(|request: &http::Request<u32>| request.body().div_ceil(1_000_000)),
///     )
///     .service(service_fn(|request: http::Request<u32>| async move {
///         let said = format!("took {} bytes", request.body());
///         Ok::<_, Infallible>(http::Response::new(said))
///     }));
///
/// let response = service.oneshot(http::Request::new(2_500_000)).await?;
/// assert_eq!(response.into_body().collect().await?.to_bytes(), "took 2500000 bytes");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "a layer does nothing until it wraps a service"]
pub struct ZSetSemaphoreLayer<M = HoldBody, S = Single> {
    selector: S,
    settings: Settings,
    mode: M,
}

impl ZSetSemaphoreLayer {
    /// Makes a layer that takes one unit of `semaphore` per request, and holds it until the body of the
    /// response has ended.
    ///
    /// The layer does not extend leases, so leave [`Renew::Auto`](crate::Renew) on.
    pub fn new(semaphore: ZSetSemaphore) -> Self {
        let settings = Settings::new(LayerMeter::of(semaphore.meter()));
        Self { selector: Single::new(semaphore), settings, mode: HoldBody::default() }
    }
}

impl<K> ZSetSemaphoreLayer<HoldBody, Keyed<K>> {
    /// Makes a layer that takes one unit of the semaphore of the request's key, and holds it until the body
    /// of the response has ended.
    pub fn keyed(keyed: Keyed<K>) -> Self {
        Self {
            settings: Settings::new(LayerMeter::new(&keyed.limit_name())),
            selector: keyed,
            mode: HoldBody::default(),
        }
    }
}

impl<M, S> ZSetSemaphoreLayer<M, S> {
    fn with_mode<N>(self, mode: N) -> ZSetSemaphoreLayer<N, S> {
        ZSetSemaphoreLayer { selector: self.selector, settings: self.settings, mode }
    }

    /// Rejects a request after one round trip if the limit is reached, or if other requests wait already.
    /// This is the same as a [`timeout`](Self::timeout) of zero.
    pub fn reject_when_full(self) -> Self {
        self.timeout(Duration::ZERO)
    }

    /// Rejects a request if at least `most` requests wait already in the whole cluster. Default: the
    /// [setting of the semaphore](crate::SemaphoreBuilder::max_queue).
    pub fn max_queue(mut self, most: u32) -> Self {
        self.settings.max_queue = Some(most);
        self
    }

    /// Sets what happens to requests while the store is unavailable. Default:
    /// [`OutagePolicy::FailClosed`].
    pub fn outage_policy(mut self, policy: OutagePolicy) -> Self {
        self.settings.outage_policy = policy;
        self
    }

    /// Sets how long the store may not answer before it counts as unavailable. From then on the [outage
    /// policy](Self::outage_policy) decides; until then requests wait. Default: 1 s.
    ///
    /// The time counts from the first call that the store has not answered. If a connection goes silent,
    /// this is noticed only after the client's [call timeout](crate::ClientBuilder::call_timeout), even if
    /// the time set here is shorter.
    pub fn outage_after(mut self, silence: Duration) -> Self {
        self.settings.outage_after = silence;
        self
    }

    /// Sets the minimum [`retry_after`](Rejection::retry_after) of a rejection. Raise it for a service with
    /// many clients, or with clients that are slow to start. Default: 1 s.
    pub fn min_retry_after(mut self, min: Duration) -> Self {
        self.settings.min_retry_after = min;
        self
    }

    /// Ends a wait after `timeout` with [`AcquireError::Timeout`](crate::AcquireError::Timeout). The time
    /// counts from the first poll of the response future. With a timeout of zero a request asks the store
    /// once and never waits. Default: none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// Limits how long a request waits in total: for the permit of this layer and for those of inner layers.
    /// Default: none.
    ///
    /// [`timeout`](Self::timeout) is for one layer: three layers with 10 s each may take 30 s. Set the total
    /// timeout on the outermost layer. Each layer then waits for its own timeout or for the rest of the
    /// total, whichever is shorter. If the total is used up when a request reaches a layer, the request asks
    /// once and does not wait, as with a timeout of zero.
    ///
    /// Inner layers read the deadline from an extension of the HTTP request,
    /// [`WaitDeadline`](super::WaitDeadline). [`release_on_response`](Self::release_on_response) neither
    /// reads nor sets it.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn example(user: zset_semaphore::ZSetSemaphore, all: zset_semaphore::ZSetSemaphore) {
    /// use std::time::Duration;
    ///
    /// use tower::ServiceBuilder;
    /// use zset_semaphore::tower::ZSetSemaphoreLayer;
    ///
    /// let (two, ten) = (Duration::from_secs(2), Duration::from_secs(10));
    /// ServiceBuilder::new()
    ///     // Two seconds for the user's own limit, and ten for both.
    ///     .layer(ZSetSemaphoreLayer::new(user).timeout(two).total_timeout(ten).answer())
    ///     .layer(ZSetSemaphoreLayer::new(all).answer());
    /// # }
    /// ```
    pub fn total_timeout(mut self, timeout: Duration) -> Self {
        self.settings.total_timeout = Some(timeout);
        self
    }
}

impl<S> ZSetSemaphoreLayer<HoldBody, S> {
    /// Releases the permit when the inner service has responded. A body that streams after that is **not**
    /// capped.
    ///
    /// Use it for services whose responses are not HTTP, or do not stream. It compiles around any service,
    /// so take care not to use it around a client whose responses stream.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::convert::Infallible;
    ///
    /// use tower::{Layer, ServiceExt, service_fn};
    /// use zset_semaphore::{Client, tower::ZSetSemaphoreLayer};
    ///
    /// let jobs = Client::in_memory().semaphore("jobs", 2).build()?;
    /// let double = service_fn(|n: u32| async move { Ok::<_, Infallible>(2 * n) });
    /// let double = ZSetSemaphoreLayer::new(jobs).release_on_response().layer(double);
    /// assert_eq!(double.oneshot(21).await?, 42);
    /// # Ok(())
    /// # }
    /// ```
    pub fn release_on_response(self) -> ZSetSemaphoreLayer<ReleaseOnResponse, S> {
        self.with_mode(ReleaseOnResponse::default())
    }

    /// Answers rejections over HTTP or gRPC instead of returning them as errors. So the service can be used
    /// where the layer must not return an error: in axum's `Router::layer` and tonic's `Server::layer`.
    ///
    /// The only error of the service is then the error of the inner service. The [module](super#rejections)
    /// lists the answers. The inner service is called with requests of [`ReadAhead<B>`](super::ReadAhead):
    /// while a request is queued, its body is read ahead, so that the server notices when the client goes
    /// away.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// use axum::{Router, body::Body, extract::Request, http::StatusCode, routing::get};
    /// use tower::ServiceExt;
    /// use zset_semaphore::{Client, tower::ZSetSemaphoreLayer};
    ///
    /// let chats = Client::in_memory().semaphore("chats", 1).build()?;
    /// let layer = ZSetSemaphoreLayer::new(chats.clone())
    ///     .reject_when_full()
    ///     .answer()
    ///     .status(StatusCode::TOO_MANY_REQUESTS);
    /// let app: Router = Router::new().route("/", get(|| async { "token" })).layer(layer);
    ///
    /// let held = chats.acquire(1).await?;
    /// let response = app.oneshot(Request::new(Body::empty())).await?;
    /// assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    /// assert!(response.headers().contains_key("retry-after"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn answer(self) -> ZSetSemaphoreLayer<Answer, S> {
        let max_cooldown = self.mode.max_cooldown;
        self.with_mode(Answer::new(EndWhen::default(), max_cooldown))
    }

    /// Keeps the permit after the inner service returns `429 Too Many Requests`: for as long as the response
    /// says, but for at most `longest`. Use it around clients of a provider. Default: off.
    ///
    /// The units of the request stay in use for that time. So each `429` lowers the effective limit of the
    /// whole cluster by one request, and the limit recovers by itself.
    ///
    /// The time comes from the header `retry-after-ms`, or from `Retry-After` in seconds or as a date (RFC
    /// 9110, 10.2.3). Without either header it is 1 s. `529`, the status of Anthropic for "overloaded",
    /// counts as a `429`. `503` counts as a `429` if it has one of the headers.
    ///
    /// [`Client::shutdown`](crate::Client::shutdown) waits until the cooldown is over; `shutdown_now` does
    /// not. [`answer`](Self::answer) and [`end_when_lost`](Self::end_when_lost) keep this setting.
    /// [`release_on_response`](Self::release_on_response) turns it off, since it does not look at responses.
    pub fn cooldown_on_429(mut self, longest: Duration) -> Self {
        self.mode.max_cooldown = Some(longest);
        self
    }

    /// Ends a request whose permit is [lost](crate::Permit::lost). Default: it may finish.
    ///
    /// The inner future is dropped, and the request fails with [`Reason::Lost`](super::Reason::Lost). If the
    /// body streams already, it ends with [`PermitLost`](super::PermitLost): the body is dropped even if
    /// nobody reads it, and the next read gets the error. The server may still send data that it has
    /// buffered.
    pub fn end_when_lost(self) -> ZSetSemaphoreLayer<WatchBody, S> {
        self.watching().end_when_lost()
    }

    /// Ends a body whose reader takes nothing for `timeout`. Default: off. Without it, a client that does
    /// not read keeps its permit for as long as its connection lives.
    ///
    /// The body is dropped and the permit released. A later read gets
    /// [`ReaderStalled`](super::ReaderStalled).
    ///
    /// The time runs while the reader could poll the body. It starts at the response, at each frame that the
    /// reader took, and each time the body woke the reader. It stops when the reader polls again. It does
    /// not run while the inner service is silent.
    ///
    /// If the body yields data faster than its client reads, the server polls the body only when its buffers
    /// have room again. Over HTTP/1.1 the client has to read up to some megabytes before that (the buffer of
    /// the server and that of the socket); over HTTP/2 it is a window or a frame, whichever is larger. So
    /// `timeout` should be longer than a slow client needs to receive that much. A body that yields data no
    /// faster than its client reads is polled all the time.
    ///
    /// Only the body ends. The connection belongs to the server: it stays open until the client reads or
    /// goes away, or until the server closes it, for example by HTTP/2 keep-alive.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    ///
    /// use axum::{Router, body::{Body, to_bytes}, extract::Request, routing::get};
    /// use tower::ServiceExt;
    /// use zset_semaphore::{Client, tower::ZSetSemaphoreLayer};
    ///
    /// let chats = Client::in_memory().semaphore("chats", 1).build()?;
    /// let layer = ZSetSemaphoreLayer::new(chats.clone()).stall_timeout(Duration::from_secs(30));
    /// let app: Router = Router::new().route("/", get(|| async { "token" })).layer(layer.answer());
    ///
    /// let response = app.oneshot(Request::new(Body::empty())).await?;
    /// let permit = chats.acquire(1).await?; // 30 s later: nobody has read the response
    /// assert!(to_bytes(response.into_body(), 1024).await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    pub fn stall_timeout(self, timeout: Duration) -> ZSetSemaphoreLayer<WatchBody, S> {
        self.watching().stall_timeout(timeout)
    }

    fn watching(self) -> ZSetSemaphoreLayer<WatchBody, S> {
        let max_cooldown = self.mode.max_cooldown;
        self.with_mode(WatchBody { end_when: EndWhen::default(), max_cooldown })
    }
}

impl<S> ZSetSemaphoreLayer<WatchBody, S> {
    /// Answers rejections, as [`answer`](ZSetSemaphoreLayer::answer) does. The settings of `end_when_lost`
    /// and `stall_timeout` stay.
    pub fn answer(self) -> ZSetSemaphoreLayer<Answer, S> {
        let WatchBody { end_when, max_cooldown } = self.mode;
        self.with_mode(Answer::new(end_when, max_cooldown))
    }

    /// Also ends a request whose permit is [lost](ZSetSemaphoreLayer::end_when_lost).
    pub fn end_when_lost(mut self) -> Self {
        self.mode.end_when.lost = true;
        self
    }

    /// Also ends a body whose reader [stalls](ZSetSemaphoreLayer::stall_timeout).
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.mode.end_when.stall_timeout = Some(timeout);
        self
    }

    /// Keeps the permit after a `429`; see [`cooldown_on_429`](ZSetSemaphoreLayer::cooldown_on_429).
    pub fn cooldown_on_429(mut self, longest: Duration) -> Self {
        self.mode.max_cooldown = Some(longest);
        self
    }
}

impl<S> ZSetSemaphoreLayer<ReleaseOnResponse, S> {
    /// Ends a request whose permit is [lost](crate::Permit::lost): drops the inner future, and fails the
    /// request with [`Reason::Lost`](super::Reason::Lost). Default: it may finish.
    pub fn end_when_lost(mut self) -> Self {
        self.mode.end_when_lost = true;
        self
    }
}

impl<S> ZSetSemaphoreLayer<Answer, S> {
    /// Sets the status of the answer if the limit is reached, for example `429 Too Many Requests`. Default:
    /// the status of the [dialect](Self::dialect), which is `503 Service Unavailable` for
    /// [`Dialect::Plain`].
    pub fn status(mut self, status: StatusCode) -> Self {
        Arc::make_mut(&mut self.mode.settings).status = Some(status);
        self
    }

    /// Sets the error format of answers over HTTP, so that the SDKs of OpenAI or Anthropic understand them
    /// and retry when they are told to. It does not apply to gRPC. Default: [`Dialect::Plain`].
    ///
    /// # Examples
    ///
    /// Two APIs in one router, under one cap:
    ///
    /// ```
    /// # fn example(chats: zset_semaphore::ZSetSemaphore) {
    /// use axum::{Router, routing::post};
    /// use zset_semaphore::tower::{Dialect, ZSetSemaphoreLayer};
    ///
    /// let cap = ZSetSemaphoreLayer::new(chats).answer();
    /// let app: Router = Router::new()
    ///     .route("/v1/messages", post(|| async { "hi" }).layer(cap.clone().dialect(Dialect::Anthropic)))
    ///     .route("/v1/chat/completions", post(|| async { "hi" }).layer(cap.dialect(Dialect::OpenAi)));
    /// # }
    /// ```
    pub fn dialect(mut self, dialect: Dialect) -> Self {
        Arc::make_mut(&mut self.mode.settings).dialect = dialect;
        self
    }

    /// Changes the answers to rejected requests. `change` gets the rejection, the head of the request, and
    /// the answer with its status, `Retry-After` and JSON. Answers over gRPC are not changed.
    ///
    /// It is called for every rejection, including those during an outage and those of requests that weigh
    /// too much; see [`Rejection::is_full`] and [`Rejection::reason`]. The `Display` of a rejection is for
    /// logs; outsiders may see the [`limit_name`](Rejection::limit_name). [`Rejection::key`] returns the key
    /// of the request; for a secret it returns the hash.
    ///
    /// With this setting the head of each request is copied. `Authorization`, cookies and API keys in the
    /// copy are marked sensitive, which hides them from `Debug`.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn example(chats: zset_semaphore::ZSetSemaphore) {
    /// use zset_semaphore::tower::ZSetSemaphoreLayer;
    ///
    /// let layer = ZSetSemaphoreLayer::new(chats).answer().answer_with(|rejection, request, answer| {
    ///     let path = request.uri.path();
    ///     tracing::info!(path, key = rejection.key(), %rejection, "turned away");
    ///     let full = rejection.is_full();
    ///     answer.map(|json| if full { "All our models are busy.".into() } else { json })
    /// });
    /// # }
    /// ```
    pub fn answer_with(
        mut self,
        change: impl Fn(&Rejection, &Parts, Response<Bytes>) -> Response<Bytes> + Send + Sync + 'static,
    ) -> Self {
        Arc::make_mut(&mut self.mode.settings).change = Some(Arc::new(change));
        self
    }

    /// Adds headers to the responses of requests that hold a permit: `x-concurrency-limit`,
    /// `x-concurrency-in-use` (units, as the store last said) and `x-concurrency-waited-ms` (for this
    /// limit). If several stacked layers have this setting, the innermost one adds its headers. Default:
    /// off.
    pub fn add_limit_headers(mut self) -> Self {
        Arc::make_mut(&mut self.mode.settings).limit_headers = true;
        self
    }

    /// Ends a request whose permit is [lost](crate::Permit::lost): drops the inner future and answers with
    /// `503`, or ends the body with [`PermitLost`](super::PermitLost). Default: it may finish.
    pub fn end_when_lost(mut self) -> Self {
        Arc::make_mut(&mut self.mode.settings).end_when.lost = true;
        self
    }

    /// Ends a body whose reader takes nothing for `timeout`, and releases its permit; see
    /// [`stall_timeout`](ZSetSemaphoreLayer::stall_timeout). Default: off.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        Arc::make_mut(&mut self.mode.settings).end_when.stall_timeout = Some(timeout);
        self
    }

    /// Keeps the permit after a `429`, if the inner service calls a provider and passes its response on; see
    /// [`cooldown_on_429`](ZSetSemaphoreLayer::cooldown_on_429). Default: off.
    pub fn cooldown_on_429(mut self, longest: Duration) -> Self {
        Arc::make_mut(&mut self.mode.settings).max_cooldown = Some(longest);
        self
    }

    /// Sends an event `error`, in the format of the [dialect](Self::dialect), as the last event of a stream
    /// whose [permit was lost](Self::end_when_lost). Default: off, so the stream fails without an event.
    ///
    /// It applies to server-sent events only. Other responses still end with an error, and so do streams
    /// that an inner layer compresses. It has no effect without `end_when_lost`.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn example(chats: zset_semaphore::ZSetSemaphore) {
    /// use zset_semaphore::tower::{Dialect, ZSetSemaphoreLayer};
    ///
    /// let layer = ZSetSemaphoreLayer::new(chats)
    ///     .end_when_lost()
    ///     .answer()
    ///     .dialect(Dialect::OpenAi)
    ///     .sse_error_event();
    /// # }
    /// ```
    pub fn sse_error_event(mut self) -> Self {
        Arc::make_mut(&mut self.mode.settings).sse_error_event = true;
        self
    }

    /// Sets how much memory, in bytes, may be used to read a request body ahead while the request is queued.
    /// Default: 256 KiB.
    ///
    /// Reading stops after the frame that reaches this bound, so that frame may exceed it. Then the client
    /// has to wait. With 0 nothing is read ahead. A request with `Expect: 100-continue` is never read ahead.
    pub fn read_ahead(mut self, bytes: u64) -> Self {
        Arc::make_mut(&mut self.mode.settings).read_ahead = bytes;
        self
    }
}

impl<M, S> ZSetSemaphoreLayer<M, S> {
    /// Takes as many units as `weigh` returns for a request. If it is called several times, the last call
    /// counts. Default: 1.
    ///
    /// A request of weight 0 passes at once, without a permit. A request that weighs more than the limit
    /// ends with [`AcquireError::TooLarge`](crate::AcquireError::TooLarge).
    ///
    /// `weigh` runs in `call`. If it panics, `call` panics, and no permit is held.
    pub fn weight<Req, F>(self, weigh: F) -> ZSetSemaphoreLayer<M, Weighted<F, S>>
    where
        F: Fn(&Req) -> u32,
    {
        ZSetSemaphoreLayer {
            selector: Weighted::new(self.selector, weigh),
            settings: self.settings,
            mode: self.mode,
        }
    }

    /// Lets requests pass as if the layer were not there: they take no permit, are not counted in metrics,
    /// and need neither a key nor the store. A second call exempts further requests. Default: none.
    ///
    /// Use it for health checks, which must be answered even if the limit is reached, and for other cheap
    /// requests.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use axum::{Router, body::Body, extract::Request, http::StatusCode, routing::get};
    /// use tower::ServiceExt;
    /// use zset_semaphore::{Client, tower::{Paths, ZSetSemaphoreLayer}};
    ///
    /// let chats = Client::in_memory().semaphore("chats", 1).build()?;
    /// let layer = ZSetSemaphoreLayer::new(chats.clone())
    ///     .exempt(Paths::new(["/healthz", "/readyz"]))
    ///     .exempt(|request: &Request| request.headers().contains_key("x-probe"))
    ///     .reject_when_full()
    ///     .answer();
    /// let app: Router = Router::new()
    ///     .route("/", get(|| async { "token" }))
    ///     .route("/healthz", get(|| async { "well" }))
    ///     .layer(layer);
    ///
    /// let held = chats.acquire(1).await?;
    /// for (path, status) in [("/healthz", StatusCode::OK), ("/", StatusCode::SERVICE_UNAVAILABLE)] {
    ///     let request = Request::get(path).body(Body::empty())?;
    ///     assert_eq!(app.clone().oneshot(request).await?.status(), status);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn exempt<E>(self, exemption: E) -> ZSetSemaphoreLayer<M, Exempt<E, S>> {
        ZSetSemaphoreLayer {
            selector: Exempt::new(self.selector, exemption),
            settings: self.settings,
            mode: self.mode,
        }
    }
}

impl<Inner, M: Clone, S: Clone> Layer<Inner> for ZSetSemaphoreLayer<M, S> {
    type Service = ZSetSemaphoreService<Inner, M, S>;

    fn layer(&self, inner: Inner) -> Self::Service {
        let settings = Arc::new(self.settings.clone());
        ZSetSemaphoreService::new(inner, self.selector.clone(), settings, self.mode.clone())
    }
}
