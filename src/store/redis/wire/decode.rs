//! The reply to a turn, the reply to a kick, and wake-ups.

use std::time::Duration;

use redis::Value;

use crate::error::StoreError;
use crate::id::PermitId;
use crate::inspection::KickOutcome;
use crate::numbers::{Epoch, Incarnation, Seq};
use crate::store::{
    RenewalException, Turn, TurnAnswer, TurnOutcome, TurnReply, WaiterOutcome, WakeUp,
};

use super::names::{self, Flag, Kick, Outcome};
use super::words::{Garbled, Words};

/// Reads the reply to `turn`.
pub(crate) fn read_turn(value: &Value, turn: &Turn) -> TurnAnswer {
    turn_outcome(value, turn).map_err(|garbled| garbled.reply_to("a turn"))
}

fn turn_outcome(value: &Value, turn: &Turn) -> Result<TurnOutcome, Garbled> {
    let mut words = Words::of(value)?;
    let flags = words.number()?;
    if flags == Flag::NONE {
        return Ok(TurnOutcome::Stale { epoch: Epoch::new(words.number()?) });
    }
    let mut reply = summary(&mut words, flags, turn)?;
    exceptions(&mut words, flags, turn, &mut reply)?;
    match flags & Flag::ALL_GRANTED {
        0 => outcomes(&mut words, turn, &mut reply)?,
        _ => all_granted(turn, &mut reply)?,
    }
    Ok(TurnOutcome::Answered(reply))
}

/// Reads the part that each reply has, then the limit and the earliest deadline.
fn summary(words: &mut Words<'_>, flags: u64, turn: &Turn) -> Result<TurnReply, Garbled> {
    let has = |flag: u64| flags & flag != 0;
    let incarnation = Incarnation::new(words.number()?).ok_or(Garbled)?;
    let mut reply = TurnReply {
        in_use: words.number()?,
        waiting: words.number()?,
        last: Seq::new(words.number()?),
        overridden: has(Flag::OVERRIDDEN),
        put_back: has(Flag::PUT_BACK),
        more: has(Flag::MORE),
        ..TurnReply::new(incarnation, turn.limit)
    };
    if reply.overridden {
        reply.limit = words.small()?;
    }
    if has(Flag::EARLIEST) {
        reply.earliest = Some(Duration::from_millis(words.number()?));
    }
    Ok(reply)
}

/// Reads the exceptions: what the caller does not expect.
fn exceptions(
    words: &mut Words<'_>,
    flags: u64,
    turn: &Turn,
    reply: &mut TurnReply,
) -> Result<(), Garbled> {
    let has = |flag: u64| flags & flag != 0;
    if has(Flag::MISSING) {
        for _ in 0..words.count()? {
            reply.missing.push(words.one_to(turn.release.len())? - 1);
        }
        reply.missing.sort_unstable();
    }
    if has(Flag::EXCEPTIONS) {
        for _ in 0..words.count()? {
            let index = words.one_to(turn.renew.len())? - 1;
            reply.renewal_exceptions.push((index, renewal_exception(words)?));
        }
    }
    if has(Flag::OTHERS) {
        for _ in 0..words.count()? {
            let id = words.id()?;
            reply.others.push((id, Seq::new(words.number()?)));
        }
    }
    Ok(())
}

/// Reads one outcome for each ask, and the admits in runs.
fn outcomes(words: &mut Words<'_>, turn: &Turn, reply: &mut TurnReply) -> Result<(), Garbled> {
    for _ in &turn.ask {
        reply.asked.push(waiter_outcome(words)?);
    }
    while reply.admitted.len() < turn.admit.len() {
        let count = words.one_to(turn.admit.len() - reply.admitted.len())?;
        let first = waiter_outcome(words)?;
        reply.admitted.extend((0..count as u64).map(|nth| first.with_numbers_raised_by(nth)));
    }
    Ok(())
}

/// Fills in the outcomes of the admits of a turn that asks nothing: the last numbers, in their order.
fn all_granted(turn: &Turn, reply: &mut TurnReply) -> Result<(), Garbled> {
    if !turn.ask.is_empty() {
        return Err(Garbled);
    }
    let before = Seq::or_zero(reply.last).checked_sub(turn.admit.len() as u64).ok_or(Garbled)?;
    for nth in 1..=turn.admit.len() as u64 {
        let token = Seq::new(before + nth).ok_or(Garbled)?;
        reply.admitted.push(WaiterOutcome::Granted { token, earlier: false });
    }
    Ok(())
}

fn renewal_exception(words: &mut Words<'_>) -> Result<RenewalException, Garbled> {
    Ok(match words.number()? {
        names::RenewalException::GONE => RenewalException::Gone,
        names::RenewalException::KICKED => RenewalException::Kicked,
        names::RenewalException::PUT_BACK => RenewalException::PutBack,
        _ => return Err(Garbled),
    })
}

fn waiter_outcome(words: &mut Words<'_>) -> Result<WaiterOutcome, Garbled> {
    Ok(match words.number()? {
        Outcome::GRANTED => WaiterOutcome::Granted { token: words.seq()?, earlier: false },
        Outcome::FOUND_GRANTED => WaiterOutcome::Granted { token: words.seq()?, earlier: true },
        Outcome::QUEUED => WaiterOutcome::Queued { ticket: words.seq()?, place: words.number()? },
        Outcome::REFUSED => WaiterOutcome::Refused,
        Outcome::KICKED => WaiterOutcome::Kicked,
        Outcome::TOO_LARGE => WaiterOutcome::TooLarge,
        _ => return Err(Garbled),
    })
}

/// Reads the reply to a kick.
pub(in crate::store::redis) fn read_kick(value: &Value) -> Result<KickOutcome, StoreError> {
    let Value::Int(outcome) = *value else { return Err(Garbled.reply_to("kick")) };
    match u64::try_from(outcome) {
        Ok(Kick::NOT_HELD) => Ok(KickOutcome::NotHeld),
        Ok(Kick::MARKED) => Ok(KickOutcome::Marked),
        Ok(Kick::REMOVED) => Ok(KickOutcome::Removed),
        _ => Err(Garbled.reply_to("kick")),
    }
}

/// Reads a wake-up: a name, then pairs of an id and a number, as `wake` in `lua/wake.lua` writes them. An id
/// that this version cannot read is skipped.
pub(in crate::store::redis) fn read_wake(
    payload: &[u8],
) -> Option<(&str, Vec<(PermitId, WakeUp)>)> {
    let (name, words) = std::str::from_utf8(payload).ok()?.split_once('\n')?;
    let mut words = words.split(' ');
    let mut wake_ups = Vec::new();
    while let Some(id) = words.next() {
        let number = words.next()?.parse().ok()?;
        if let Ok(id) = id.parse() {
            wake_ups.push((id, WakeUp::from_number(number)));
        }
    }
    Some((name, wake_ups))
}
