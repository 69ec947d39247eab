//! How the map of a cluster is read from its nodes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{OptionFuture, join};
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, ErrorKind, RedisError, RedisResult, ServerErrorKind, Value};
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::{StoreError, StoreErrorKind};
use crate::store::WakeListener;

use super::super::connection_name::say_name_by_hello;
use super::super::errors::store_error;
use super::super::server_mode::ServerMode;
use super::super::url::Address;
use super::nodes::{Cluster, LastRefresh, SPACING, spaced};
use super::nodes_reply::Told;

/// How many nodes are asked at a time.
const AT_ONCE: usize = 3;
/// After this time without an answer, more nodes are asked.
const STAGGER: Duration = Duration::from_millis(200);
/// The maximum number of nodes that are asked.
pub(super) const MOST: usize = 24;
/// For how long a connection to a node, and then its answer, is awaited.
const PATIENCE: Duration = Duration::from_secs(1);
/// A node that tells nothing new for this number of refreshes, although there is a doubt, is left for another one: it
/// may be cut off from the others.
const IN_VAIN: u32 = 8;

/// Which node there is a doubt about. It is asked only if no other one answers.
#[derive(Debug, Clone)]
pub(super) enum Doubt {
    None,
    /// The node cannot be reached.
    Unreachable(Address),
    /// The node says that the cluster is down. It may be the only one.
    Down(Address),
}

impl Doubt {
    fn node(&self) -> Option<&Address> {
        match self {
            Self::None => None,
            Self::Unreachable(node) | Self::Down(node) => Some(node),
        }
    }
}

/// A node that has told its map, and the connection to it.
type Answer = (Address, MultiplexedConnection, Told);

impl Cluster {
    /// Reads the map from a node. Returns the address of the node. Nothing is read if the last refresh was a moment
    /// ago.
    pub(super) async fn refresh(
        &self,
        doubt: &Doubt,
        listener: &dyn WakeListener,
    ) -> Result<Address, StoreError> {
        let mut last = self.last.lock().await;
        if let (Some(at), Some((by, _))) = (last.at, &last.by)
            && at.elapsed() < SPACING
        {
            return Ok(by.clone());
        }
        let in_vain = last.in_vain;
        let is_dead = |by: &Address| matches!(doubt, Doubt::Unreachable(node) if node == by);
        let kept = last.by.take().filter(|(by, _)| in_vain < IN_VAIN && !is_dead(by));
        let again = OptionFuture::from(kept.map(|(by, connection)| ask(by, connection))).await;
        let (in_vain, answer) = match again {
            Some(Ok(answer)) => (in_vain + u32::from(doubt.node().is_some()), answer),
            _ => (0, self.ask_any(doubt, &last.replicas).await?),
        };
        let (by, connection, Told { ranges, replicas }) = answer;
        let changed = self.map().take_in(&ranges);
        let in_vain = if changed { 0 } else { in_vain };
        let kept = Some((by.clone(), connection));
        *last = LastRefresh { at: Some(Instant::now()), by: kept, in_vain, replicas };
        drop(last);
        if changed {
            listener.places_changed();
        }
        Ok(by)
    }

    /// Reads the map soon, because a node says that the cluster is down, or that a slot has moved.
    pub(super) fn refresh_soon(self: &Arc<Self>, doubt: Doubt, listener: &Arc<dyn WakeListener>) {
        if self.refreshes_soon.swap(true, Ordering::SeqCst) {
            return;
        }
        let (cluster, listener) = (Arc::clone(self), Arc::clone(listener));
        tokio::spawn(async move {
            sleep(spaced()).await;
            cluster.refreshes_soon.store(false, Ordering::SeqCst);
            if let Err(error) = cluster.refresh(&doubt, &*listener).await {
                tracing::debug!(%error, "no node tells which nodes there are");
            }
        });
    }

    /// Asks nodes until one answers. A few are asked at a time, and others as soon as those have failed or are
    /// silent: where most nodes were replaced, the old ones may be silent for long.
    async fn ask_any(&self, doubt: &Doubt, replicas: &[Address]) -> Result<Answer, StoreError> {
        let mut others = self.others(doubt, replicas).into_iter();
        let mut asked = FuturesUnordered::new();
        let mut failed = None;
        loop {
            asked.extend(others.by_ref().take(AT_ONCE).map(|node| self.connect_and_ask(node)));
            let more_at = Instant::now() + STAGGER;
            while let Ok(Some(answer)) = timeout_at(more_at, asked.next()).await {
                match answer {
                    Ok(answer) => return Ok(answer),
                    Err(error) => failed = Some(error),
                }
            }
            if others.len() == 0 && asked.is_empty() {
                break;
            }
        }
        let last = doubt.node().map(|node| self.connect_and_ask(node.clone()));
        let error = match OptionFuture::from(last).await {
            Some(Ok(answer)) => return Ok(answer),
            Some(Err(error)) => Some(error),
            None => failed,
        };
        let doing = format!("asking {} for its slots", self.address());
        Err(match error {
            Some(Unasked { error, mode }) => refused(error, mode, &doing),
            None => StoreError::new(StoreErrorKind::Unreachable, doing),
        })
    }

    /// Returns the nodes to ask, but not the one in doubt: by turns one that has slots, one that the URL names, and a
    /// replica.
    pub(super) fn others(&self, doubt: &Doubt, replicas: &[Address]) -> Vec<Address> {
        let mut kinds = [self.map().primaries(), self.seeds.clone(), replicas.to_vec()];
        kinds.iter_mut().for_each(|nodes| fastrand::shuffle(nodes));
        let longest = kinds.iter().map(Vec::len).max().unwrap_or(0);
        let by_turns = (0..longest).flat_map(|at| kinds.iter().filter_map(move |of| of.get(at)));
        let mut nodes = Vec::new();
        for node in by_turns.filter(|node| doubt.node() != Some(*node)) {
            if nodes.len() < MOST && !nodes.contains(node) {
                nodes.push(node.clone());
            }
        }
        nodes
    }

    async fn connect_and_ask(&self, node: Address) -> Result<Answer, Unasked> {
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

async fn ask(node: Address, mut connection: MultiplexedConnection) -> RedisResult<Answer> {
    let reply: Value = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
    let told = Told::read(&reply, &node);
    if told.ranges.is_empty() {
        // A node that is not in the cluster yet, or no longer. Others know more.
        let kind = ErrorKind::Server(ServerErrorKind::ClusterDown);
        return Err(RedisError::from((kind, "the node knows no slots")));
    }
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
