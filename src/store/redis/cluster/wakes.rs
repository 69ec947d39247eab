//! The wake-ups of one place of a cluster, over a connection of their own.
//!
//! # Implementation
//!
//! A message to a sharded channel stays within the shard, whereas one to a plain channel goes to every node. A
//! sharded channel has the slot of its name, so each name has one for each client, which the client subscribes
//! to while it waits there. Until then, and where that fails, the scripts use the plain channel of the client.
//!
//! When a slot moves, the server unsubscribes its channels unasked. The redis crate takes that message for a
//! reply. So nothing else goes over this connection, and the connection is replaced then.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ErrorKind, ProtocolVersion, PushInfo, PushKind, RedisError, RedisResult,
    ServerErrorKind, Value,
};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::retry_delay::RetryDelay;
use crate::store::WakeListener;
use crate::sync::lock;

use super::super::connection_name::say_name;
use super::super::dial::with_protocol;
use super::super::subscription::deliver;
use super::nodes::Cluster;
use super::refresh::Doubt;

/// How long a name stays subscribed to after the last wait there.
const UNUSED: Duration = Duration::from_secs(60);
/// The timeout for the answer to a subscription, and for a new connection.
const PATIENCE: Duration = Duration::from_millis(500);

/// What the channels of a client are named after.
#[derive(Debug, Clone)]
pub(in super::super) struct Channels {
    pub(in super::super) prefix: Arc<str>,
    pub(in super::super) client: String,
    /// The name of the connection.
    pub(in super::super) connection: String,
}

impl Channels {
    /// As `lua/wake_in_shard.lua` makes it.
    fn of(&self, name: &str) -> String {
        format!("{}{{{name}}}:wake:{}", self.prefix, self.client)
    }
}

/// Reads wake-ups. The connection is opened when somebody waits for the first time, and closed when this is
/// dropped.
pub(super) struct Wakes {
    shared: Arc<Shared>,
    task: Mutex<Option<AbortHandle>>,
}

struct Shared {
    client: redis::Client,
    channels: Channels,
    cluster: Arc<Cluster>,
    listener: Arc<dyn WakeListener>,
    /// A name is unsubscribed after nobody has waited there for this time.
    unused: Duration,
    wanted: Mutex<BTreeMap<Arc<str>, Wanted>>,
    /// Whether all that is wanted is subscribed to, or soon will be.
    up: AtomicBool,
    /// The connection is of no use any more.
    broken: Notify,
    /// A name is wanted that is not subscribed to.
    more: Notify,
}

struct Wanted {
    /// When somebody was last told to wait.
    last: Instant,
    subscribed: bool,
}

/// What follows from a failure.
enum Next {
    /// Another connection may work.
    Reconnect,
    /// The server has no sharded channels, or this user may not use them.
    GiveUp,
}

impl Wakes {
    pub(super) fn new(
        client: redis::Client,
        channels: Channels,
        cluster: Arc<Cluster>,
        listener: Arc<dyn WakeListener>,
    ) -> Self {
        Self::with_unused(client, channels, cluster, listener, UNUSED)
    }

    /// As [`new`](Self::new), with the time after which a name is unsubscribed.
    pub(super) fn with_unused(
        client: redis::Client,
        channels: Channels,
        cluster: Arc<Cluster>,
        listener: Arc<dyn WakeListener>,
        unused: Duration,
    ) -> Self {
        let shared = Shared {
            client,
            channels,
            cluster,
            listener,
            unused,
            wanted: Mutex::default(),
            up: AtomicBool::new(false),
            broken: Notify::new(),
            more: Notify::new(),
        };
        Self { shared: Arc::new(shared), task: Mutex::default() }
    }

    /// Subscribes to the wake-ups of a name, since somebody waits there.
    pub(super) fn want(&self, name: &Arc<str>) {
        let now = Instant::now();
        let mut wanted = lock(&self.shared.wanted);
        if let Some(known) = wanted.get_mut(name) {
            known.last = now;
            return;
        }
        wanted.insert(Arc::clone(name), Wanted { last: now, subscribed: false });
        drop(wanted);
        self.shared.more.notify_one();
        let start = || tokio::spawn(Arc::clone(&self.shared).run()).abort_handle();
        lock(&self.task).get_or_insert_with(start);
    }

    /// Returns whether wake-ups arrive by sharded channels.
    pub(super) fn are_heard(&self) -> bool {
        self.shared.up.load(Ordering::SeqCst)
    }
}

impl Drop for Wakes {
    fn drop(&mut self) {
        if let Some(task) = lock(&self.task).take() {
            task.abort();
        }
    }
}

