//! A session over one connection to Redis.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use futures_util::future::{join, join4};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, Pipeline, ProtocolVersion, RedisError, RedisResult, Value};

use crate::error::StoreError;
use crate::id::PermitId;
use crate::inspection::{Inspection, KickOutcome};
use crate::numbers::ServerId;
use crate::store::{
    BoxFuture, INSPECT_BOUND, Kick, NamesCursor, NamesPage, Opened, Replication, Session, Turn,
    TurnAnswer, WakeListener,
};

use super::connection_name::say_name;
use super::errors::{is_hopeless, is_noscript, store_error};
use super::known_script::{KnownScript, Load};
use super::names::{page_call, read_page};
use super::replication::ReplicationDial;
use super::role::RoleCheck;
use super::scripts::{KEYS, Scripts};
use super::server_info::ServerInfo;
use super::server_mode::ServerMode;
use super::subscription::{Health, Subscriber, push_sender};
use super::transport::{Transport, config};
use super::wire::{self, Args};

/// The data of a session that both versions of the protocol need.
pub(super) struct Parts {
    pub(super) scripts: Arc<Scripts>,
    pub(super) prefix: Arc<str>,
    pub(super) channel: String,
    /// The name of the connection.
    pub(super) name: String,
    /// The name of the connection that asks about replicas.
    pub(super) replication_name: String,
    pub(super) listener: Arc<dyn WakeListener>,
    /// What kind of server it turned out to be.
    pub(super) mode: OnceLock<ServerMode>,
    /// If the server may turn out to be a replica.
    pub(super) role: Option<RoleCheck>,
    /// Whether the store has opened a connection with RESP3.
    pub(super) speaks_resp3: Arc<AtomicBool>,
}

impl Parts {
    pub(super) fn leads_to_sentinel(&self) -> bool {
        self.mode.get() == Some(&ServerMode::Sentinel)
    }
}

pub(super) struct RedisSession {
    connection: MultiplexedConnection,
    turn: KnownScript,
    inspect: KnownScript,
    set_limit: KnownScript,
    kick: KnownScript,
    prefix: Arc<str>,
    health: Arc<Health>,
    /// The server, once it is known.
    server: OnceLock<ServerInfo>,
    replication: ReplicationDial,
    /// With RESP2, and only if the user may subscribe.
    subscriber: Option<Subscriber>,
}

/// For how many words, and bytes of them, a call has room from the start: those of a turn that names a few
/// ids.
const WORDS: usize = 24;
const BYTES: usize = 512;

impl RedisSession {
    /// Connects. Wake-ups come as push messages over the same connection.
    pub(super) async fn resp3(client: &redis::Client, parts: &Parts) -> RedisResult<Opened> {
        let health = Arc::new(Health::default());
        let sender = push_sender(Arc::clone(&parts.listener), Arc::clone(&health));
        let Transport { connection, mut io } =
            Transport::open(client, config().set_push_sender(sender)).await?;
        let session = Self::new(client, connection, parts, health);
        Transport::while_moving(&mut io, session.prepare_and_subscribe(parts)).await?;
        Ok(Opened { session: Arc::new(session), io })
    }

    /// Connects. Wake-ups come over a second connection.
    pub(super) async fn resp2(client: &redis::Client, parts: &Parts) -> RedisResult<Opened> {
        let Transport { connection, mut io } = Transport::open(client, config()).await?;
        let mut session = Self::new(client, connection, parts, Arc::default());
        Transport::while_moving(&mut io, session.prepare(parts, ProtocolVersion::RESP2)).await?;
        let (listener, health) = (Arc::clone(&parts.listener), Arc::clone(&session.health));
        let subscriber = Subscriber::start(client, &parts.channel, listener, health).await;
        session.subscriber = permitted(subscriber)?;
        Ok(Opened { session: Arc::new(session), io })
    }

    async fn prepare_and_subscribe(&self, parts: &Parts) -> RedisResult<()> {
        let mut connection = self.connection.clone();
        let prepared = self.prepare(parts, ProtocolVersion::RESP3);
        let (prepared, subscribed) = join(prepared, connection.subscribe(&parts.channel)).await;
        prepared?;
        self.health.set_subscribed(permitted(subscribed)?.is_some());
        Ok(())
    }

