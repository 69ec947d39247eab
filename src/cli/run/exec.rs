//! The hidden steps between `zsem` and a command, each a process of this program.
//!
//! `zsem run` starts the guard, and the guard starts the tie, which becomes the command.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::{Pid, Signal, getpid, getppid};

use crate::failure::Failure;
use crate::status::Status;

use super::guard;

/// The first argument of the guard. The others are its parent, the number of the pipe of deadlines, and the command.
const GUARD: &str = "__guard";

/// The first argument of the tie. The others are its parent and the command.
const TIE: &str = "__exec";

/// The name of the steps. Who signals all processes that are named `zsem` means `zsem`, which passes the signal on.
const NAME: &str = "zsem-guard";

/// This program, also after it was replaced on the disk.
const OWN_PROGRAM: &str = "/proc/self/exe";

/// If this process is one of the steps, it takes it. Returns how it has ended, or why the command cannot be run.
pub(crate) fn step(
    mut arguments: impl Iterator<Item = OsString>,
) -> Option<Result<Status, Failure>> {
    let step = arguments.nth(1)?;
    let guards = step == GUARD;
    if !guards && step != TIE {
        return None;
    }
    let parent = arguments.next().unwrap_or_default();
    Some(if guards {
        let deadlines = arguments.next().unwrap_or_default();
        let command: Vec<OsString> = arguments.collect();
        // A signal that is never ignored: `guard` catches it whatever the parent ignores.
        tie_to(&parent, Signal::CHILD)
            .and_then(|parent| guard::guard(parent, &deadlines.to_string_lossy(), &command))
    } else {
        let command: Vec<OsString> = arguments.collect();
        tie_to(&parent, Signal::KILL).and_then(|_| Err(become_command(&command)))
    })
}

/// Returns the command that guards a command.
pub(super) fn guarded(deadlines: &str, command: &[OsString]) -> Result<Command, Failure> {
    let mut step = next_step(GUARD)?;
    step.arg(deadlines).args(command);
    Ok(step)
}

/// Returns the command that ties a command to this process.
pub(super) fn tie(command: &[OsString]) -> Result<Command, Failure> {
    let mut step = next_step(TIE)?;
    step.args(command);
    Ok(step)
}

/// Returns such a step of this program, with this process as its parent.
fn next_step(step: &str) -> Result<Command, Failure> {
    let mut next = Command::new(own_program()?);
    next.arg0(NAME).arg(step).arg(getpid().to_string());
    Ok(next)
}

/// Returns the path of this program.
pub(super) fn own_program() -> Result<PathBuf, Failure> {
    if cfg!(target_os = "linux") {
        return Ok(OWN_PROGRAM.into());
    }
    std::env::current_exe().map_err(|error| Failure::of_system("zsem itself", &error))
}

/// Fails if this program is not found, so that no command could be started.
pub(super) fn check() -> Result<(), Failure> {
    let found = own_program().and_then(|program| {
        fs::metadata(&program).map_err(|error| {
            let told =
                format!("/proc is needed to start a command: {}: {error}", program.display());
            Failure::new(Status::SYSTEM, told)
        })
    });
    found.map(|_| ())
}

/// Makes the kernel send a signal to this process when its parent dies.
fn tie_to(parent: &OsStr, signal: Signal) -> Result<Pid, Failure> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(signal))
        .map_err(|error| Failure::of_system("prctl", &error.into()))?;
    #[cfg(not(target_os = "linux"))]
    let _ = signal;
    // It may have died before.
    match getppid() {
        Some(present) if *present.to_string() == *parent => Ok(present),
        _ => Err(Failure::new(Status::SYSTEM, "zsem has ended")),
    }
}

fn become_command(command: &[OsString]) -> Failure {
    let (program, arguments) =
        command.split_first().map_or((OsStr::new(""), command), |(program, rest)| (program, rest));
    let error = Command::new(program).args(arguments).exec();
    let status = match error.kind() {
        io::ErrorKind::NotFound => Status::NOT_FOUND,
        _ => Status::CANNOT_RUN,
    };
    Failure::new(status, format!("{}: {error}", program.display()))
}
