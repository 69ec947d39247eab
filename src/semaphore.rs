//! A semaphore: one name, one count, cluster-wide.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use crate::acquire::{Acquire, TryAcquire};
use crate::semaphore_inner::SemaphoreInner;

/// A counting semaphore that is shared by all processes that use the same store, prefix and name.
///
/// Cheap to clone. Waiters are served first come first served across the whole cluster: nobody
/// overtakes, and a waiter for many units is not starved by those for one.
///
/// Handles of one name made by one client share one queue and one count; options belong to the
/// handle. Handles with different limits may meet, say during a roll-out: each turn uses the
/// highest limit of the handles of its own client, so **the highest limit in use is the cap**.
/// [`set_limit`](Self::set_limit) overrides them all.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use zset_semaphore::{Client, TryAcquireError};
///
/// let chats = Client::in_memory().semaphore("chats", 2).build()?;
/// let one = chats.acquire(1).await?;
/// let two = chats.acquire(1).timeout(Duration::from_secs(5)).await?;
/// assert!(matches!(chats.try_acquire(1).await, Err(TryAcquireError::Full { in_use: 2, .. })));
/// drop(one);
/// let three = chats.acquire(1).await?;
/// assert!(three.fencing_token() > two.fencing_token());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ZSetSemaphore {
    pub(crate) inner: Arc<SemaphoreInner>,
}

impl ZSetSemaphore {
    /// Waits for `units`, first come first served, and holds nothing while it waits.
    ///
    /// The returned future is inert until polled; set a [`timeout`](Acquire::timeout) before.
    ///
    /// # Errors
    ///
    /// See [`AcquireError`](crate::AcquireError). An outage of the store is ridden out, with the
    /// place in the queue kept, until the timeout.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe at every point: a dropped future leaves no permit and no queue entry. The place
    /// in the queue is lost.
    pub fn acquire(&self, units: u32) -> Acquire {
        Acquire::new(Arc::clone(&self.inner), units)
    }

    /// Takes `units` if they are free and nobody waits; one round trip, never waits for room.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError::Full`](crate::TryAcquireError::Full) when there is no room or somebody
    /// waits for it; see there for the others.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe at every point: a dropped future leaves no permit.
    pub fn try_acquire(&self, units: u32) -> TryAcquire {
        TryAcquire::new(Arc::clone(&self.inner), units)
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The limit this handle was made with; an override may be in force instead.
    pub fn limit(&self) -> u32 {
        self.inner.limit
    }

    /// Ends all waiters of this name in this client with `Closed`, and lets in no new ones. Held
    /// permits stay as they are.
    pub fn close(&self) {
        self.inner.seat.update(|line| line.close(Instant::now()));
    }

    /// Whether [`close`](Self::close) was called, on any handle of this name in this client.
    pub fn is_closed(&self) -> bool {
        self.inner.seat.peek(|line| line.is_closed())
    }
}

impl fmt::Debug for ZSetSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZSetSemaphore")
            .field("name", &self.inner.name)
            .field("limit", &self.inner.limit)
            .field("options", &self.inner.options)
            .finish()
    }
}