    /// Names the connection, checks the role of the server, asks which one it is, and makes sure that it has the
    /// script of turns. Unless the script is missing, that takes one round trip.
    async fn prepare(&self, parts: &Parts, protocol: ProtocolVersion) -> RedisResult<()> {
        let role = async {
            match &parts.role {
                Some(role) => role.run(self.connection.clone()).await,
                None => Ok(()),
            }
        };
        let named = say_name(self.connection.clone(), &parts.name, protocol);
        let server = ServerInfo::ask(self.connection.clone());
        let is_there = self.turn.is_there(&self.connection);
        let (mode, role, server, is_there) = join4(named, role, server, is_there).await;
        if let Some(mode) = mode {
            let _ = parts.mode.set(mode); // the first attempt has told it
        }
        if parts.leads_to_sentinel() {
            return Err((ErrorKind::InvalidClientConfig, "the server is a sentinel").into());
        }
        role?;
        if let Some(server) = server {
            let _ = self.server.set(server); // nobody else sets it
        }
        match is_there? {
            true => Ok(()),
            false => self.turn.provide(&self.connection).await,
        }
    }

    fn new(
        client: &redis::Client,
        connection: MultiplexedConnection,
        parts: &Parts,
        health: Arc<Health>,
    ) -> Self {
        let scripts = &parts.scripts;
        let replication = ReplicationDial {
            client: client.clone(),
            name: parts.replication_name.clone(),
            touch: Arc::clone(&scripts.touch),
            prefix: Arc::clone(&parts.prefix),
        };
        Self {
            connection,
            turn: KnownScript::new(&scripts.turn),
            inspect: KnownScript::new(&scripts.inspect),
            set_limit: KnownScript::new(&scripts.set_limit),
            kick: KnownScript::new(&scripts.kick),
            prefix: Arc::clone(&parts.prefix),
            health,
            server: OnceLock::new(),
            replication,
            subscriber: None,
        }
    }

    /// Makes the call of a script on the keys of `name`.
    fn call(&self, script: &KnownScript, name: &str, arguments: impl FnOnce(&mut Args<'_>)) -> Cmd {
        let mut cmd = Cmd::with_capacity(WORDS, BYTES);
        cmd.arg("EVALSHA").arg(script.hash()).arg(4);
        let mut args = Args::new(&mut cmd);
        for key in KEYS {
            args.put(format_args!("{}{{{name}}}:{key}", self.prefix));
        }
        arguments(&mut args);
        cmd
    }

    /// Calls a script. If the server does not have the script, it is loaded first.
    async fn run(&self, script: &KnownScript, call: &Cmd) -> RedisResult<Value> {
        let mut connection = self.connection.clone();
        let mut loads = script.loads().await;
        let mut reply = connection.send_packed_command(call).await?.extract_error();
        for how in Load::ATTEMPTS {
            if !is_missing(&reply) {
                break;
            }
            loads = script.load(loads, how, &connection).await?;
            reply = connection.send_packed_command(call).await?.extract_error();
        }
        reply
    }

    /// Does the same as [`run`](Self::run) for several turns together. Those that found no script are called
    /// again together, because round trips of their own would delay the replies to all others.
    async fn run_turns(&self, calls: &Pipeline) -> RedisResult<Vec<RedisResult<Value>>> {
        let mut loads = self.turn.loads().await;
        let mut replies = self.send_together(calls).await?;
        for how in Load::ATTEMPTS {
            if !replies.iter().any(is_missing) {
                break;
            }
            let mut again = redis::pipe();
            for (call, _) in calls.cmd_iter().zip(&replies).filter(|(_, reply)| is_missing(reply)) {
                again.add_command(call.clone());
            }
            let again = match self.turn.load(loads, how, &self.connection).await {
                Ok(present) => {
                    loads = present;
                    self.send_together(&again).await
                }
                Err(error) => Err(error),
            };
            let places = replies.iter_mut().filter(|reply| is_missing(reply));
            match again {
                Ok(again) => places.zip(again).for_each(|(place, reply)| *place = reply),
                Err(error) => places.for_each(|place| *place = Err(error.clone())),
            }
        }
        Ok(replies)
    }

    /// Sends calls together. Returns one reply for each.
    async fn send_together(&self, calls: &Pipeline) -> RedisResult<Vec<RedisResult<Value>>> {
        let (mut connection, count) = (self.connection.clone(), calls.len());
        let replies = connection.send_packed_commands(calls, 0, count).await?;
        let mut replies: Vec<_> = replies.into_iter().map(Value::extract_error).collect();
        replies.resize_with(count, || Ok(Value::Nil)); // as garbled as a missing one
        Ok(replies)
    }

    fn call_of(&self, turn: &Turn) -> Cmd {
        let server = turn.meets.and(self.server.get()).map(ServerInfo::now);
        self.call(&self.turn, &turn.name, |args| wire::write_turn(args, turn, server))
    }
}

/// Returns the result of a subscription; `None` if the user has no right to subscribe, since a session works
/// without it.
fn permitted<T>(subscribed: RedisResult<T>) -> RedisResult<Option<T>> {
    match subscribed {
        Ok(subscribed) => Ok(Some(subscribed)),
        Err(error) if is_hopeless(&error) => Err(error),
        Err(error) => {
            tracing::debug!(%error, "cannot subscribe");
            Ok(None)
        }
    }
}

impl Session for RedisSession {
    fn turn(self: Arc<Self>, turn: Turn) -> BoxFuture<'static, TurnAnswer> {
        let call = self.call_of(&turn);
        Box::pin(async move { outcome(self.run(&self.turn, &call).await, &turn) })
    }

