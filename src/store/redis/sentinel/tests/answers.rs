//! What sentinels say, as the search for the primary reads it.

use ::redis::Value;

use crate::store::redis::sentinel::answer::{Answer, Known, read};
use crate::store::redis::sentinel::link::is_about;
use crate::store::redis::sentinel::refusal::Refusal;
use crate::store::redis::url::Address;

fn text(text: &str) -> Value {
    Value::BulkString(text.as_bytes().to_vec())
}

fn map(pairs: &[(&str, &str)]) -> Value {
    Value::Map(pairs.iter().map(|(name, value)| (text(name), text(value))).collect())
}

fn known(port: u16, epoch: u64) -> Known {
    Known { address: Address::new("10.0.0.1", port), epoch }
}

// Behaviour 72
#[test]
fn an_answer_has_the_primary_its_epoch_and_the_other_sentinels() {
    let address = Value::Array(vec![text("10.0.0.1"), text("7000")]);
    let details = map(&[("flags", "master"), ("config-epoch", "12")]);
    let others = Value::Array(vec![
        map(&[("ip", "10.0.0.2"), ("port", "26379")]),
        map(&[("ip", "10.0.0.3")]), // without a port it is of no use
        map(&[("port", "1"), ("ip", "::1")]),
    ]);
    let answer = read(vec![address, details, others, Value::Array(Vec::new())]).unwrap();
    let others = vec![Address::new("10.0.0.2", 26379), Address::new("::1", 1)];
    assert_eq!(answer, Answer { primary: known(7000, 12), promoting: None, others });
}

// Behaviour 72
#[test]
fn an_answer_has_the_replica_that_a_failover_has_chosen() {
    let promoting = |replicas: &[(&str, &str)]| {
        let address = Value::Array(vec![text("10.0.0.1"), text("7000")]);
        let replicas = replicas
            .iter()
            .map(|(port, flags)| map(&[("ip", "10.0.0.1"), ("port", port), ("flags", flags)]));
        let replies = vec![address, map(&[]), Value::Nil, Value::Array(replicas.collect())];
        read(replies).unwrap().promoting
    };
    let seven = Some(Address::new("10.0.0.1", 7001));
    assert_eq!(promoting(&[("7002", "slave"), ("7001", "slave,disconnected,promoted")]), seven);
    assert_eq!(promoting(&[("7001", "slave,s_down"), ("7002", "slave,unpromoted")]), None);
    assert_eq!(promoting(&[("7000", "slave,promoted")]), None, "it is the primary already");
    assert_eq!(promoting(&[]), None);
}

// Behaviour 73
#[test]
fn other_replies_are_told_apart() {
    let error = |code: &str| {
        let error = ::redis::parse_redis_value(format!("-{code} what it says\r\n").as_bytes());
        error.unwrap()
    };
    let refusal = |first: Value| read(vec![first, Value::Nil, Value::Nil]).unwrap_err();
    assert!(matches!(refusal(Value::Nil), Refusal::UnknownMaster));
    assert!(matches!(refusal(error("ERR")), Refusal::NoSentinel(None)));
    assert!(matches!(refusal(Value::Okay), Refusal::NoSentinel(None)));
    assert!(matches!(refusal(error("NOPERM")), Refusal::Failed(_)));
    assert!(matches!(refusal(error("NOAUTH")), Refusal::Failed(_)));
    assert!(matches!(read(Vec::new()), Err(Refusal::UnknownMaster)));
    let address = Value::Array(vec![text("10.0.0.1"), text("7000")]);
    let told = read(vec![address.clone(), error("NOPERM"), Value::Nil]);
    assert!(matches!(told, Err(Refusal::Failed(_))));
    let told = read(vec![address.clone(), map(&[]), error("NOPERM"), Value::Nil]);
    assert!(matches!(told, Err(Refusal::Failed(_))));
    let told = read(vec![address, map(&[]), Value::Nil, error("NOPERM")]);
    assert!(matches!(told, Err(Refusal::Failed(_))));
}

// Behaviour 72
#[test]
fn a_primary_follows_another_one_of_a_lower_epoch_at_another_address() {
    assert!(known(2, 5).follows(&known(1, 4)));
    assert!(!known(1, 5).follows(&known(1, 4)), "it is the same server");
    assert!(!known(2, 4).follows(&known(1, 4)), "it is not newer");
    assert!(!known(2, 3).follows(&known(1, 4)), "it is older");
}

// Behaviour 72
#[test]
fn a_message_is_about_the_master_that_it_names() {
    for (message, about) in [
        ("m 10.0.0.1 1 10.0.0.2 2", true),
        ("slave 10.0.0.1:1 10.0.0.1 1 @ m 10.0.0.2 2", true),
        ("mm 10.0.0.1 1 10.0.0.2 2", false),
        ("slave m 10.0.0.1 1 @ mm 10.0.0.2 2", false),
        ("slave 10.0.0.1:1 10.0.0.1 1 @", false),
        ("master m 10.0.0.1 1 quorum 2", true),
        ("master mm 10.0.0.1 1 quorum 2", false),
        ("master", false),
        ("", false),
    ] {
        assert_eq!(is_about(message.as_bytes(), "m"), about, "{message}");
    }
}
