//! The name of a connection, as `CLIENT LIST` shows it to operators.

use redis::{Cmd, ProtocolVersion, cmd};

use crate::id::ClientId;

/// Returns `zset-semaphore:<label>:turns`, with the id of the client if it has no label.
///
/// A character that Redis allows in no name, such as a space, becomes `_`.
pub(super) fn connection_name(label: &str, client: ClientId) -> String {
    let allowed = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let who = match label {
        "" => client.to_string(),
        label => label.chars().map(allowed).collect(),
    };
    format!("zset-semaphore:{who}:turns")
}

/// Returns the command that names a connection. `HELLO` needs no right, unlike `CLIENT SETNAME`; but not every
/// server without RESP3 knows it.
pub(super) fn name_connection(name: &str, protocol: ProtocolVersion) -> Cmd {
    let mut command;
    if protocol.supports_resp3() {
        command = cmd("HELLO");
        command.arg(3);
    } else {
        command = cmd("CLIENT");
    }
    command.arg("SETNAME").arg(name);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_the_label_of_its_client_or_else_the_id() {
        let client = ClientId::from_bits(0xab);
        for (label, name) in [
            ("", "zset-semaphore:00000000000000ab:turns"),
            ("api-7", "zset-semaphore:api-7:turns"),
            ("a b\u{a0}c é~!", "zset-semaphore:a_b_c__~!:turns"),
        ] {
            assert_eq!(connection_name(label, client), name);
        }
    }
}
