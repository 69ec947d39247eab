//! What happens while a command runs: signals are passed on, and a permit that is lost ends the command.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep_until};
use zset_semaphore::{LostReason, Permit};

use crate::args::WhenLost;
use crate::output::warn;
use crate::signals::Signals;
use crate::status::Status;

use super::child::Child;

/// How a command is watched.
pub(crate) struct Watch {
    /// How long it has to end.
    pub(crate) grace: Duration,
    /// What asks it to end.
    pub(crate) signal: Signal,
    pub(crate) when_lost: WhenLost,
}

/// How a command has ended.
pub(crate) enum Ended {
    ByItself(Status),
    /// Because its permit was lost for this reason, or was about to be lost.
    Stopped(Option<LostReason>),
}

/// How far the end of a command has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Running,
    /// It was asked to end: no renewal was confirmed in time, or it was about to be held for too long.
    Asked,
    /// The permit is lost. It is killed at that instant.
    Lost(LostReason, Instant),
    Killed(LostReason),
    /// The permit is lost, and the command goes on.
    Kept,
}

impl Watch {
    /// Resolves when the command has ended. It asks the command to end when the permit has no more than the grace
    /// left, and kills it when the permit is lost: nobody else can be let in before.
    pub(crate) async fn until_end(
        &self,
        mut child: Child,
        permit: &Permit,
        signals: &mut Signals,
    ) -> Ended {
        let mut stage = Stage::Running;
        loop {
            let look_at = self.look_at(stage, permit);
            tokio::select! {
                biased;
                status = child.ended() => return ended(&child, stage, status),
                reason = permit.lost(), if matches!(stage, Stage::Running | Stage::Asked) => {
                    stage = self.lost(&child, stage, reason, permit.deadline());
                }
                () = sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => {
                    stage = self.look(&child, stage, permit);
                }
                received = signals.next() => child.pass_on(received),
            }
        }
    }

    /// Returns when the command is to be asked or killed, if it has not ended by then.
    fn look_at(&self, stage: Stage, permit: &Permit) -> Option<Instant> {
        match stage {
            Stage::Running => (self.when_lost == WhenLost::Stop).then(|| self.ask_at(permit)),
            Stage::Lost(_, kill_at) => Some(kill_at),
            Stage::Asked | Stage::Killed(_) | Stage::Kept => None,
        }
    }

    /// Returns when the command is asked to end, unless the permit is renewed.
    fn ask_at(&self, permit: &Permit) -> Instant {
        let deadline = permit.deadline();
        deadline.checked_sub(self.grace).unwrap_or(deadline)
    }

    /// Asks the command to end. One that is stopped has to go on for that.
    fn ask(&self, child: &Child) {
        child.send(self.signal);
        child.send(Signal::CONT);
    }

    /// Does what is due.
    fn look(&self, child: &Child, stage: Stage, permit: &Permit) -> Stage {
        match stage {
            Stage::Running if self.ask_at(permit) <= Instant::now() => {
                self.ask(child);
                Stage::Asked
            }
            Stage::Lost(reason, _) => {
                child.send(Signal::KILL);
                Stage::Killed(reason)
            }
            _ => stage, // it was renewed
        }
    }

    /// The permit is lost. A kicked one keeps its units until it is given back or its lease ends, so the command
    /// has the grace to end.
    fn lost(&self, child: &Child, stage: Stage, reason: LostReason, deadline: Instant) -> Stage {
        if self.when_lost == WhenLost::Keep {
            warn(&format!("warning: the permit was lost, and the command goes on: {reason}"));
            return Stage::Kept;
        }
        if reason == LostReason::Kicked {
            if stage == Stage::Running {
                self.ask(child);
            }
            return Stage::Lost(reason, deadline.min(Instant::now() + self.grace));
        }
        child.send(Signal::KILL);
        Stage::Killed(reason)
    }
}

/// What the command has started ends with it where its permit is lost.
fn ended(child: &Child, stage: Stage, status: Status) -> Ended {
    let reason = match stage {
        Stage::Running | Stage::Kept => return Ended::ByItself(status),
        Stage::Asked => None,
        Stage::Lost(reason, _) | Stage::Killed(reason) => Some(reason),
    };
    child.end_group();
    Ended::Stopped(reason)
}
