//! What a request was let through with, and what its handler may know of it.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::error::{Reason, Rejection};
use super::handle::Handle;
use super::meter::Metered;
use super::metrics::Outcome;
use super::wait_until::WaitDeadline;
use crate::sync::lock;
use crate::{LostReason, Permit, PermitHandle};

/// Resolves when a permit is lost. `Sync`, for bodies that must be.
pub(super) type UntilLost = Pin<Box<dyn Future<Output = LostReason> + Send + Sync>>;

/// What a request was let through with; gives it back when dropped, unless its handler took it over.
pub struct Pass {
    /// None for a request that weighs nothing.
    admission: Option<Admission>,
    handle: Option<Arc<Handle>>,
    /// Until when inner layers may let the request wait, where this one has said so.
    until: Option<Instant>,
    retry_floor: Duration,
}

impl Pass {
    pub(super) fn permit(
        permit: Permit,
        handle: Arc<Handle>,
        waited: Duration,
        since: Instant,
    ) -> Self {
        let counted = Counted::Cluster(permit.handle());
        let metered = handle.meter().begin(since, permit.units());
        let units = Units::Permit { permit, handle: Arc::clone(&handle), metered };
        Self::new(counted, units, handle, waited)
    }

    pub(super) fn local(
        permit: OwnedSemaphorePermit,
        handle: Arc<Handle>,
        waited: Duration,
    ) -> Self {
        let units = Units::Local { _permit: permit, _handle: Arc::clone(&handle) };
        Self::new(Counted::Local, units, handle, waited)
    }

    pub(super) fn open(handle: Arc<Handle>, waited: Duration) -> Self {
        Self::new(Counted::No, Units::None, handle, waited)
    }

    fn new(counted: Counted, units: Units, handle: Arc<Handle>, waited: Duration) -> Self {
        let held = OwnedAdmission { limit_name: Arc::clone(&handle.shown), units };
        let admission = Admission {
            semaphore: handle.semaphore.clone_name(),
            limit_name: Arc::clone(&handle.shown),
            counted,
            waited,
            slot: Arc::new(Mutex::new(Some(held))),
        };
        Self { admission: Some(admission), handle: Some(handle), ..Self::weightless() }
    }

    pub(super) fn weightless() -> Self {
        Self { admission: None, handle: None, until: None, retry_floor: Duration::ZERO }
    }

    /// Tells inner layers until when they may let the request wait.
    pub(super) fn wait_until(mut self, until: Option<Instant>) -> Self {
        self.until = until;
        self
    }

    /// With the least that its request is told, if that is ended, of when to come again.
    pub(super) fn with_floor(mut self, retry_floor: Duration) -> Self {
        self.retry_floor = retry_floor;
        self
    }

    pub(super) fn watch(&self) -> Option<PermitHandle> {
        self.admission.as_ref()?.permit().cloned()
    }

    /// Resolves when the permit is lost, whoever has it; `None` without one.
    pub(super) fn until_lost(&self) -> Option<UntilLost> {
        let watch = self.watch()?;
        Some(Box::pin(async move { watch.lost().await }))
    }

    /// Why the permit is lost, if it is.
    pub(super) fn lost_reason(&self) -> Option<LostReason> {
        self.admission.as_ref()?.permit()?.lost_reason()
    }

    pub(super) fn handle(&self) -> Option<&Arc<Handle>> {
        self.handle.as_ref()
    }

    pub(super) fn is_permit(&self) -> bool {
        matches!(self.outcome(), Outcome::Permit)
    }

    pub(super) fn waited(&self) -> Duration {
        self.admission.as_ref().map_or(Duration::ZERO, Admission::waited)
    }

    pub(super) fn outcome(&self) -> Outcome {
        match self.admission.as_ref().map(|admission| &admission.counted) {
            Some(Counted::Cluster(_)) => Outcome::Permit,
            Some(Counted::Local) => Outcome::Local,
            Some(Counted::No) => Outcome::Open,
            None => Outcome::Weightless,
        }
    }

