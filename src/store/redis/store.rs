//! The store in Redis, which opens sessions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redis::ProtocolVersion;

use crate::error::StoreError;
use crate::id::ClientId;
use crate::numbers::PlaceId;
use crate::store::{BoxFuture, Opened, Store, WakeListener};

use super::errors::{is_hopeless, store_error};
use super::scripts::Scripts;
use super::session::{Parts, RedisSession};

pub(crate) struct RedisStore {
    client: redis::Client,
    prefix: Arc<str>,
    scripts: Arc<Scripts>,
    address: String,
    /// Whether the log says already that wake-ups do not arrive.
    told_unsubscribed: AtomicBool,
}

impl Store for RedisStore {
    fn open(
        &self,
        _: PlaceId,
        client: ClientId,
        listener: Arc<dyn WakeListener>,
    ) -> BoxFuture<'_, Result<Opened, StoreError>> {
        Box::pin(async move {
            let opened = self.connect(client, listener).await?;
            if !opened.session.is_subscribed()
                && !self.told_unsubscribed.swap(true, Ordering::SeqCst)
            {
                tracing::warn!(
                    store = self.address,
                    "no wake-ups: this user may not subscribe; waiters ask at their backoff's pace"
                );
            }
            Ok(opened)
        })
    }

    fn address(&self) -> String {
        self.address.clone()
    }
}

impl RedisStore {
    pub(super) fn new(client: redis::Client, prefix: Arc<str>) -> Self {
        Self {
            address: client.get_connection_info().addr().to_string(),
            client,
            prefix,
            scripts: Arc::new(Scripts::new()),
            told_unsubscribed: AtomicBool::new(false),
        }
    }

    /// Connects with RESP3, so that wake-ups come over the same connection. Falls back to RESP2 if the
    /// server does not support RESP3.
    async fn connect(
        &self,
        client: ClientId,
        listener: Arc<dyn WakeListener>,
    ) -> Result<Opened, StoreError> {
        let parts = Parts {
            scripts: Arc::clone(&self.scripts),
            prefix: Arc::clone(&self.prefix),
            channel: format!("{}wake:{client}", self.prefix),
            listener,
        };
        match RedisSession::resp3(&self.with_protocol(ProtocolVersion::RESP3)?, &parts).await {
            // Some proxies close the connection on HELLO.
            Err(error) if !is_hopeless(&error) || error.is_connection_dropped() => {
                tracing::debug!(store = self.address, %error, "no RESP3; using RESP2");
                RedisSession::resp2(&self.with_protocol(ProtocolVersion::RESP2)?, &parts).await
            }
            other => other,
        }
        .map_err(|error| store_error(error, &format!("connecting to {}", self.address)))
    }

    fn with_protocol(&self, protocol: ProtocolVersion) -> Result<redis::Client, StoreError> {
        let info = self.client.get_connection_info().clone();
        let settings = info.redis_settings().clone().set_protocol(protocol);
        redis::Client::open(info.set_redis_settings(settings))
            .map_err(|error| store_error(error, "using the Redis URL"))
    }

    /// Makes a store whose scripts use a clock that the test sets.
    #[cfg(test)]
    pub(crate) fn with_test_clock(self) -> Self {
        Self { scripts: Arc::new(Scripts::with_test_clock()), ..self }
    }
}
