//! What the witness knows of one name, and what it finds wrong there.
//!
//! # The argument
//!
//! **Limit.** Take an instant and the permits that are believed in then, each within what was really held. Each is in
//! the server's books from its grant until its belief ends, or the crate has lied; so at the grant of the last
//! of them all were there, and the script let it in under the limit that was in force then. That grant lies
//! between the instant it was asked for and the instant it was seen to be there; the highest limit that may have been in
//! force between the two is what the units at that instant are held against. No slack is needed. Which one was
//! granted last, their fencing tokens tell.
//!
//! **Data loss.** When the `permits` of a name are deleted between two instants, those granted before may be believed in
//! beside new ones until their next renewal, which is known at the end of a lease at the latest. So they are left out
//! for that long, and count again after that, when Redis must have taken them back. Those granted after the loss count all the
//! time. A token is the server's clock in microseconds or more, so a token above the clock at the end of the loss
//! tells a grant from after it.
//!
//! **Tokens.** A permit asked for after another one was seen has the higher token. Those that were asked for at the same
//! time may have come in either order, but no token comes twice.
//!
//! **Excuses.** Where a primary may have lost writes that it had acknowledged, nothing of this can hold at once. So what is
//! over the limit is measured until every holder has heard, and is found from then on. Tokens must rise all the same:
//! they are above the clock. Where it is known which permits a new primary lacks, these alone are left out, as
//! [`unbooked`](crate::unbooked) tells. Only where an operator puts an old copy of the numbers in place of a newer one, they may
//! fall, until the clock has passed those that were ahead of it.

mod order;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::time::Duration;

use crate::excess::{Cause, Excess, Excuses};
use crate::unbooked::Unbooked;
use zset_semaphore::PermitId;

/// Longer than any acquire takes; of what is older, only the sum is kept.
const REMEMBERED: u64 = 120_000_000_000;
/// By so much numbers given out at once may be ahead of the server's clock.
const TOKEN_SLACK_US: u64 = 2_000;

#[derive(Clone, Debug)]
pub struct Hold {
    pub process: u32,
    pub id: String,
    pub units: u32,
    pub token: u64,
    pub asked: u64,
    pub from: u64,
    /// It is believed in until then, unless a word ends it before.
    pub sure_until: u64,
    /// If nobody told its end, a word may have ended it from here on.
    pub unsure_from: u64,
    /// It does not count from here on: the operator has taken that upon himself.
    pub removed: u64,
    /// As its holder told, or its killer.
    pub until: Option<u64>,
    pub how: String,
    /// Looked at by `read_tokens`.
    pub read: bool,
}

impl Hold {
    fn end(&self) -> u64 {
        self.until.unwrap_or(self.sure_until.min(self.unsure_from)).min(self.removed)
    }

    fn lease(&self) -> u64 {
        let id: PermitId = self.id.parse().expect("a permit's id");
        nanos(id.lease())
    }
}

impl Kick {
    /// Applies to a hold what was done to its permit.
    pub fn mark(&self, hold: &mut Hold) {
        hold.unsure_from = hold.unsure_from.min(self.from);
        if self.at_once {
            hold.removed = hold.removed.min(self.from);
        }
    }
}

pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("a short time")
}

/// The permits of the name were forgotten by Redis between two instants.
#[derive(Clone, Copy, Debug)]
pub struct Loss {
    pub from: u64,
    pub to: u64,
    /// `to` on the clock of the server, microseconds.
    pub to_us: u64,
}

#[derive(Clone, Debug)]
pub struct Kick {
    pub from: u64,
    pub to: u64,
    /// Whether the server knew the permit.
    pub hit: bool,
    /// Whether its units were freed before its holder knew.
    pub at_once: bool,
}

pub struct Book {
    name: String,
    /// Since when which limit may be in force at most.
    limits: Vec<(u64, u32)>,
    losses: Vec<Loss>,
    /// When `meta` was deleted, and Redis forgot under which incarnation it had granted.
    meta_lost: Vec<u64>,
    pub kicks: HashMap<String, Kick>,
    pub holds: HashMap<(u32, u64), Hold>,
    /// Of all holds seen by then: the highest token. By time.
    highest: Vec<(u64, u64)>,
    tokens: HashMap<u64, (u64, String)>,
    excuses: Excuses,
    pub unbooked: Unbooked,
    pub most_units: u64,
    pub last_heard: u64,
}

/// A stretch of a hold that counts.
struct Piece<'a> {
    hold: &'a Hold,
    from: u64,
    until: u64,
    /// If Redis has taken it back after a loss: the loss.
    healed: Option<(u64, u64)>,
}

