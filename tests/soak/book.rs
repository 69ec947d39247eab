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

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::time::Duration;

use crate::excess::{Cause, Excess, Excuses};
use crate::unbooked::{Belief, Unbooked};
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

    /// Measures how far the name is over its limit with those that are unbooked.
    fn measure_unbooked(&mut self, from: u64, to: u64) {
        if !self.unbooked.concerns(from, to) {
            return;
        }
        let belief = |piece: Piece<'_>| Belief {
            from: piece.from,
            until: piece.until,
            units: u64::from(piece.hold.units),
        };
        let all = self.holds.values().flat_map(|hold| self.pieces(hold));
        let beliefs: Vec<_> = all.map(belief).collect();
        let limit = u64::from(self.limit_now());
        self.unbooked.measure(limit, &beliefs, from, to);
    }

    /// Judges all up to `to`, given that it was judged up to `from`.
    pub fn judge(&mut self, from: u64, to: u64, found: &mut Vec<String>) {
        self.read_tokens(to, found);
        self.sweep(from, to, found);
        self.measure_unbooked(from, to);
        self.read_kicks(to, found);
        self.forget(to);
    }

    fn sweep(&mut self, judged: u64, to: u64, found: &mut Vec<String>) {
        let pieces: Vec<_> = self.holds.values().flat_map(|hold| self.booked(hold)).collect();
        // At equal instants those who leave go first: they do not overlap with those who come.
        let mut edges: Vec<(u64, bool, usize)> = Vec::new();
        for (index, piece) in pieces.iter().enumerate() {
            if piece.from <= to && piece.until > judged {
                edges.push((piece.from, true, index));
                edges.push((piece.until, false, index));
            }
        }
        edges.sort_unstable();
        let mut present: BTreeMap<(u64, usize), &Piece<'_>> = BTreeMap::new();
        let (mut units, mut most_units, mut told) = (0, self.most_units, 0);
        // Since when the name is over its limit, and by how much, where that is excused.
        let mut over: Option<(u64, u64)> = None;
        let mut stretches = Vec::new();
        for (at, enters, index) in edges {
            let piece = &pieces[index];
            let key = (piece.hold.token, index);
            if at > to {
                break;
            }
            if enters {
                present.insert(key, piece);
                units += u64::from(piece.hold.units);
                most_units = most_units.max(units);
            } else if present.remove(&key).is_some() {
                units -= u64::from(piece.hold.units);
            }
            let limit = self.limit_for(&present);
            let excess = units.saturating_sub(u64::from(limit));
            if enters && at > judged && excess > 0 && !self.excuses.covers(at) {
                told += 1;
                if told <= 3 {
                    found.push(self.over(units, limit, at, &present));
                }
            }
            over = match over {
                Some((since, most)) if excess == 0 => {
                    stretches.push((since, at, most));
                    None
                }
                Some((since, most)) => Some((since, most.max(excess))),
                None => (excess > 0).then_some((at, excess)),
            };
        }
        stretches.extend(over.map(|(since, most)| (since, to, most)));
        if told > 3 {
            found.push(format!(
                "{}: over its limit {} more times in this second",
                self.name,
                told - 3
            ));
        }
        self.most_units = most_units;
        self.measure(judged, stretches, found);
    }

    /// Measures what was over the limit, each time from when, until when, and by how many units.
    fn measure(&mut self, judged: u64, stretches: Vec<(u64, u64, u64)>, found: &mut Vec<String>) {
        for (from, to, units) in stretches.into_iter().filter(|&(_, to, _)| to > judged) {
            if let Some(end) = self.excuses.over(from.max(judged), to, units) {
                let late = (to - end) as f64 / 1e6;
                found.push(format!(
                    "{}: {units} units over its limit until {late:.3} ms after all know what was lost",
                    self.name
                ));
            }
        }
    }

    /// What those who are present are held against.
    fn limit_for(&self, present: &BTreeMap<(u64, usize), &Piece<'_>>) -> u32 {
        let Some((_, last)) = present.last_key_value() else { return 0 };
        let healed = || present.values().filter_map(|piece| piece.healed);
        let from = healed().map(|(from, _)| from).chain([last.hold.asked]).min();
        let to = healed().map(|(_, to)| to).chain([last.hold.from]).max();
        self.most_between(from.unwrap_or(0), to.unwrap_or(0))
    }

    fn over(
        &self,
        units: u64,
        limit: u32,
        at: u64,
        present: &BTreeMap<(u64, usize), &Piece<'_>>,
    ) -> String {
        let mut text = format!(
            "{}: {units} units held at once under a limit of {limit}, by (ms around that instant, {at} ns):",
            self.name
        );
        let ms = |ns: u64| (i128::from(ns) - i128::from(at)) as f64 / 1e6;
        for piece in present.values() {
            let hold = piece.hold;
            let _ = write!(
                text,
                "\n    {:>2} units, token {}, {} of process {}: asked {:+.3}, held {:+.3} .. {:+.3} ({})",
                hold.units,
                hold.token,
                hold.id,
                hold.process,
                ms(hold.asked),
                ms(hold.from),
                ms(hold.end()),
                if hold.how.is_empty() { "not told yet" } else { &hold.how },
            );
        }
        for loss in self.losses.iter().rev().take(2) {
            let _ =
                write!(text, "\n    permits deleted {:+.3} .. {:+.3}", ms(loss.from), ms(loss.to));
        }
        for (from, most) in self.limits.iter().rev().take(4) {
            let _ = write!(text, "\n    limit at most {most} since {:+.3}", ms(*from));
        }
        text
    }

    fn read_tokens(&mut self, to: u64, found: &mut Vec<String>) {
        let mut unread: Vec<_> =
            self.holds.values_mut().filter(|h| !h.read && h.from <= to).collect();
        unread.sort_unstable_by_key(|hold| hold.from);
        for hold in unread {
            hold.read = true;
            let token = hold.token;
            let seen = (hold.from, hold.id.clone());
            if let Some((_, other)) = self.tokens.insert(token, seen)
                && !self.excuses.excuses_token(hold.asked, hold.from)
            {
                found.push(format!(
                    "{}: token {token} given twice: {other}, {}",
                    self.name, hold.id
                ));
            }
            let before = self.highest.partition_point(|&(from, _)| from < hold.asked);
            let earlier = before.checked_sub(1).map_or(0, |index| self.highest[index].1);
            if earlier >= token && !self.excuses.excuses_token(hold.asked, hold.from) {
                let other = self.tokens.get(&earlier).map_or("?", |(_, id)| id);
                found.push(format!(
                    "{}: token {token} of {} is not above {earlier} of {other}, seen before that was asked for",
                    self.name, hold.id
                ));
            }
            let highest = self.highest.last().map_or(0, |&(_, token)| token);
            self.highest.push((hold.from, highest.max(token)));
        }
    }

    /// Who holds when it is kicked knows it at the next renewal, so within a lease. One who has not heard of its grant may
    /// ask again when that has expired, and be granted afresh.
    fn read_kicks(&mut self, to: u64, found: &mut Vec<String>) {
        for hold in self.holds.values() {
            let (Some(until), Some(kick)) = (hold.until, self.kicks.get(&hold.id)) else {
                continue;
            };
            let latest = kick.to.saturating_add(hold.lease()); // a kick may have no known end
            // Data that is lost is lost with its marks. And who has not heard yet that `meta` was lost is put back under a
            // new incarnation, whatever removed it: he may have heard of the old one up to a lease ago.
            let lost = self.losses.iter().any(|loss| loss.to > kick.from && loss.from < until);
            let unheard = kick.from.saturating_sub(hold.lease());
            let healed =
                kick.at_once && self.meta_lost.iter().any(|&at| unheard < at && at < until);
            let held = kick.hit && hold.from <= kick.from;
            if held && !lost && !healed && until > latest && until <= to {
                let ms = |ns: u64| (i128::from(ns) - i128::from(kick.to)) as f64 / 1e6;
                found.push(format!(
                    "{}: {} of process {} was kicked{} and believed longer than a lease (ms after the kick): \
                     asked {:+.3}, held {:+.3} .. {:+.3} ({}); `meta` lost {:+.3?}",
                    self.name,
                    hold.id,
                    hold.process,
                    if kick.at_once { " at once" } else { "" },
                    ms(hold.asked),
                    ms(hold.from),
                    ms(until),
                    hold.how,
                    self.meta_lost.iter().rev().take(3).map(|&at| ms(at)).collect::<Vec<_>>()
                ));
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unbooked::Absence;

    const MS: u64 = 1_000_000;

    fn hold(token: u64, asked: u64, from: u64, until: u64) -> Hold {
        Hold {
            process: 1,
            id: format!("00000000000000aa:{token}/100"),
            units: 1,
            token,
            asked: asked * MS,
            from: from * MS,
            sure_until: until * MS,
            unsure_from: u64::MAX,
            removed: u64::MAX,
            until: Some(until * MS),
            how: "done".to_owned(),
            read: false,
        }
    }

    fn found(mut book: Book, holds: impl IntoIterator<Item = Hold>) -> Vec<String> {
        book.holds = holds.into_iter().enumerate().map(|(n, hold)| ((1, n as u64), hold)).collect();
        let mut found = Vec::new();
        // In two steps: what is found must not depend on where they meet.
        book.judge(0, 50 * MS, &mut found);
        book.judge(50 * MS, 10_000 * MS, &mut found);
        found
    }

    #[test]
    fn who_comes_as_another_goes_is_not_one_too_many_and_who_comes_before_is() {
        let first = hold(1, 10, 20, 60);
        assert_eq!(found(Book::new("b", 1), [first.clone(), hold(2, 30, 60, 80)]), [""; 0]);
        let found = found(Book::new("b", 1), [first, hold(2, 30, 59, 80)]);
        assert!(matches!(&found[..], [one] if one.contains("2 units held at once")), "{found:?}");
    }

    #[test]
    fn a_limit_that_was_lowered_binds_those_who_ask_later_only() {
        let mut lowered = Book::new("b", 2);
        lowered.limit(40 * MS, 1);
        let first = hold(1, 10, 20, 90);
        assert_eq!(found(lowered, [first.clone(), hold(2, 39, 70, 90)]), [""; 0]);
        let mut lowered = Book::new("b", 2);
        lowered.limit(40 * MS, 1);
        assert_eq!(found(lowered, [first, hold(2, 41, 70, 90)]).len(), 1);
    }

    #[test]
    fn a_hold_of_before_a_loss_is_left_out_for_a_lease_and_one_of_after_it_never() {
        let loss = || {
            let mut book = Book::new("b", 1);
            book.lose(Loss { from: 30 * MS, to: 31 * MS, to_us: 0 });
            book
        };
        let old = hold(1, 10, 20, 130);
        let new = hold(TOKEN_SLACK_US + 1, 25, 40, 120);
        assert_eq!(found(loss(), [old.clone(), new.clone()]), [""; 0]);
        let at_once = hold(TOKEN_SLACK_US + 2, 50, 60, 70);
        assert_eq!(found(loss(), [old, new.clone(), at_once]).len(), 1);
        let goes_on = Hold { until: Some(140 * MS), ..hold(1, 10, 20, 140) };
        let longer = Hold { until: Some(140 * MS), ..new };
        assert_eq!(found(loss(), [goes_on, longer]).len(), 1);
    }

    #[test]
    fn what_is_over_the_limit_is_measured_while_it_is_excused_and_found_else() {
        let killed = |from: u64, to: u64| {
            let mut book = Book::new("b", 1);
            book.excuse(from * MS, Cause { kind: "killed", forgets_numbers: false });
            book.end_of_excuse(to * MS, to * MS);
            book.holds.insert((1, 1), hold(1, 10, 20, 90));
            book.holds.insert((1, 2), hold(2, 30, 40, 70));
            let (mut found, mut sum) = (Vec::new(), Excess::default());
            // In two steps, and the second one begins in the midst of it.
            book.judge(0, 50 * MS, &mut found);
            book.judge(50 * MS, 10_000 * MS, &mut found);
            book.take_excess().into_iter().for_each(|(_, excess)| sum.add(excess));
            (found.len(), sum)
        };
        let thirty = Excess {
            times: 1,
            most_units: 1,
            longest: 30 * MS,
            total: 30 * MS,
            ..Excess::default()
        };
        assert_eq!(killed(25, 80), (0, thirty));
        // It goes on after all know what was lost.
        assert_eq!(killed(25, 60), (1, thirty));
        assert_eq!(killed(75, 80), (1, Excess::default()));
    }

    #[test]
    fn who_is_unbooked_is_left_out_and_nobody_else() {
        let lacked = |id: &str| {
            let absence =
                Absence { from: 25 * MS, until: 80 * MS, kind: "overtaken", is_excused: true };
            let mut book = Book::new("b", 1);
            book.unbooked.add(id, absence);
            book
        };
        let (first, second) = (hold(1, 10, 20, 90), hold(2, 30, 40, 70));
        assert_eq!(found(lacked(&first.id), [first.clone(), second.clone()]), [""; 0]);
        assert_eq!(found(lacked("another"), [first.clone(), second]).len(), 1);
        // The second one goes on when the first one is in the books again.
        let found = found(lacked(&first.id), [first, hold(2, 30, 40, 85)]);
        assert_eq!(found.len(), 1, "{found:?}");
    }

    #[test]
    fn a_token_that_comes_twice_or_falls_is_found() {
        let wide = || Book::new("b", 9);
        let (first, later) = (hold(5, 10, 20, 30), 21);
        assert_eq!(found(wide(), [first.clone(), hold(6, later, 40, 50)]), [""; 0]);
        // Asked for before the first was seen: either order is right.
        assert_eq!(found(wide(), [first.clone(), hold(4, 15, 40, 50)]), [""; 0]);
        assert_eq!(found(wide(), [first.clone(), hold(4, later, 40, 50)]).len(), 1);
        assert_eq!(found(wide(), [first, hold(5, 15, 40, 50)]).len(), 1);
    }

    #[test]
    fn a_token_that_falls_is_measured_where_numbers_were_forgotten_and_found_else() {
        for (forgets_numbers, tokens_to, count) in [(true, 60, 0), (true, 20, 1), (false, 60, 1)] {
            let mut book = Book::new("b", 9);
            book.excuse(15 * MS, Cause { kind: "given up", forgets_numbers });
            book.end_of_excuse(80 * MS, tokens_to * MS);
            let holds = [hold(5, 10, 20, 30), hold(4, 21, 40, 50)];
            assert_eq!(found(book, holds).len(), count, "{forgets_numbers} {tokens_to}");
        }
    }

    #[test]
    fn who_is_kicked_and_believes_for_longer_than_a_lease_is_found() {
        let kicked = |until| {
            let mut book = Book::new("b", 1);
            let kick = Kick { from: 30 * MS, to: 31 * MS, hit: true, at_once: false };
            book.kicks.insert("00000000000000aa:1/100".to_owned(), kick);
            found(book, [hold(1, 10, 20, until)])
        };
        assert_eq!(kicked(131), [""; 0]);
        assert_eq!(kicked(132).len(), 1);
    }
}
