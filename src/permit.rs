//! Permits: what a caller holds while it works.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::driver::{ReleaseDone, Seat, WeakSeat};
use crate::error::{ExtendError, ReleaseError};
use crate::hold::{Hold, Truth};
use crate::id::PermitId;
use crate::lease;
use crate::lost_reason::LostReason;
use crate::released::Released;

/// Units of a semaphore, held until this is dropped, released or lost.
///
/// Dropping it gives the units back without blocking, inside or outside a runtime. The lease is
/// renewed in the background until then (unless [`Renew::Manual`](crate::Renew::Manual) is set).
///
/// A permit can be **lost** while it is held: see [`LostReason`]. Work that must never run beside
/// the next holder should watch [`lost()`](Permit::lost), go through [`run`](Permit::run), or pass
/// the [`fencing_token`](Permit::fencing_token) to the resource it guards.
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
#[must_use = "a permit that is dropped at once caps nothing; bind it to a name other than `_`"]
pub struct Permit {
    hold: Arc<Hold>,
    seat: Seat,
}

impl Permit {
    pub(crate) fn new(hold: Arc<Hold>, seat: Seat) -> Self {
        Self { hold, seat }
    }

    /// The id by which Redis, [`inspect`](crate::ZSetSemaphore::inspect) and
    /// [`kick`](crate::ZSetSemaphore::kick) know this permit.
    pub fn id(&self) -> PermitId {
        self.hold.id
    }

    /// How many units it holds.
    pub fn units(&self) -> u32 {
        self.hold.id.units()
    }

    /// A number above that of every grant of this name before: let the guarded resource refuse
    /// lower ones, and a holder that lost its permit without noticing can do no harm.
    ///
    /// See Martin Kleppmann, "How to do distributed locking" (2016).
    pub fn fencing_token(&self) -> u64 {
        self.hold.token
    }

    /// Whether the permit is lost, by this machine's monotonic clock and all that is known.
    ///
    /// Once true, it stays true.
    pub fn is_lost(&self) -> bool {
        matches!(self.hold.truth(), Truth::Lost(_))
    }

    /// Resolves once the permit is lost, with the reason; also for those who ask late.
    ///
    /// It resolves before the server can give the units to anybody else by expiry.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: nothing is lost by a drop.
    pub async fn lost(&self) -> LostReason {
        self.hold.lost().await
    }

    /// Runs `work` for as long as the permit is ours.
    ///
    /// # Errors
    ///
    /// The [`LostReason`] once the permit is lost; `work` has been dropped by then.
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
        run_while_held(&self.hold, work).await
    }

    /// Pushes the end of the lease to `lease` from now; never shortens it.
    ///
    /// This is how a permit with [`Renew::Manual`](crate::Renew::Manual) lives on. It is retried
    /// until it is confirmed or the permit is lost.
    ///
    /// # Errors
    ///
    /// [`ExtendError::Lost`] when the permit is lost first, [`ExtendError::Config`] for a `lease`
    /// outside 50 ms to 30 days.
    ///
    /// # Cancel safety
    ///
    /// If dropped, the extension may or may not happen.
    pub async fn extend(&self, lease: Duration) -> Result<(), ExtendError> {
        let lease_ms = lease::checked_ms("extend", lease)?;
        match self.hold.truth() {
            Truth::Lost(reason) => return Err(ExtendError::Lost(reason)),
            Truth::Released => return Err(ExtendError::Released),
            Truth::HeldUntil(_) => {}
        }
        let (done, answer) = oneshot::channel();
        self.seat.update(|line| line.extend(self.hold.id.counter(), lease_ms, done));
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

    /// Gives the units back and waits until the store has confirmed it.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::Unconfirmed`] when no confirmation came before the lease ended by itself; the
    /// units are free then, too. [`ReleaseError::Closed`] when the runtime that carried the client
    /// has ended: the units may be taken until the end of the lease.
    ///
    /// # Cancel safety
    ///
    /// The units are given back even if this future is dropped, at any point.
    pub async fn release(self) -> Result<Released, ReleaseError> {
        let answer = give_back(&self.hold, |done| {
            self.seat.update(|line| line.give_back(self.hold.id.counter(), Some(done)));
        });
        confirmed(answer).await
    }

    /// A cheap handle that can watch, or release early, from elsewhere: for request extensions,
    /// logging tasks and the like. It does not keep the permit.
    pub fn handle(&self) -> PermitHandle {
        PermitHandle { hold: Arc::clone(&self.hold), seat: self.seat.downgrade() }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.hold.release() {
            self.seat.update(|line| line.give_back(self.hold.id.counter(), None));
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

/// Watches a [`Permit`] from elsewhere; cheap to clone.
#[derive(Clone)]
pub struct PermitHandle {
    hold: Arc<Hold>,
    seat: WeakSeat,
}

impl PermitHandle {
    /// As [`Permit::is_lost`]. A released permit is not lost.
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

    /// As [`Permit::lost`]. It never resolves when the permit was released in an ordinary way.
    pub async fn lost(&self) -> LostReason {
        self.hold.lost().await
    }

    /// As [`Permit::fencing_token`].
    pub fn fencing_token(&self) -> u64 {
        self.hold.token
    }

    /// As [`Permit::id`].
    pub fn id(&self) -> PermitId {
        self.hold.id
    }

    /// As [`Permit::units`].
    pub fn units(&self) -> u32 {
        self.hold.id.units()
    }

    /// As [`Permit::run`]. A permit that was released in an ordinary way does not stop `work`.
    ///
    /// # Errors
    ///
    /// As [`Permit::run`].
    ///
    /// # Cancel safety
    ///
    /// As [`Permit::run`].
    pub async fn run<F: Future>(&self, work: F) -> Result<F::Output, LostReason> {
        run_while_held(&self.hold, work).await
    }

    /// Gives the units back now, whoever holds the permit, and waits for the confirmation.
    ///
    /// # Errors
    ///
    /// As [`Permit::release`].
    ///
    /// # Cancel safety
    ///
    /// Once polled, the units are given back even if this future is dropped.
    pub async fn release(&self) -> Result<Released, ReleaseError> {
        let answer = give_back(&self.hold, |done| {
            self.seat.update(|line| line.give_back(self.hold.id.counter(), Some(done)));
        });
        confirmed(answer).await
    }
}

impl fmt::Debug for PermitHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PermitHandle")
            .field("id", &self.hold.id)
            .field("truth", &self.hold.truth())
            .finish()
    }
}

async fn run_while_held<F: Future>(hold: &Hold, work: F) -> Result<F::Output, LostReason> {
    tokio::select! {
        biased;
        reason = hold.lost() => Err(reason),
        output = work => Ok(output),
    }
}

type Answer = oneshot::Receiver<Result<Released, ReleaseError>>;

/// Ends the hold and has its id put on the list of the next turn; `None` when it had ended before.
fn give_back(hold: &Hold, enlist: impl FnOnce(ReleaseDone)) -> Option<Answer> {
    // Past its deadline it is lost, and the driver gives it back.
    if matches!(hold.truth(), Truth::Lost(_)) || !hold.release() {
        return None;
    }
    let (done, answer) = oneshot::channel();
    enlist(done);
    Some(answer)
}

async fn confirmed(answer: Option<Answer>) -> Result<Released, ReleaseError> {
    match answer {
        Some(answer) => answer.await.unwrap_or(Err(ReleaseError::Closed)),
        None => Ok(Released::AlreadyGone),
    }
}
