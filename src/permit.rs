//! A permit: what a caller holds while it works.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::driver::DriverHandle;
use crate::error::{ExtendError, ReleaseError};
use crate::hold::{Hold, Truth};
use crate::id::PermitId;
use crate::lease;
use crate::lost_reason::LostReason;
use crate::numbers::Millis;
use crate::permit_handle::{PermitHandle, release};
use crate::released::Released;

/// A permit: units of a semaphore, held until it is dropped, released or lost.
///
/// A drop releases the units without blocking, inside or outside a runtime. Until then the lease is
/// renewed in the background, unless [`Renew::Manual`](crate::Renew::Manual) is set.
///
/// A permit can be **lost** while it is held; [`LostReason`] lists how. There are three ways to
/// protect work that must never run beside the next holder:
///
/// - run it by [`run`](Self::run), which drops it when the permit is lost;
/// - await [`lost()`](Self::lost) beside it;
/// - pass the [`fencing_token`](Self::fencing_token) to the resource, and let that refuse lower
///   tokens.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use zset_semaphore::{Client, Released};
///
/// let jobs = Client::in_memory().semaphore("jobs", 4).build()?;
/// let permit = jobs.acquire(2).await?;
/// assert_eq!(permit.units(), 2);
/// assert!(!permit.is_lost());
/// assert_eq!(permit.release().await?, Released::Freed);
/// # Ok(())
/// # }
/// ```
#[clippy::has_significant_drop]
#[must_use = "a permit that is dropped at once caps nothing; bind it to a name other than `_`"]
pub struct Permit {
    hold: Arc<Hold>,
    driver: DriverHandle,
}

impl Permit {
    pub(crate) fn new(hold: Arc<Hold>, driver: DriverHandle) -> Self {
        Self { hold, driver }
    }

    /// Resolves once the store has answered a renewal that begins now.
    pub(crate) async fn renew(&self) -> Result<(), ExtendError> {
        // It asks for no longer lease than a renewal gives.
        self.extend_by(Millis::new(0)).await
    }

    pub(crate) fn driver(&self) -> &DriverHandle {
        &self.driver
    }

    pub(crate) fn hold(&self) -> &Arc<Hold> {
        &self.hold
    }

    /// Returns the id by which Redis, [`inspect`](crate::ZSetSemaphore::inspect) and
    /// [`kick`](crate::ZSetSemaphore::kick) know this permit.
    pub fn id(&self) -> PermitId {
        self.hold.id
    }

    /// Returns how many units the permit holds.
    pub fn units(&self) -> u32 {
        self.hold.id.units()
    }

    /// Returns the fencing token: a number higher than that of every earlier grant of this name.
    ///
    /// A resource that refuses lower tokens than the highest it has seen is safe from a holder that
    /// has lost its permit without noticing. See Martin Kleppmann, "How to do distributed locking"
    /// (2016).
    pub fn fencing_token(&self) -> u64 {
        self.hold.token.get()
    }

    /// Whether the permit is lost, by the monotonic clock of this machine and by all that the client
    /// knows.
    ///
    /// Once true, it stays true.
    pub fn is_lost(&self) -> bool {
        matches!(self.hold.truth(), Truth::Lost(_))
    }

    /// Resolves with the reason once the permit is lost; at once if it is lost already. It never
    /// resolves if a [`PermitHandle`] released the permit.
    ///
    /// It resolves before the store can grant the units to anybody else because the lease has ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: nothing is lost by a drop.
    pub async fn lost(&self) -> LostReason {
        self.hold.lost().await
    }

    /// Returns the instant until which the permit is provably held, unless it is renewed.
    ///
    /// It is the instant at which the last confirmed grant or renewal was sent, plus the lease, minus
    /// a margin of a fiftieth of the lease (5 ms to 1 s), by the monotonic clock of this machine. The
    /// lease in the store ends later. A renewal moves the deadline forward, but not beyond the end of
    /// [`max_hold`](crate::SemaphoreBuilder::max_hold). Nothing moves it back.
    ///
    /// A permit can be lost before its deadline, say when it is kicked. [`remaining`](Self::remaining)
    /// considers that.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use zset_semaphore::{Client, Renew};
    ///
    /// let jobs = Client::in_memory().semaphore("jobs", 4).renew(Renew::Manual).build()?;
    /// let permit = jobs.acquire(1).await?;
    /// let before = permit.deadline();
    /// permit.extend(Duration::from_secs(60)).await?;
    /// assert!(permit.deadline() > before);
    /// # Ok(())
    /// # }
    /// ```
    pub fn deadline(&self) -> Instant {
        self.hold.deadline()
    }

