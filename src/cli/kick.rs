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
struct Kicked {
    id: String,
    outcome: &'static str,
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
    tell(global, &outcomes, (seen.in_use, after.in_use))?;
    let by_mark = args.client.is_some() || args.label.is_some();
    if by_mark && seen.holders_total > seen.holders.len() as u64 {
        warn("there are more holders than one look shows; kick again");
    }
    let any = outcomes.iter().any(|(_, outcome)| *outcome != KickOutcome::NotHeld);
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

fn tell(
    global: &Global,
    outcomes: &[(PermitId, KickOutcome)],
    (before, after): (u64, u64),
) -> Result<(), Failure> {
    let named = |outcome| match outcome {
        KickOutcome::Marked => "kicked",
        KickOutcome::Removed => "removed",
        _ => "not held",
    };
    let kicked = outcomes.iter();
    let kicked: Vec<_> = kicked
        .map(|(id, outcome)| Kicked { id: id.to_string(), outcome: named(*outcome) })
        .collect();
    global.tell(&kicked, || {
        let lines = kicked.iter().map(|Kicked { id, outcome }| format!("{id}: {outcome}\n"));
        format!("{}in use: {before} before, {after} after\n", lines.collect::<String>())
    })
}
