//! The calls of operators: set the limit, inspect, and kick a permit.

use std::sync::Arc;

use tokio::time::Instant;

use crate::driver::SemaphoreState;
use crate::error::{ControlError, StoreError};
use crate::id::PermitId;
use crate::inspection::{Inspection, KickOutcome};
use crate::semaphore::ZSetSemaphore;
use crate::store::{BoxFuture, HOPS, Kick, Session};

impl ZSetSemaphore {
    /// Sets an override of the limit for the whole cluster, at once; 0 pauses. It stays until
    /// [`clear_limit`](Self::clear_limit), also while nobody uses the semaphore.
    ///
    /// A higher limit serves waiters at once. A lower limit takes no permit from anybody: nobody is let
    /// in until enough have left.
    ///
    /// # Errors
    ///
    /// [`ControlError`] when the store refuses, or does not answer within the call timeout.
    ///
    /// # Cancel safety
    ///
    /// If this future is dropped, the limit may or may not be set.
    pub async fn set_limit(&self, limit: u32) -> Result<(), ControlError> {
        let name = Arc::clone(&self.inner.name);
        self.ask(|session| session.set_limit(Arc::clone(&name), Some(limit))).await?;
        self.inner.driver.update(SemaphoreState::request_turn);
        Ok(())
    }

    /// Removes the override that [`set_limit`](Self::set_limit) set. The limits of the handles count
    /// again.
    ///
    /// # Errors
    ///
    /// As [`set_limit`](Self::set_limit).
    ///
    /// # Cancel safety
    ///
    /// If this future is dropped, the override may or may not be removed.
    pub async fn clear_limit(&self) -> Result<(), ControlError> {
        let name = Arc::clone(&self.inner.name);
        self.ask(|session| session.set_limit(Arc::clone(&name), None)).await?;
        self.inner.driver.update(SemaphoreState::request_turn);
        Ok(())
    }

    /// Kicks a permit, whoever holds it. The permit cannot be renewed any more. A wake-up tells its holder, and
    /// [`lost()`](crate::Permit::lost) resolves there; without wake-ups, at the next renewal. The units stay in use
    /// until the holder drops or releases the permit, or until its lease ends.
    ///
    /// # Errors
    ///
    /// As [`set_limit`](Self::set_limit).
    ///
    /// # Cancel safety
    ///
    /// If this future is dropped, the permit may or may not be kicked.
    pub async fn kick(&self, id: PermitId) -> Result<KickOutcome, ControlError> {
        let name = Arc::clone(&self.inner.name);
        self.ask(|session| session.kick(Arc::clone(&name), id, Kick::Mark)).await
    }

    /// Kicks a permit and frees its units at once, before its holder knows.
    ///
    /// **This can exceed the limit**: until the holder has noticed, two may run where one should. Use
    /// it only for holders that are known to be dead.
    ///
    /// # Errors
    ///
    /// As [`set_limit`](Self::set_limit).
    ///
    /// # Cancel safety
    ///
    /// If this future is dropped, the permit may or may not be kicked.
    pub async fn kick_now(&self, id: PermitId) -> Result<KickOutcome, ControlError> {
        let name = Arc::clone(&self.inner.name);
        let outcome = self.ask(|session| session.kick(Arc::clone(&name), id, Kick::Remove)).await?;
        self.inner.driver.update(SemaphoreState::request_turn);
        Ok(outcome)
    }

    /// Returns the limit, the holders and the waiters, as the store has them.
    ///
    /// A permit that was just dropped may still be listed, since its release is sent with the next
    /// turn. Where that matters, await [`Permit::release`](crate::Permit::release) instead of a drop.
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
        let mut inspection = self.ask(|session| session.inspect(Arc::clone(&name))).await?;
        let told = inspection.limit_override.or(inspection.declared_limit);
        inspection.limit = told.unwrap_or(self.inner.limit());
        Ok(inspection)
    }

    /// Asks the store one question, within the call timeout. If the name is at another place than was known,
    /// the question follows it there.
    async fn ask<T>(
        &self,
        question: impl for<'a> Fn(&'a dyn Session) -> BoxFuture<'a, Result<T, StoreError>>,
    ) -> Result<T, ControlError> {
        self.inner.driver.ensure_driver()?;
        let shared = self.inner.driver.shared();
        let start = Instant::now();
        let mut hops = 0;
        loop {
            let left = shared.call_timeout.saturating_sub(start.elapsed());
            let place = shared.place_now(&self.inner.name);
            let answer = shared.ask(place, &question, left).await;
            let moved =
                matches!(&answer, Err(ControlError::Unavailable(why)) if why.is_elsewhere());
            if !moved || hops == HOPS {
                return answer;
            }
            hops += 1;
        }
    }
}
