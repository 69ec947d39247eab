//! The handle of a store that clients of one process share.

use std::fmt;
use std::future::ready;
use std::sync::Arc;

use crate::error::StoreError;
use crate::id::ClientId;
use crate::numbers::PlaceId;
use crate::store::{BoxFuture, Opened, Store, Turn, TurnOutcome, WakeListener};

use super::session::MemorySession;
use super::shared::Shared;

/// A store in this process, shared by all clients that are made from it. Cheap to clone.
///
/// It gives the same replies as Redis. It runs on tokio's clock: with `tokio::time::pause`, leases end in a
/// test without waiting. The memory of a name is free again when nothing is held, nobody waits and no
/// override is set. The time of a call does not depend on the number of names.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use zset_semaphore::{Client, MemoryStore};
///
/// let memory = MemoryStore::new();
/// let one = Client::with_memory(&memory).semaphore("jobs", 1).build()?;
/// let two = Client::with_memory(&memory).semaphore("jobs", 1).build()?;
/// let permit = one.acquire(1).await?;
/// assert!(two.try_acquire(1).await.is_err());
/// # drop(permit);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

impl MemoryStore {
    /// Creates an empty store.
    pub fn new() -> Self {
        Self { shared: Arc::new(Shared::new()) }
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("names", &self.shared.names()).finish()
    }
}

impl Store for MemoryStore {
    fn open(
        &self,
        _: PlaceId,
        client: ClientId,
        listener: Arc<dyn WakeListener>,
    ) -> BoxFuture<'_, Result<Opened, StoreError>> {
        let session = MemorySession::open(Arc::clone(&self.shared), client, listener);
        Box::pin(ready(Ok(Opened { session: Arc::new(session), io: None })))
    }

    fn is_in_process(&self) -> bool {
        true
    }

    fn turn_inline(&self, turn: &Turn) -> Option<TurnOutcome> {
        Some(self.shared.turn(turn))
    }

    fn address(&self) -> String {
        "this process".to_owned()
    }
}
