//! The store in Redis, which opens sessions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use redis::{ProtocolVersion, RedisError};

use crate::error::{StoreError, StoreErrorKind};
use crate::id::ClientId;
use crate::numbers::PlaceId;
use crate::store::{BoxFuture, Database, Opened, Store, WakeListener};

use super::cluster::{Channels, Cluster};
use super::connection_name::{Use, connection_name};
use super::dial::{Dial, usable, with_protocol};
use super::errors::{is_hopeless, store_error};
use super::role::RoleCheck;
use super::scripts::Scripts;
use super::sentinel::Sentinels;
use super::session::{Parts, RedisSession};
use super::url::Address;

pub(crate) struct RedisStore {
    reach: Reach,
    prefix: Arc<str>,
    /// The label of the client, which is part of the names of its connections.
    label: Arc<str>,
    scripts: Arc<Scripts>,
    /// Whether a connection with RESP3 has been opened.
    speaks_resp3: Arc<AtomicBool>,
    /// Whether the log says already that wake-ups do not arrive.
    told_unsubscribed: AtomicBool,
}

/// How the store is found.
pub(super) enum Reach {
    /// The client knows the address.
    Direct(Box<redis::Client>),
    /// The sentinels tell the address.
    Sentinels(Sentinels),
    /// The nodes of the cluster tell which of them has a name.
    Cluster(Arc<Cluster>),
}

impl Store for RedisStore {
    fn place_of(&self, name: &str) -> PlaceId {
        match &self.reach {
            Reach::Direct(_) | Reach::Sentinels(_) => PlaceId::FIRST,
            Reach::Cluster(cluster) => cluster.place_of(name),
        }
    }

    fn places(&self) -> Vec<PlaceId> {
        match &self.reach {
            Reach::Direct(_) | Reach::Sentinels(_) => vec![PlaceId::FIRST],
            Reach::Cluster(cluster) => cluster.places(),
        }
    }

    fn open(
        &self,
        place: PlaceId,
        client: ClientId,
        listener: Arc<dyn WakeListener>,
    ) -> BoxFuture<'_, Result<Opened, StoreError>> {
        Box::pin(async move {
            let opened = self.connect(place, client, listener).await?;
            if !opened.session.is_subscribed()
                && !self.told_unsubscribed.swap(true, Ordering::SeqCst)
            {
                tracing::warn!(
                    store = self.address(),
                    "no wake-ups: this user may not subscribe; waiters ask at their backoff's pace"
                );
            }
            Ok(opened)
        })
    }

    fn watch(
        &self,
        place: PlaceId,
        listener: Arc<dyn WakeListener>,
    ) -> Option<BoxFuture<'static, ()>> {
        match &self.reach {
            Reach::Direct(_) => None,
            Reach::Sentinels(sentinels) => Some(sentinels.watch()),
            Reach::Cluster(cluster) => cluster.watch(place, listener),
        }
    }

    fn leave(&self, place: PlaceId) {
        if let Reach::Cluster(cluster) = &self.reach {
            cluster.leave(place);
        }
    }

    fn database(&self) -> Option<Database<'_>> {
        let procedure = &self.scripts.turn.hash;
        Some(Database { system: "redis", operation: "EVALSHA", procedure })
    }

    fn address(&self) -> String {
        match &self.reach {
            Reach::Direct(client) => client.get_connection_info().addr().to_string(),
            Reach::Sentinels(sentinels) => sentinels.address(),
            Reach::Cluster(cluster) => cluster.address(),
        }
    }

    fn address_of(&self, place: PlaceId) -> String {
        match &self.reach {
            Reach::Cluster(cluster) => cluster.address_of(place),
            Reach::Direct(_) | Reach::Sentinels(_) => self.address(),
        }
    }
}

impl RedisStore {
    pub(super) fn new(reach: Reach, prefix: Arc<str>, label: Arc<str>) -> Self {
        let scripts = match reach {
            Reach::Direct(_) | Reach::Sentinels(_) => Scripts::new(),
            Reach::Cluster(_) => Scripts::in_cluster(),
        };
        Self {
            reach,
            prefix,
            label,
            scripts: Arc::new(scripts),
            speaks_resp3: Arc::default(),
            told_unsubscribed: AtomicBool::new(false),
        }
    }

