//! The wait for the answer to a turn.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::error::StoreError;
use crate::store::{BoxFuture, TurnOutcome};

use super::link::LinkWatch;
use super::state::STRETCH;

/// If a timer is later than this, the process gets too little CPU time.
const PUNCTUAL: Duration = Duration::from_millis(10);

/// Awaits the answer to a turn for `deadline`. It waits longer while the server answers other turns, because
/// then the turn is only queued there. The time for which this process was asleep does not count as silence
/// of the server: the answer may have arrived in that time.
pub(super) async fn answer_to(
    mut turn: BoxFuture<'_, Result<TurnOutcome, StoreError>>,
    deadline: Duration,
    link: &LinkWatch,
) -> Result<TurnOutcome, StoreError> {
    let sent = Instant::now();
    let (mut until, mut longest) = (sent + deadline, deadline * STRETCH);
    loop {
        if let Ok(answer) = timeout_at(until, &mut turn).await {
            return answer;
        }
        let late = until.elapsed().saturating_sub(PUNCTUAL);
        let grace = (late * 4).min(late + deadline); // after a long sleep as long as for a new turn
        longest += grace;
        let later = (link.heard_at() + deadline).max(until + grace).min(sent + longest);
        if later <= until {
            let waited = until - sent;
            return Err(StoreError::timeout(format!("no answer to a turn within {waited:?}")));
        }
        until = later;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_a_process_slept_through_is_given_back_to_an_answer_once() {
        let deadline = Duration::from_millis(500);
        let link = LinkWatch::new();
        let never = Box::pin(std::future::pending());
        let answer = answer_to(never, deadline, &link);
        tokio::pin!(answer);
        assert!(futures_util::FutureExt::now_or_never(&mut answer).is_none());
        tokio::time::advance(Duration::from_secs(10)).await;
        let woken = Instant::now();
        assert!(answer.await.is_err());
        let awaited = woken.elapsed();
        assert!(awaited <= deadline && awaited > deadline * 9 / 10, "{awaited:?}");
    }
}