    /// How a request is told that its permit was lost.
    pub(super) fn lost(&self, reason: LostReason) -> Option<Rejection> {
        let units = self.watch().map_or(1, |watch| watch.units());
        let rejection = self.handle()?.reject(Reason::Lost(reason), units, None);
        Some(rejection.told(self.retry_floor))
    }

    /// Tells the handler, behind what outer layers have told.
    pub(super) fn tell(&self, extensions: &mut http::Extensions) {
        if let Some(until) = self.until {
            extensions.insert(WaitDeadline::at(until));
        }
        let outer = extensions.get::<Admitted>().map_or(&[][..], |outer| &outer.admissions);
        let admissions = outer.iter().chain(&self.admission).cloned().collect();
        extensions.insert(Admitted { admissions });
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        // The extensions of a request may live on: they keep the slot, but not what was in it.
        drop(self.admission.as_ref().and_then(Admission::take));
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.admission {
            Some(admission) => admission.counted.fmt(f),
            None => f.write_str("Weightless"),
        }
    }
}

/// What one layer let a request through with, taken over by its handler; given back when dropped.
///
/// The response no longer gives it back: a handler takes it for work that outlives the response, such
/// as a WebSocket or a spawned task. [`Admission::take`] and [`Admitted::take_all`] give it.
#[derive(Debug)]
#[must_use = "what is dropped at once caps nothing; keep it for as long as the work goes on"]
pub struct OwnedAdmission {
    limit_name: Arc<str>,
    units: Units,
}

#[derive(Debug)]
enum Units {
    Permit {
        permit: Permit,
        handle: Arc<Handle>,
        metered: Metered,
    },
    Local {
        _permit: OwnedSemaphorePermit,
        /// A key is remembered, and its cap with it, for as long as its handle is in use.
        _handle: Arc<Handle>,
    },
    /// Let through uncounted.
    None,
}

impl OwnedAdmission {
    /// The name of the limit, without the key of the request.
    pub fn limit_name(&self) -> &str {
        &self.limit_name
    }

    /// The permit; `None` if the request was let through without one, by the policy for when the
    /// store is away.
    pub fn permit(&self) -> Option<&Permit> {
        match &self.units {
            Units::Permit { permit, .. } => Some(permit),
            Units::Local { .. } | Units::None => None,
        }
    }
}

impl Drop for OwnedAdmission {
    fn drop(&mut self) {
        if let Units::Permit { handle, metered, .. } = &self.units {
            handle.meter().end(metered);
        }
    }
}

/// What a request was let through with by the layers it came through, outermost first; in the
/// extensions of every HTTP request that reaches the inner service, but for layers that
/// [hold the head](super::ReleaseOnResponse). Empty for one that weighs nothing or is exempt.
///
/// With it a handler can watch for the loss of its permit, read the fencing token, give the permit
/// back early, say when the model has answered and only the logging goes on, or
/// [take it over](Self::take_all) for work that outlives the response.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use axum::{Extension, Router, body::Body, routing::get};
/// use tower::ServiceExt;
/// use zset_semaphore::{Client, tower::{Admitted, ZSetSemaphoreLayer}};
///
/// async fn chat(Extension(admitted): Extension<Admitted>) -> String {
///     let Some(permit) = admitted.permit("chats") else { return "let through".to_owned() };
///     let answer = format!("token {}", permit.fencing_token());
///     let _ = permit.release().await; // the next one may begin, though this answer is not out
///     answer
/// }
///
/// let chats = Client::in_memory().semaphore("chats", 64).build()?;
/// let layer = ZSetSemaphoreLayer::new(chats.clone()).answer();
/// let app: Router = Router::new().route("/", get(chat)).layer(layer);
/// let response = app.oneshot(axum::extract::Request::new(Body::empty())).await?;
/// assert_eq!(chats.inspect().await?.in_use, 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Admitted {
    admissions: Arc<[Admission]>,
}

