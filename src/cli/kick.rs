//! `zsem kick`: ends permits of others.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use zset_semaphore::{Inspection, KickOutcome, PermitId};

use crate::args::{Global, KickArgs};
use crate::failure::Failure;
use crate::output::warn;
use crate::printable::Printable;
use crate::status::Status;

#[derive(Debug, Serialize)]
struct Kicks {
    kicked: Vec<Kicked>,
    before: Use,
    after: Use,
}

#[derive(Debug, Serialize)]
struct Kicked {
    id: PermitId,
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
struct Use {
    in_use: u64,
}

/// What a kick did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    /// The permit cannot be renewed any more, and its holder is told.
    Kicked,
    /// The units are free.
    Removed,
    /// Whose id this is holds nothing yet. Only permits are kicked.
    Waiting,
    NotHeld,
}

impl Outcome {
    fn new(outcome: KickOutcome, id: PermitId, seen: &Inspection) -> Self {
        match outcome {
            KickOutcome::Marked => Self::Kicked,
            KickOutcome::Removed => Self::Removed,
            _ if seen.waiters.iter().any(|waiter| waiter.id == id) => Self::Waiting,
            _ => Self::NotHeld,
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Kicked => "kicked",
            Self::Removed => "removed",
            Self::Waiting => "it waits; only permits are kicked",
            Self::NotHeld => "not held",
        }
    }
}

pub(crate) async fn kick(global: &Global, args: &KickArgs) -> Result<Status, Failure> {
    global.may_change()?;
    let semaphore = global.semaphore(&args.name).await?;
    let seen = semaphore.inspect().await?;
    let ids = chosen(args, &seen);
    if ids.is_empty() {
        return Err(Failure::new(Status::NO, "nobody holds such a permit"));
    }
    if !args.yes && !confirmed(args, &ids)? {
        return Err(Failure::new(Status::NO, "nothing was changed"));
    }
    let mut outcomes = Vec::new();
    for id in ids {
        let outcome = match args.now {
            true => semaphore.kick_now(id).await?,
            false => semaphore.kick(id).await?,
        };
        outcomes.push((id, outcome));
    }
    let after = semaphore.inspect().await?;
    let outcomes = outcomes.into_iter();
    let kicked = outcomes
        .map(|(id, outcome)| Kicked { id, outcome: Outcome::new(outcome, id, &after) })
        .collect();
    let (before, after) = (Use { in_use: seen.in_use }, Use { in_use: after.in_use });
    let kicks = Kicks { kicked, before, after };
    global.tell(&kicks, || text(&kicks))?;
    let by_mark = args.client.is_some() || args.label.is_some();
    if by_mark && seen.holders_total > seen.holders.len() as u64 {
        warn("there are more holders than one look shows; kick again");
    }
    let any = kicks
        .kicked
        .iter()
        .any(|Kicked { outcome, .. }| matches!(outcome, Outcome::Kicked | Outcome::Removed));
    Ok(if any { Status::OK } else { Status::NO })
}

/// Those that were named, and those of the client and with the label that were named.
fn chosen(args: &KickArgs, seen: &Inspection) -> Vec<PermitId> {
    let is_meant = |holder: &&zset_semaphore::Holder| {
        args.client.is_some_and(|client| holder.client == client)
            || args.label.is_some() && holder.label == args.label
    };
    let mut ids = args.ids.clone();
    ids.extend(seen.holders.iter().filter(is_meant).map(|holder| holder.id));
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Asks on the terminal. Without one, only `--yes` says that it is meant.
fn confirmed(args: &KickArgs, ids: &[PermitId]) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::new(Status::USAGE, "without a terminal, say --yes"));
    }
    let what = if args.now { "free at once the units of" } else { "kick" };
    let read = |error: io::Error| Failure::of_system("the terminal", &error);
    let name = Printable::new(&args.name);
    write!(io::stderr(), "zsem: {what} {} permits of {name}? [y/N] ", ids.len()).map_err(read)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(read)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

fn text(Kicks { kicked, before, after }: &Kicks) -> String {
    let lines = kicked.iter().map(|Kicked { id, outcome }| format!("{id}: {}\n", outcome.text()));
    let lines: String = lines.collect();
    format!("{lines}in use: {} before, {} after\n", before.in_use, after.in_use)
}
