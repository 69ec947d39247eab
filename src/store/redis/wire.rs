//! A turn as arguments, and a reply read back. Pure; the layout is that of `lua/turn.lua`.

use std::io::Write;
use std::time::Duration;

use redis::Value;

use crate::error::{StoreError, StoreErrorKind};
use crate::id::{DEFAULT_LEASE, PermitId};
use crate::inspection::{Holder, Inspection, KickOutcome, QueuedWaiter};
use crate::numbers::{Epoch, Incarnation, Millis, Seq};
use crate::store::{
    RenewalException, Turn, TurnOutcome, TurnReply, WaiterOutcome, WakeUp, WhenFull,
};

/// Writes words as arguments without an allocation each.
pub(crate) struct Args<'a> {
    cmd: &'a mut redis::Cmd,
    text: Vec<u8>,
}

impl<'a> Args<'a> {
    pub(crate) fn new(cmd: &'a mut redis::Cmd) -> Self {
        Self { cmd, text: Vec::with_capacity(64) }
    }

    pub(super) fn put(&mut self, word: impl std::fmt::Display) -> &mut Self {
        self.text.clear();
        let _ = write!(self.text, "{word}"); // a Vec takes all
        self.cmd.arg(self.text.as_slice());
        self
    }

    fn ids(&mut self, ids: impl Iterator<Item = PermitId>) {
        for id in ids {
            self.text.clear();
            id.write_to(&mut self.text);
            self.cmd.arg(self.text.as_slice());
        }
    }
}

pub(crate) fn write_turn(args: &mut Args<'_>, turn: &Turn) {
    args.put(turn.client).put(turn.limit).put(Seq::or_zero(turn.seen));
    if turn.epoch > Epoch::default() {
        args.put('e').put(turn.epoch.get());
    }
    if !turn.label.is_empty() {
        args.put('l').put(&turn.label);
    }
    let light = turn.release.partition_point(|id| id.units() == 1);
    let (light, heavy) = turn.release.split_at(light);
    if !light.is_empty() {
        args.put('r').put(light.len()).put(Seq::or_zero(turn.release_from));
        args.ids(light.iter().copied());
    }
    for (tag, ids) in [('R', heavy), ('c', &turn.cancel)] {
        if !ids.is_empty() {
            args.put(tag).put(ids.len());
            args.ids(ids.iter().copied());
        }
    }
    if !turn.renew.is_empty() {
        args.put('i').put(turn.incarnation.map_or(0, Incarnation::get));
    }
    for run in turn.renew.chunk_by(|(_, a), (_, b)| a == b) {
        args.put('n').put(run.len()).put(run[0].1);
        args.ids(run.iter().map(|&(id, _)| id));
    }
    if !turn.ask.is_empty() {
        args.put('q').put(turn.ask.len());
    }
    for ask in &turn.ask {
        args.put(ask.id).put(Seq::or_zero(ask.ticket));
        write_when_full(args, ask.when_full);
    }
    for run in turn.admit.chunk_by(|a, b| kind(a) == kind(b)) {
        match kind(&run[0]) {
            (WhenFull::Wait, 1, DEFAULT_LEASE) => {
                args.put('w').put(run.len());
            }
            (when_full, units, lease) => {
                args.put('a').put(run.len());
                write_when_full(args, when_full);
                args.put(units).put(lease);
            }
        }
        args.ids(run.iter().map(|&(id, _)| id));
    }
}

/// What newcomers must have in common to go into one run.
fn kind(&(id, when_full): &(PermitId, WhenFull)) -> (WhenFull, u32, Millis) {
    (when_full, id.units(), id.lease_ms())
}

fn write_when_full(args: &mut Args<'_>, when_full: WhenFull) {
    match when_full {
        WhenFull::Wait => args.put('w'),
        WhenFull::Refuse => args.put('t'),
        WhenFull::WaitBehind(most) => args.put(most),
    };
}

/// Reads a flat list of numbers and ids from the front.
struct Words<'a> {
    rest: std::slice::Iter<'a, Value>,
}

/// What was wrong with a reply; only the fact matters to callers.
struct Garbled;

