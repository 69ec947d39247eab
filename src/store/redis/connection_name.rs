//! The name of a connection, as `CLIENT LIST` shows it to operators.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ProtocolVersion, Value, cmd};

use crate::id::ClientId;

use super::server_mode::ServerMode;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    Turns,
    Replicas,
    /// The wake-ups of a cluster.
    WakeUps,
    /// The map of the slots of a cluster.
    Slots,
    /// The watch over a primary behind sentinels.
    Sentinel,
}

/// Returns `zset-semaphore:<label>:<use>`, with the id of the client if it has no label.
///
/// A character that Redis allows in no name, such as a space, becomes `_`.
pub(super) fn connection_name(label: &str, client: ClientId, used_for: Use) -> String {
    let allowed = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let who = match label {
        "" => client.to_string(),
        label => label.chars().map(allowed).collect(),
    };
    let used_for = match used_for {
        Use::Turns => "turns",
        Use::Replicas => "replicas",
        Use::WakeUps => "wake-ups",
        Use::Slots => "slots",
        Use::Sentinel => "sentinel",
    };
    format!("zset-semaphore:{who}:{used_for}")
}

/// Tells the server the name of a connection. A connection works without it. Returns the mode of the server, if its
/// reply tells it.
pub(super) async fn say_name(
    connection: MultiplexedConnection,
    name: &str,
    protocol: ProtocolVersion,
) -> Option<ServerMode> {
    say(connection, name_connection(name, protocol)).await
}

/// Does the same on a connection with RESP2, where a server without `HELLO` need not learn the name.
pub(super) async fn say_name_by_hello(
    connection: MultiplexedConnection,
    name: &str,
) -> Option<ServerMode> {
    say(connection, hello(2, name)).await
}

async fn say(mut connection: MultiplexedConnection, command: Cmd) -> Option<ServerMode> {
    match connection.send_packed_command(&command).await.and_then(Value::extract_error) {
        Ok(reply) => ServerMode::read(reply),
        Err(error) => {
            tracing::debug!(%error, "the connection has no name");
            None
        }
    }
}

/// Returns the command that names a connection. `HELLO` needs no right, unlike `CLIENT SETNAME`; but not every
/// server without RESP3 knows it.
fn name_connection(name: &str, protocol: ProtocolVersion) -> Cmd {
    if protocol.supports_resp3() {
        return hello(3, name);
    }
    let mut command = cmd("CLIENT");
    command.arg("SETNAME").arg(name);
    command
}

fn hello(protocol: u8, name: &str) -> Cmd {
    let mut command = cmd("HELLO");
    command.arg(protocol).arg("SETNAME").arg(name);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_the_label_of_its_client_or_else_the_id() {
        let client = ClientId::from_bits(0xab);
        for (label, used_for, name) in [
            ("", Use::Turns, "zset-semaphore:00000000000000ab:turns"),
            ("api-7", Use::Turns, "zset-semaphore:api-7:turns"),
            ("a b\u{a0}c é~!", Use::Replicas, "zset-semaphore:a_b_c__~!:replicas"),
        ] {
            assert_eq!(connection_name(label, client, used_for), name);
        }
    }
}
