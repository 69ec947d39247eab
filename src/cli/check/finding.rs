//! What a check has found, in one line.

use serde::Serialize;

use crate::table::{Cell, Table, Tone};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    Ok,
    /// It works, and may do harm one day.
    Warn,
    /// It does not work.
    Fail,
}

#[derive(Debug, Serialize)]
pub(crate) struct Finding {
    pub(crate) level: Level,
    what: &'static str,
    told: String,
}

impl Finding {
    pub(crate) fn ok(what: &'static str, told: impl Into<String>) -> Self {
        Self { level: Level::Ok, what, told: told.into() }
    }

    pub(crate) fn warn(what: &'static str, told: impl Into<String>) -> Self {
        Self { level: Level::Warn, what, told: told.into() }
    }

    pub(crate) fn is_of(&self, what: &str) -> bool {
        self.what == what
    }

    pub(crate) fn fail(what: &'static str, told: impl Into<String>) -> Self {
        Self { level: Level::Fail, what, told: told.into() }
    }
}

pub(crate) fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new(&["", "CHECK", "FOUND"]);
    for Finding { level, what, told } in findings {
        let level = match level {
            Level::Ok => Cell::new("ok", Tone::Good),
            Level::Warn => Cell::new("warn", Tone::Warning),
            Level::Fail => Cell::new("fail", Tone::Bad),
        };
        table.add(vec![level, Cell::plain(what), Cell::long(told)]);
    }
    table
}
