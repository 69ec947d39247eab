//! `zsem run`: waits for a permit, runs a command, and gives the permit back.

mod child;
mod deadline;
mod ending;
mod exec;
mod guard;
mod tree;
mod watch;

use std::ffi::OsString;
use std::time::Duration;

use crate::args::{Global, RunArgs};
use crate::failure::Failure;
use crate::output::warn;
use crate::signals::Signals;
use crate::status::Status;
use crate::waiting::{Granted, Waited, leave, wait};

use child::Child;
pub(crate) use exec::step;
use watch::{Ended, Watch};

/// The longest grace that is set by default.
const GRACE: Duration = Duration::from_secs(10);

pub(crate) async fn run(global: &Global, args: RunArgs) -> Result<Status, Failure> {
    global.may_change()?;
    let watch = Watch { grace: grace(&args)?, signal: args.signal, when_lost: args.when_lost };
    exec::check()?;
    let mut signals = Signals::catch()?;
    if tree::has_children() {
        return run_below(signals).await;
    }
    let waited = wait(global, &args.permit, &mut signals).await;
    let granted = match waited.map_err(|failure| failure.or_no_permit(args.conflict_status))? {
        Waited::Granted(granted) => granted,
        Waited::Signal(received) => return Ok(Status::Signal(received.signal.as_raw())),
    };
    let Granted { client, semaphore, permit } = *granted;
    let deadlines = watch.deadlines(&permit);
    let ended =
        match Child::start(&command(&args), deadlines.as_ref(), &semaphore, &permit, &signals) {
            Ok(child) => watch.until_end(&child, &permit, deadlines, &mut signals).await,
            Err(failure) => {
                drop(permit);
                leave(&client).await;
                return Err(failure);
            }
        };
    match ended {
        Ended::ByItself(status) => {
            release(global, permit).await;
            Ok(status)
        }
        Ended::Stopped(reason) => {
            drop(permit);
            leave(&client).await;
            let why = reason.map_or_else(|| "its end was near".to_owned(), |why| why.to_string());
            let told = format!("the permit was lost, and the command was stopped: {why}");
            Err(Failure::new(Status::LOST, told))
        }
    }
}

/// Runs `zsem` as a child of this process, which had children before it became `zsem`. What they leave behind would be
/// taken for what the command has started.
async fn run_below(mut signals: Signals) -> Result<Status, Failure> {
    let child = Child::again(&signals)?;
    loop {
        tokio::select! {
            biased;
            status = child.ended() => return Ok(status),
            received = signals.next() => child.pass_on(received),
        }
    }
}

/// A release that is not confirmed changes nothing of what the command has done.
async fn release(global: &Global, permit: zset_semaphore::Permit) {
    let told = match tokio::time::timeout(global.call_deadline, permit.release()).await {
        Ok(Ok(_)) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer within {:?}", global.call_deadline),
    };
    warn(&format!("warning: the units are in use until the lease ends: {told}"));
}

fn command(args: &RunArgs) -> Vec<OsString> {
    match &args.shell {
        Some(line) => vec!["/bin/sh".into(), "-c".into(), line.clone()],
        None => args.command.clone(),
    }
}

/// A permit has two thirds of its lease left when it is renewed. With less grace than that, a command is asked to
/// end only if a renewal fails.
fn grace(args: &RunArgs) -> Result<Duration, Failure> {
    let lease = args.permit.lease;
    let longest = args.permit.max_hold.unwrap_or(Duration::MAX);
    let grace = args.grace.unwrap_or_else(|| GRACE.min(lease / 3).min(longest / 3));
    if grace > lease / 2 || grace >= longest {
        let told = format!(
            "--grace is {grace:?}; allowed: up to half of the lease, {:?}, and less than --max-hold",
            lease / 2
        );
        return Err(Failure::new(Status::CONFIG, told));
    }
    Ok(grace)
}
