//! How the map of a cluster is read from its nodes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::{join, select_ok};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, RedisResult, Value};
use tokio::time::{Instant, sleep};

use crate::error::{StoreError, StoreErrorKind};
use crate::numbers::PlaceId;
use crate::store::WakeListener;

use super::super::connection_name::say_name_by_hello;
use super::super::errors::store_error;
use super::super::server_mode::ServerMode;
use super::super::url::Address;
use super::nodes::{Cluster, LastRefresh, SPACING, spaced};
use super::nodes_reply::Told;

/// How many nodes are asked at the same time. The first answer counts.
const AT_ONCE: usize = 3;
/// For how long a connection to a node, and then its answer, is awaited.
const PATIENCE: Duration = Duration::from_secs(1);

impl Cluster {
    /// Reads the map from a node, but not from the one at `avoid`. Returns the address of the node. Nothing
    /// is read if the last refresh was a moment ago.
    pub(super) async fn refresh(
        &self,
        avoid: PlaceId,
        listener: &dyn WakeListener,
    ) -> Result<Address, StoreError> {
        let mut last = self.last.lock().await;
        if let (Some(at), Some((by, _))) = (last.at, &last.by)
            && at.elapsed() < SPACING
        {
            return Ok(by.clone());
        }
        let (by, connection, told) = match last.by.take() {
            Some((by, connection)) if !self.is_at(avoid, &by) => match ask(by, connection).await {
                Ok(told) => told,
                Err(_) => self.ask_any(avoid, &last.replicas).await?,
            },
            _ => self.ask_any(avoid, &last.replicas).await?,
        };
        let Told { ranges, replicas } = told;
        let changed = self.map().take_in(&ranges);
        *last =
            LastRefresh { at: Some(Instant::now()), by: Some((by.clone(), connection)), replicas };
        drop(last);
        if changed {
            listener.places_changed();
        }
        Ok(by)
    }

    /// Reads the map soon, because a node says that the cluster is down.
    pub(super) fn refresh_soon(self: &Arc<Self>, listener: &Arc<dyn WakeListener>) {
        if self.refreshes_soon.swap(true, Ordering::SeqCst) {
            return;
        }
        let (cluster, listener) = (Arc::clone(self), Arc::clone(listener));
        tokio::spawn(async move {
            sleep(spaced()).await;
            cluster.refreshes_soon.store(false, Ordering::SeqCst);
            if let Err(error) = cluster.refresh(PlaceId::FIRST, &*listener).await {
                tracing::debug!(%error, "no node tells which nodes there are");
            }
        });
    }

    fn is_at(&self, place: PlaceId, address: &Address) -> bool {
        self.map().address(place) == Some(address)
    }

    /// Asks a few nodes at a time: those that have slots, then replicas, then those that the URL names.
    async fn ask_any(
        &self,
        avoid: PlaceId,
        replicas: &[Address],
    ) -> Result<(Address, MultiplexedConnection, Told), StoreError> {
        let mut nodes = self.map().primaries_but(avoid);
        fastrand::shuffle(&mut nodes);
        for other in replicas.iter().chain(&self.seeds) {
            if !nodes.contains(other) {
                nodes.push(other.clone());
            }
        }
        let mut failed = None;
        for some in nodes.chunks(AT_ONCE) {
            let asks = some.iter().map(|node| Box::pin(self.connect_and_ask(node.clone())));
            match select_ok(asks).await {
                Ok((told, _)) => return Ok(told),
                Err(error) => failed = Some(error),
            }
        }
        let doing = format!("asking {} for its slots", self.address());
        Err(match failed {
            Some(Unasked { error, mode }) => refused(error, mode, &doing),
            None => StoreError::new(StoreErrorKind::Unreachable, doing),
        })
    }

    async fn connect_and_ask(
        &self,
        node: Address,
    ) -> Result<(Address, MultiplexedConnection, Told), Unasked> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let client = self.dial().to(&node)?;
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let name = self.name();
        let named = say_name_by_hello(connection.clone(), &name);
        let (mode, asked) = join(named, ask(node, connection)).await;
        asked.map_err(|error| Unasked { error, mode })
    }
}

/// Why a node did not tell the map.
struct Unasked {
    error: RedisError,
    /// What kind of server it is, if it has told.
    mode: Option<ServerMode>,
}

impl From<RedisError> for Unasked {
    fn from(error: RedisError) -> Self {
        Self { error, mode: None }
    }
}

async fn ask(
    node: Address,
    mut connection: MultiplexedConnection,
) -> RedisResult<(Address, MultiplexedConnection, Told)> {
    let reply: Value = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
    let told = Told::read(&reply, &node);
    Ok((node, connection, told))
}

/// A server that is no node of a cluster does not know its slots.
fn refused(error: RedisError, mode: Option<ServerMode>, doing: &str) -> StoreError {
    if error.code() != Some("ERR") {
        return store_error(error, doing);
    }
    let advice = match mode {
        Some(ServerMode::Sentinel) => {
            "it is a sentinel; use redis+sentinel://<sentinels>/<their master>"
        }
        _ => "for a server that is in no cluster, use redis://",
    };
    let what = format!("{doing}: {error}; {advice}");
    StoreError::with_source(StoreErrorKind::WrongMode, what, error)
}
