//! The look-up of the limit of a key, and the wait for its result.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use super::limit::{KeyLimit, LookupError};
use crate::tower::admission::limiter::Limiter;

/// The maximum time of a look-up.
pub(super) const LONGEST_LOOKUP: Duration = Duration::from_secs(10);

/// The result of a look-up.
#[derive(Clone)]
pub(super) struct FinishedLookup {
    pub(super) found: Result<Arc<Limiter>, LookupError>,
    pub(super) at: Instant,
}

/// A look-up under way; `None` until it has finished.
pub(super) type PendingLookup = watch::Receiver<Option<FinishedLookup>>;

/// Looks up the limit of a key. The source runs in a task of its own, so that a panic of it is an error.
pub(super) async fn look_up(limit: KeyLimit, key: String) -> Result<u32, LookupError> {
    let mut task = JoinSet::new();
    task.spawn(async move { limit.find(&key).await });
    match timeout(LONGEST_LOOKUP, task.join_next()).await {
        Ok(Some(Ok(limit))) => limit,
        Ok(Some(Err(panic))) => Err(Arc::new(panic)),
        Ok(None) => Err(Arc::new(LookupLost)),
        Err(elapsed) => Err(Arc::new(elapsed)),
    }
}

/// Waits for the result of a look-up, for at most `longest`.
pub(super) async fn wait_for(
    mut pending: PendingLookup,
    longest: Duration,
) -> Result<Arc<Limiter>, LookupError> {
    let finished = pending.wait_for(Option::is_some);
    match timeout(longest, finished).await {
        Ok(Ok(finished)) => match &*finished {
            Some(finished) => finished.found.clone(),
            None => Err(Arc::new(LookupLost)),
        },
        Ok(Err(_)) => Err(Arc::new(LookupLost)),
        Err(elapsed) => Err(Arc::new(elapsed)),
    }
}

/// The runtime of the look-up has ended.
#[derive(Debug, thiserror::Error)]
#[error("the runtime of the look-up has ended")]
struct LookupLost;
