//! The step between `zsem` and a command: it ties the end of the command to that of `zsem`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Signal, getppid, set_parent_process_death_signal};

use crate::failure::Failure;
use crate::status::Status;

/// The first argument of a `zsem` that is such a step. The others are its parent and the command.
pub(super) const STEP: &str = "__exec";

/// If this process is a step, it becomes the command, which the kernel kills when the parent dies. Returns why it
/// could not.
pub(crate) fn step(mut arguments: impl Iterator<Item = OsString>) -> Option<Failure> {
    if arguments.nth(1).is_none_or(|first| first != STEP) {
        return None;
    }
    let parent = arguments.next().unwrap_or_default();
    let command = arguments.next().unwrap_or_default();
    Some(tie_to(&parent).err().unwrap_or_else(|| become_command(&command, arguments)))
}

fn tie_to(parent: &OsStr) -> Result<(), Failure> {
    if cfg!(target_os = "linux") {
        let tied = set_parent_process_death_signal(Some(Signal::KILL));
        tied.map_err(|error| Failure::of_system("prctl", &error.into()))?;
    }
    // It may have died before.
    let present = getppid().map(|parent| parent.as_raw_nonzero().to_string());
    match present {
        Some(present) if *present == *parent => Ok(()),
        _ => Err(Failure::new(Status::SYSTEM, "zsem has ended")),
    }
}

fn become_command(command: &OsStr, arguments: impl Iterator<Item = OsString>) -> Failure {
    let error = Command::new(command).args(arguments).exec();
    let status = match error.kind() {
        io::ErrorKind::NotFound => Status::NOT_FOUND,
        _ => Status::CANNOT_RUN,
    };
    Failure::new(status, format!("{}: {error}", command.display()))
}
