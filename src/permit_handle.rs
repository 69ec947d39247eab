//! A handle to a permit that somebody else holds.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::driver::{ReleaseDone, WeakDriverHandle};
use crate::error::ReleaseError;
use crate::hold::{Hold, Truth};
use crate::id::PermitId;
use crate::lost_reason::LostReason;
use crate::released::Released;

/// A handle to a [`Permit`](crate::Permit) that somebody else holds; made by
/// [`Permit::handle`](crate::Permit::handle).
///
/// It tells whether the permit is lost, and can release it early. It does not keep the permit: when
/// the [`Permit`](crate::Permit) is dropped, the units are free. It is cheap to clone.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use zset_semaphore::{Client, Released};
///
/// let jobs = Client::in_memory().semaphore("jobs", 1).build()?;
/// let permit = jobs.acquire(1).await?;
/// let handle = permit.handle();
/// assert_eq!(handle.release().await?, Released::Freed);
///
/// let next = jobs.acquire(1).await?; // there is room, though `permit` still exists
/// assert_eq!(permit.release().await?, Released::AlreadyGone);
/// # drop(next);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PermitHandle {
    hold: Arc<Hold>,
    driver: WeakDriverHandle,
}

impl PermitHandle {
    pub(crate) fn new(hold: Arc<Hold>, driver: WeakDriverHandle) -> Self {
        Self { hold, driver }
    }

    /// Returns the id, as [`Permit::id`](crate::Permit::id) does.
    pub fn id(&self) -> PermitId {
        self.hold.id
    }

    /// Returns how many units the permit holds.
    pub fn units(&self) -> u32 {
        self.hold.id.units()
    }

    /// Returns the fencing token, as [`Permit::fencing_token`](crate::Permit::fencing_token) does.
    pub fn fencing_token(&self) -> u64 {
        self.hold.token.get()
    }

    /// Whether the permit is lost, as [`Permit::is_lost`](crate::Permit::is_lost) tells. A permit that
    /// was released is not lost.
    pub fn is_lost(&self) -> bool {
        matches!(self.hold.truth(), Truth::Lost(_))
    }

    /// Why it is lost, if it is.
    #[cfg(feature = "tower")]
    pub(crate) fn lost_reason(&self) -> Option<LostReason> {
        match self.hold.truth() {
            Truth::Lost(reason) => Some(reason),
            Truth::HeldUntil(_) | Truth::Released => None,
        }
    }

    /// Resolves with the reason once the permit is lost, as [`Permit::lost`](crate::Permit::lost)
    /// does. It never resolves if the permit was released.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: nothing is lost by a drop.
    pub async fn lost(&self) -> LostReason {
        self.hold.lost().await
    }

    /// Returns the deadline, as [`Permit::deadline`](crate::Permit::deadline) does.
    pub fn deadline(&self) -> Instant {
        self.hold.deadline()
    }

    /// Returns the time until the deadline, as [`Permit::remaining`](crate::Permit::remaining) does;
    /// zero once the permit is lost or released.
    pub fn remaining(&self) -> Duration {
        self.hold.remaining()
    }

    /// Runs `work` until the permit is lost, as [`Permit::run`](crate::Permit::run) does. A release
    /// does not stop `work`.
    ///
    /// # Errors
    ///
    /// The [`LostReason`] once the permit is lost. `work` has been dropped by then.
    ///
    /// # Cancel safety
    ///
    /// As cancel-safe as `work`, which is dropped with this future.
    pub async fn run<F: Future>(&self, work: F) -> Result<F::Output, LostReason> {
        self.hold.run(work).await
    }

    /// Releases the permit, whoever holds it, and waits until the store has confirmed it.
    ///
    /// # Errors
    ///
    /// As [`Permit::release`](crate::Permit::release).
    ///
    /// # Cancel safety
    ///
    /// The units are released even if this future is dropped, once it was polled.
    pub async fn release(&self) -> Result<Released, ReleaseError> {
        let counter = self.hold.id.counter();
        release(&self.hold, |done, now| {
            self.driver.update(|state| state.give_back_at(counter, Some(done), || now));
        })
        .await
    }
}

/// Releases the permit of `hold`, and waits until the store has confirmed it. `give_back` passes the id to
/// the driver, and when it was released.
pub(crate) async fn release(
    hold: &Hold,
    give_back: impl FnOnce(ReleaseDone, Instant),
) -> Result<Released, ReleaseError> {
    let now = Instant::now();
    hold.truth_at(now); // past its deadline the permit is lost, and the driver removes it from the store
    if !hold.leave() {
        return Ok(Released::AlreadyGone);
    }
    let (done, answer) = oneshot::channel();
    give_back(done, now);
    answer.await.unwrap_or(Err(ReleaseError::Closed))
}

impl fmt::Debug for PermitHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermitHandle")
            .field("id", &self.hold.id)
            .field("truth", &self.hold.truth())
            .finish()
    }
}