impl Book {
    pub fn new(name: &str, limit: u32) -> Self {
        Self {
            name: name.to_owned(),
            limits: vec![(0, limit)],
            losses: Vec::new(),
            meta_lost: Vec::new(),
            kicks: HashMap::new(),
            holds: HashMap::new(),
            highest: Vec::new(),
            tokens: HashMap::new(),
            excuses: Excuses::default(),
            unbooked: Unbooked::default(),
            most_units: 0,
            last_heard: 0,
        }
    }

    /// From `at` on, the limit may be up to `most`.
    pub fn limit(&mut self, at: u64, most: u32) {
        self.limits.push((at, most));
    }

    pub fn limit_now(&self) -> u32 {
        self.limits.last().map_or(0, |&(_, most)| most)
    }

    pub fn lose(&mut self, loss: Loss) {
        self.losses.push(loss);
    }

    pub fn lose_meta(&mut self, at: u64) {
        self.meta_lost.push(at);
    }

    /// From `at` on, acknowledged writes may have been lost: what is over the limit is measured.
    pub fn excuse(&mut self, at: u64, cause: Cause) {
        self.excuses.begin(at, cause);
    }

    /// From `at` on, every holder knows what was lost. From `tokens_at` on, tokens rise again.
    pub fn end_of_excuse(&mut self, at: u64, tokens_at: u64) {
        self.excuses.end(at, tokens_at);
    }

    /// A permit that was held since `from` was missing in the store at `to`. Returns whether that is excused. Where
    /// there is always room, it is put back.
    pub fn excuses_missing(&mut self, id: &str, from: u64, to: u64, is_roomy: bool) -> bool {
        !is_roomy && self.unbooked.excuses_missing(id)
            || self.excuses.excuses_missing(from, to, is_roomy)
    }

    pub fn take_excess(&mut self) -> Vec<(&'static str, Excess)> {
        let mut excess = self.excuses.take();
        excess.extend(self.unbooked.take());
        excess
    }

    /// The highest limit that may have been in force at some instant between the two.
    fn most_between(&self, from: u64, to: u64) -> u32 {
        let before = self.limits.iter().rev().find(|&&(at, _)| at <= from);
        let between = self.limits.iter().filter(|&&(at, _)| from < at && at <= to);
        before.into_iter().chain(between).map(|&(_, most)| most).max().unwrap_or(0)
    }

    fn pieces<'a>(&self, hold: &'a Hold) -> Vec<Piece<'a>> {
        let mut pieces = Vec::new();
        let (mut from, end, mut healed) = (hold.from, hold.end(), None);
        for loss in &self.losses {
            let granted_after = hold.asked >= loss.to || hold.token > loss.to_us + TOKEN_SLACK_US;
            let out_until = loss.to + hold.lease();
            if granted_after || out_until <= from || end <= loss.from {
                continue;
            }
            pieces.push(Piece { hold, from, until: loss.from.min(end), healed });
            from = out_until;
            healed = Some((loss.from, out_until));
        }
        pieces.push(Piece { hold, from, until: end, healed });
        pieces.retain(|piece| piece.from < piece.until);
        pieces
    }

    /// Those stretches in which the permit must be in the books.
    fn booked<'a>(&self, hold: &'a Hold) -> Vec<Piece<'a>> {
        let booked = |piece: Piece<'a>| {
            let left = self.unbooked.cut(&hold.id, piece.from, piece.until);
            left.into_iter().map(move |(from, until)| Piece { from, until, ..piece })
        };
        self.pieces(hold).into_iter().flat_map(booked).collect()
    }

    /// Judges all up to `to`, given that it was judged up to `from`.
    pub fn judge(&mut self, from: u64, to: u64, found: &mut Vec<String>) {
        self.read_tokens(to, found);
        self.sweep(from, to, found);
        self.measure_unbooked(from, to);
        self.read_kicks(to, found);
        self.forget(to);
    }

    fn forget(&mut self, judged: u64) {
        let old = judged.saturating_sub(REMEMBERED);
        self.holds.retain(|_, hold| hold.until.is_none() || hold.end() > judged);
        self.kicks.retain(|_, kick| kick.to > old);
        self.losses.retain(|loss| loss.to > old);
        self.excuses.forget_before(old);
        self.unbooked.forget_before(old);
        self.meta_lost.retain(|&at| at > old);
        self.tokens.retain(|_, (from, _)| *from > old);
        let from = self.highest.partition_point(|&(from, _)| from <= old);
        self.highest.drain(..from.saturating_sub(1));
        let from = self.limits.partition_point(|&(at, _)| at <= old);
        self.limits.drain(..from.saturating_sub(1));
    }
}
