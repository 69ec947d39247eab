//! Makes the semaphore of a key.

use std::sync::Arc;

use super::limit::LookupError;
use crate::semaphore_builder::SemaphoreBuilder;
use crate::tower::admission::limiter::{Limiter, LocalState};
use crate::{Client, ConfigError, ZSetSemaphore};

/// Changes the settings of the semaphore of each key.
pub(super) type Configure = dyn Fn(SemaphoreBuilder) -> SemaphoreBuilder + Send + Sync;

/// Makes the semaphores of one keyed limit.
pub(super) struct SemaphoreFactory {
    pub(super) client: Client,
    pub(super) limit_name: Arc<str>,
    pub(super) configure: Arc<Configure>,
}

impl SemaphoreFactory {
    pub(super) fn semaphore_name(&self, key: &str) -> String {
        format!("{}/{key}", self.limit_name)
    }

    pub(super) fn semaphore(&self, key: &str, limit: u32) -> Result<ZSetSemaphore, ConfigError> {
        let builder = self.client.semaphore(self.semaphore_name(key), limit);
        (self.configure)(builder).of_limit(Arc::clone(&self.limit_name)).build()
    }

    pub(super) fn limiter(
        &self,
        key: &str,
        limit: u32,
        local: Arc<LocalState>,
    ) -> Result<Arc<Limiter>, LookupError> {
        let semaphore =
            self.semaphore(key, limit).map_err(|error| Arc::new(error) as LookupError)?;
        Ok(Limiter::new(semaphore, Arc::clone(&self.limit_name), local))
    }
}
