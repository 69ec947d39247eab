//! The wait of a granted permit until replicas have the grant.
//!
//! # Implementation
//!
//! The permit is held meanwhile: the driver renews it, and a drop gives it back. Replicas are asked about by
//! [`driver::replication`](crate::driver). If the question has failed, another server may have taken over. So the
//! permit is renewed before the next question: then the present server has it, or it is lost.

use tokio::time::Instant;

use crate::driver::Lag;
use crate::error::{ExtendError, StoreError, StoreErrorKind};
use crate::lost_reason::LostReason;
use crate::numbers::Replicas;
use crate::permit::Permit;

/// Why a grant is not handed out.
pub(crate) enum NotReplicated {
    Lost(LostReason),
    Closed,
    /// The store refused for good.
    Failed(StoreError),
}

/// Returns the permit once `wanted` replicas have its grant.
pub(crate) async fn replicated(permit: Permit, wanted: Replicas) -> Result<Permit, NotReplicated> {
    let driver = permit.driver();
    let note = |error, since| {
        driver.with(|state| state.too_few_replicas(wanted, error, since, Instant::now()));
    };
    loop {
        let asked = driver.ask_about_replicas(permit.hold(), wanted);
        // Who closes the semaphore from now on finds the question.
        if driver.with(|state| state.is_closed()) {
            return Err(NotReplicated::Closed);
        }
        let answer = tokio::select! {
            reason = permit.lost() => return Err(NotReplicated::Lost(reason)),
            answer = asked.answer(|lag| note(too_few(lag, wanted), lag.since)) => answer,
        };
        match answer {
            None => return Err(NotReplicated::Closed),
            Some(Ok(())) => {
                driver.with(|state| state.enough_replicas(wanted));
                return Ok(permit);
            }
            Some(Err(error)) if error.is_final() => return Err(NotReplicated::Failed(error)),
            Some(Err(error)) => note(error, Instant::now()),
        }
        match permit.renew().await {
            Ok(()) => {}
            Err(ExtendError::Lost(reason)) => return Err(NotReplicated::Lost(reason)),
            Err(_) => return Err(NotReplicated::Closed),
        }
    }
}

fn too_few(lag: Lag, wanted: Replicas) -> StoreError {
    let (acknowledged, wanted) = (lag.acknowledged, wanted.get());
    let what = format!(
        "{acknowledged} of the {wanted} replicas that `replicated` asks for have the grant; \
         see that as many replicas are connected to the primary and keep up with it"
    );
    StoreError::new(StoreErrorKind::TooFewReplicas { wanted, acknowledged }, what)
}
