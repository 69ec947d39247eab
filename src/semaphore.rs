//! The semaphore: one name and one count for the whole cluster.

use std::fmt;
use std::sync::Arc;

use crate::acquire::Acquire;
use crate::semaphore_inner::SemaphoreInner;
use crate::try_acquire::TryAcquire;

/// A counting semaphore, shared by all processes that use the same store, prefix and name.
///
/// It is cheap to clone. Waiters are served in the order in which they came, across the whole
/// cluster. Nobody overtakes, and waiters for one unit do not starve a waiter for many.
///
/// A value of this type is a handle to the name: it has a limit and settings of its own. When handles
/// have different limits, say during a roll-out, a client uses the highest limit of its handles, so
/// **the highest limit in use is the cap**. [`set_limit`](Self::set_limit) overrides all of them.
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
    /// Waits until `units` are granted, all at once, in the order of arrival.
    ///
    /// The returned future does nothing until it is polled. Set a [`timeout`](Acquire::timeout) first,
    /// if there is one. During an outage of the store the future goes on waiting, and keeps its place
    /// in the queue.
    ///
    /// # Errors
    ///
    /// [`AcquireError`](crate::AcquireError) says why the wait ended.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe at every point: a dropped future leaves no permit and no queue entry. It loses its
    /// place in the queue.
    pub fn acquire(&self, units: u32) -> Acquire {
        Acquire::new(Arc::clone(&self.inner), units)
    }

    /// Takes `units` if they are free and nobody waits. It takes one round trip, and never waits for
    /// room.
    ///
    /// # Errors
    ///
    /// [`TryAcquireError::Full`](crate::TryAcquireError::Full) when there is no room or somebody
    /// waits for it. [`TryAcquireError`](crate::TryAcquireError) lists the others.
    ///
    /// # Cancel safety
    ///
    /// Cancel-safe at every point: a dropped future leaves no permit.
    pub fn try_acquire(&self, units: u32) -> TryAcquire {
        TryAcquire::new(Arc::clone(&self.inner), units)
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Returns the limit of this handle. An override may be in force instead.
    pub fn limit(&self) -> u32 {
        self.inner.limit()
    }

    /// Sets the limit of this handle and of its clones, as if they had been built with it.
    ///
    /// It is for a service whose configuration has changed while it runs. It returns at once. The store learns the
    /// limit with the next turn, which follows immediately if the client has made a call before.
    ///
    /// A higher limit serves waiters. A lower limit ends no permit: nobody is let in until enough units are released.
    /// The highest limit in the cluster is the cap, so a lower limit has no effect while another handle has a higher
    /// one. Once the lower limit is the cap, waiters for more units than it end with
    /// [`TooLarge`](crate::AcquireError::TooLarge).
    ///
    /// An operator uses [`set_limit`](Self::set_limit) instead, which overrides the limits of all handles.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use zset_semaphore::Client;
    ///
    /// let jobs = Client::in_memory().semaphore("jobs", 1).build()?;
    /// let one = jobs.acquire(1).await?;
    /// let two = tokio::spawn(jobs.acquire(1));
    /// jobs.declare(2); // the configuration was read again
    /// let two = two.await??;
    /// assert_eq!(jobs.inspect().await?.declared_limit, Some(2));
    /// # Ok(())
    /// # }
    /// ```
    pub fn declare(&self, limit: u32) {
        self.inner.set_limit(limit);
    }

    /// Closes this name in this client: all its waiters end with `Closed`, and no new ones are let in.
    /// Held permits stay as they are.
    pub fn close(&self) {
        self.inner.driver.close();
    }

    /// Whether [`close`](Self::close) was called, on any handle of this name in this client.
    pub fn is_closed(&self) -> bool {
        self.inner.driver.with(|state| state.is_closed())
    }
}

impl fmt::Debug for ZSetSemaphore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZSetSemaphore")
            .field("name", &self.inner.name)
            .field("limit", &self.limit())
            .field("options", &self.inner.options)
            .finish()
    }
}
