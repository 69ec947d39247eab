//! How long an answer to a turn is awaited.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::error::StoreError;
use crate::store::{BoxFuture, TurnOutcome};

use super::batch::STRETCH;
use super::shared::Shared;

/// A timer that is later than this shows that the process gets too little time.
const PUNCTUAL: Duration = Duration::from_millis(10);

/// Awaits the answer to a turn for `deadline`, and for longer while the server answers others: then
/// it is only queued there. What this process slept through is no silence of the server either:
/// the answer may have come meanwhile, and be on its way here.
pub(super) async fn answer_to(
    mut turn: BoxFuture<'_, Result<TurnOutcome, StoreError>>,
    deadline: Duration,
    shared: &Shared,
) -> Result<TurnOutcome, StoreError> {
    let sent = Instant::now();
    let (mut until, mut longest) = (sent + deadline, deadline * STRETCH);
    loop {
        if let Ok(answer) = timeout_at(until, &mut turn).await {
            return answer;
        }
        let late = until.elapsed().saturating_sub(PUNCTUAL) * 4;
        longest += late;
        let later = (shared.heard_at() + deadline).max(until + late).min(sent + longest);
        if later <= until {
            let waited = until - sent;
            return Err(StoreError::timeout(format!("no answer to a turn within {waited:?}")));
        }
        until = later;
    }
}
