//! One connection to Redis, and the wake-ups that come over it or beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{MultiplexedConnection, PubSub, PubSubSink, PubSubStream};
use redis::{AsyncConnectionConfig, PushInfo, PushKind, RedisError, RedisResult, Value};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::error::StoreError;
use crate::id::PermitId;
use crate::inspection::Inspection;
use crate::inspection::KickOutcome;
use crate::store::{BoxFuture, Ear, Session, Turn, TurnOutcome};

use super::errors::{is_hopeless, is_noscript, store_error};
use super::scripts::{Script, Scripts};
use super::wire::{self, Args};

/// What both protocol versions need to make a session.
pub(super) struct Parts {
    pub(super) scripts: Arc<Scripts>,
    pub(super) prefix: Arc<str>,
    pub(super) channel: String,
    pub(super) ear: Arc<dyn Ear>,
}

pub(super) struct RedisSession {
    connection: MultiplexedConnection,
    scripts: Arc<Scripts>,
    prefix: Arc<str>,
    health: Arc<Health>,
    /// How often the scripts were loaded: only the first of many that miss them loads them.
    loads: AtomicU64,
    loading: tokio::sync::Mutex<()>,
    listener: Option<AbortHandle>,
    /// Has the listener see whether it is still heard.
    doubt: Arc<Notify>,
}

/// Told by the side that reads the connection.
#[derive(Default)]
struct Health {
    broken: AtomicBool,
    hears: AtomicBool,
}

impl Drop for RedisSession {
    fn drop(&mut self) {
        if let Some(listener) = &self.listener {
            listener.abort();
        }
    }
}

/// Timeouts are the driver's: the redis crate's own would only come in between.
fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(None).set_response_timeout(None)
}

impl RedisSession {
    /// Wake-ups come as pushes on the same connection.
    pub(super) async fn resp3(client: &redis::Client, parts: &Parts) -> RedisResult<Self> {
        let health = Arc::new(Health::default());
        let (ear, told) = (Arc::clone(&parts.ear), Arc::clone(&health));
        let config = config().set_push_sender(move |push: PushInfo| {
            hear_push(&*ear, &told, &push);
            Ok::<(), std::convert::Infallible>(())
        });
        let connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let mut session = Self::new(connection, parts, health);
        session.load().await?;
        match session.connection.subscribe(&parts.channel).await {
            Ok(()) => session.health.hears.store(true, Ordering::SeqCst),
            Err(error) if is_hopeless(&error) => return Err(error),
            Err(error) => tracing::debug!(%error, "cannot subscribe"),
        }
        Ok(session)
    }

    /// Wake-ups come on a second connection.
    pub(super) async fn resp2(client: &redis::Client, parts: Parts) -> RedisResult<Self> {
        let connection = client.get_multiplexed_async_connection_with_config(&config()).await?;
        let mut session = Self::new(connection, &parts, Arc::default());
        session.load().await?;
        match subscribe(client, &parts.channel).await {
            Ok(messages) => {
                session.health.hears.store(true, Ordering::SeqCst);
                let health = Arc::clone(&session.health);
                let doubt = Arc::clone(&session.doubt);
                let listener = Listener {
                    client: client.clone(),
                    channel: parts.channel,
                    ear: parts.ear,
                    health,
                    doubt,
                };
                session.listener = Some(tokio::spawn(listener.run(messages)).abort_handle());
            }
            Err(error) if is_hopeless(&error) => return Err(error),
            Err(error) => tracing::debug!(%error, "cannot subscribe"),
        }
        Ok(session)
    }

    fn new(connection: MultiplexedConnection, parts: &Parts, health: Arc<Health>) -> Self {
        Self {
            connection,
            scripts: Arc::clone(&parts.scripts),
            prefix: Arc::clone(&parts.prefix),
            health,
            loads: AtomicU64::new(0),
            loading: tokio::sync::Mutex::new(()),
            listener: None,
            doubt: Arc::default(),
        }
    }

