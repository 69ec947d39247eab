//! How a kind of server is connected to, wherever it is.

use redis::{ConnectionAddr, ConnectionInfo, ProtocolVersion, RedisResult};

use crate::error::StoreError;

use super::errors::store_error;
use super::url::Address;

/// A login, a database and certificates, which are the same for servers at different addresses.
#[derive(Clone)]
pub(super) struct Dial(ConnectionInfo);

impl Dial {
    pub(super) fn new(info: ConnectionInfo) -> Self {
        Self(info)
    }

    /// Returns the client of the redis crate for the server at `address`.
    pub(super) fn to(&self, address: &Address) -> RedisResult<redis::Client> {
        let (host, port) = (address.host().to_owned(), address.port());
        let address = match self.0.addr().clone() {
            ConnectionAddr::TcpTls { insecure, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure, tls_params }
            }
            _ => ConnectionAddr::Tcp(host, port),
        };
        redis::Client::open(self.0.clone().set_addr(address))
    }
}

/// Returns a client that is the same but for the version of the protocol.
pub(super) fn with_protocol(
    client: &redis::Client,
    protocol: ProtocolVersion,
) -> RedisResult<redis::Client> {
    let info = client.get_connection_info().clone();
    let settings = info.redis_settings().clone().set_protocol(protocol);
    redis::Client::open(info.set_redis_settings(settings))
}

/// Returns the client, or the error for those who wanted to connect with it.
pub(super) fn usable(client: RedisResult<redis::Client>) -> Result<redis::Client, StoreError> {
    client.map_err(|error| store_error(error, "using the Redis URL"))
}
