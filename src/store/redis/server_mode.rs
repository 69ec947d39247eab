//! The kind of a server, as its reply to `HELLO` tells it.

use std::collections::HashMap;

use redis::{FromRedisValue, Value};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServerMode {
    Standalone,
    Sentinel,
    Cluster,
}

impl ServerMode {
    /// Reads a reply to `HELLO`. `None` if it does not tell.
    pub(super) fn read(reply: Value) -> Option<Self> {
        let mut fields = HashMap::<String, Value>::from_redis_value(reply).ok()?;
        let mode = String::from_redis_value(fields.remove("mode")?).ok()?;
        match mode.as_str() {
            "standalone" => Some(Self::Standalone),
            "sentinel" => Some(Self::Sentinel),
            "cluster" => Some(Self::Cluster),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reply_to_hello_tells_the_mode_with_both_protocols() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        for (mode, read) in [
            ("standalone", Some(ServerMode::Standalone)),
            ("sentinel", Some(ServerMode::Sentinel)),
            ("cluster", Some(ServerMode::Cluster)),
            ("else", None),
        ] {
            let (proto, mode) = ((text("proto"), Value::Int(3)), (text("mode"), text(mode)));
            let flat = vec![proto.0.clone(), proto.1.clone(), mode.0.clone(), mode.1.clone()];
            assert_eq!(ServerMode::read(Value::Array(flat)), read);
            assert_eq!(ServerMode::read(Value::Map(vec![proto, mode])), read);
        }
        assert_eq!(ServerMode::read(Value::Okay), None);
        assert_eq!(ServerMode::read(Value::Map(Vec::new())), None);
    }
}
