//! The scripts of `lua/`, joined when the crate is compiled.

/// A script and its SHA-1, by which Redis knows it once it is loaded.
pub(super) struct Script {
    pub(super) text: String,
    pub(super) hash: String,
}

pub(super) struct Scripts {
    pub(super) turn: Script,
    pub(super) inspect: Script,
    pub(super) set_limit: Script,
    pub(super) kick: Script,
}

const PRELUDE: &str = include_str!("../../../lua/prelude.lua");
const CLOCK: &str = include_str!("../../../lua/clock.lua");

impl Scripts {
    pub(super) fn new() -> Self {
        Self::with_clock(CLOCK)
    }

    fn with_clock(clock: &str) -> Self {
        let script = |body: &str| {
            let text = format!("{PRELUDE}{clock}{body}");
            let hash = redis::Script::new(&text).get_hash().to_owned();
            Script { text, hash }
        };
        Self {
            turn: script(include_str!("../../../lua/turn.lua")),
            inspect: script(include_str!("../../../lua/inspect.lua")),
            set_limit: script(include_str!("../../../lua/set_limit.lua")),
            kick: script(include_str!("../../../lua/kick.lua")),
        }
    }

    pub(super) fn all(&self) -> [&Script; 4] {
        [&self.turn, &self.inspect, &self.set_limit, &self.kick]
    }

    /// Time comes from a key, and keys end by that time instead of the server's.
    #[cfg(test)]
    pub(super) fn with_test_clock() -> Self {
        Self::with_clock(
            "local now = tonumber(redis.call('GET', 'test:clock'))
             for _, key in ipairs(KEYS) do
               local at = redis.call('PEXPIRETIME', key)
               if at >= 0 and at < math.floor(now / 1000) then redis.call('DEL', key) end
             end\n",
        )
    }
}
