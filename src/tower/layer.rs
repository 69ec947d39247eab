//! The layer: what every service made from it has in common.

use std::sync::Arc;
use std::time::Duration;

use tower_layer::Layer;

use bytes::Bytes;
use http::request::Parts;
use http::{Response, StatusCode};

use super::answer::Answer;
use super::dialect::Dialect;
use super::error::Rejection;
use super::exempt::Exempt;
use super::hold::{HoldBody, ReleaseOnResponse, WatchBody};
use super::keyed::Keyed;
use super::outage::OutagePolicy;
use super::select::{Single, Weighted};
use super::service::ZSetSemaphoreService;
use super::settings::Settings;
use super::watched::Ends;
use crate::ZSetSemaphore;

/// Lets a request through to the inner service once it has a permit.
///
/// `H` says how long the permit is held and what becomes of rejections ([`HoldBody`], [`WatchBody`],
/// [`ReleaseOnResponse`], [`Answer`]), `S` which semaphore a request asks for how many units ([`Single`], [`Keyed`],
/// [`Weighted`], [`Exempt`]). See the [module](super) for the behaviour.
///
/// # Default
///
/// | setting | default |
/// |---|---|
/// | held until | the body has ended ([`HoldBody`]) |
/// | rejections are | errors; [`answer`](Self::answer) answers them |
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
pub struct ZSetSemaphoreLayer<H = HoldBody, S = Single> {
    selector: S,
    settings: Settings,
    hold: H,
}

impl ZSetSemaphoreLayer {
    /// Takes one unit of `semaphore` per request, and holds it until the body of the response has
    /// ended.
    ///
    /// Nobody extends the lease of a request: leave [`Renew::Auto`](crate::Renew) on.
    pub fn new(semaphore: ZSetSemaphore) -> Self {
        let settings = Settings::new(semaphore.clone_name());
        Self { selector: Single::new(semaphore), settings, hold: HoldBody::default() }
    }
}

impl<K> ZSetSemaphoreLayer<HoldBody, Keyed<K>> {
    /// Takes one unit of the semaphore of the request's key, and holds it until the body of the
    /// response has ended.
    pub fn keyed(keyed: Keyed<K>) -> Self {
        Self { settings: Settings::new(keyed.name()), selector: keyed, hold: HoldBody::default() }
    }
}

impl<H, S> ZSetSemaphoreLayer<H, S> {
    fn with<G>(self, hold: G) -> ZSetSemaphoreLayer<G, S> {
        ZSetSemaphoreLayer { selector: self.selector, settings: self.settings, hold }
    }

    /// Never waits for room: a request that finds none, or others that wait for it, is rejected
    /// after one round trip. As a [`timeout`](Self::timeout) of zero.
    pub fn reject_when_full(self) -> Self {
        self.timeout(Duration::ZERO)
    }

    /// Rejects a request where `most` wait already, in the whole cluster. Default: what the
    /// [semaphore](crate::SemaphoreBuilder::max_queue) says.
    pub fn max_queue(mut self, most: u32) -> Self {
        self.settings.max_queue = Some(most);
        self
    }

    /// What becomes of requests while the store is away. Default: [`OutagePolicy::FailClosed`].
    pub fn outage_policy(mut self, policy: OutagePolicy) -> Self {
        self.settings.outage = policy;
        self
    }

    /// For how long the store must not have answered, though it was asked, until it counts as away
    /// and the policy for [outages](Self::outage_policy) decides. Until then requests wait. Default: 1 s.
    ///
    /// A connection that goes silent is noticed after the client's
    /// [call timeout](crate::ClientBuilder::call_timeout), so a shorter time than that has no effect
    /// on it.
    pub fn outage_after(mut self, patience: Duration) -> Self {
        self.settings.outage_after = patience;
        self
    }

    /// No rejected request is told to [come again](Rejection::retry_after) sooner than after this; for
    /// services whose clients are many, or slow to start. Default: 1 s.
    pub fn min_retry_after(mut self, floor: Duration) -> Self {
        self.settings.retry_floor = floor;
        self
    }

