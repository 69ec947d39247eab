use std::time::Duration;

use ::redis::Value;

use crate::error::StoreErrorKind;
use crate::id::{ClientId, DEFAULT_LEASE, PermitId};
use crate::numbers::{Incarnation, Seq};
use crate::store::redis::wire::{read_turn, read_wake};
use crate::store::{Ask, RenewalException, Turn, TurnOutcome, WaiterOutcome, WakeUp, WhenFull};

fn ints(numbers: &[i64]) -> Value {
    Value::Array(numbers.iter().map(|&n| Value::Int(n)).collect())
}

/// Two releases, a renewal, an ask and three newcomers.
fn turn() -> Turn {
    let id = |counter| PermitId::new(ClientId::from_bits(255), counter, 1, DEFAULT_LEASE);
    Turn {
        incarnation: Incarnation::new(77),
        release: vec![id(1), id(2)],
        renew: vec![(id(3), DEFAULT_LEASE)],
        ask: vec![Ask { id: id(4), ticket: None, when_full: WhenFull::Wait }],
        admit: [5, 6, 7].map(|counter| (id(counter), WhenFull::Wait)).to_vec(),
        ..Turn::new("a".into(), ClientId::from_bits(255), "".into(), 8)
    }
}

#[test]
fn a_reply_reads_back() {
    let header = [1 + 8 + 16 + 32 + 64, 77, 3, 2, 99, 250];
    let lists = [1, 2, 1, 1, 2];
    let outcomes = [7, 97, 1, 1, 98, 2, 2, 99, 1];
    let words = [&header[..], &lists, &outcomes].concat();
    let outcome = read_turn(&ints(&words), &turn()).unwrap();
    let TurnOutcome::Answered(reply) = outcome else { panic!("{outcome:?}") };
    assert_eq!((reply.incarnation.get(), reply.in_use, reply.limit), (77, 3, 8));
    assert_eq!((reply.waiting, reply.last), (2, Seq::new(99)));
    assert!(reply.more && !reply.overridden && !reply.put_back);
    assert_eq!(reply.earliest, Some(Duration::from_millis(250)));
    assert_eq!(reply.missing, [1]);
    assert_eq!(reply.renewal_exceptions, [(0, RenewalException::Kicked)]);
    let seq = |number| Seq::new(number).unwrap();
    assert_eq!(reply.asked, [WaiterOutcome::Granted { token: seq(97), earlier: true }]);
    let queued = |number, place| WaiterOutcome::Queued { ticket: seq(number), place };
    let granted = WaiterOutcome::Granted { token: seq(98), earlier: false };
    assert_eq!(reply.admitted, [granted, queued(99, 1), queued(100, 2)]);
}

#[test]
fn a_reply_that_makes_no_sense_is_an_error_and_reserves_nothing() {
    for words in [
        &[][..],
        &[1],
        &[1 + 32, 77, 3, 2, 99, i64::MAX],
        &[1 + 32, 77, 3, 2, 99, 1, 9],
        &[1, -77, 3, 2, 99],
        &[1, 77, 3, 2, 99, 7, 97],
        &[1, 77, 3, 2, 99, 7, 97, i64::MAX, 1, 98],
        &[1, 77, 3, 2, 99, 7, 97, 0, 1, 98],
        &[1, 77, 3, 2, 99, 7, 97, 2, 1, 98, 2, 1, 100],
    ] {
        let error = read_turn(&ints(words), &turn()).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Protocol, "{words:?}");
    }
    assert!(read_turn(&Value::Nil, &turn()).is_err());
}

#[test]
fn a_wake_up_with_an_id_that_this_version_cannot_read_delivers_the_others() {
    let payload = "n\n00000000000000ff:8~x 11 x 1 00000000000000ff:9 12";
    let (_, wake_ups) = read_wake(payload.as_bytes()).unwrap();
    let id = "00000000000000ff:9".parse().unwrap();
    assert_eq!(wake_ups, [(id, WakeUp::Granted(Seq::new(12).unwrap()))]);
}

#[test]
fn newcomers_that_are_all_granted_have_the_last_numbers() {
    let turn = Turn { ask: Vec::new(), ..turn() };
    let outcome = read_turn(&ints(&[1 + 256, 77, 3, 0, 99]), &turn).unwrap();
    let TurnOutcome::Answered(reply) = outcome else { panic!("{outcome:?}") };
    let granted =
        |token| WaiterOutcome::Granted { token: Seq::new(token).unwrap(), earlier: false };
    assert_eq!(reply.admitted, [97, 98, 99].map(granted));
    assert!(read_turn(&ints(&[1 + 256, 77, 3, 0, 2]), &turn).is_err());
    assert!(read_turn(&ints(&[1 + 256, 77, 3, 0, 99]), &self::turn()).is_err());
}

#[test]
fn a_wake_up_reads_back_and_rubbish_is_ignored() {
    let (name, wake_ups) =
        read_wake("a b\n00000000000000ff:9 12 00000000000000ff:10*2 0".as_bytes()).unwrap();
    assert_eq!(name, "a b");
    let wake_ups: Vec<WakeUp> = wake_ups.iter().map(|&(_, wake_up)| wake_up).collect();
    assert_eq!(wake_ups, [WakeUp::Granted(Seq::new(12).unwrap()), WakeUp::Ask]);
    for payload in ["", "name", "name\n00000000000000ff:9", "n\n00000000000000ff:9 -1"] {
        assert!(read_wake(payload.as_bytes()).is_none(), "{payload:?}");
    }
    assert!(read_wake(&[0xff, b'\n']).is_none());
}
