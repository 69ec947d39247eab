//! What a handler sees of the permits of its request, and how it takes them over.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::limiter::Limiter;
use crate::sync::lock;
use crate::tower::retry_after::hold_times::TimedHold;
use crate::{Permit, PermitHandle};

/// A permit, or a unit of the local cap, that a handler has taken over. Dropping it releases it.
///
/// The end of the response does not release it. A handler takes it over for work that outlives the response,
/// such as a WebSocket or a spawned task. See [`Admission::take`] and [`Admitted::take_all`].
#[derive(Debug)]
#[clippy::has_significant_drop]
#[must_use = "it is released when dropped; keep it for as long as the work goes on"]
pub struct OwnedAdmission {
    limit_name: Arc<str>,
    units: Units,
}

#[derive(Debug)]
pub(super) enum Units {
    Permit {
        permit: Permit,
        limiter: Arc<Limiter>,
        timed: TimedHold,
    },
    Local {
        _permit: OwnedSemaphorePermit,
        /// Keeps the key in the cache, and with it the local cap.
        _limiter: Arc<Limiter>,
    },
    /// Nobody counts the request.
    None,
}

impl OwnedAdmission {
    pub(super) fn new(limit_name: Arc<str>, units: Units) -> Self {
        Self { limit_name, units }
    }

    /// Returns the name of the limit, without the key of the request.
    pub fn limit_name(&self) -> &str {
        &self.limit_name
    }

    /// Returns the permit; `None` if the outage policy let the request through without one.
    pub fn permit(&self) -> Option<&Permit> {
        match &self.units {
            Units::Permit { permit, .. } => Some(permit),
            Units::Local { .. } | Units::None => None,
        }
    }
}

impl Drop for OwnedAdmission {
    fn drop(&mut self) {
        if let Units::Permit { limiter, timed, .. } = &self.units {
            limiter.hold_times().end(timed);
        }
    }
}

/// The admissions of a request, one for each layer, outermost layer first. It is an extension of every HTTP
/// request that reaches the inner service.
///
/// A layer adds no admission for a request that weighs nothing or is exempt. A layer that [releases on
/// response](crate::tower::ReleaseOnResponse) never adds one.
///
/// A handler uses it to watch for the loss of its permit, to read the fencing token, to release the permit
/// early (for example when the model has answered and only the logging goes on), or to
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
    /// Makes the list of the outer layers' admissions, followed by `admission`.
    pub(super) fn behind(outer: Option<&Self>, admission: Option<&Admission>) -> Self {
        let outer = outer.map_or(&[][..], |outer| &outer.admissions);
        Self { admissions: outer.iter().chain(admission).cloned().collect() }
    }

    /// Returns the admission of each layer, outermost layer first.
    pub fn iter(&self) -> impl Iterator<Item = &Admission> {
        self.admissions.iter()
    }

    /// Returns the permit of the limit with this name, if there is one.
    pub fn permit(&self, limit_name: &str) -> Option<&PermitHandle> {
        self.iter().find(|admission| admission.limit_name() == limit_name)?.permit()
    }

    /// Takes over all admissions of the request, outermost layer first. It calls [`Admission::take`] for
    /// each, and leaves out those that were taken before.
    ///
    /// # Examples
    ///
    /// Work that goes on after the response, under the permits of its request:
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

/// How one layer admitted a request: with a permit, with a unit of the local cap, or uncounted.
#[derive(Debug, Clone)]
pub struct Admission {
    semaphore_name: Arc<str>,
    limit_name: Arc<str>,
    counted: Counted,
    waited: Duration,
    /// Holds the units. It is empty once they were taken over or released: who empties it owns them.
    slot: Arc<Mutex<Option<OwnedAdmission>>>,
}

/// Who counts the request.
#[derive(Debug, Clone)]
pub(super) enum Counted {
    Cluster(PermitHandle),
    Local,
    No,
}

impl Admission {
    pub(super) fn new(limiter: &Limiter, counted: Counted, units: Units, waited: Duration) -> Self {
        let limit_name = Arc::clone(&limiter.limit_name);
        let owned = OwnedAdmission::new(Arc::clone(&limit_name), units);
        let semaphore_name = limiter.semaphore.clone_name();
        let slot = Arc::new(Mutex::new(Some(owned)));
        Self { semaphore_name, limit_name, counted, waited, slot }
    }

    pub(super) fn counted(&self) -> &Counted {
        &self.counted
    }

    /// Returns the name of the semaphore.
    pub fn semaphore_name(&self) -> &str {
        &self.semaphore_name
    }

    /// Returns the name of the limit, without the key of the request.
    pub fn limit_name(&self) -> &str {
        &self.limit_name
    }

    /// Returns the permit; `None` if the outage policy let the request through without one. Then it is
    /// either [local](Self::is_local) or [uncounted](Self::is_uncounted).
    pub fn permit(&self) -> Option<&PermitHandle> {
        match &self.counted {
            Counted::Cluster(watch) => Some(watch),
            Counted::Local | Counted::No => None,
        }
    }

    /// Returns whether only this process counts the request: the store was unavailable, and the policy was
    /// [`OutagePolicy::LocalCap`](crate::tower::OutagePolicy::LocalCap).
    pub fn is_local(&self) -> bool {
        matches!(self.counted, Counted::Local)
    }

    /// Returns whether nobody counts the request: the store was unavailable, and the policy was
    /// [`OutagePolicy::FailOpen`](crate::tower::OutagePolicy::FailOpen).
    pub fn is_uncounted(&self) -> bool {
        matches!(self.counted, Counted::No)
    }

    /// Takes over the units of the request. Dropping the returned value releases them; the end of the
    /// response no longer does. Returns `None` if they were taken before, or the response has ended.
    ///
    /// [`permit`](Self::permit) still shows the permit. A layer that [ends requests whose permit is
    /// lost](crate::tower::ZSetSemaphoreLayer::end_when_lost) still ends the response. Other work that goes
    /// on under the permit has to watch for its loss itself, by [`Permit::run`] or [`Permit::lost`].
    pub fn take(&self) -> Option<OwnedAdmission> {
        lock(&self.slot).take()
    }

    /// Returns how long the request waited.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}
