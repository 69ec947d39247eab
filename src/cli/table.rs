//! Tables for a terminal.

use std::fmt::Write;

use unicode_width::UnicodeWidthStr;

use crate::printable::Printable;

/// What a cell says about itself by its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Head,
    Good,
    Warning,
    Bad,
}

impl Tone {
    /// The code of ECMA-48 that turns it on.
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Head => Some("1"),
            Self::Good => Some("32"),
            Self::Warning => Some("33"),
            Self::Bad => Some("31"),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell whose text may come from elsewhere.
    pub(crate) fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { text: Printable::new(text.as_ref()).to_string(), tone }
    }

    /// A cell of the last column, which may be longer than others.
    pub(crate) fn long(text: impl AsRef<str>) -> Self {
        let text = Printable::of_length(text.as_ref(), 500).to_string();
        Self { text, tone: Tone::Plain }
    }

    pub(crate) fn plain(text: impl AsRef<str>) -> Self {
        Self::new(text, Tone::Plain)
    }
}

/// A table: a head, and rows of as many cells. Columns of numbers are aligned to the right.
pub(crate) struct Table {
    right: Vec<bool>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// `head` has the name of each column, with a leading `>` where it is aligned to the right.
    pub(crate) fn new(head: &[&str]) -> Self {
        let right = head.iter().map(|name| name.starts_with('>')).collect();
        let names = head.iter().map(|name| Cell::new(name.trim_start_matches('>'), Tone::Head));
        Self { right, rows: vec![names.collect()] }
    }

    pub(crate) fn add(&mut self, row: Vec<Cell>) {
        self.rows.push(row);
    }

    /// Returns the lines of the table.
    pub(crate) fn text(&self, colors: bool) -> String {
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.text.width()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.right.len()).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                let gap = if column > 0 { "  " } else { "" };
                let blanks = " ".repeat(widths[column] - cell.text.width());
                let shown = match cell.tone.code().filter(|_| colors) {
                    Some(code) => format!("\u{1b}[{code}m{}\u{1b}[0m", cell.text),
                    None => cell.text.clone(),
                };
                let _ = match self.right[column] {
                    true => write!(line, "{gap}{blanks}{shown}"),
                    false => write!(line, "{gap}{shown}{blanks}"),
                };
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["NAME", ">USE"]);
        table.add(vec![Cell::plain("a\u{1b}[2J"), Cell::new("12", Tone::Bad)]);
        table.add(vec![Cell::plain("chats/eu"), Cell::plain("7")]);
        table
    }

    #[test]
    fn columns_are_aligned_and_what_comes_from_elsewhere_is_harmless() {
        let text = "NAME      USE\na\u{fffd}[2J      12\nchats/eu    7\n";
        assert_eq!(table().text(false), text);
    }

    #[test]
    fn wide_characters_and_marks_keep_the_columns() {
        let mut table = Table::new(&["NAME", ">USE"]);
        for name in ["\u{65e5}\u{672c}\u{8a9e}", "e\u{301}", "\u{1f980}", "abcdef"] {
            table.add(vec![Cell::plain(name), Cell::plain("7")]);
        }
        let text = table.text(false);
        let lines: Vec<&str> = text.lines().collect();
        let wanted = [
            "NAME    USE",
            "\u{65e5}\u{672c}\u{8a9e}    7",
            "e\u{301}         7",
            "\u{1f980}        7",
            "abcdef    7",
        ];
        assert_eq!(lines, wanted);
    }

    #[test]
    fn colours_change_nothing_but_the_colour() {
        let mut text = table().text(true);
        assert!(text.contains("\u{1b}[31m12\u{1b}[0m") && text.contains("\u{1b}[1mNAME"));
        for code in ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[31m"] {
            text = text.replace(code, "");
        }
        let lines =
            |text: &str| text.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>();
        assert_eq!(lines(&text), lines(&table().text(false)));
    }
}
