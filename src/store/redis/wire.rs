//! A turn as arguments, and a reply read back. Pure; the layout is that of `lua/turn.lua`.

use std::io::Write;
use std::time::Duration;

use redis::Value;

use crate::error::{StoreError, StoreErrorKind};
use crate::id::{DEFAULT_LEASE_MS, PermitId};
use crate::inspection::{Holder, Inspection, QueuedWaiter};

use crate::inspection::KickOutcome;
use crate::store::{Renewed, Rule, Settled, Turn, TurnOutcome, TurnReply};

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
    args.put(turn.client).put(turn.limit).put(turn.seen);
    if turn.epoch > 0 {
        args.put('e').put(turn.epoch);
    }
    if !turn.label.is_empty() {
        args.put('l').put(&turn.label);
    }
    let light = turn.release.partition_point(|id| id.units() == 1);
    let (light, heavy) = turn.release.split_at(light);
    if !light.is_empty() {
        args.put('r').put(light.len()).put(turn.release_from);
        args.ids(light.iter().copied());
    }
    for (tag, ids) in [('R', heavy), ('c', &turn.cancel)] {
        if !ids.is_empty() {
            args.put(tag).put(ids.len());
            args.ids(ids.iter().copied());
        }
    }
    if !turn.renew.is_empty() {
        args.put('i').put(turn.incarnation);
    }
    for run in turn.renew.chunk_by(|(_, a), (_, b)| a == b) {
        args.put('n').put(run.len()).put(run[0].1);
        args.ids(run.iter().map(|&(id, _)| id));
    }
    if !turn.ask.is_empty() {
        args.put('q').put(turn.ask.len());
    }
    for ask in &turn.ask {
        args.put(ask.id).put(ask.ticket);
        write_rule(args, ask.rule);
    }
    for run in turn.admit.chunk_by(|a, b| kind(a) == kind(b)) {
        match kind(&run[0]) {
            (Rule::Wait, 1, DEFAULT_LEASE_MS) => {
                args.put('w').put(run.len());
            }
            (rule, units, lease_ms) => {
                args.put('a').put(run.len());
                write_rule(args, rule);
                args.put(units).put(lease_ms);
            }
        }
        args.ids(run.iter().map(|&(id, _)| id));
    }
}

/// What newcomers must have in common to go into one run.
fn kind(&(id, rule): &(PermitId, Rule)) -> (Rule, u32, u64) {
    (rule, id.units(), id.lease_ms())
}

fn write_rule(args: &mut Args<'_>, rule: Rule) {
    match rule {
        Rule::Wait => args.put('w'),
        Rule::Try => args.put('t'),
        Rule::WaitBehind(most) => args.put(most),
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

    fn settled(&mut self) -> Result<Settled, Garbled> {
        Ok(match self.number()? {
            1 => Settled::Granted { token: self.number()?, earlier: false },
            7 => Settled::Granted { token: self.number()?, earlier: true },
            2 => Settled::Queued { ticket: self.number()?, place: self.number()? },
            3 => Settled::Refused,
            4 => Settled::Kicked,
            5 => Settled::TooLarge,
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
        return Ok(TurnOutcome::Stale { epoch: words.number()? });
    }
    let flag = |bit: u64| flags & bit != 0;
    let mut reply = TurnReply {
        incarnation: words.number()?,
        in_use: words.number()?,
        waiting: words.number()?,
        last: words.number()?,
        limit: turn.limit,
        overridden: flag(2),
        put_back: flag(4),
        more: flag(8),
        ..TurnReply::default()
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
                1 => Renewed::Gone,
                2 => Renewed::Kicked,
                3 => Renewed::PutBack,
                _ => return Err(Garbled),
            };
            reply.not_plain.push((index, outcome));
        }
    }
    if flag(128) {
        for _ in 0..words.count()? {
            let id = words.id()?;
            let token = words.number()?;
            reply.others.push((id, (token > 0).then_some(token)));
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
pub(super) fn read_wake(payload: &[u8]) -> Option<(&str, Vec<(PermitId, u64)>)> {
    let (name, words) = std::str::from_utf8(payload).ok()?.split_once('\n')?;
    let mut words = words.split(' ');
    let mut grants = Vec::new();
    while let Some(id) = words.next() {
        grants.push((id.parse().ok()?, words.next()?.parse().ok()?));
    }
    Some((name, grants))
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
        let id = |counter| PermitId::new(ClientId::from_bits(255), counter, 1, DEFAULT_LEASE_MS);
        Turn {
            name: "a".into(),
            client: ClientId::from_bits(255),
            label: "".into(),
            epoch: 0,
            limit: 8,
            seen: 0,
            incarnation: 77,
            release: vec![id(1), id(2)],
            release_from: 0,
            cancel: Vec::new(),
            renew: vec![(id(3), DEFAULT_LEASE_MS)],
            ask: vec![Ask { id: id(4), ticket: 0, rule: Rule::Wait }],
            admit: [5, 6, 7].map(|counter| (id(counter), Rule::Wait)).to_vec(),
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
        assert_eq!((reply.incarnation, reply.in_use, reply.limit), (77, 3, 8));
        assert_eq!((reply.waiting, reply.last), (2, 99));
        assert!(reply.more && !reply.overridden && !reply.put_back);
        assert_eq!(reply.earliest, Some(Duration::from_millis(250)));
        assert_eq!(reply.missing, [1]);
        assert_eq!(reply.not_plain, [(0, Renewed::Kicked)]);
        assert_eq!(reply.asked, [Settled::Granted { token: 97, earlier: true }]);
        let queued = |ticket, place| Settled::Queued { ticket, place };
        let granted = Settled::Granted { token: 98, earlier: false };
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
        let (name, grants) =
            read_wake("a b\n00000000000000ff:9 12 00000000000000ff:10*2 0".as_bytes()).unwrap();
        assert_eq!(name, "a b");
        let tokens: Vec<u64> = grants.iter().map(|&(_, token)| token).collect();
        assert_eq!(tokens, [12, 0]);
        for payload in
            ["", "name", "name\nx 1", "name\n00000000000000ff:9", "n\n00000000000000ff:9 -1"]
        {
            assert!(read_wake(payload.as_bytes()).is_none(), "{payload:?}");
        }
        assert!(read_wake(&[0xff, b'\n']).is_none());
    }
}