    fn turns(self: Arc<Self>, turns: Vec<Turn>) -> BoxFuture<'static, Vec<TurnAnswer>> {
        let mut calls = Pipeline::with_capacity(turns.len());
        for turn in &turns {
            calls.add_command(self.call_of(turn));
        }
        Box::pin(async move {
            match self.run_turns(&calls).await {
                Ok(replies) => {
                    turns.iter().zip(replies).map(|(turn, reply)| outcome(reply, turn)).collect()
                }
                Err(error) => turns.iter().map(|turn| outcome(Err(error.clone()), turn)).collect(),
            }
        })
    }

    fn inspect(&self, name: Arc<str>) -> BoxFuture<'_, Result<Inspection, StoreError>> {
        let write = |args: &mut Args<'_>| {
            args.put(INSPECT_BOUND);
        };
        let call = self.call(&self.inspect, &name, write);
        Box::pin(async move {
            let reply = self.run(&self.inspect, &call).await;
            wire::read_inspection(&reply.map_err(|error| failed(error, "inspect", &name))?)
        })
    }

    fn set_limit(
        &self,
        name: Arc<str>,
        limit: Option<u32>,
    ) -> BoxFuture<'_, Result<(), StoreError>> {
        let write = |args: &mut Args<'_>| {
            args.put(limit.map(|limit| limit.to_string()).unwrap_or_default());
        };
        let call = self.call(&self.set_limit, &name, write);
        Box::pin(async move {
            self.run(&self.set_limit, &call)
                .await
                .map(drop)
                .map_err(|error| failed(error, "set_limit", &name))
        })
    }

    fn kick(
        &self,
        name: Arc<str>,
        id: PermitId,
        kick: Kick,
    ) -> BoxFuture<'_, Result<KickOutcome, StoreError>> {
        let write = |args: &mut Args<'_>| {
            args.put(id).put(u8::from(kick == Kick::Remove));
        };
        let call = self.call(&self.kick, &name, write);
        Box::pin(async move {
            let reply = self.run(&self.kick, &call).await;
            wire::read_kick(&reply.map_err(|error| failed(error, "kick", &name))?)
        })
    }

    fn server(&self) -> Option<ServerId> {
        self.server.get().map(ServerInfo::id)
    }

    fn replication(&self) -> BoxFuture<'_, Result<Box<dyn Replication>, StoreError>> {
        Box::pin(self.replication.open())
    }

    fn names(&self, page: NamesCursor) -> BoxFuture<'_, Result<NamesPage, StoreError>> {
        let call = page_call(&self.prefix, page);
        Box::pin(async move {
            let mut connection = self.connection.clone();
            let reply = connection.send_packed_command(&call).await.and_then(Value::extract_error);
            let page = reply.and_then(|reply| read_page(reply, &self.prefix));
            page.map_err(|error| store_error(error, "listing the names"))
        })
    }

    fn is_subscribed(&self) -> bool {
        self.health.is_subscribed()
    }

    fn doubt_subscription(&self) {
        if let Some(subscriber) = &self.subscriber {
            subscriber.doubt();
        }
    }

    fn is_alive(&self) -> bool {
        !self.health.is_broken()
    }
}

/// Returns whether the call found no script.
fn is_missing(reply: &RedisResult<Value>) -> bool {
    reply.as_ref().is_err_and(is_noscript)
}

fn outcome(reply: RedisResult<Value>, turn: &Turn) -> TurnAnswer {
    wire::read_turn(&reply.map_err(|error| failed(error, "turn", &turn.name))?, turn)
}

fn failed(error: RedisError, call: &str, name: &str) -> StoreError {
    store_error(error, &format!("{call} of semaphore {name:?}"))
}
