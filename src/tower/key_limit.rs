//! The limit of each key: fixed, made, or looked up.

use std::convert::Infallible;
use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::sync::Arc;

use crate::store::BoxFuture;

/// Shared by all who waited for the limit.
pub(super) type LookupError = Arc<dyn StdError + Send + Sync>;
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
    Lookup(Arc<Lookup>),
}

impl KeyLimit {
    /// What `limit` says for a key.
    pub fn by(limit: impl Fn(&str) -> u32 + Send + Sync + 'static) -> Self {
        Self::lookup(move |key| std::future::ready(Ok::<_, Infallible>(limit(&key))))
    }

    /// What `limit` finds out, say from the plan of a customer.
    ///
    /// It is asked once per key and [`refresh`](super::KeyedBuilder::refresh) period; requests of the
    /// key wait for it meanwhile, up to their timeout (one of zero is for room alone), and 10 s at the
    /// most. Where it fails or takes longer, they end with [`Reason::NoLimit`](super::Reason::NoLimit),
    /// and the next request asks again. A limit of 0 lets nobody in.
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
    pub(super) async fn find(&self, key: &str) -> Result<u32, LookupError> {
        match &self.source {
            Source::Fixed(limit) => Ok(*limit),
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
            Source::Lookup(_) => f.write_str("KeyLimit"),
        }
    }
}