impl Admitted {
    /// What each layer let the request through with, outermost first.
    pub fn iter(&self) -> impl Iterator<Item = &Admission> {
        self.admissions.iter()
    }

    /// The permit of the limit of that name, if one is held.
    pub fn permit(&self, limit_name: &str) -> Option<&PermitHandle> {
        self.iter().find(|admission| admission.limit_name() == limit_name)?.permit()
    }

    /// Takes over all that the request was let through with, outermost first, as
    /// [`Admission::take`] does with that of one layer. What was taken before is left out.
    ///
    /// # Examples
    ///
    /// Work that goes on behind the response, under its permits:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use axum::{Extension, Router, body::Body, http::StatusCode, routing::post};
    /// use tower::ServiceExt;
    /// use zset_semaphore::{Client, tower::{Admitted, ZSetSemaphoreLayer}};
    ///
    /// async fn begin(Extension(admitted): Extension<Admitted>) -> StatusCode {
    ///     let held = admitted.take_all();
    ///     tokio::spawn(async move {
    ///         // The long work.
    ///         drop(held);
    ///     });
    ///     StatusCode::ACCEPTED
    /// }
    ///
    /// let jobs = Client::in_memory().semaphore("jobs", 1).build()?;
    /// let layer = ZSetSemaphoreLayer::new(jobs.clone()).answer();
    /// let app: Router = Router::new().route("/", post(begin)).layer(layer);
    /// let request = axum::http::Request::post("/").body(Body::empty())?;
    /// drop(app.oneshot(request).await?);
    /// assert_eq!(jobs.inspect().await?.in_use, 1); // the response is gone, the work is not
    /// let next = jobs.acquire(1).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn take_all(&self) -> Vec<OwnedAdmission> {
        self.iter().filter_map(Admission::take).collect()
    }
}

/// What one layer let a request through with.
#[derive(Debug, Clone)]
pub struct Admission {
    semaphore: Arc<str>,
    limit_name: Arc<str>,
    counted: Counted,
    waited: Duration,
    /// Empty once it is taken over, or given back.
    slot: Arc<Mutex<Option<OwnedAdmission>>>,
}

#[derive(Debug, Clone)]
enum Counted {
    Cluster(PermitHandle),
    Local,
    No,
}

impl Admission {
    /// The name of the semaphore.
    pub fn semaphore_name(&self) -> &str {
        &self.semaphore
    }

    /// The name of the limit, without the key of the request.
    pub fn limit_name(&self) -> &str {
        &self.limit_name
    }

    /// The permit; `None` if the request was let through without one, by the policy for when the
    /// store is away: then it is either [local](Self::is_local) or [uncounted](Self::is_uncounted).
    pub fn permit(&self) -> Option<&PermitHandle> {
        match &self.counted {
            Counted::Cluster(watch) => Some(watch),
            Counted::Local | Counted::No => None,
        }
    }

    /// Whether only this process counts the request: the store was away, and the policy was
    /// [`OutagePolicy::LocalCap`](super::OutagePolicy::LocalCap).
    pub fn is_local(&self) -> bool {
        matches!(self.counted, Counted::Local)
    }

    /// Whether neither the cluster nor this process counts the request: the store was away, and
    /// the policy was [`OutagePolicy::FailOpen`](super::OutagePolicy::FailOpen).
    pub fn is_uncounted(&self) -> bool {
        matches!(self.counted, Counted::No)
    }

    /// Takes over what the request was let through with: its end no longer gives that back, the drop of
    /// what is returned does. `None` if it was taken before, or the response has ended.
    ///
    /// [`permit`](Self::permit) still watches it, and a layer that
    /// [ends requests whose permit is lost](super::ZSetSemaphoreLayer::end_when_lost) still ends the
    /// response; what else goes on under it has to see to that itself, by
    /// [`Permit::run`] or [`Permit::lost`].
    pub fn take(&self) -> Option<OwnedAdmission> {
        lock(&self.slot).take()
    }

    /// How long the request waited.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}
