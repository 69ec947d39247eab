//! The connection by which a session asks how many replicas have what its server has.
//!
//! # Implementation
//!
//! `WAIT` counts the replicas that have acknowledged all up to the last write of its own connection, and with
//! that all that the server ran before. So one question is a pipeline: a write for each name, `WAIT`, and then
//! `ZMSCORE` for the grants of each name. `WAIT` blocks the connection, so the grants are looked up after it. A
//! server that does not have them, since it is another one or has handed the slot over, is found out.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join3;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, Pipeline, RedisError, RedisResult, ServerErrorKind, Value, cmd};

use crate::error::{StoreError, StoreErrorKind};
use crate::id::PermitId;
use crate::numbers::{Replicas, ServerId};
use crate::store::{Acknowledged, BoxFuture, Grants, Replication};

use super::connection_name::say_name;
use super::errors::{is_noscript, store_error};
use super::known_script::{KnownScript, Load};
use super::scripts::{KEYS, Script};
use super::server_info::ServerInfo;
use super::transport::{Transport, config};

/// How such a connection is opened.
pub(super) struct ReplicationDial {
    pub(super) client: redis::Client,
    pub(super) name: String,
    pub(super) touch: Arc<Script>,
    pub(super) prefix: Arc<str>,
}

struct RedisReplication {
    connection: MultiplexedConnection,
    io: Option<BoxFuture<'static, ()>>,
    asks: Asks,
    server: Option<ServerId>,
}

/// What the questions are made of.
pub(super) struct Asks {
    pub(super) touch: KnownScript,
    pub(super) prefix: Arc<str>,
}

impl ReplicationDial {
    pub(super) async fn open(&self) -> Result<Box<dyn Replication>, StoreError> {
        match self.connect().await {
            Ok(opened) => Ok(Box::new(opened)),
            Err(error) => Err(failed(error)),
        }
    }

    async fn connect(&self) -> RedisResult<RedisReplication> {
        let Transport { connection, mut io } = Transport::open(&self.client, config()).await?;
        let protocol = self.client.get_connection_info().redis_settings().protocol();
        let touch = KnownScript::new(&self.touch);
        let prepare = async {
            let named = say_name(connection.clone(), &self.name, protocol);
            let server = ServerInfo::ask(connection.clone());
            let (_, server, is_there) = join3(named, server, touch.is_there(&connection)).await;
            if !is_there? {
                touch.provide(&connection).await?;
            }
            Ok(server)
        };
        let server = Transport::while_moving(&mut io, prepare).await?;
        let server = server.as_ref().map(ServerInfo::id);
        let asks = Asks { touch, prefix: Arc::clone(&self.prefix) };
        Ok(RedisReplication { connection, io, asks, server })
    }
}

impl Replication for RedisReplication {
    fn server(&self) -> Option<ServerId> {
        self.server
    }

    fn count<'a>(
        &'a mut self,
        grants: &'a Grants,
        writes: bool,
        wanted: Replicas,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Acknowledged, StoreError>> {
        let question = self.asks.question(grants, writes, wanted, patience);
        Box::pin(async move {
            let Self { connection, io, asks, .. } = self;
            let asked = asks.ask(&question, connection);
            let replies = Transport::while_moving(io, asked).await.map_err(failed)?;
            read(replies, grants, writes)
        })
    }
}