    async fn load(&self) -> RedisResult<()> {
        let mut pipe = redis::pipe();
        for script in self.scripts.all() {
            pipe.cmd("SCRIPT").arg("LOAD").arg(&script.text).ignore();
        }
        let mut connection = self.connection.clone();
        pipe.query_async::<()>(&mut connection).await?;
        self.loads.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    /// Runs a script on the keys of `name`; loads it if the server has forgotten it.
    async fn run(
        &self,
        script: &Script,
        name: &str,
        arguments: impl Fn(&mut Args<'_>),
    ) -> RedisResult<Value> {
        let mut cmd = redis::cmd("EVALSHA");
        cmd.arg(&script.hash).arg(4);
        let mut args = Args::new(&mut cmd);
        for key in ["permits", "queue", "clients", "meta"] {
            args.put(format_args!("{}{{{name}}}:{key}", self.prefix));
        }
        arguments(&mut args);
        let mut connection = self.connection.clone();
        let loads = self.loads.load(Ordering::SeqCst);
        match cmd.query_async(&mut connection).await {
            Err(error) if is_noscript(&error) => {
                {
                    let _one_at_a_time = self.loading.lock().await;
                    if self.loads.load(Ordering::SeqCst) == loads {
                        self.load().await?;
                    }
                }
                cmd.query_async(&mut connection).await
            }
            other => other,
        }
    }
}

impl Session for RedisSession {
    fn turn(&self, turn: Turn) -> BoxFuture<'_, Result<TurnOutcome, StoreError>> {
        Box::pin(async move {
            let write = |args: &mut Args<'_>| wire::write_turn(args, &turn);
            let reply = self.run(&self.scripts.turn, &turn.name, write).await;
            let reply = reply.map_err(|error| failed(error, "turn", &turn.name))?;
            wire::read_turn(&reply, &turn)
        })
    }

    fn inspect(&self, name: Arc<str>) -> BoxFuture<'_, Result<Inspection, StoreError>> {
        Box::pin(async move {
            let write = |args: &mut Args<'_>| {
                args.put(crate::store::INSPECT_BOUND);
            };
            let reply = self.run(&self.scripts.inspect, &name, write).await;
            wire::read_inspection(&reply.map_err(|error| failed(error, "inspect", &name))?)
        })
    }

    fn set_limit(
        &self,
        name: Arc<str>,
        limit: Option<u32>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move {
            let write = |args: &mut Args<'_>| {
                args.put(limit.map(|limit| limit.to_string()).unwrap_or_default());
            };
            let reply = self.run(&self.scripts.set_limit, &name, write).await;
            reply.map(drop).map_err(|error| failed(error, "set_limit", &name))
        })
    }

    fn kick(
        &self,
        name: Arc<str>,
        id: PermitId,
        now: bool,
    ) -> BoxFuture<'_, Result<KickOutcome, StoreError>> {
        Box::pin(async move {
            let write = |args: &mut Args<'_>| {
                args.put(id).put(u8::from(now));
            };
            let reply = self.run(&self.scripts.kick, &name, write).await;
            wire::read_kick(&reply.map_err(|error| failed(error, "kick", &name))?)
        })
    }

    fn hears(&self) -> bool {
        self.health.hears.load(Ordering::SeqCst)
    }

    fn doubt_hearing(&self) {
        self.doubt.notify_one(); // where wake-ups share the connection of the turns, nobody minds
    }

    fn is_alive(&self) -> bool {
        !self.health.broken.load(Ordering::SeqCst)
    }
}

fn failed(error: RedisError, call: &str, name: &str) -> StoreError {
    store_error(error, &format!("{call} of semaphore {name:?}"))
}

fn hear_push(ear: &dyn Ear, health: &Health, push: &PushInfo) {
    match push.kind {
        PushKind::Message => {
            if let [_, Value::BulkString(payload)] = push.data.as_slice() {
                hear_message(ear, payload);
            }
        }
        PushKind::Disconnection => {
            health.broken.store(true, Ordering::SeqCst);
            ear.gone();
        }
        _ => {}
    }
}

fn hear_message(ear: &dyn Ear, payload: &[u8]) {
    if let Some((name, grants)) = wire::read_wake(payload) {
        for (id, number) in grants {
            ear.wake(name, id, number);
        }
    }
}

async fn subscribe(client: &redis::Client, channel: &str) -> RedisResult<PubSub> {
    let mut messages = client.get_async_pubsub().await?;
    messages.subscribe(channel).await?;
    Ok(messages)
}

/// Reads wake-ups from a connection of their own, and renews that connection when it breaks or has
/// gone silent.
struct Listener {
    client: redis::Client,
    channel: String,
    ear: Arc<dyn Ear>,
    health: Arc<Health>,
    doubt: Arc<Notify>,
}

impl Listener {
    const SHORTEST_PAUSE: Duration = Duration::from_millis(20);
    const LONGEST_PAUSE: Duration = Duration::from_millis(500);
    /// A connection in doubt that does not answer for this long is silent.
    const PROOF: Duration = Duration::from_millis(500);

    async fn run(self, mut messages: PubSub) {
        loop {
            let (sink, stream) = messages.split();
            tokio::select! {
                () = self.hear(stream) => {}
                () = self.prove(sink) => tracing::debug!("the wake-up connection is silent"),
            }
            self.hears(false);
            messages = self.subscribe_again().await;
            self.hears(true);
        }
    }

    fn hears(&self, hears: bool) {
        self.health.hears.store(hears, Ordering::SeqCst);
        self.ear.hearing_changed();
    }

    /// Until the connection breaks.
    async fn hear(&self, mut messages: PubSubStream) {
        while let Some(message) = messages.next().await {
            hear_message(&*self.ear, message.get_payload_bytes());
        }
    }

    /// Until a question in doubt is not answered. To subscribe again changes nothing, and asks for
    /// no right beyond the one that is there.
    async fn prove(&self, mut connection: PubSubSink) {
        loop {
            self.doubt.notified().await;
            let answer = timeout(Self::PROOF, connection.subscribe(&self.channel)).await;
            if !matches!(answer, Ok(Ok(()))) {
                return;
            }
        }
    }

    async fn subscribe_again(&self) -> PubSub {
        let mut pause = Self::SHORTEST_PAUSE;
        loop {
            sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
            pause = (pause * 2).min(Self::LONGEST_PAUSE);
            let attempt = subscribe(&self.client, &self.channel);
            if let Ok(Ok(messages)) = timeout(Self::LONGEST_PAUSE, attempt).await {
                return messages;
            }
        }
    }
}
