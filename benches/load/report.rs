//! What a person reads in the end: tables, and how the figures stand to what is asked of them.

use std::fmt::Display;
use std::sync::{Mutex, PoisonError};

/// What was told so far.
#[derive(Default)]
pub(crate) struct Transcript {
    pub(crate) text: String,
    /// With names.
    pub(crate) charts: Vec<(&'static str, String)>,
}

static TOLD: Mutex<Transcript> = Mutex::new(Transcript { text: String::new(), charts: Vec::new() });

fn told<T>(change: impl FnOnce(&mut Transcript) -> T) -> T {
    change(&mut TOLD.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Prints a line, and keeps it.
pub(crate) fn say(line: impl Display) {
    println!("{line}");
    told(|transcript| transcript.text += &format!("{line}\n"));
}

/// Keeps a chart, which nobody can print.
pub(crate) fn draw(name: &'static str, svg: String) {
    told(|transcript| transcript.charts.push((name, svg)));
}

pub(crate) fn transcript() -> Transcript {
    told(std::mem::take)
}

/// A table whose first column is text and whose others are figures.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heads: &[&str]) -> Self {
        Self { rows: vec![heads.iter().map(|&head| head.to_owned()).collect()] }
    }

    pub(crate) fn row(&mut self, first: impl Display, figures: &[String]) {
        let mut row = vec![first.to_string()];
        row.extend_from_slice(figures);
        self.rows.push(row);
    }

    pub(crate) fn print(&self) {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell = |row: &[String], column: usize| row.get(column).cloned().unwrap_or_default();
        let width = |column| self.rows.iter().map(|row| cell(row, column).len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = format!("  {:<width$}", row[0], width = widths[0]);
            for (column, width) in widths.iter().enumerate().skip(1) {
                line += &format!("  {:>width$}", cell(row, column));
            }
            say(line.trim_end());
        }
    }
}

/// The title of a scenario and how it measures.
pub(crate) fn title(name: &str, how: &str) {
    say(format_args!("\n{name}\n{}", "-".repeat(name.len())));
    for line in how.lines() {
        say(format_args!("  {}", line.trim_start()));
    }
    say("");
}

/// One thing asked of the crate, and what was measured.
pub(crate) struct Must {
    what: String,
    figure: f64,
    bound: Bound,
    unit: &'static str,
}

enum Bound {
    Below(f64),
    AtMost(f64),
    AtLeast(f64),
}

impl Must {
    pub(crate) fn below(bound: f64, what: impl Display, figure: f64, unit: &'static str) -> Self {
        Self { what: what.to_string(), figure, bound: Bound::Below(bound), unit }
    }

    pub(crate) fn at_most(bound: f64, what: impl Display, figure: f64, unit: &'static str) -> Self {
        Self { what: what.to_string(), figure, bound: Bound::AtMost(bound), unit }
    }

    pub(crate) fn at_least(
        bound: f64,
        what: impl Display,
        figure: f64,
        unit: &'static str,
    ) -> Self {
        Self { what: what.to_string(), figure, bound: Bound::AtLeast(bound), unit }
    }

    /// NaN, where nothing was measured, meets nothing.
    fn is_met(&self) -> bool {
        match self.bound {
            Bound::Below(bound) => self.figure < bound,
            Bound::AtMost(bound) => self.figure <= bound,
            Bound::AtLeast(bound) => self.figure >= bound,
        }
    }
}

/// One line for each, judged by the measured figures rather than by those that are shown.
pub(crate) fn print_musts(musts: &[Must]) {
    say("\nWhat is asked, and what was measured\n");
    let mut table = Table::new(&["", "measured", "asked", ""]);
    for must in musts {
        let unit = must.unit;
        let asked = match must.bound {
            Bound::Below(bound) => format!("< {bound}{unit}"),
            Bound::AtMost(bound) => format!("<= {bound}{unit}"),
            Bound::AtLeast(bound) => format!(">= {bound}{unit}"),
        };
        let verdict = match must.is_met() {
            _ if must.figure.is_nan() => "not measured",
            true => "ok",
            false => "NOT MET",
        };
        table.row(&must.what, &[format!("{:.3}{unit}", must.figure), asked, verdict.to_owned()]);
    }
    table.print();
}
