//! The question about replicas, and how its replies are read.

use std::sync::Arc;
use std::time::Duration;

use redis::{Arg, Pipeline, RedisResult, Value};

use crate::error::StoreErrorKind;
use crate::id::{ClientId, PermitId};
use crate::numbers::{Millis, Replicas};
use crate::store::Grants;
use crate::store::redis::known_script::KnownScript;
use crate::store::redis::replication::{Asks, failed_to_wait, read};
use crate::store::redis::scripts::Scripts;

fn ids(counters: &[u64]) -> Vec<PermitId> {
    let id = |&counter| PermitId::new(ClientId::from_bits(1), counter, 1, Millis::new(30_000));
    counters.iter().map(id).collect()
}

fn grants() -> Grants {
    vec![(Arc::from("a"), ids(&[1, 2])), (Arc::from("b"), ids(&[3]))]
}

fn reply(text: &str) -> RedisResult<Value> {
    redis::parse_redis_value(text.as_bytes()).unwrap().extract_error()
}

/// The first word of each command, and its second one, or its first key.
fn shown(question: &Pipeline) -> Vec<String> {
    let commands = question.cmd_iter().map(|command| {
        let words: Vec<_> = command
            .args_iter()
            .filter_map(|arg| match arg {
                Arg::Simple(word) => Some(String::from_utf8_lossy(word).into_owned()),
                _ => None,
            })
            .collect();
        match words[0].as_str() {
            "EVALSHA" => format!("touch {}", words[6]),
            _ => words.join(" "),
        }
    });
    commands.collect()
}

// Behaviour 89
#[test]
fn the_server_is_asked_for_the_grants_after_it_has_counted_and_writes_for_each_name_before() {
    let asks = Asks { touch: KnownScript::new(&Scripts::new().touch), prefix: "zsem:".into() };
    let question = |writes, patience| {
        shown(&asks.question(&grants(), writes, Replicas::new(2).unwrap(), patience))
    };
    let client = ClientId::from_bits(1);
    let looks = [
        format!("ZMSCORE zsem:{{a}}:permits {client}:1 {client}:2"),
        format!("ZMSCORE zsem:{{b}}:permits {client}:3"),
    ];
    let first = question(true, Duration::from_millis(250));
    assert_eq!(first[..3], ["touch zsem:{a}:meta", "touch zsem:{b}:meta", "WAIT 2 250"]);
    assert_eq!(first[3..], looks);
    let again = question(false, Duration::ZERO);
    assert_eq!(again[0], "WAIT 2 1", "0 would be for ever");
    assert_eq!(again[1..], looks);
}

// Behaviour 89
#[test]
fn a_name_without_a_write_or_with_an_error_has_no_grants() {
    let scores = ["*2\r\n$1\r\n5\r\n$-1\r\n", "*1\r\n$1\r\n5\r\n"];
    let held = |replies: &[&str], writes| {
        let replies = replies.iter().map(|text| reply(text)).collect();
        let acknowledged = read(replies, &grants(), writes).unwrap();
        assert_eq!(acknowledged.replicas, 3);
        let held = acknowledged.held.into_iter();
        held.map(|held| held.map_err(|error| error.kind())).collect::<Vec<_>>()
    };
    let [a, b] = scores;
    let both = [Ok(vec![true, false]), Ok(vec![true])];
    assert_eq!(held(&[":3\r\n", a, b], false), both);
    assert_eq!(held(&[":1\r\n", ":1\r\n", ":3\r\n", a, b], true), both);
    let lost = held(&[":0\r\n", ":1\r\n", ":3\r\n", a, b], true);
    assert_eq!(lost, [Ok(vec![false, false]), Ok(vec![true])]);
    let failed = held(&[":1\r\n", "-READONLY a replica\r\n", ":3\r\n", a, b], true);
    assert_eq!(failed, [Ok(vec![true, false]), Err(StoreErrorKind::ReadOnly)]);
    let garbled = held(&[":3\r\n", b, "-TRYAGAIN later\r\n"], false);
    assert_eq!(garbled, [Err(StoreErrorKind::Protocol), Err(StoreErrorKind::NotReady)]);
}

// Behaviour 87
#[test]
fn a_server_that_becomes_a_replica_while_it_waits_is_no_final_error() {
    for (text, kind) in [
        ("-UNBLOCKED force unblock from blocking operation\r\n", StoreErrorKind::ReadOnly),
        ("-ERR WAIT cannot be used with replica instances.\r\n", StoreErrorKind::ReadOnly),
        ("-ERR unknown command 'WAIT'\r\n", StoreErrorKind::Server),
        ("-NOPERM this user has no permissions\r\n", StoreErrorKind::NotPermitted),
        ("-LOADING soon\r\n", StoreErrorKind::NotReady),
    ] {
        let error = failed_to_wait(reply(text).unwrap_err());
        assert_eq!(error.kind(), kind, "{error}");
    }
}