    /// Ends a wait after `timeout` with [`AcquireError::Timeout`](crate::AcquireError::Timeout);
    /// counted from the first poll of the response future. Zero asks once and never waits for room.
    /// Default: none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// Ends a wait once the request has waited for `timeout` in all: for the permit of this layer and,
    /// counted from here, for those of the layers further in. Default: none.
    ///
    /// [`timeout`](Self::timeout) is for one layer: three layers with 10 s each may take 30. Say how long
    /// a request waits in all at the outermost. Each layer waits for its own timeout or for what is left,
    /// whichever is shorter; a request that reaches a layer when nothing is left asks there once, as with
    /// a timeout of zero. The layers further in learn it from the extensions of an HTTP request, see
    /// [`WaitDeadline`](super::WaitDeadline); [`release_on_response`](Self::release_on_response) neither tells nor hears of it.
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
    /// Gives the permit back when the inner service has answered; a body that is still streaming
    /// is **not** capped. For services whose responses are not those of HTTP, or are complete when
    /// they are there. It compiles around any service, a client whose answers stream among them: leave
    /// it away there.
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
        self.with(ReleaseOnResponse::default())
    }

    /// Answers rejections over HTTP or gRPC instead of failing with them, so that the service can be
    /// mounted where no error may come out: axum's `Router::layer`, tonic's `Server::layer`.
    ///
    /// The error of the service is that of the inner service. See the [module](super#rejections) for
    /// the answers. The inner service is called with requests of [`ReadAhead<B>`](super::ReadAhead):
    /// while a request is queued its body is read ahead, so that a server notices when its client
    /// goes away.
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
        let rest = self.hold.rest;
        self.with(Answer::with(Ends::default(), rest))
    }

    /// Lets a `429 Too Many Requests` from the inner service, a provider that is called, lower the
    /// effective limit for a while: the permit of that request is kept, and its units with it, for
    /// as long as the answer says, `longest` at the most. Each such answer takes one request out of the
    /// limit of the whole cluster, and it comes back by itself.
    ///
    /// The answer says so by `retry-after-ms`, or `Retry-After` in seconds or as a date (RFC 9110,
    /// 10.2.3); 1 s if by neither. A `529`, by which Anthropic says that it is overloaded, is as a `429`. A
    /// `503` is, too, where it says for how long.
    ///
    /// [`Client::shutdown`](crate::Client::shutdown) waits for it; `shutdown_now` does not.
    /// [`answer`](Self::answer) and [`end_when_lost`](Self::end_when_lost) keep this setting;
    /// [`release_on_response`](Self::release_on_response), which leaves responses alone, turns it off again.
    /// Default: off.
    pub fn cooldown_on_429(mut self, longest: Duration) -> Self {
        self.hold.rest = Some(longest);
        self
    }

    /// Ends a request whose permit is [lost](crate::Permit::lost): the inner future is dropped and
    /// the request fails with [`Reason::Lost`](super::Reason::Lost), or its body ends with
    /// [`PermitLost`](super::PermitLost). Default: it may finish.
    ///
    /// The body is ended whether or not anybody reads it: it is dropped, and whoever comes to read
    /// it is told. What a server has taken of it already may still lie in its buffers.
    pub fn end_when_lost(self) -> ZSetSemaphoreLayer<WatchBody, S> {
        self.ending().end_when_lost()
    }

    /// Ends a body of which its reader takes nothing for `patience`: it is dropped, its permit goes
    /// back, and whoever comes to read it after all is told [`ReaderStalled`](super::ReaderStalled).
    /// Without it a client that does not read keeps its permit for as long as its connection lives.
    /// Default: off.
    ///
    /// What counts is the reader's turn: from when the response is there, or a frame was taken, or the
    /// body has woken its reader, until the body is polled again. For how long the inner service is
    /// silent does not count. Where the body gives more than its client takes, a server polls it in leaps,
    /// whenever its buffers have room again: over HTTP/1.1 one of up to some megabytes (the buffer of
    /// the server and that of the socket), over HTTP/2 of a window or a frame, whichever is larger. So
    /// `patience` should be longer than it takes a slow client to receive that much. Tokens that come
    /// no faster than they are read make no such leaps.
    ///
    /// It ends the body alone. The connection is the server's: one that its client does not read
    /// stays open until the client reads or goes away, or until the server closes it (by the keep-alive
    /// of HTTP/2, say).
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
    pub fn stall_timeout(self, patience: Duration) -> ZSetSemaphoreLayer<WatchBody, S> {
        self.ending().stall_timeout(patience)
    }

    fn ending(self) -> ZSetSemaphoreLayer<WatchBody, S> {
        let rest = self.hold.rest;
        self.with(WatchBody { ends: Ends::default(), rest })
    }
}

