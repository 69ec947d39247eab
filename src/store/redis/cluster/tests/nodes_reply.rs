//! What nodes answer about each other.

use redis::{ErrorKind, RedisError, ServerErrorKind, Value};

use super::super::nodes_reply::{Told, redirection};
use super::super::slots::Slot;
use crate::store::redis::url::Address;

fn asked() -> Address {
    Address::new("asked", 7000)
}

fn text(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

fn node(host: Value, port: i64) -> Value {
    Value::Array(vec![host, Value::Int(port), text("id"), Value::Array(Vec::new())])
}

fn range(first: i64, last: i64, nodes: &[Value]) -> Value {
    Value::Array([&[Value::Int(first), Value::Int(last)], nodes].concat())
}

/// `first-last primary` of each range, and the replicas.
fn read(ranges: &[Value]) -> (Vec<String>, Vec<String>) {
    let told = Told::read(&Value::Array(ranges.to_vec()), &asked());
    let ranges = told
        .ranges
        .iter()
        .map(|range| format!("{}-{} {}", range.first.index(), range.last.index(), range.primary));
    (ranges.collect(), told.replicas.iter().map(ToString::to_string).collect())
}

#[test]
fn each_range_has_its_primary_and_its_replicas() {
    let one = range(0, 99, &[node(text("a"), 1), node(text("c"), 3), node(text("b"), 2)]);
    let two = range(100, 16_383, &[node(text("::1"), 4), node(text("b"), 2)]);
    let (ranges, replicas) = read(&[one, two]);
    assert_eq!(ranges, ["0-99 a:1", "100-16383 [::1]:4"]);
    assert_eq!(replicas, ["b:2", "c:3"], "each once");
}

#[test]
fn a_host_that_is_not_told_is_the_one_that_was_asked() {
    for host in [text(""), text("?"), Value::Nil, Value::SimpleString(String::new())] {
        assert_eq!(read(&[range(0, 1, &[node(host, 1)])]).0, ["0-1 asked:1"]);
    }
}

#[test]
fn a_range_that_makes_no_sense_is_left_out() {
    let good = range(5, 5, &[node(text("a"), 1)]);
    let bad = [
        range(0, 16_384, &[node(text("a"), 1)]),
        range(-1, 3, &[node(text("a"), 1)]),
        range(4, 3, &[node(text("a"), 1)]),
        range(0, 3, &[node(text("a"), 0)]),
        range(0, 3, &[node(text("a"), 70_000)]),
        range(0, 3, &[node(Value::Int(3), 1)]),
        range(0, 3, &[]),
        Value::Array(vec![Value::Int(1)]),
        Value::Nil,
    ];
    for bad in bad {
        assert_eq!(read(&[bad.clone(), good.clone()]).0, ["5-5 a:1"], "{bad:?}");
    }
    assert_eq!(Told::read(&Value::Nil, &asked()), Told::default());
}

#[test]
fn of_very_many_ranges_and_replicas_some_are_left_out() {
    let many: Vec<_> = (0..20_000).map(|n| node(text("r"), n % 10_000 + 1)).collect();
    let nodes = [&[node(text("a"), 1)], many.as_slice()].concat();
    let (ranges, replicas) = read(&[range(0, 1, &nodes)]);
    assert_eq!((ranges.len(), replicas.len()), (1, 256));
    let many = vec![range(0, 1, &[node(text("a"), 1)]); 20_000];
    assert_eq!(read(&many).0.len(), 16_384);
}

fn redirected(text: &str) -> Option<String> {
    let kind = ErrorKind::Server(ServerErrorKind::Moved);
    let error = RedisError::from((kind, "An error was signalled by the server", text.to_owned()));
    let (slot, address) = redirection(&error, &asked())?;
    assert_eq!(Some(slot), Slot::new(3_999));
    Some(address.to_string())
}

#[test]
fn a_redirection_names_a_slot_and_a_node() {
    assert_eq!(redirected("3999 10.0.0.1:6381").as_deref(), Some("10.0.0.1:6381"));
    assert_eq!(redirected("3999 host.example:6381").as_deref(), Some("host.example:6381"));
    assert_eq!(redirected("3999 ::1:6381").as_deref(), Some("[::1]:6381"));
    assert_eq!(redirected("3999 :6381").as_deref(), Some("asked:6381"));
    assert_eq!(redirected("3999 ?:6381").as_deref(), Some("asked:6381"));
    for bad in ["", "3999", "3999 host", "3999 host:0", "3999 host:x", "16384 host:1", "x host:1"] {
        assert_eq!(redirected(bad), None, "{bad}");
    }
    let other = RedisError::from((ErrorKind::Server(ServerErrorKind::TryAgain), "3999 a:1"));
    assert!(redirection(&other, &asked()).is_none());
}