    async fn connect(
        &self,
        place: PlaceId,
        id: ClientId,
        listener: Arc<dyn WakeListener>,
    ) -> Result<Opened, StoreError> {
        match &self.reach {
            Reach::Direct(client) => {
                connect_to(client, &self.parts(id, listener), &self.address()).await
            }
            Reach::Sentinels(sentinels) => {
                let parts = move || Parts {
                    role: Some(RoleCheck::default()),
                    ..self.parts(id, Arc::clone(&listener))
                };
                let connect = move |address| {
                    let opening = connect_to_primary(
                        sentinels.primary(),
                        address,
                        sentinels.master(),
                        [parts(), parts()],
                    );
                    Box::pin(opening) as BoxFuture<'_, _>
                };
                let name = connection_name(&self.label, id, Use::Sentinel);
                sentinels.open(Box::new(connect), name.into()).await
            }
            Reach::Cluster(cluster) => {
                let heard_by = Arc::clone(&listener);
                let connect = move |node: Address| {
                    let parts = self.parts(id, Arc::clone(&heard_by));
                    let opening = async move {
                        let client = usable(cluster.dial().to(&node))?;
                        connect_to(&client, &parts, &node.to_string()).await
                    };
                    Box::pin(opening) as BoxFuture<'_, _>
                };
                let prefix = Arc::clone(&self.prefix);
                let name = |used_for| connection_name(&self.label, id, used_for);
                let (client, connection) = (id.to_string(), name(Use::WakeUps));
                let channels = Channels { prefix, client, connection };
                cluster.set_name(name(Use::Slots).into());
                cluster.open(place, listener, channels, Box::new(connect)).await
            }
        }
    }

    fn parts(&self, id: ClientId, listener: Arc<dyn WakeListener>) -> Parts {
        Parts {
            scripts: Arc::clone(&self.scripts),
            prefix: Arc::clone(&self.prefix),
            channel: format!("{}wake:{id}", self.prefix),
            name: connection_name(&self.label, id, Use::Turns),
            replication_name: connection_name(&self.label, id, Use::Replicas),
            listener,
            mode: OnceLock::new(),
            role: None,
            speaks_resp3: Arc::clone(&self.speaks_resp3),
        }
    }

    /// Makes a store whose scripts use a clock that the test sets.
    #[cfg(test)]
    pub(crate) fn with_test_clock(self) -> Self {
        Self { scripts: Arc::new(Scripts::with_test_clock()), ..self }
    }
}

/// Connects to a primary. A replica tells where its primary is: one that has become a replica a moment ago knows
/// that before the sentinels do. Returns the address of the primary, too.
async fn connect_to_primary(
    dial: &Dial,
    address: Address,
    master: &str,
    [parts, parts_of_next]: [Parts; 2],
) -> Result<(Opened, Address), StoreError> {
    let name = format!("{address}, the primary {master}");
    let error = match connect_to(&usable(dial.to(&address))?, &parts, &name).await {
        Ok(opened) => return Ok((opened, address)),
        Err(error) => error,
    };
    let Some(next) = parts.role.as_ref().and_then(RoleCheck::replica_of) else { return Err(error) };
    match connect_to(&usable(dial.to(next))?, &parts_of_next, &name).await {
        Ok(opened) => Ok((opened, next.clone())),
        Err(_) => Err(error),
    }
}

/// Connects with RESP3, so that wake-ups come over the same connection. Falls back to RESP2 if the server does
/// not support RESP3.
async fn connect_to(
    client: &redis::Client,
    parts: &Parts,
    name: &str,
) -> Result<Opened, StoreError> {
    let resp3 = usable(with_protocol(client, ProtocolVersion::RESP3))?;
    match RedisSession::resp3(&resp3, parts).await {
        Ok(opened) => {
            parts.speaks_resp3.store(true, Ordering::SeqCst);
            Ok(opened)
        }
        Err(error) if may_lack_resp3(&error, parts) => {
            tracing::debug!(store = name, %error, "no RESP3; using RESP2");
            let resp2 = usable(with_protocol(client, ProtocolVersion::RESP2))?;
            RedisSession::resp2(&resp2, parts).await
        }
        Err(error) => Err(error),
    }
    .map_err(|error| {
        let doing = format!("connecting to {name}");
        if parts.leads_to_sentinel() {
            let what =
                format!("{doing}: it is a sentinel; use redis+sentinel://{name}/<its master>");
            return StoreError::with_source(StoreErrorKind::WrongMode, what, error);
        }
        store_error(error, &doing)
    })
}

/// Some proxies close the connection on `HELLO`. A server that has spoken RESP3 closes it because it goes down.
fn may_lack_resp3(error: &RedisError, parts: &Parts) -> bool {
    let dropped = error.is_connection_dropped() && !parts.speaks_resp3.load(Ordering::SeqCst);
    (dropped || !is_hopeless(error)) && !parts.leads_to_sentinel()
}
