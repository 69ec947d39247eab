//! The limit of each key: fixed, computed, or looked up.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::store::BoxFuture;

/// The error of a look-up, shared by all requests that waited for it.
pub(super) type LookupError = Arc<dyn StdError + Send + Sync>;
type Compute = dyn Fn(&str) -> u32 + Send + Sync;
type Lookup = dyn Fn(&str) -> BoxFuture<'static, Result<u32, LookupError>> + Send + Sync;

/// The limit of each key: fixed, computed, or looked up.
///
/// Keys are given as they stand in the store (see [`Key`](crate::tower::Key)); a secret is given by its
/// hash. Requests without a key have the key `-`.
#[derive(Clone)]
pub struct KeyLimit {
    source: Source,
}

#[derive(Clone)]
enum Source {
    Fixed(u32),
    Computed(Arc<Compute>),
    Lookup(Arc<Lookup>),
}

impl KeyLimit {
    /// Computes the limit of a key by a closure.
    ///
    /// The closure runs in `call`, for the first request of a key and after each
    /// [`refresh_after`](crate::tower::KeyedBuilder::refresh_after) period, so it must be quick. If it
    /// panics, `call` panics, and no permit is held.
    pub fn from_fn(limit: impl Fn(&str) -> u32 + Send + Sync + 'static) -> Self {
        Self { source: Source::Computed(Arc::new(limit)) }
    }

    /// Looks up the limit of a key by an async closure, for example from the plan of a customer. A limit
    /// of 0 lets nobody in.
    ///
    /// The first requests of a key wait for the look-up, at most for their timeout and for 10 s. A timeout
    /// of zero does not count: it says not to wait for units. Later requests do not wait: after each
    /// [`refresh_after`](crate::tower::KeyedBuilder::refresh_after) period the limit is looked up in the
    /// background, and the known one is used meanwhile.
    ///
    /// One look-up serves all requests of the key. It runs to its end, for 10 s at most, even if
    /// the requests that waited for it are gone.
    ///
    /// # Errors
    ///
    /// An error, a panic and a look-up that takes too long are treated alike:
    ///
    /// - A known limit stays in force. The next look-up follows after one second, then after two and so on,
    ///   up to a minute.
    /// - Without a known limit, requests of the key end with
    ///   [`Reason::LimitLookup`](crate::tower::Reason::LimitLookup). Here the pause between look-ups is 5 s
    ///   at most.
    /// - While look-ups fail, keys with a known limit stay in the cache even if they are idle.
    ///
    /// The log has one line for all keys when look-ups begin to fail. It has a second line, with the number
    /// of failures, when they succeed again: when a key that had failed succeeds, or any key a minute after
    /// the last failure. Return an error only if the source could not answer. If the source does not know
    /// the key, return a limit, for example 0.
    pub fn lookup<F, Fut, E>(limit: F) -> Self
    where
        F: Fn(String) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<u32, E>> + Send + 'static,
        E: StdError + Send + Sync + 'static,
    {
        let lookup = move |key: &str| -> BoxFuture<'static, Result<u32, LookupError>> {
            let limit = limit(key.to_owned());
            Box::pin(async move { limit.await.map_err(|error| Arc::new(error) as LookupError) })
        };
        Self { source: Source::Lookup(Arc::new(lookup)) }
    }
}

impl KeyLimit {
    /// Returns whether a limit is known without waiting.
    pub(super) fn is_immediate(&self) -> bool {
        !matches!(self.source, Source::Lookup(_))
    }

    /// Returns the limit of a key, if it is known without waiting.
    pub(super) fn immediate(&self, key: &str) -> Option<u32> {
        match &self.source {
            Source::Fixed(limit) => Some(*limit),
            Source::Computed(limit) => Some(limit(key)),
            Source::Lookup(_) => None,
        }
    }

    /// Returns the limit of a key.
    pub(super) async fn find(&self, key: &str) -> Result<u32, LookupError> {
        match &self.source {
            Source::Fixed(limit) => Ok(*limit),
            Source::Computed(limit) => Ok(limit(key)),
            Source::Lookup(lookup) => lookup(key).await,
        }
    }
}

impl From<u32> for KeyLimit {
    /// Fixes the same limit for each key.
    fn from(limit: u32) -> Self {
        Self { source: Source::Fixed(limit) }
    }
}

impl fmt::Debug for KeyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Source::Fixed(limit) => f.debug_tuple("KeyLimit").field(&limit).finish(),
            Source::Computed(_) | Source::Lookup(_) => f.write_str("KeyLimit"),
        }
    }
}
