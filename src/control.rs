//! What operators ask of a semaphore: its limit, its holders and waiters, and the end of a permit.

use std::sync::Arc;

use tokio::time::{Instant, timeout};

use crate::driver::{Line, Link, NoDriver};
use crate::error::{ControlError, StoreError};
use crate::id::PermitId;
use crate::inspection::{Inspection, KickOutcome};
use crate::semaphore::ZSetSemaphore;
use crate::store::{BoxFuture, Session};

impl ZSetSemaphore {
    /// Overrides the limit for the whole cluster at once, until
    /// [`clear_limit`](Self::clear_limit); 0 pauses. It survives idling and restarts of clients.
    ///
    /// Raising it serves waiters at once. Lowering it takes nothing from anybody: nobody new is
    /// let in until enough have left.
    ///
    /// # Errors
    ///
    /// [`ControlError`] when the store cannot be asked within the call timeout.
    ///
    /// # Cancel safety
    ///
    /// If dropped, the limit may or may not be set.
    pub async fn set_limit(&self, limit: u32) -> Result<(), ControlError> {
        let name = Arc::clone(&self.inner.name);
        self.ask(|session| session.set_limit(name, Some(limit))).await?;
        self.inner.seat.update(Line::nudge);
        Ok(())
    }

    /// Ends what [`set_limit`](Self::set_limit) set: the handles' own limits count again.
    ///
    /// # Errors
    ///
    /// As [`set_limit`](Self::set_limit).
    ///
    /// # Cancel safety
    ///
    /// If dropped, the limit may or may not be cleared.
    pub async fn clear_limit(&self) -> Result<(), ControlError> {
        let name = Arc::clone(&self.inner.name);
        self.ask(|session| session.set_limit(name, None)).await?;
        self.inner.seat.update(Line::nudge);
        Ok(())
    }

    /// Ends somebody's permit: it can no longer be renewed, its holder's
    /// [`lost()`](crate::Permit::lost) fires, and its units are free when the holder has let go, or
    /// at its deadline at the latest.
    ///
    /// # Errors
    ///
    /// As [`set_limit`](Self::set_limit).
    ///
    /// # Cancel safety
    ///
    /// If dropped, the permit may or may not be kicked.
    pub async fn kick(&self, id: PermitId) -> Result<KickOutcome, ControlError> {
        let name = Arc::clone(&self.inner.name);
        self.ask(|session| session.kick(name, id, false)).await
    }

    /// As [`kick`](Self::kick), but frees the units at once, before the holder knows.
    ///
    /// **This breaks the promise that the limit is never exceeded**: until the holder has noticed,
    /// two may run where one should. Only for holders that are known to be dead.
    ///
    /// # Errors
    ///
    /// As [`set_limit`](Self::set_limit).
    ///
    /// # Cancel safety
    ///
    /// If dropped, the permit may or may not be kicked.
    pub async fn kick_now(&self, id: PermitId) -> Result<KickOutcome, ControlError> {
        let name = Arc::clone(&self.inner.name);
        let outcome = self.ask(|session| session.kick(name, id, true)).await?;
        self.inner.seat.update(Line::nudge);
        Ok(outcome)
    }

    /// Who holds and who waits, by the store's own books.
    ///
    /// A permit that was just dropped may still be listed: its id goes with the next turn. Await
    /// [`Permit::release`](crate::Permit::release) where that matters.
    ///
    /// # Errors
    ///
    /// As [`set_limit`](Self::set_limit).
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe: it changes nothing.
    pub async fn inspect(&self) -> Result<Inspection, ControlError> {
        let name = Arc::clone(&self.inner.name);
        let mut inspection = self.ask(|session| session.inspect(name)).await?;
        inspection.limit = inspection.limit_override.unwrap_or(self.inner.limit);
        Ok(inspection)
    }

    async fn ask<T>(
        &self,
        question: impl for<'a> FnOnce(&'a dyn Session) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> Result<T, ControlError> {
        let shared = self.inner.seat.shared();
        shared.ensure_driver().map_err(|reason| match reason {
            NoDriver::NoRuntime => ControlError::NoRuntime,
            NoDriver::Ended => ControlError::Closed,
        })?;
        let start = Instant::now();
        let session = shared.session().await.map_err(|link| match link {
            Link::Down(error) => ControlError::Unavailable(error),
            _ => ControlError::Closed,
        })?;
        let left = shared.call_timeout.saturating_sub(start.elapsed());
        let answer = timeout(left, question(&*session)).await.unwrap_or_else(|_| {
            let deadline = shared.call_timeout;
            Err(StoreError::timeout(format!("no answer within {deadline:?}")))
        });
        answer.map_err(|error| {
            // Where connecting took the time, a timeout says nothing about the connection.
            if !error.is_timeout() || left >= shared.call_timeout / 2 {
                shared.complain(&session, error.clone());
            }
            ControlError::Unavailable(error)
        })
    }
}