impl Words<'_> {
    fn number(&mut self) -> Result<u64, Garbled> {
        match self.rest.next() {
            Some(Value::Int(n)) => u64::try_from(*n).map_err(|_| Garbled),
            _ => Err(Garbled),
        }
    }

    fn seq(&mut self) -> Result<Seq, Garbled> {
        Seq::new(self.number()?).ok_or(Garbled)
    }

    fn small(&mut self) -> Result<u32, Garbled> {
        u32::try_from(self.number()?).map_err(|_| Garbled)
    }

    /// -1 for none.
    fn optional(&mut self) -> Result<Option<u64>, Garbled> {
        match self.rest.next() {
            Some(Value::Int(n)) => Ok(u64::try_from(*n).ok()),
            _ => Err(Garbled),
        }
    }

    /// A count of things that are really there: a wrong one must not reserve memory.
    fn count(&mut self) -> Result<usize, Garbled> {
        let count = usize::try_from(self.number()?).map_err(|_| Garbled)?;
        if count <= self.rest.len() { Ok(count) } else { Err(Garbled) }
    }

    /// An index from 1, as one from 0.
    fn index(&mut self, below: usize) -> Result<usize, Garbled> {
        let index = usize::try_from(self.number()?).map_err(|_| Garbled)?;
        if (1..=below).contains(&index) { Ok(index - 1) } else { Err(Garbled) }
    }

    fn id(&mut self) -> Result<PermitId, Garbled> {
        text(self.rest.next().ok_or(Garbled)?)?.parse().map_err(|_| Garbled)
    }

    fn settled(&mut self) -> Result<WaiterOutcome, Garbled> {
        Ok(match self.number()? {
            1 => WaiterOutcome::Granted { token: self.seq()?, earlier: false },
            7 => WaiterOutcome::Granted { token: self.seq()?, earlier: true },
            2 => WaiterOutcome::Queued { ticket: self.seq()?, place: self.number()? },
            3 => WaiterOutcome::Refused,
            4 => WaiterOutcome::Kicked,
            5 => WaiterOutcome::TooLarge,
            _ => return Err(Garbled),
        })
    }
}

fn text(value: &Value) -> Result<&str, Garbled> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).map_err(|_| Garbled),
        Value::SimpleString(text) => Ok(text),
        _ => Err(Garbled),
    }
}

fn list(value: &Value) -> Result<Words<'_>, Garbled> {
    match value {
        Value::Array(values) => Ok(Words { rest: values.iter() }),
        _ => Err(Garbled),
    }
}

fn understood<T>(what: &str, read: Result<T, Garbled>) -> Result<T, StoreError> {
    read.map_err(|Garbled| {
        StoreError::new(
            StoreErrorKind::Protocol,
            format!("the server's answer to {what} makes no sense; is it a Redis of version 7?"),
        )
    })
}

/// Reads the reply to a turn.
pub(crate) fn read_turn(value: &Value, turn: &Turn) -> Result<TurnOutcome, StoreError> {
    understood("a turn", turn_reply(value, turn))
}

fn turn_reply(value: &Value, turn: &Turn) -> Result<TurnOutcome, Garbled> {
    let mut words = list(value)?;
    let flags = words.number()?;
    if flags == 0 {
        return Ok(TurnOutcome::Stale { epoch: Epoch::new(words.number()?) });
    }
    let flag = |bit: u64| flags & bit != 0;
    let incarnation = Incarnation::new(words.number()?).ok_or(Garbled)?;
    let mut reply = TurnReply {
        in_use: words.number()?,
        waiting: words.number()?,
        last: Seq::new(words.number()?),
        overridden: flag(2),
        put_back: flag(4),
        more: flag(8),
        ..TurnReply::new(incarnation, turn.limit)
    };
    if flag(2) {
        reply.limit = words.small()?;
    }
    if flag(16) {
        reply.earliest = Some(Duration::from_millis(words.number()?));
    }
    if flag(32) {
        for _ in 0..words.count()? {
            reply.missing.push(words.index(turn.release.len())?);
        }
        reply.missing.sort_unstable();
    }
    if flag(64) {
        for _ in 0..words.count()? {
            let index = words.index(turn.renew.len())?;
            let outcome = match words.number()? {
                1 => RenewalException::Gone,
                2 => RenewalException::Kicked,
                3 => RenewalException::PutBack,
                _ => return Err(Garbled),
            };
            reply.renewal_exceptions.push((index, outcome));
        }
    }
    if flag(128) {
        for _ in 0..words.count()? {
            let id = words.id()?;
            reply.others.push((id, Seq::new(words.number()?)));
        }
    }
    for _ in &turn.ask {
        reply.asked.push(words.settled()?);
    }
    while reply.admitted.len() < turn.admit.len() {
        let left = turn.admit.len() - reply.admitted.len();
        let count = usize::try_from(words.number()?).map_err(|_| Garbled)?;
        if !(1..=left).contains(&count) {
            return Err(Garbled);
        }
        let first = words.settled()?;
        reply.admitted.extend((0..count as u64).map(|nth| first.with_numbers_raised_by(nth)));
    }
    Ok(TurnOutcome::Answered(reply))
}

pub(super) fn read_inspection(value: &Value) -> Result<Inspection, StoreError> {
    understood("inspect", inspection(value))
}

