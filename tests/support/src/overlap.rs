//! How much was held at once: a sweep over the holds that a [`Ledger`](crate::ledger::Ledger) has collected.

use std::fmt::{self, Write};
use std::ops::Range;

/// Units held by somebody from one instant until another, the latter not included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub process: u32,
    pub holder: String,
    pub units: u32,
    pub from_ns: u64,
    /// `u64::MAX` if it has not ended.
    pub until_ns: u64,
}

/// The instant at which most units were held, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlap {
    pub units: u64,
    pub at_ns: u64,
    pub holds: Vec<Hold>,
}

/// The largest overlap at any instant of `window`; the earliest one, if there are several.
pub fn largest_overlap(holds: &[Hold], window: Range<u64>) -> Overlap {
    // At equal instants `Leave` sorts first: one who comes as another goes does not overlap with him.
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Edge {
        Leave,
        Enter,
    }

    let mut edges = Vec::with_capacity(holds.len() * 2);
    for hold in holds {
        let from_ns = hold.from_ns.max(window.start);
        let until_ns = hold.until_ns.min(window.end);
        if from_ns < until_ns {
            edges.push((from_ns, Edge::Enter, hold.units));
            edges.push((until_ns, Edge::Leave, hold.units));
        }
    }
    edges.sort_unstable();

    let mut held = 0;
    let mut largest = Overlap::default();
    for (at_ns, edge, units) in edges {
        match edge {
            Edge::Leave => held -= u64::from(units),
            Edge::Enter => held += u64::from(units),
        }
        if held > largest.units {
            (largest.units, largest.at_ns) = (held, at_ns);
        }
    }
    if largest.units > 0 {
        largest.holds = holds
            .iter()
            .filter(|hold| hold.from_ns <= largest.at_ns && largest.at_ns < hold.until_ns)
            .cloned()
            .collect();
    }
    largest
}

/// One line per hold, by their beginning, in milliseconds since the first.
pub fn timeline(holds: &[Hold]) -> String {
    let mut holds: Vec<_> = holds.iter().collect();
    holds.sort_by_key(|hold| (hold.from_ns, hold.until_ns));
    let start = holds.first().map_or(0, |first| first.from_ns);
    let mut text = String::new();
    for hold in holds {
        writeln!(text, "{}", Line(hold, start)).expect("writing to a string");
    }
    text
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} units at once (times in ms around that instant):", self.units)?;
        for hold in &self.holds {
            writeln!(f, "{}", Line(hold, self.at_ns))?;
        }
        Ok(())
    }
}

/// A hold, with its times relative to an instant.
struct Line<'a>(&'a Hold, u64);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(hold, zero) = self;
        let ms = |ns: u64| (i128::from(ns) - i128::from(*zero)) as f64 / 1e6;
        let from = ms(hold.from_ns);
        write!(f, "  {from:+12.3} .. ")?;
        if hold.until_ns == u64::MAX {
            write!(f, "{:>12}", "still held")?;
        } else {
            write!(f, "{:+12.3}", ms(hold.until_ns))?;
        }
        let Hold { process, holder, units, .. } = hold;
        write!(f, "  {units} units, {holder} of process {process}")
    }
}
