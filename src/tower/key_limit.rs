//! The limit of each key: fixed, made, or looked up.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::store::BoxFuture;

/// Shared by all who waited for the limit.
pub(super) type LookupError = Arc<dyn StdError + Send + Sync>;
type By = dyn Fn(&str) -> u32 + Send + Sync;
type Lookup = dyn Fn(&str) -> BoxFuture<'static, Result<u32, LookupError>> + Send + Sync;

/// The limit of each key.
///
/// Keys are given as they stand in the store: as [`Key`](super::Key) says, a secret by its hash.
/// Requests without a key have the key `-`.
#[derive(Clone)]
pub struct KeyLimit {
    source: Source,
}

#[derive(Clone)]
enum Source {
    Fixed(u32),
    By(Arc<By>),
    Lookup(Arc<Lookup>),
}

impl KeyLimit {
    /// What `limit` says for a key.
    ///
    /// It is asked at the first request of a key and after each
    /// [`refresh_after`](super::KeyedBuilder::refresh_after) period, in `call`: it must be quick. A panic in it is
    /// the caller's, with nothing held.
    pub fn from_fn(limit: impl Fn(&str) -> u32 + Send + Sync + 'static) -> Self {
        Self { source: Source::By(Arc::new(limit)) }
    }

    /// What `limit` finds out, say from the plan of a customer. A limit of 0 lets nobody in.
    ///
    /// The first requests of a key wait for it, up to their timeout (one of zero is for room alone), and
    /// 10 s at the most. From then on nobody waits: after each
    /// [`refresh_after`](super::KeyedBuilder::refresh_after) period it is asked in the background, while the limit
    /// that is known is served. It is asked once for all requests of the key, and runs to its end, or
    /// for 10 s, also when those who waited have gone.
    ///
    /// # When it fails
    ///
    /// An error, a panic and a look-up that takes too long are the same. A limit that is known stays in
    /// force, and it is asked again after a second, then after two and so on, up to a minute. Requests of a
    /// key whose limit is not known end with [`Reason::LimitLookup`](super::Reason::LimitLookup) meanwhile; there
    /// the pause grows to 5 s only. While look-ups fail, keys whose limits are known are not forgotten for
    /// being idle.
    ///
    /// The log tells it by one line for all keys, and by one with the count of failures when a key is
    /// looked up that had failed, or a minute has passed without a failure. So let an error mean that the
    /// source could not answer: for a key that it does not know answer with a limit, say 0.
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
    /// Whether it takes no time to find out a limit.
    pub(super) fn is_at_once(&self) -> bool {
        !matches!(self.source, Source::Lookup(_))
    }

    /// The limit of a key, if it takes no time to find it out.
    pub(super) fn at_once(&self, key: &str) -> Option<u32> {
        match &self.source {
            Source::Fixed(limit) => Some(*limit),
            Source::By(limit) => Some(limit(key)),
            Source::Lookup(_) => None,
        }
    }

    pub(super) async fn find(&self, key: &str) -> Result<u32, LookupError> {
        match &self.source {
            Source::Fixed(limit) => Ok(*limit),
            Source::By(limit) => Ok(limit(key)),
            Source::Lookup(lookup) => lookup(key).await,
        }
    }
}

impl From<u32> for KeyLimit {
    /// The same for each key.
    fn from(limit: u32) -> Self {
        Self { source: Source::Fixed(limit) }
    }
}

impl fmt::Debug for KeyLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.source {
            Source::Fixed(limit) => f.debug_tuple("KeyLimit").field(&limit).finish(),
            Source::By(_) | Source::Lookup(_) => f.write_str("KeyLimit"),
        }
    }
}