fn inspection(value: &Value) -> Result<Inspection, Garbled> {
    let mut words = list(value)?;
    let now_ms = words.number()?;
    let limit_override = words.optional()?.map(u32::try_from).transpose().map_err(|_| Garbled)?;
    let (in_use, holders_total) = (words.number()?, words.number()?);
    let waiters_total = words.number()?;
    let mut next = || words.rest.next().ok_or(Garbled).and_then(list);
    let (mut holders, mut waiters, mut labels) = (next()?, next()?, next()?);

    let mut known = std::collections::HashMap::new();
    while let Some(client) = labels.rest.next() {
        known.insert(text(client)?, text(labels.rest.next().ok_or(Garbled)?)?);
    }
    let label = |id: &PermitId| known.get(&*id.client().to_string()).map(|&text| text.to_owned());
    let mut found = Inspection {
        limit: limit_override.unwrap_or(0),
        limit_override,
        in_use,
        holders_total,
        waiters_total,
        holders: Vec::new(),
        waiters: Vec::new(),
    };
    while holders.rest.len() > 0 {
        let id = holders.id()?;
        let score = text(holders.rest.next().ok_or(Garbled)?)?;
        let score: f64 = score.parse().map_err(|_| Garbled)?;
        let left = score.floor() - now_ms as f64;
        found.holders.push(Holder {
            id,
            client: id.client(),
            label: label(&id),
            units: id.units(),
            expires_in: Duration::try_from_secs_f64(left.max(0.0) / 1000.0).unwrap_or_default(),
            kicked: score.fract() != 0.0,
        });
    }
    while waiters.rest.len() > 0 {
        let id = waiters.id()?;
        let waiter = QueuedWaiter { id, client: id.client(), label: label(&id), units: id.units() };
        found.waiters.push(waiter);
    }
    Ok(found)
}

pub(super) fn read_kick(value: &Value) -> Result<KickOutcome, StoreError> {
    understood(
        "kick",
        match value {
            Value::Int(0) => Ok(KickOutcome::NotHeld),
            Value::Int(1) => Ok(KickOutcome::Marked),
            Value::Int(2) => Ok(KickOutcome::Removed),
            _ => Err(Garbled),
        },
    )
}

/// A wake-up: the name, then pairs of id and number; see `wake` in `lua/prelude.lua`.
pub(super) fn read_wake(payload: &[u8]) -> Option<(&str, Vec<(PermitId, WakeUp)>)> {
    let (name, words) = std::str::from_utf8(payload).ok()?.split_once('\n')?;
    let mut words = words.split(' ');
    let mut wake_ups = Vec::new();
    while let Some(id) = words.next() {
        let number = words.next()?.parse().ok()?;
        wake_ups.push((id.parse().ok()?, WakeUp::from_number(number)));
    }
    Some((name, wake_ups))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::ClientId;
    use crate::store::Ask;

    fn ints(numbers: &[i64]) -> Value {
        Value::Array(numbers.iter().map(|&n| Value::Int(n)).collect())
    }

    /// Two releases, a renewal, an ask and three newcomers.
    fn turn() -> Turn {
        let id = |counter| PermitId::new(ClientId::from_bits(255), counter, 1, DEFAULT_LEASE);
        Turn {
            name: "a".into(),
            client: ClientId::from_bits(255),
            label: "".into(),
            epoch: Epoch::default(),
            limit: 8,
            seen: None,
            incarnation: Incarnation::new(77),
            release: vec![id(1), id(2)],
            release_from: None,
            cancel: Vec::new(),
            renew: vec![(id(3), DEFAULT_LEASE)],
            ask: vec![Ask { id: id(4), ticket: None, when_full: WhenFull::Wait }],
            admit: [5, 6, 7].map(|counter| (id(counter), WhenFull::Wait)).to_vec(),
        }
    }

    #[test]
    fn a_reply_reads_back() {
        let header = [1 + 8 + 16 + 32 + 64, 77, 3, 2, 99, 250];
        let lists = [1, 2, 1, 1, 2];
        let fared = [7, 97, 1, 1, 98, 2, 2, 99, 1];
        let words = [&header[..], &lists, &fared].concat();
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
    fn a_wake_up_reads_back_and_rubbish_is_ignored() {
        let (name, wake_ups) =
            read_wake("a b\n00000000000000ff:9 12 00000000000000ff:10*2 0".as_bytes()).unwrap();
        assert_eq!(name, "a b");
        let wake_ups: Vec<WakeUp> = wake_ups.iter().map(|&(_, wake_up)| wake_up).collect();
        assert_eq!(wake_ups, [WakeUp::Granted(Seq::new(12).unwrap()), WakeUp::Ask]);
        for payload in
            ["", "name", "name\nx 1", "name\n00000000000000ff:9", "n\n00000000000000ff:9 -1"]
        {
            assert!(read_wake(payload.as_bytes()).is_none(), "{payload:?}");
        }
        assert!(read_wake(&[0xff, b'\n']).is_none());
    }
}
