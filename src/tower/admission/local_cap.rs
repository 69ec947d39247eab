//! The local cap: a limit of this process only, for the time when the store is unavailable.

use std::num::NonZeroU32;
use std::sync::{Arc, OnceLock};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::store::BoxFuture;

/// Resolves to the units of one request, or to `None` if its deadline has passed.
pub(super) type LocalCapWait = BoxFuture<'static, Option<OwnedSemaphorePermit>>;

/// The cap, made by the first request that needs it.
#[derive(Debug, Default)]
pub(super) struct LocalCap {
    semaphore: OnceLock<(u32, Arc<Semaphore>)>,
}

impl LocalCap {
    /// Waits for `units` units of a cap of `cap` units, until `deadline`. The first call fixes the cap; a
    /// later call with another `cap` does not change it. A request that wants more units than the cap takes
    /// all of it.
    pub(super) fn wait(
        &self,
        cap: NonZeroU32,
        units: u32,
        deadline: Option<Instant>,
    ) -> LocalCapWait {
        let (cap, semaphore) = self.semaphore.get_or_init(|| {
            let cap = cap.get();
            (cap, Arc::new(Semaphore::new(cap as usize)))
        });
        let permit = Arc::clone(semaphore).acquire_many_owned(units.min(*cap));
        Box::pin(async move {
            match deadline {
                Some(deadline) => timeout_at(deadline, permit).await.ok()?.ok(),
                None => permit.await.ok(),
            }
        })
    }
}