impl<S> ZSetSemaphoreLayer<WatchBody, S> {
    /// As [`answer`](ZSetSemaphoreLayer::answer), with requests that end as they do without it.
    pub fn answer(self) -> ZSetSemaphoreLayer<Answer, S> {
        let WatchBody { ends, rest } = self.hold;
        self.with(Answer::with(ends, rest))
    }

    /// Ends a request whose permit is lost, too.
    pub fn end_when_lost(mut self) -> Self {
        self.hold.ends.when_lost = true;
        self
    }

    /// Ends a body whose reader [stalls](ZSetSemaphoreLayer::stall_timeout), too.
    pub fn stall_timeout(mut self, patience: Duration) -> Self {
        self.hold.ends.stall_timeout = Some(patience);
        self
    }

    /// As [`cooldown_on_429`](ZSetSemaphoreLayer::cooldown_on_429); a permit that is lost rests no longer.
    pub fn cooldown_on_429(mut self, longest: Duration) -> Self {
        self.hold.rest = Some(longest);
        self
    }
}

impl<S> ZSetSemaphoreLayer<ReleaseOnResponse, S> {
    /// Ends a request whose permit is [lost](crate::Permit::lost): the inner future is dropped, and
    /// the request fails with [`Reason::Lost`](super::Reason::Lost). Default: it may finish.
    pub fn end_when_lost(mut self) -> Self {
        self.hold.end_when_lost = true;
        self
    }
}

impl<S> ZSetSemaphoreLayer<Answer, S> {
    /// With what a request is answered for which there was no room, such as `429 Too Many Requests`.
    /// Default: what the [dialect](Self::dialect) says, `503 Service Unavailable`.
    pub fn status(mut self, status: StatusCode) -> Self {
        Arc::make_mut(&mut self.hold.settings).status = Some(status);
        self
    }

