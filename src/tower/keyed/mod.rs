//! A limit per key of the request: one semaphore for each key.

pub(crate) mod builder;
mod cache;
mod entry;
pub(crate) mod extract;
mod factory;
pub(crate) mod key;
pub(crate) mod limit;
mod lookup;
mod lookup_log;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use self::cache::KeyCache;
use self::extract::KeyExtractor;
use self::lookup::LONGEST_LOOKUP;
use super::admission::future::AdmissionFuture;
use super::admission::request::PermitRequest;
use super::rejection::NO_KEY;
use super::sealed::Sealed;
use super::select::SelectSemaphore;
use super::settings::Settings;

/// One semaphore per key of the requests, all under one name.
///
/// Clients may choose the keys, so the cost of a key is bounded. This process caches a bounded number of
/// idle keys. Long keys and secrets are stored as hashes. The store forgets a key some seconds after its
/// last permit.
///
/// # Examples
///
/// At most 4 chats at once for each tenant, and 20 for one of them:
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::convert::Infallible;
///
/// use axum::{Router, routing::get};
/// use zset_semaphore::{Client, tower::{Header, KeyLimit, Keyed, ZSetSemaphoreLayer}};
///
/// let client = Client::in_memory();
/// let tenant = Header::new("x-tenant".parse()?);
/// let limit = KeyLimit::lookup(|key| async move {
///     Ok::<_, Infallible>(if key == "boss" { 20 } else { 4 }) // say, from a database
/// });
/// let per_tenant = Keyed::builder(&client, "chats-of", tenant, limit).build()?;
/// let layer = ZSetSemaphoreLayer::keyed(per_tenant).answer();
/// let app: Router = Router::new().route("/", get(|| async { "token" })).layer(layer);
/// # Ok(())
/// # }
/// ```
pub struct Keyed<K> {
    key: Arc<K>,
    cache: Arc<KeyCache>,
}

impl<K> Keyed<K> {
    fn new(key: K, cache: KeyCache) -> Self {
        Self { key: Arc::new(key), cache: Arc::new(cache) }
    }

    /// Returns the number of keys that this process has in its cache.
    pub fn cached_keys(&self) -> usize {
        self.cache.len()
    }

    pub(crate) fn limit_name(&self) -> Arc<str> {
        Arc::clone(self.cache.limit_name())
    }
}

impl<K> Sealed for Keyed<K> {}

impl<Req, K: KeyExtractor<Req>> SelectSemaphore<Req> for Keyed<K> {
    fn select(
        &self,
        request: &Req,
        wanted: PermitRequest,
        settings: &Arc<Settings>,
    ) -> AdmissionFuture {
        let settings = Arc::clone(settings);
        let key = self.key.extract(request).map_or_else(|| NO_KEY.to_owned(), |key| key.name());
        if let Some(limiter) = self.cache.known(&key) {
            return AdmissionFuture::by(limiter, wanted, settings);
        }
        let timeout = settings.lookup_timeout(wanted.wait_until);
        let longest = timeout.map_or(LONGEST_LOOKUP, |timeout| timeout.min(LONGEST_LOOKUP));
        let lookup = Box::pin(Arc::clone(&self.cache).find(key, longest));
        AdmissionFuture::looking_up(lookup, wanted, settings)
    }
}

// By hand: a derived one would require that the extractor is `Clone`.
impl<K> Clone for Keyed<K> {
    fn clone(&self) -> Self {
        Self { key: Arc::clone(&self.key), cache: Arc::clone(&self.cache) }
    }
}

impl<K> fmt::Debug for Keyed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyed")
            .field("name", &self.cache.limit_name())
            .field("limit", &self.cache.limit())
            .field("cached_keys", &self.cached_keys())
            .finish_non_exhaustive()
    }
}
