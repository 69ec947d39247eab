//! How many units are believed in at each instant, held against the limit in force.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::{Book, Piece};
use crate::unbooked::Belief;

impl Book {
    pub(super) fn sweep(&mut self, judged: u64, to: u64, found: &mut Vec<String>) {
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

    /// Measures how far the name is over its limit with those that are unbooked.
    pub(super) fn measure_unbooked(&mut self, from: u64, to: u64) {
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
}