    /// In whose words rejections are answered over HTTP, so that the SDKs of OpenAI or Anthropic
    /// understand them and come again when they are told to. gRPC has its own. Default:
    /// [`Dialect::Plain`].
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
        Arc::make_mut(&mut self.hold.settings).dialect = dialect;
        self
    }

    /// Changes the answers to rejected requests: `change` gets the rejection, the head of the
    /// request, and what would be answered, with its status, `Retry-After` and JSON. Answers to gRPC
    /// requests stay as they are.
    ///
    /// It is called for every rejection, also for those of outages and of requests that are too heavy:
    /// see [`Rejection::is_full`] and the like. What a rejection displays is for logs; outsiders may
    /// see its [`limit_name`](Rejection::limit_name). Whose request it was tells
    /// [`Rejection::key`], by its hash if it is a secret. The head is a copy, made of each request to such
    /// a layer; `Authorization`, cookies and API keys in it are marked sensitive, which hides them from `Debug`.
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
        Arc::make_mut(&mut self.hold.settings).change = Some(Arc::new(change));
        self
    }

    /// Adds `x-concurrency-limit`, `x-concurrency-in-use` (units, as last heard) and
    /// `x-concurrency-waited-ms` (for this limit) to the responses of requests that hold a permit. Of
    /// stacked layers with this setting the innermost tells. Default: off.
    pub fn add_limit_headers(mut self) -> Self {
        Arc::make_mut(&mut self.hold.settings).headers = true;
        self
    }

    /// Ends a request whose permit is [lost](crate::Permit::lost): the inner future is dropped and
    /// the request answered with `503`, or its body ends with [`PermitLost`](super::PermitLost).
    /// Default: it may finish.
    pub fn end_when_lost(mut self) -> Self {
        Arc::make_mut(&mut self.hold.settings).ends.when_lost = true;
        self
    }

    /// Ends a body of which its reader takes nothing for `patience`, and gives its permit back; as
    /// [without `answer`](ZSetSemaphoreLayer::stall_timeout). Default: off.
    pub fn stall_timeout(mut self, patience: Duration) -> Self {
        Arc::make_mut(&mut self.hold.settings).ends.stall_timeout = Some(patience);
        self
    }

    /// As [`cooldown_on_429`](ZSetSemaphoreLayer::cooldown_on_429), where the inner service calls a provider
    /// and passes its answer on.
    pub fn cooldown_on_429(mut self, longest: Duration) -> Self {
        Arc::make_mut(&mut self.hold.settings).rest = Some(longest);
        self
    }

    /// Lets a stream of server-sent events that [ends since its permit was lost](Self::end_when_lost)
    /// end with an event `error` in the words of the [dialect](Self::dialect), and as if it were whole,
    /// instead of breaking off. Other responses break off still, and so do streams that are compressed
    /// further in. Without `end_when_lost` it changes nothing. Default: off.
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
        Arc::make_mut(&mut self.hold.settings).last_event = true;
        self
    }

    /// Up to how many bytes of memory are kept of a request body that is read ahead while the request
    /// is queued, but for the frame that reaches it; beyond it the client has to wait. 0 turns it off, and
    /// so does a request with `Expect: 100-continue`. Default: 256 KiB.
    pub fn read_ahead(mut self, bytes: u64) -> Self {
        Arc::make_mut(&mut self.hold.settings).read_ahead = bytes;
        self
    }
}

impl<H, S> ZSetSemaphoreLayer<H, S> {
    /// Takes as many units as `weigh` says for a request. Called again, the last one counts.
    /// Default: 1.
    ///
    /// A request of weight 0 is let through at once, without a permit. One that weighs more than
    /// the limit ends with [`AcquireError::TooLarge`](crate::AcquireError::TooLarge).
    ///
    /// `weigh` runs in `call`; a panic in it is the caller's, with nothing held.
    pub fn weight<Req, F>(self, weigh: F) -> ZSetSemaphoreLayer<H, Weighted<F, S>>
    where
        F: Fn(&Req) -> u32,
    {
        ZSetSemaphoreLayer {
            selector: Weighted::new(self.selector, weigh),
            settings: self.settings,
            hold: self.hold,
        }
    }

    /// Lets the requests through that `exemption` tells, as if the layer were not there: they take no
    /// permit, are in no metric, and need neither key nor store. Called again, it exempts those as well.
    /// Default: none.
    ///
    /// For health checks, which must be answered when all is full, and whatever else costs nothing.
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
    pub fn exempt<E>(self, exemption: E) -> ZSetSemaphoreLayer<H, Exempt<E, S>> {
        ZSetSemaphoreLayer {
            selector: Exempt::new(self.selector, exemption),
            settings: self.settings,
            hold: self.hold,
        }
    }
}

impl<Inner, H: Clone, S: Clone> Layer<Inner> for ZSetSemaphoreLayer<H, S> {
    type Service = ZSetSemaphoreService<Inner, H, S>;

    fn layer(&self, inner: Inner) -> Self::Service {
        let settings = Arc::new(self.settings.clone());
        ZSetSemaphoreService::new(inner, self.selector.clone(), settings, self.hold.clone())
    }
}
