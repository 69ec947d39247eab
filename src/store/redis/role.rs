//! The role of a server: primary or replica.

use std::sync::OnceLock;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, FromRedisValue, RedisResult, ServerErrorKind, Value};

use super::url::Address;

/// Checks that a server is a primary, while a connection to it is being opened.
#[derive(Default)]
pub(super) struct RoleCheck {
    replica_of: OnceLock<Address>,
}

impl RoleCheck {
    /// Fails with `READONLY` if the server is a replica.
    pub(super) async fn run(&self, mut connection: MultiplexedConnection) -> RedisResult<()> {
        let role: Vec<Value> = redis::cmd("ROLE").query_async(&mut connection).await?;
        let mut role = role.into_iter();
        if role.next() == Some(Value::BulkString(b"master".to_vec())) {
            return Ok(());
        }
        if let (Some(host), Some(port)) = (role.next(), role.next())
            && let Ok(host) = String::from_redis_value(host)
            && let Ok(port) = u16::from_redis_value(port)
        {
            let _ = self.replica_of.set(Address::new(host, port)); // only the first attempt is told
        }
        Err((ErrorKind::Server(ServerErrorKind::ReadOnly), "the server is a replica").into())
    }

    /// Returns whose replica the server is, if it is one.
    pub(super) fn replica_of(&self) -> Option<&Address> {
        self.replica_of.get()
    }
}
