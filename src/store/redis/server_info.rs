//! Which server a connection leads to, and how long it has been up.

use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, cmd};

use crate::numbers::{Millis, ServerId};
use crate::store::Server;

/// How many hex digits of the `run_id` make an id. `lua/server.lua` takes as many.
const DIGITS: usize = 12;

#[derive(Debug, Clone, Copy)]
pub(super) struct ServerInfo {
    id: ServerId,
    /// How long the server had been up, or less, when it was asked.
    up: Duration,
    asked: Instant,
}

impl ServerInfo {
    /// Asks the server. `None` if it does not tell, or the user has no right to ask.
    pub(super) async fn ask(mut connection: MultiplexedConnection) -> Option<Self> {
        let asked = Instant::now();
        let info: RedisResult<String> =
            cmd("INFO").arg("server").query_async(&mut connection).await;
        match info {
            Ok(info) => Self::read(&info, asked),
            Err(error) => {
                tracing::debug!(%error, "cannot ask which server this is");
                None
            }
        }
    }

    fn read(info: &str, asked: Instant) -> Option<Self> {
        let id = u64::from_str_radix(field(info, "run_id")?.get(..DIGITS)?, 16).ok()?;
        let up = field(info, "uptime_in_seconds").and_then(|up| up.parse::<u64>().ok());
        // It is the difference of two instants, each without the part of a second.
        let up = Duration::from_secs(up.unwrap_or(0).saturating_sub(1));
        Some(Self { id: ServerId::new(id)?, up, asked })
    }

    pub(super) fn id(&self) -> ServerId {
        self.id
    }

    pub(super) fn now(&self) -> Server {
        Server { id: self.id, up: Millis::from(self.up + self.asked.elapsed()) }
    }
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(info: &str) -> Option<(u64, u64)> {
        let read = ServerInfo::read(info, Instant::now())?;
        Some((read.id.get(), read.up.as_secs()))
    }

    #[test]
    fn the_id_is_48_bits_of_the_run_id_and_the_uptime_is_never_too_long() {
        let info = |run_id: &str, up: &str| {
            format!("# Server\r\nrun_id:{run_id}\r\ntcp_port:1\r\nuptime_in_seconds:{up}\r\n")
        };
        let run_id = "85f5bff16a5fb9e3dad2e4d4ba8309e2bb6f4d90";
        assert_eq!(read(&info(run_id, "77")), Some((0x85f5_bff1_6a5f, 76)));
        assert_eq!(read(&info(run_id, "0")), Some((0x85f5_bff1_6a5f, 0)));
        assert_eq!(read(&info(run_id, "?")), Some((0x85f5_bff1_6a5f, 0)));
        for unknown in ["", "0000000000000000", "85f5bff16a5", "not hex at all"] {
            assert_eq!(read(&info(unknown, "1")), None, "{unknown}");
        }
        assert_eq!(read("# Server\r\n"), None);
    }
}
