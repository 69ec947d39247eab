//! What happens while a command runs: signals are passed on, and a permit that is lost ends the command.

use std::future::pending;
use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep_until};
use zset_semaphore::{LostReason, Permit};

use crate::args::WhenLost;
use crate::output::warn;
use crate::signals::Signals;
use crate::status::Status;

use super::child::Child;
use super::deadline::Teller;

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
    /// It was asked to end: no renewal was confirmed in time, or it was about to be held for too long. The permit
    /// ends at that instant, unless it is renewed after all.
    Asked(Instant),
    /// The permit is lost. All that runs is killed at that instant.
    Lost(LostReason, Instant),
    /// All that runs is killed. The permit is lost for this reason; or it was renewed after the command had ended
    /// because it was asked to.
    Over(Option<LostReason>),
    /// The permit is lost, and the command goes on.
    Kept,
}

/// What ends the guard, if it is sent to it: it catches all other signals. SEGV and BUS are those of Rust's runtime.
const UNCAUGHT: [Signal; 5] = [Signal::KILL, Signal::SEGV, Signal::BUS, Signal::ILL, Signal::FPE];

/// How long to wait for the loss of a permit whose deadline has passed.
const LOOK: Duration = Duration::from_millis(2);

impl Watch {
    /// Returns what tells the guard until when the command may run, if a loss ends it.
    pub(crate) fn deadlines(&self, permit: &Permit) -> Option<Teller> {
        // Without it, only `zsem` keeps the deadline.
        let teller = || Teller::new(permit.deadline()).ok();
        (self.when_lost == WhenLost::Stop).then(teller).flatten()
    }

    /// Resolves when the command has ended, and all that it has started, too, if its permit is lost. It asks them
    /// to end when the permit has no more than the grace left, and kills them when the permit is lost: nobody else
    /// can be let in before.
    pub(crate) async fn until_end(
        &self,
        child: &Child,
        permit: &Permit,
        mut deadlines: Option<Teller>,
        signals: &mut Signals,
    ) -> Ended {
        let mut stage = Stage::Running;
        let mut has_ended = false;
        loop {
            let look_at = self.look_at(stage, permit);
            tokio::select! {
                biased;
                status = child.ended(), if !has_ended => {
                    if self.has_ended_by_itself(stage, permit, status) {
                        end_rest(child, status).await;
                        return Ended::ByItself(status);
                    }
                    has_ended = true;
                }
                () = child.changed(), if has_ended => {}
                reason = permit.lost(), if stage.may_be_renewed() => {
                    stage = self.lost(child, stage, reason, permit.deadline());
                }
                () = sleep_until(look_at.unwrap_or_else(Instant::now)), if look_at.is_some() => {
                    stage = self.look(child, stage, permit, has_ended);
                }
                () = until_told(&mut deadlines, permit), if stage.may_be_renewed() => {}
                received = signals.next() => child.pass_on(received),
            }
            if let Stage::Over(_) = stage {
                child.end_all().await;
                return Ended::Stopped(stage.reason());
            }
            if has_ended && child.has_left_nothing() {
                return Ended::Stopped(stage.reason());
            }
        }
    }

    /// Returns whether the end of the command has nothing to do with its permit: that is not lost, and was renewed
    /// if the command was asked to end.
    fn has_ended_by_itself(&self, stage: Stage, permit: &Permit, status: Status) -> bool {
        match stage {
            // The guard kills it at the deadline if this process was stopped.
            Stage::Running => status != Status::KILLED || !permit.is_lost(),
            Stage::Kept => true,
            Stage::Asked(_) => !permit.is_lost() && self.ask_at(permit) > Instant::now(),
            Stage::Lost(..) | Stage::Over(_) => false,
        }
    }

    /// Returns when there is something to do, if the command has not ended by then.
    fn look_at(&self, stage: Stage, permit: &Permit) -> Option<Instant> {
        match stage {
            Stage::Running => (self.when_lost == WhenLost::Stop).then(|| self.ask_at(permit)),
            Stage::Asked(at) | Stage::Lost(_, at) => Some(at),
            Stage::Kept | Stage::Over(_) => None,
        }
    }

    /// Returns when the command is asked to end, unless the permit is renewed.
    fn ask_at(&self, permit: &Permit) -> Instant {
        let deadline = permit.deadline();
        deadline.checked_sub(self.grace).unwrap_or(deadline)
    }

    /// Does what is due.
    fn look(&self, child: &Child, stage: Stage, permit: &Permit, has_ended: bool) -> Stage {
        let now = Instant::now();
        match stage {
            Stage::Running if self.ask_at(permit) <= now => {
                child.ask(self.signal);
                Stage::Asked(permit.deadline())
            }
            // It was renewed.
            Stage::Asked(_) if has_ended && self.ask_at(permit) > now => Stage::Over(None),
            Stage::Running | Stage::Asked(_) if self.ask_at(permit) > now => Stage::Running,
            // `lost` resolves next.
            Stage::Running | Stage::Asked(_) => Stage::Asked(now + LOOK),
            Stage::Lost(reason, _) => Stage::Over(Some(reason)),
            Stage::Kept | Stage::Over(_) => stage,
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
                child.ask(self.signal);
            }
            return Stage::Lost(reason, deadline.min(Instant::now() + self.grace));
        }
        Stage::Over(Some(reason))
    }
}

/// Tells the guard of a renewal, in time. Resolves when it has looked, and never if nobody is told. Cancel-safe.
async fn until_told(deadlines: &mut Option<Teller>, permit: &Permit) {
    match deadlines {
        Some(teller) => {
            sleep_until(teller.look_at()).await;
            teller.tell(permit.deadline());
        }
        None => pending().await,
    }
}

/// A command that was killed could not end what it has started, and neither could a guard. It ends by the signal of the
/// command, so the two look the same.
async fn end_rest(child: &Child, status: Status) {
    if UNCAUGHT.map(|signal| Status::Signal(signal.as_raw())).contains(&status) {
        child.end_all().await;
    }
}

impl Stage {
    fn may_be_renewed(self) -> bool {
        matches!(self, Self::Running | Self::Asked(_))
    }

    fn reason(self) -> Option<LostReason> {
        match self {
            Self::Running | Self::Asked(_) | Self::Kept => None,
            Self::Lost(reason, _) => Some(reason),
            Self::Over(reason) => reason,
        }
    }
}