impl Asks {
    pub(super) fn question(
        &self,
        grants: &Grants,
        writes: bool,
        wanted: Replicas,
        patience: Duration,
    ) -> Pipeline {
        let mut pipe = redis::pipe();
        for (name, _) in grants.iter().filter(|_| writes) {
            let mut touch = cmd("EVALSHA");
            touch.arg(self.touch.hash()).arg(4);
            for key in KEYS {
                touch.arg(self.key(name, key));
            }
            pipe.add_command(touch);
        }
        // 0 would be for ever.
        let patience = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX).max(1);
        pipe.cmd("WAIT").arg(wanted.get()).arg(patience);
        for (name, ids) in grants {
            let ids: Vec<_> = ids.iter().map(PermitId::to_string).collect();
            pipe.cmd("ZMSCORE").arg(self.key(name, "permits")).arg(ids);
        }
        pipe
    }

    fn key(&self, name: &str, key: &str) -> String {
        format!("{}{{{name}}}:{key}", self.prefix)
    }

    /// Asks. If the server has forgotten the script, it is loaded, and the question is asked again.
    async fn ask(
        &self,
        question: &Pipeline,
        connection: &mut MultiplexedConnection,
    ) -> RedisResult<Vec<RedisResult<Value>>> {
        let mut loads = self.touch.loads().await;
        let mut replies = send(question, connection).await?;
        for how in Load::ATTEMPTS {
            if !replies.iter().any(|reply| reply.as_ref().is_err_and(is_noscript)) {
                break;
            }
            loads = self.touch.load(loads, how, connection).await?;
            replies = send(question, connection).await?;
        }
        Ok(replies)
    }
}

async fn send(
    question: &Pipeline,
    connection: &mut MultiplexedConnection,
) -> RedisResult<Vec<RedisResult<Value>>> {
    let replies = connection.send_packed_commands(question, 0, question.len()).await?;
    Ok(replies.into_iter().map(Value::extract_error).collect())
}

/// Reads the replies to a question.
pub(super) fn read(
    replies: Vec<RedisResult<Value>>,
    grants: &Grants,
    writes: bool,
) -> Result<Acknowledged, StoreError> {
    let mut replies = replies.into_iter();
    let mut next = || replies.next().unwrap_or(Ok(Value::Nil)); // as garbled as a missing one
    let touched: Vec<_> = grants.iter().filter(|_| writes).map(|_| next()).collect();
    let replicas = next().map_err(failed_to_wait)?;
    let Value::Int(replicas) = replicas else { return Err(garbled("WAIT", &replicas)) };
    let held = grants.iter().map(|(_, ids)| read_held(next(), ids.len())).collect();
    let mut acknowledged =
        Acknowledged { replicas: u32::try_from(replicas).unwrap_or(u32::MAX), held };
    for (held, touched) in acknowledged.held.iter_mut().zip(touched) {
        match touched {
            Ok(Value::Int(1)) => {}
            // Without a write, the count may be too old for what the server has.
            Ok(_) => held.iter_mut().for_each(|held| held.fill(false)),
            Err(error) => *held = Err(failed(error)),
        }
    }
    Ok(acknowledged)
}

fn read_held(reply: RedisResult<Value>, count: usize) -> Result<Vec<bool>, StoreError> {
    match reply.map_err(failed)? {
        Value::Array(scores) if scores.len() == count => {
            Ok(scores.iter().map(|score| *score != Value::Nil).collect())
        }
        other => Err(garbled("ZMSCORE", &other)),
    }
}

fn garbled(command: &str, reply: &Value) -> StoreError {
    let what = format!("{command} was answered with {reply:?}");
    StoreError::new(StoreErrorKind::Protocol, what)
}

const DOING: &str = "asking how many replicas have a grant";

fn failed(error: RedisError) -> StoreError {
    store_error(error, DOING)
}

/// A server that becomes a replica refuses to wait, and so does one that does not know the command.
pub(super) fn failed_to_wait(error: RedisError) -> StoreError {
    let becomes_replica = error.code() == Some("UNBLOCKED")
        || error.detail().is_some_and(|detail| detail.contains("replica instances"));
    if becomes_replica {
        let what = format!("{DOING}: {error}");
        return StoreError::with_source(StoreErrorKind::ReadOnly, what, error);
    }
    if error.kind() == ErrorKind::Server(ServerErrorKind::ResponseError) {
        let what = format!("{DOING}: {error}; without the command WAIT, `replicated` must be 0");
        return StoreError::with_source(StoreErrorKind::Server, what, error);
    }
    failed(error)
}
