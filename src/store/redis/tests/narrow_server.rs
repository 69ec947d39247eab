//! The scripts on a server whose C `long` has 32 bits, as those of 32-bit machines have: there
//! Lua's
//! `%d` writes no number above two thousand million. Played by a real server of this machine.

use ::redis::Value;

use crate::store::redis::scripts::Scripts;
use test_support::redis_server::RedisServer;

/// What such a server does to `%d` (on x86), and what it says of its `long`.
const NARROW: &str = "
    local wide = string
    local string = { find = wide.find, sub = wide.sub, match = wide.match, byte = wide.byte }
    function string.format(how, number)
        if how == '%d' and number > 2147483647 then number = -2147483648 end
        return wide.format(how, number)
    end
    local struct = { size = function() return 4 end, pack = struct.pack, unpack = struct.unpack }
";

struct Narrow(RedisServer);

impl Narrow {
    const KEYS: [&str; 4] =
        ["zsem:{s}:permits", "zsem:{s}:queue", "zsem:{s}:clients", "zsem:{s}:meta"];

    async fn turn(&self, words: &[&str]) -> Vec<Value> {
        let script = format!("{NARROW}{}", Scripts::new().turn.text);
        let call = [&["EVAL", script.as_str(), "4"], &Self::KEYS[..], words].concat();
        self.0.query(&call).await
    }

    async fn score(&self, key: &str, id: &str) -> f64 {
        self.0.query(&["ZSCORE", key, id]).await
    }
}

// Behaviour 17
#[tokio::test]
async fn deadlines_tickets_and_the_last_number_are_written_in_full_by_a_32_bit_server() {
    let server = Narrow(RedisServer::start().await);
    let (seconds, _): (u64, u64) = server.0.query(&["TIME"]).await;
    let (me, other) = ("00000000000000aa", "00000000000000bb");
    let holder = format!("{me}:1");
    let waiter = format!("{other}:1");
    server.turn(&[me, "1", "0", "w", "1", &holder]).await;
    let deadline = server.score(Narrow::KEYS[0], &holder).await;
    assert!(deadline >= (seconds * 1_000 + 30_000) as f64, "{deadline}");
    server.turn(&[other, "1", "0", "w", "1", &waiter]).await;
    let ticket = server.score(Narrow::KEYS[1], &waiter).await;
    assert!(ticket >= (seconds * 1_000_000) as f64, "{ticket}");
    server.turn(&[me, "1", "0", "r", "1", "0", &holder]).await;
    let claim = server.score(Narrow::KEYS[0], &waiter).await;
    assert!(claim >= (seconds * 1_000 + 3_000) as f64, "{claim}");
    let state: Vec<u8> = server.0.query(&["HGET", Narrow::KEYS[3], "state"]).await;
    let last = f64::from_le_bytes(state[11..19].try_into().unwrap());
    assert!(last > ticket, "{last}");
}