impl Shared {
    async fn run(self: Arc<Self>) {
        let mut delay = RetryDelay::default();
        loop {
            let next = match timeout(PATIENCE, self.connect()).await {
                Ok(Ok(connection)) => self.read(connection, &mut delay).await,
                Ok(Err(error)) => Next::after(&error),
                Err(_) => Next::Reconnect,
            };
            if self.up.swap(false, Ordering::SeqCst) {
                self.listener.subscription_changed();
            }
            match next {
                Next::Reconnect => sleep(delay.after_failure()).await,
                Next::GiveUp => return,
            }
        }
    }

    async fn connect(self: &Arc<Self>) -> RedisResult<MultiplexedConnection> {
        lock(&self.wanted).values_mut().for_each(|wanted| wanted.subscribed = false);
        let shared = Arc::clone(self);
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE))
            .set_push_sender(move |push| shared.hear(&push));
        let client = with_protocol(&self.client, ProtocolVersion::RESP3)?;
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        say_name(connection.clone(), &self.channels.connection, ProtocolVersion::RESP3).await;
        Ok(connection)
    }

    fn hear(&self, push: &PushInfo) -> Result<(), Infallible> {
        match push.kind {
            PushKind::SMessage => {
                if let [_, Value::BulkString(payload)] = push.data.as_slice() {
                    deliver(&*self.listener, payload);
                }
            }
            // Nobody has asked for it: the slot has moved.
            PushKind::SUnsubscribe => {
                self.cluster.refresh_soon(Doubt::None, &self.listener);
                self.broken.notify_one();
            }
            PushKind::Disconnection => self.broken.notify_one(),
            _ => {}
        }
        Ok(())
    }

    /// Subscribes to what is wanted, until the connection is of no use any more.
    async fn read(&self, mut connection: MultiplexedConnection, delay: &mut RetryDelay) -> Next {
        let mut look_at = Instant::now() + self.unused;
        loop {
            for name in self.missing() {
                let mut subscribe = redis::cmd("SSUBSCRIBE");
                subscribe.arg(self.channels.of(&name));
                match subscribe.exec_async(&mut connection).await {
                    Ok(()) => self.note_subscribed(&name),
                    // Its waiters ask at the other node, and are told to wait there.
                    Err(error) if is_elsewhere(&error) => self.forget(&name),
                    Err(error) => return Next::after(&error),
                }
            }
            delay.reset();
            self.up.store(true, Ordering::SeqCst);
            tokio::select! {
                () = self.broken.notified() => return Next::Reconnect,
                () = self.more.notified() => {}
                () = sleep_until(look_at) => {
                    if self.forget_unused() {
                        return Next::Reconnect; // with those that are left
                    }
                    look_at = Instant::now() + self.unused;
                }
            }
        }
    }

    fn missing(&self) -> Vec<Arc<str>> {
        let wanted = lock(&self.wanted);
        let missing = wanted.iter().filter(|(_, wanted)| !wanted.subscribed);
        missing.map(|(name, _)| Arc::clone(name)).collect()
    }

    fn note_subscribed(&self, name: &str) {
        if let Some(wanted) = lock(&self.wanted).get_mut(name) {
            wanted.subscribed = true;
        }
    }

    fn forget(&self, name: &str) {
        lock(&self.wanted).remove(name);
    }

    /// Forgets the names at which nobody waits any more, if that is half of all names or more. Returns whether
    /// it did.
    fn forget_unused(&self) -> bool {
        let mut wanted = lock(&self.wanted);
        let is_used = |wanted: &Wanted| wanted.last.elapsed() < self.unused;
        let used = wanted.values().filter(|wanted| is_used(wanted)).count();
        let forgets = used * 2 <= wanted.len() && used < wanted.len();
        if forgets {
            wanted.retain(|_, wanted| is_used(wanted));
        }
        forgets
    }
}

impl Next {
    fn after(error: &RedisError) -> Self {
        use ServerErrorKind::{BusyLoading, ClusterDown, MasterDown};
        match error.kind() {
            ErrorKind::Server(BusyLoading | ClusterDown | MasterDown) => Self::Reconnect,
            ErrorKind::Server(_)
            | ErrorKind::AuthenticationFailed
            | ErrorKind::RESP3NotSupported => {
                tracing::debug!(%error, "no sharded channels; using the plain one");
                Self::GiveUp
            }
            _ => Self::Reconnect,
        }
    }
}

/// The name has come to another node, or is about to.
fn is_elsewhere(error: &RedisError) -> bool {
    use ServerErrorKind::{Ask, Moved, TryAgain};
    matches!(error.kind(), ErrorKind::Server(Moved | Ask | TryAgain))
}