    /// Returns for how long the permit is still provably held, unless it is renewed; zero once it is
    /// lost, or released by a [`PermitHandle`].
    ///
    /// With [`Renew::Auto`](crate::Renew::Auto) it falls to about two thirds of the lease, and each
    /// renewal raises it again, up to the end of [`max_hold`](crate::SemaphoreBuilder::max_hold).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use zset_semaphore::Client;
    ///
    /// let client = Client::in_memory();
    /// let jobs = client.semaphore("jobs", 4).lease(Duration::from_secs(30)).build()?;
    /// let permit = jobs.acquire(1).await?;
    /// if permit.remaining() > Duration::from_secs(5) {
    ///     // begin a write that takes up to five seconds
    /// }
    /// # assert!(permit.remaining() > Duration::from_secs(25));
    /// # Ok(())
    /// # }
    /// ```
    pub fn remaining(&self) -> Duration {
        self.hold.remaining()
    }

    /// Runs `work` until it is done or the permit is lost.
    ///
    /// # Errors
    ///
    /// The [`LostReason`] once the permit is lost. `work` has been dropped by then.
    ///
    /// # Cancel safety
    ///
    /// As cancel-safe as `work`, which is dropped with this future.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let jobs = zset_semaphore::Client::in_memory().semaphore("jobs", 4).build()?;
    /// let permit = jobs.acquire(1).await?;
    /// match permit.run(async { 6 * 7 }).await {
    ///     Ok(answer) => assert_eq!(answer, 42),
    ///     Err(lost) => eprintln!("stopped: {lost}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn run<F: Future>(&self, work: F) -> Result<F::Output, LostReason> {
        self.hold.run(work).await
    }

    /// Extends the lease so that it ends `lease` from now. It never shortens the lease, and does not
    /// move the end of [`max_hold`](crate::SemaphoreBuilder::max_hold).
    ///
    /// This keeps a permit with [`Renew::Manual`](crate::Renew::Manual). The call is repeated until
    /// the store has confirmed it or the permit is lost.
    ///
    /// # Errors
    ///
    /// [`ExtendError::Lost`] when the permit is lost first, [`ExtendError::Released`] when a
    /// [`PermitHandle`] has released it, [`ExtendError::Config`] for a `lease` outside 50 ms to
    /// 30 days, and [`ExtendError::Closed`] when the tokio runtime of the client has ended.
    ///
    /// # Cancel safety
    ///
    /// If this future is dropped, the lease may or may not be extended.
    pub async fn extend(&self, lease: Duration) -> Result<(), ExtendError> {
        self.extend_by(lease::checked("extend", lease)?).await
    }

    async fn extend_by(&self, lease: Millis) -> Result<(), ExtendError> {
        match self.hold.truth() {
            Truth::Lost(reason) => return Err(ExtendError::Lost(reason)),
            Truth::Released => return Err(ExtendError::Released),
            Truth::HeldUntil(_) => {}
        }
        let (done, answer) = oneshot::channel();
        self.driver.update(|state| state.extend(self.hold.id.counter(), lease, done));
        tokio::select! {
            biased;
            answer = answer => answer.unwrap_or_else(|_| Err(match self.hold.truth() {
                Truth::Lost(reason) => ExtendError::Lost(reason),
                Truth::Released => ExtendError::Released,
                Truth::HeldUntil(_) => ExtendError::Closed,
            })),
            reason = self.lost() => Err(ExtendError::Lost(reason)),
        }
    }

    /// Releases the units, and waits until the store has confirmed it.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::Unconfirmed`] when the store has not confirmed it before the lease ended; the
    /// units are free then, too. [`ReleaseError::Closed`] when the tokio runtime of the client has
    /// ended; the units may stay in use until the end of the lease.
    ///
    /// # Cancel safety
    ///
    /// The units are released even if this future is dropped, at any point.
    pub async fn release(self) -> Result<Released, ReleaseError> {
        let counter = self.hold.id.counter();
        release(&self.hold, |done, now| {
            self.driver.update(|state| state.give_back_at(counter, Some(done), || now));
        })
        .await
    }

    /// Makes a handle, which tells whether the permit is lost and can release it early from elsewhere:
    /// from the extensions of a request, or from a logging task. A handle does not keep the permit.
    pub fn handle(&self) -> PermitHandle {
        PermitHandle::new(Arc::clone(&self.hold), self.driver.downgrade())
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.hold.leave() {
            self.driver.update_unawaited(|state| state.give_back(self.hold.id.counter(), None));
        }
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("id", &self.id())
            .field("fencing_token", &self.fencing_token())
            .field("truth", &self.hold.truth())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_permit_is_two_pointers() {
        assert_eq!(size_of::<Permit>(), 2 * size_of::<usize>());
    }
}
