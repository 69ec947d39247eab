//! What a request was let through with, and what its handler may know of it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::handle::Handle;
use super::metrics::Outcome;
use super::wait_until::WaitUntil;
use crate::{LostReason, Permit, PermitWatch};

/// Resolves when a permit is lost. `Sync`, for bodies that must be.
pub(super) type UntilLost = Pin<Box<dyn Future<Output = LostReason> + Send + Sync>>;

/// What a request was let through with; gives it back when dropped.
pub struct Pass {
    kind: Kind,
    waited: Duration,
    /// Until when inner layers may let the request wait, where this one has said so.
    until: Option<Instant>,
}

enum Kind {
    Permit { permit: Permit, handle: Arc<Handle>, since: Instant },
    Local { _permit: OwnedSemaphorePermit, handle: Arc<Handle> },
    Open { handle: Arc<Handle> },
    Weightless,
}

impl Pass {
    pub(super) fn permit(
        permit: Permit,
        handle: Arc<Handle>,
        waited: Duration,
        since: Instant,
    ) -> Self {
        Self { kind: Kind::Permit { permit, handle, since }, waited, until: None }
    }

    pub(super) fn local(
        permit: OwnedSemaphorePermit,
        handle: Arc<Handle>,
        waited: Duration,
    ) -> Self {
        Self { kind: Kind::Local { _permit: permit, handle }, waited, until: None }
    }

    pub(super) fn open(handle: Arc<Handle>, waited: Duration) -> Self {
        Self { kind: Kind::Open { handle }, waited, until: None }
    }

    pub(super) fn weightless() -> Self {
        Self { kind: Kind::Weightless, waited: Duration::ZERO, until: None }
    }

    /// Tells inner layers until when they may let the request wait.
    pub(super) fn wait_until(mut self, until: Option<Instant>) -> Self {
        self.until = until;
        self
    }

    pub(super) fn watch(&self) -> Option<PermitWatch> {
        match &self.kind {
            Kind::Permit { permit, .. } => Some(permit.watch()),
            _ => None,
        }
    }

    /// Resolves when the permit is lost; `None` without one.
    pub(super) fn until_lost(&self) -> Option<UntilLost> {
        let watch = self.watch()?;
        Some(Box::pin(async move { watch.lost().await }))
    }

    /// Why the permit is lost, if it is.
    pub(super) fn lost_reason(&self) -> Option<LostReason> {
        match &self.kind {
            Kind::Permit { permit, .. } => permit.lost_reason(),
            _ => None,
        }
    }

    pub(super) fn handle(&self) -> Option<&Arc<Handle>> {
        match &self.kind {
            Kind::Permit { handle, .. } | Kind::Local { handle, .. } | Kind::Open { handle } => {
                Some(handle)
            }
            Kind::Weightless => None,
        }
    }

    pub(super) fn is_permit(&self) -> bool {
        matches!(self.kind, Kind::Permit { .. })
    }

    pub(super) fn waited(&self) -> Duration {
        self.waited
    }

    pub(super) fn outcome(&self) -> Outcome {
        match &self.kind {
            Kind::Permit { .. } => Outcome::Permit,
            Kind::Local { .. } => Outcome::Local,
            Kind::Open { .. } => Outcome::Open,
            Kind::Weightless => Outcome::Weightless,
        }
    }

    /// Tells the handler, behind what outer layers have told.
    pub(super) fn tell(&self, extensions: &mut http::Extensions) {
        if let Some(until) = self.until {
            extensions.insert(WaitUntil::at(until));
        }
        let outer = extensions.get::<Admitted>().map_or(&[][..], |outer| &outer.admissions);
        let Some(handle) = self.handle() else {
            let admissions = outer.into();
            extensions.insert(Admitted { admissions });
            return;
        };
        let kind = match &self.kind {
            Kind::Permit { permit, .. } => Counted::Cluster(permit.watch()),
            Kind::Local { .. } => Counted::Local,
            Kind::Open { .. } | Kind::Weightless => Counted::No,
        };
        let admission = Admission {
            semaphore: handle.semaphore.clone_name(),
            limit_name: Arc::clone(&handle.shown),
            counted: kind,
            waited: self.waited,
        };
        let admissions = outer.iter().cloned().chain([admission]).collect();
        extensions.insert(Admitted { admissions });
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Kind::Permit { handle, since, .. } = &self.kind {
            handle.meter().record(since.elapsed());
        }
    }
}

impl fmt::Debug for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Permit { permit, .. } => permit.fmt(f),
            Kind::Local { .. } => f.write_str("Local"),
            Kind::Open { .. } => f.write_str("Open"),
            Kind::Weightless => f.write_str("Weightless"),
        }
    }
}

/// What a request was let through with by the layers it came through, outermost first; in the
/// extensions of every HTTP request that reaches the inner service. Empty for one that weighs nothing.
///
/// With it a handler can watch for the loss of its permit, read the fencing token, or give the
/// permit back early, say when the model has answered and only the logging goes on.
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
    pub fn permit(&self, limit_name: &str) -> Option<&PermitWatch> {
        self.iter().find(|admission| admission.limit_name() == limit_name)?.permit()
    }
}

/// What one layer let a request through with.
#[derive(Debug, Clone)]
pub struct Admission {
    semaphore: Arc<str>,
    limit_name: Arc<str>,
    counted: Counted,
    waited: Duration,
}

#[derive(Debug, Clone)]
enum Counted {
    Cluster(PermitWatch),
    Local,
    No,
}

impl Admission {
    /// The name of the semaphore.
    pub fn semaphore(&self) -> &str {
        &self.semaphore
    }

    /// The name of the limit, without the key of the request.
    pub fn limit_name(&self) -> &str {
        &self.limit_name
    }

    /// The permit; `None` if the request was let through without one, by the policy for when the
    /// store is away: then it is either [local](Self::is_local) or [uncounted](Self::is_uncounted).
    pub fn permit(&self) -> Option<&PermitWatch> {
        match &self.counted {
            Counted::Cluster(watch) => Some(watch),
            Counted::Local | Counted::No => None,
        }
    }

    /// Whether only this process counts the request: the store was away, and the policy was
    /// [`Outage::Local`](super::Outage::Local).
    pub fn is_local(&self) -> bool {
        matches!(self.counted, Counted::Local)
    }

    /// Whether neither the cluster nor this process counts the request: the store was away, and
    /// the policy was [`Outage::Open`](super::Outage::Open).
    pub fn is_uncounted(&self) -> bool {
        matches!(self.counted, Counted::No)
    }

    /// How long the request waited.
    pub fn waited(&self) -> Duration {
        self.waited
    }
}
