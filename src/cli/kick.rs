//! `zsem kick`: ends permits of others.

use std::io::{self, IsTerminal, Write};

use serde::Serialize;
use zset_semaphore::{ControlError, Inspection, KickOutcome, PermitId, StoreErrorKind};

use crate::args::{Global, KickArgs};
use crate::failure::Failure;
use crate::output::warn;
use crate::printable::Printable;
use crate::status::Status;

#[derive(Debug, Serialize)]
struct Kicks {
    kicked: Vec<Kicked>,
    before: Use,
    /// `None` if Redis does not tell.
    after: Option<Use>,
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
    /// Redis has not answered, so it may have kicked or not.
    Unknown,
    /// Redis has refused, or was not reached.
    Failed,
    /// One before it has failed.
    NotTried,
}

impl Outcome {
    fn of_failure(error: &ControlError) -> Self {
        use StoreErrorKind::{Disconnected, Timeout};
        match error {
            ControlError::Unavailable(error) if matches!(error.kind(), Timeout | Disconnected) => {
                Self::Unknown
            }
            _ => Self::Failed,
        }
    }

    /// Whether somebody who has no permit waits under this id.
    fn or_waiting(self, id: PermitId, seen: &Inspection) -> Self {
        match self {
            Self::NotHeld if seen.waiters.iter().any(|waiter| waiter.id == id) => Self::Waiting,
            _ => self,
        }
    }

    fn is_done(self) -> bool {
        matches!(self, Self::Kicked | Self::Removed)
    }

    fn text(self) -> &'static str {
        match self {
            Self::Kicked => "kicked",
            Self::Removed => "removed",
            Self::Waiting => "it waits; only permits are kicked",
            Self::NotHeld => "not held",
            Self::Unknown => "not known, since Redis has not answered",
            Self::Failed => "not kicked",
            Self::NotTried => "not tried",
        }
    }
}

impl From<KickOutcome> for Outcome {
    fn from(outcome: KickOutcome) -> Self {
        match outcome {
            KickOutcome::Marked => Self::Kicked,
            KickOutcome::Removed => Self::Removed,
            _ => Self::NotHeld,
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
    let kick = async |id| match args.now {
        true => semaphore.kick_now(id).await,
        false => semaphore.kick(id).await,
    };
    let (mut kicked, failure) = kick_each(&ids, kick).await;
    let after = semaphore.inspect().await;
    if let Ok(after) = &after {
        for Kicked { id, outcome } in &mut kicked {
            *outcome = outcome.or_waiting(*id, after);
        }
    }
    let before = Use { in_use: seen.in_use };
    let (after, not_seen) = match after {
        Ok(after) => (Some(Use { in_use: after.in_use }), None),
        Err(error) => (None, Some(error)),
    };
    let any = kicked.iter().any(|kicked| kicked.outcome.is_done());
    let kicks = Kicks { kicked, before, after };
    global.tell(&kicks, || text(&kicks))?;
    let by_mark = args.client.is_some() || args.label.is_some();
    if by_mark && seen.holders_total > seen.holders.len() as u64 {
        warn("there are more holders than one look shows; kick again");
    }
    match failure.or(not_seen) {
        Some(error) => Err(error.into()),
        None => Ok(if any { Status::OK } else { Status::NO }),
    }
}

/// Kicks one after the other, up to the first failure. Returns what became of each, and the failure.
async fn kick_each(
    ids: &[PermitId],
    kick: impl AsyncFn(PermitId) -> Result<KickOutcome, ControlError>,
) -> (Vec<Kicked>, Option<ControlError>) {
    let (mut kicked, mut failure) = (Vec::new(), None);
    for &id in ids {
        let outcome = match failure {
            Some(_) => Outcome::NotTried,
            None => match kick(id).await {
                Ok(outcome) => outcome.into(),
                Err(error) => {
                    let outcome = Outcome::of_failure(&error);
                    failure = Some(error);
                    outcome
                }
            },
        };
        kicked.push(Kicked { id, outcome });
    }
    (kicked, failure)
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
    let after = after.as_ref().map_or_else(|| "not known".to_owned(), |it| it.in_use.to_string());
    format!("{lines}in use: {} before, {after} after\n", before.in_use)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_comes_after_a_failure_is_not_tried_and_each_is_told() {
        let ids = [1, 2, 3, 4].map(|number| format!("00c0ffee00c0ffee:{number}").parse().unwrap());
        let (kicked, failure) = kick_each(&ids, async |id| match () {
            () if id == ids[0] => Ok(KickOutcome::Marked),
            () if id == ids[1] => Ok(KickOutcome::NotHeld),
            () if id == ids[2] => Err(ControlError::Closed),
            () => panic!("it was tried"),
        })
        .await;
        let told: Vec<_> = kicked.iter().map(|kicked| (kicked.id, kicked.outcome)).collect();
        let outcomes = [Outcome::Kicked, Outcome::NotHeld, Outcome::Failed, Outcome::NotTried];
        assert_eq!(told, ids.into_iter().zip(outcomes).collect::<Vec<_>>());
        assert!(matches!(failure, Some(ControlError::Closed)));
        let kicks = Kicks { kicked, before: Use { in_use: 4 }, after: Some(Use { in_use: 3 }) };
        assert_eq!(
            text(&kicks),
            "00c0ffee00c0ffee:1: kicked\n00c0ffee00c0ffee:2: not held\n00c0ffee00c0ffee:3: not kicked\n\
             00c0ffee00c0ffee:4: not tried\nin use: 4 before, 3 after\n"
        );
    }
}
