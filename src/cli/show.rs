//! `zsem show`: one semaphore, with all who hold and wait.

use serde::Serialize;
use zset_semaphore::{Holder, Inspection, QueuedWaiter};

use crate::args::Global;
use crate::failure::Failure;
use crate::limit::Limit;
use crate::printable::Printable;
use crate::status::Status;
use crate::table::{Cell, Table, Tone};
use crate::times::{millis, short};

/// How a permit is, as far as its lease tells. A client renews when a third of the lease has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    Live,
    /// Less than two thirds of the lease are left.
    RenewalOverdue,
    /// Less than a third is left.
    Silent,
    Kicked,
    /// The lease has ended. The units are in use until the next turn about the name.
    Ended,
}

impl State {
    pub(crate) fn of(holder: &Holder) -> Self {
        let (left, lease) = (holder.expires_in, holder.lease);
        match () {
            () if left.is_zero() => Self::Ended,
            () if holder.kicked => Self::Kicked,
            () if left * 3 < lease => Self::Silent,
            () if left * 3 < lease * 2 => Self::RenewalOverdue,
            () => Self::Live,
        }
    }

    fn cell(self) -> Cell {
        let (text, tone) = match self {
            Self::Live => ("live", Tone::Good),
            Self::RenewalOverdue => ("renewal overdue", Tone::Warning),
            Self::Silent => ("silent", Tone::Bad),
            Self::Kicked => ("kicked", Tone::Bad),
            Self::Ended => ("ended", Tone::Bad),
        };
        Cell::new(text, tone)
    }
}

/// An [`Inspection`] as the library serializes it, with the name, with the state of each holder, and with a limit
/// only where it is known.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    name: &'a str,
    in_use: u64,
    #[serde(flatten)]
    limit: Limit,
    failover_grace_ms: Option<u64>,
    holders_total: u64,
    waiters_total: u64,
    holders: Vec<HolderRow<'a>>,
    waiters: &'a [QueuedWaiter],
}

#[derive(Debug, Serialize)]
struct HolderRow<'a> {
    #[serde(flatten)]
    holder: &'a Holder,
    state: State,
}

pub(crate) async fn show(global: &Global, name: &str) -> Result<Status, Failure> {
    let seen = global.semaphore(name).await?.inspect().await?;
    global.tell(&Shown::new(name, &seen), || text(name, &seen, global.colors()))?;
    Ok(Status::OK)
}

impl<'a> Shown<'a> {
    fn new(name: &'a str, seen: &'a Inspection) -> Self {
        Self {
            name,
            in_use: seen.in_use,
            limit: Limit::of(seen),
            failover_grace_ms: seen.failover_grace.map(millis),
            holders_total: seen.holders_total,
            waiters_total: seen.waiters_total,
            holders: seen.holders.iter().map(HolderRow::new).collect(),
            waiters: &seen.waiters,
        }
    }
}

impl<'a> HolderRow<'a> {
    fn new(holder: &'a Holder) -> Self {
        Self { holder, state: State::of(holder) }
    }
}

fn text(name: &str, seen: &Inspection, colors: bool) -> String {
    let mut text = format!(
        "{}: {} in use, limit {}; {} held, {} waiting\n",
        Printable::new(name),
        seen.in_use,
        Limit::of(seen),
        seen.holders_total,
        seen.waiters_total,
    );
    if let Some(grace) = seen.failover_grace {
        text += &format!("nothing new is granted for {}, after a failover\n", short(grace));
    }
    if !seen.holders.is_empty() {
        text += "\n";
        text += &holders(&seen.holders).text(colors);
        text += &more(seen.holders_total, seen.holders.len());
    }
    if !seen.waiters.is_empty() {
        text += "\n";
        text += &waiters(&seen.waiters).text(colors);
        text += &more(seen.waiters_total, seen.waiters.len());
    }
    text
}

fn more(total: u64, shown: usize) -> String {
    match total.saturating_sub(shown as u64) {
        0 => String::new(),
        more => format!("and {more} more\n"),
    }
}

fn holders(holders: &[Holder]) -> Table {
    let mut table = Table::new(&["HOLDER", "LABEL", ">UNITS", ">LEASE", ">LEFT", "STATE"]);
    for holder in holders {
        table.add(vec![
            Cell::plain(holder.id.to_string()),
            Cell::plain(holder.label.as_deref().unwrap_or_default()),
            Cell::plain(holder.units.to_string()),
            Cell::plain(short(holder.lease)),
            Cell::plain(short(holder.expires_in)),
            State::of(holder).cell(),
        ]);
    }
    table
}

fn waiters(waiters: &[QueuedWaiter]) -> Table {
    let mut table = Table::new(&["WAITER", "LABEL", ">UNITS", ">WAITED"]);
    for waiter in waiters {
        table.add(vec![
            Cell::plain(waiter.id.to_string()),
            Cell::plain(waiter.label.as_deref().unwrap_or_default()),
            Cell::plain(waiter.units.to_string()),
            Cell::plain(short(waiter.waited)),
        ]);
    }
    table
}
