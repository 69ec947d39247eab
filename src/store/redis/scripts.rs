//! The scripts that Redis runs, joined from the parts in `lua/`.
//!
//! # Implementation
//!
//! `--- @include "turn/prune"` stands for the text of `lua/turn/prune.lua`. A step is a part of the text,
//! not a function, because Lua would create the function again for each call of the script. So the parts
//! share their local variables. Each part lists at its top which of them it reads and writes.
//!
//! A name like `Flag.MORE` is replaced by the literal of a constant in [`names`], because Lua would have to
//! look up a variable.
//!
//! A comment has its own line and is not sent to Redis. So the hash of a script changes only with its code.

use std::sync::Arc;

use super::wire::names;

/// The ends of the keys of a name, in the order in which the scripts take them.
pub(super) const KEYS: [&str; 4] = ["permits", "queue", "clients", "meta"];

/// A script, and the SHA-1 hash by which Redis finds it once it is loaded.
pub(super) struct Script {
    pub(super) text: String,
    pub(super) hash: String,
}

pub(super) struct Scripts {
    pub(super) turn: Arc<Script>,
    pub(super) inspect: Arc<Script>,
    pub(super) set_limit: Arc<Script>,
    pub(super) kick: Arc<Script>,
    pub(super) touch: Arc<Script>,
}

macro_rules! parts {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../../lua/", $name, ".lua")))),*]
    };
}

/// Each file of `lua/`, under the name that an include gives it.
const PARTS: &[(&str, &str)] = parts![
    "keys" "state" "pack" "clock" "server" "prelude" "recount" "wake" "wake_in_shard"
    "turn" "inspect" "set_limit" "kick" "touch"
    "turn/begin" "turn/meet" "turn/meta" "turn/client" "turn/release" "turn/admit_plain"
    "turn/permits" "turn/prune" "turn/remove" "turn/renew" "turn/ask_newcomers" "turn/ask" "turn/serve"
    "turn/admit" "turn/finish" "turn/reply"
];

impl Scripts {
    pub(super) fn new() -> Self {
        Self::from_parts(part)
    }

    /// For a cluster, in which a message to a plain channel would go to every node.
    pub(super) fn in_cluster() -> Self {
        Self::from_parts(|name| match name {
            "wake" => part("wake_in_shard"),
            _ => part(name),
        })
    }

    fn from_parts(part: impl Fn(&str) -> &'static str) -> Self {
        let names = names::all();
        let script = |name: &str| {
            let mut text = String::new();
            join(&mut text, "", part(name), &part);
            for (name, literal) in &names {
                text = text.replace(name, literal);
            }
            let hash = redis::Script::new(&text).get_hash().to_owned();
            Arc::new(Script { text, hash })
        };
        Self {
            turn: script("turn"),
            inspect: script("inspect"),
            set_limit: script("set_limit"),
            kick: script("kick"),
            touch: script("touch"),
        }
    }

    #[cfg(test)]
    pub(super) fn all(&self) -> [&Script; 5] {
        [&self.turn, &self.inspect, &self.set_limit, &self.kick, &self.touch]
    }

    /// For tests: the time and the server come from keys, and keys expire by that time instead of the server's.
    /// Redis 6.2 has no `PEXPIRETIME`, but there `PTTL` counts from the present time, which `TIME` tells.
    #[cfg(test)]
    pub(super) fn with_test_clock() -> Self {
        const KEYS: &str = concat!(
            include_str!("tests/cut.lua"),
            include_str!("../../../lua/keys.lua"),
            "
            local function ms() local time = call('TIME'); return time[1] * 1000 + math.floor(time[2] / 1000) end
            local function expires_at(key)
              local at = redis.pcall('PEXPIRETIME', key)
              if type(at) == 'number' then return at end
              local before, left
              repeat
                before = ms(); left = call('PTTL', key)
              until ms() == before
              return left < 0 and left or before + left
            end
            for _, key in ipairs(KEYS) do
              local at = expires_at(key)
              if at >= 0 and at < math.floor(call('GET', 'test:clock') / 1000) then call('DEL', key) end
            end
            "
        );
        const CLOCK: &str = "
            now = tonumber(call('GET', 'test:clock'))
            now_ms = math.floor(now / 1000)
        ";
        const SERVER: &str = "id = call('GET', 'test:server') + 0";
        Self::from_parts(|name| match name {
            "keys" => KEYS,
            "clock" => CLOCK,
            "server" => SERVER,
            _ => part(name),
        })
    }
}

/// Returns the text of a part. It is empty if there is no part of that name; a test makes sure that this
/// does not happen.
fn part(name: &str) -> &'static str {
    PARTS.iter().find(|&&(known, _)| known == name).map_or("", |&(_, text)| text)
}

/// Appends the code of a part to `text`: without comments, and with the parts that it includes.
fn join(text: &mut String, indent: &str, part: &str, parts: &impl Fn(&str) -> &'static str) {
    for line in part.lines() {
        let code = line.trim_start();
        if let Some(name) = code.strip_prefix("--- @include ") {
            let indent = format!("{indent}{}", &line[..line.len() - code.len()]);
            join(text, &indent, parts(name.trim_matches('"')), parts);
        } else if !code.is_empty() && !code.starts_with("--") {
            text.extend([indent, line, "\n"]);
        }
    }
}
