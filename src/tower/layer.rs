//! The layer: what every service made from it has in common.

use std::time::Duration;

use tower_layer::Layer;

use super::hold::{HoldBody, HoldHead};
use super::select::{Single, Terms, Weighted};
use super::service::ZSetSemaphoreService;
use crate::ZSetSemaphore;

/// Lets a request through to the inner service once it has a permit.
///
/// `H` says how long the permit is held ([`HoldBody`], [`HoldHead`]), `S` which semaphore a request
/// asks for how many units ([`Single`], [`Weighted`]). See the [module](super) for the behaviour.
///
/// # Default
///
/// | setting | default |
/// |---|---|
/// | held until | the body has ended ([`HoldBody`]) |
/// | [`timeout`](Self::timeout) | none |
/// | [`weight`](Self::weight) | 1 |
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
    terms: Terms,
    hold: H,
}

impl ZSetSemaphoreLayer {
    /// Takes one unit of `semaphore` per request, and holds it until the body of the response has
    /// ended.
    pub fn new(semaphore: ZSetSemaphore) -> Self {
        Self { selector: Single::new(semaphore), terms: Terms::default(), hold: HoldBody }
    }
}

impl<H, S> ZSetSemaphoreLayer<H, S> {
    /// Gives the permit back when the inner service has answered; a body that is still streaming
    /// is **not** capped. For services whose responses are not those of HTTP, or are complete when
    /// they are there.
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
    /// let double = ZSetSemaphoreLayer::new(jobs).hold_head().layer(double);
    /// assert_eq!(double.oneshot(21).await?, 42);
    /// # Ok(())
    /// # }
    /// ```
    pub fn hold_head(self) -> ZSetSemaphoreLayer<HoldHead, S> {
        ZSetSemaphoreLayer { selector: self.selector, terms: self.terms, hold: HoldHead }
    }

    /// Ends a wait after `timeout` with [`AcquireError::Timeout`](crate::AcquireError::Timeout);
    /// counted from the first poll of the response future. Zero asks once and never waits for room.
    /// Default: none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.terms.timeout = Some(timeout);
        self
    }
}

impl<H> ZSetSemaphoreLayer<H> {
    /// Takes as many units as `weigh` says for a request. Default: 1.
    ///
    /// A request of weight 0 is let through at once, without a permit. One that weighs more than
    /// the limit ends with [`AcquireError::TooLarge`](crate::AcquireError::TooLarge).
    ///
    /// `weigh` runs in `call`; a panic in it is the caller's, with nothing held.
    pub fn weight<Req, F>(self, weigh: F) -> ZSetSemaphoreLayer<H, Weighted<F>>
    where
        F: Fn(&Req) -> u32,
    {
        ZSetSemaphoreLayer {
            selector: Weighted::new(self.selector, weigh),
            terms: self.terms,
            hold: self.hold,
        }
    }
}

impl<Inner, H: Clone, S: Clone> Layer<Inner> for ZSetSemaphoreLayer<H, S> {
    type Service = ZSetSemaphoreService<Inner, H, S>;

    fn layer(&self, inner: Inner) -> Self::Service {
        ZSetSemaphoreService::new(inner, self.selector.clone(), self.terms, self.hold.clone())
    }
}
