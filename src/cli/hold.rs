//! `zsem hold`: a permit for as long as standard input is open.

use std::fs;
use std::io::{self, IsTerminal, Read};
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::getpgrp;
use rustix::termios::tcgetpgrp;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::args::{Global, HoldArgs};
use crate::failure::Failure;
use crate::output::warn;
use crate::signals::Signals;
use crate::status::Status;
use crate::waiting::{Granted, Waited, leave, wait};

/// How long a look at a terminal lasts.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

#[derive(Debug, Serialize)]
struct Held {
    id: String,
    token: u64,
    units: u32,
}

pub(crate) async fn hold(global: &Global, args: &HoldArgs) -> Result<Status, Failure> {
    global.may_change()?;
    let mut signals = Signals::catch()?;
    let granted = match wait(global, &args.permit, &mut signals).await? {
        Waited::Granted(granted) => granted,
        Waited::Signal(received) => return Ok(Status::Signal(received.signal.as_raw())),
    };
    let Granted { client, permit, .. } = *granted;
    let (id, token, units) = (permit.id().to_string(), permit.fencing_token(), permit.units());
    let held = Held { id, token, units };
    let holding = async {
        global.tell(&held, || {
            let Held { id, token, units } = &held;
            format!("id={id} token={token} units={units}\n")
        })?;
        tokio::select! {
            biased;
            reason = permit.lost() => {
                Err(Failure::new(Status::LOST, format!("the permit was lost: {reason}")))
            }
            _ = signals.next_end() => Ok(Status::OK),
            ended = input_ends(args.until_signal) => ended.map(|()| Status::OK),
        }
    };
    let end = holding.await;
    drop(permit);
    leave(&client).await;
    end
}

/// Resolves when the input ends that the caller holds open, if the caller does so.
async fn input_ends(until_signal: bool) -> Result<(), Failure> {
    if until_signal {
        return std::future::pending().await;
    }
    end_of_input()?.await;
    if has_no_input() {
        warn("there is no standard input, so nothing is held any more; see --until-signal");
    }
    Ok(())
}

/// Returns whether the input is that of a job which a script has started in the background. It ends at once.
fn has_no_input() -> bool {
    let device = |path| fs::metadata(path).map(|file| file.rdev()).ok();
    device("/dev/null").is_some_and(|null| device("/dev/stdin") == Some(null))
}

/// Resolves when standard input ends. A thread reads it, since a read cannot be given up.
fn end_of_input() -> Result<impl Future<Output = ()>, Failure> {
    let (ended, end) = oneshot::channel();
    let read = move || {
        let _ = if io::stdin().is_terminal() { read_terminal() } else { read_all() };
        let _ = ended.send(());
    };
    let reading = thread::Builder::new().name("input".to_owned()).spawn(read);
    reading.map_err(|error| Failure::of_system("standard input", &error))?;
    Ok(async move {
        let _ = end.await;
    })
}

fn read_all() -> io::Result<()> {
    io::copy(&mut io::stdin().lock(), &mut io::sink()).map(|_| ())
}

/// Reads a terminal while this process is in the foreground. A read in the background would stop it, and a permit
/// is not renewed by a process that is stopped.
fn read_terminal() -> io::Result<()> {
    let input = io::stdin();
    let mut bytes = [0; 1024];
    loop {
        let mut fds = [PollFd::new(&input, PollFlags::IN)];
        let ready = poll(&mut fds, Some(&LOOK))? > 0;
        if tcgetpgrp(&input)? != getpgrp() {
            thread::sleep(Duration::from_millis(200));
        } else if ready && input.lock().read(&mut bytes)? == 0 {
            return Ok(());
        }
    }
}
