//! The command that runs under a permit.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::process::Command;
use zset_semaphore::{Permit, ZSetSemaphore};

use crate::failure::Failure;
use crate::signals::Received;
use crate::status::Status;

use super::exec::STEP;

/// This program, also after it was replaced on the disk.
const OWN_PROGRAM: &str = "/proc/self/exe";

pub(crate) struct Child {
    process: tokio::process::Child,
    pid: Pid,
    group: Group,
}

/// The process group of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    /// Its own: signals go to all that the command has started.
    Own,
    /// That of `zsem`: on a terminal, so that the command may read from it, and Ctrl-C and Ctrl-Z reach both.
    Shared,
}

impl Child {
    /// Starts a command with the marks of its permit in the environment.
    pub(crate) fn start(
        command: &[OsString],
        semaphore: &ZSetSemaphore,
        permit: &Permit,
    ) -> Result<Self, Failure> {
        let program = match std::env::current_exe() {
            _ if cfg!(target_os = "linux") => OWN_PROGRAM.into(),
            own => own.map_err(|error| Failure::of_system("zsem itself", &error))?,
        };
        let group = if has_terminal() { Group::Shared } else { Group::Own };
        let mut step = Command::new(program);
        step.arg(STEP).arg(std::process::id().to_string()).args(command);
        step.env("ZSEM_NAME", semaphore.name())
            .env("ZSEM_ID", permit.id().to_string())
            .env("ZSEM_TOKEN", permit.fencing_token().to_string())
            .env("ZSEM_UNITS", permit.units().to_string())
            .env("ZSEM_LIMIT", semaphore.limit().to_string());
        if group == Group::Own {
            step.process_group(0);
        }
        let process = step.spawn().map_err(|error| Failure::of_system("the command", &error))?;
        let pid = process.id().and_then(|pid| Pid::from_raw(pid.cast_signed()));
        let pid = pid.ok_or_else(|| Failure::new(Status::SYSTEM, "the command has no number"))?;
        Ok(Self { process, pid, group })
    }

    /// Resolves when the command has ended. Cancel-safe.
    pub(crate) async fn ended(&mut self) -> Status {
        match self.process.wait().await {
            Ok(status) => status_of(status),
            Err(_) => Status::SYSTEM,
        }
    }

    /// Sends a signal to the command, and to all that it has started where it has a group of its own.
    pub(crate) fn send(&self, signal: Signal) {
        // It may have ended a moment ago.
        let _ = match self.group {
            Group::Own => kill_process_group(self.pid, signal),
            Group::Shared => kill_process(self.pid, signal),
        };
    }

    /// Kills what the command has started and left behind in a group of its own.
    pub(crate) fn end_group(&self) {
        if self.group == Group::Own {
            let _ = kill_process_group(self.pid, Signal::KILL); // there may be nobody
        }
    }

    /// Passes a signal on, unless the command has got it, too.
    pub(crate) fn pass_on(&self, received: Received) {
        if !(self.group == Group::Shared && received.by_terminal) {
            self.send(received.signal);
        }
    }
}

fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}

fn status_of(status: ExitStatus) -> Status {
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).map_or(Status::SYSTEM, Status::new),
        (None, Some(signal)) => Status::of_signal(signal),
        (None, None) => Status::SYSTEM,
    }
}
