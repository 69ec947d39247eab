//! The command that runs under a permit.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::sync::Notify;
use zset_semaphore::{Permit, ZSetSemaphore};

use crate::failure::Failure;
use crate::signals::{Received, Signals};
use crate::status::Status;

use super::exec::{GUARD, next_step};
use super::tree;

/// The command, as `zsem` sees it: the guard, and all that is below it.
pub(crate) struct Child {
    guard: Pid,
    group: Group,
    /// Children that this process had before: a shell may have become `zsem` by `exec`.
    strangers: Vec<Pid>,
    /// Notified whenever a child has ended.
    changes: Arc<Notify>,
}

/// How often the processes are listed to be asked. The second list has what was started while the first one was read and
/// asked.
const LOOKS: usize = 2;

/// The process group of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    /// Its own: signals go to all processes of the group.
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
        signals: &Signals,
    ) -> Result<Self, Failure> {
        let strangers = tree::children();
        tree::adopt_orphans();
        let group = if has_terminal() { Group::Shared } else { Group::Own };
        let mut step = next_step(GUARD, command)?;
        step.env("ZSEM_NAME", semaphore.name())
            .env("ZSEM_ID", permit.id().to_string())
            .env("ZSEM_TOKEN", permit.fencing_token().to_string())
            .env("ZSEM_UNITS", permit.units().to_string())
            .env("ZSEM_LIMIT", semaphore.limit().to_string());
        if group == Group::Own {
            step.process_group(0);
        }
        let guard = step.spawn().map_err(|error| Failure::of_system("the command", &error))?;
        Ok(Self { guard: Pid::from_child(&guard), group, strangers, changes: signals.children() })
    }

    /// Resolves when the command has ended, once. Cancel-safe.
    pub(crate) async fn ended(&self) -> Status {
        loop {
            match tree::collect(self.guard) {
                Some(status) => return Status::of(status),
                None => self.changed().await,
            }
        }
    }

    /// Resolves when a child has ended, or may have. Cancel-safe.
    pub(crate) async fn changed(&self) {
        self.changes.notified().await;
    }

    /// Collects what the command has left behind and has ended. Returns whether nothing of it runs any more.
    pub(crate) fn has_left_nothing(&self) -> bool {
        tree::collect(self.guard);
        tree::below_this(&self.strangers).iter().all(|process| process.is_dead)
    }

    /// Sends a signal to all that the command has started. What is stopped goes on, to act on it.
    pub(crate) fn ask(&self, signal: Signal) {
        if !cfg!(target_os = "linux") {
            return self.ask_guard(signal);
        }
        let mut asked = vec![self.guard];
        for _ in 0..LOOKS {
            let found = tree::below_this(&self.strangers).into_iter().map(|process| process.pid);
            let new: Vec<Pid> = found.filter(|pid| !asked.contains(pid)).collect();
            for pid in &new {
                let _ = kill_process(*pid, signal); // it may have ended a moment ago
                let _ = kill_process(*pid, Signal::CONT);
            }
            asked.extend(new);
        }
    }

    /// Sends a signal to the guard, which passes it on.
    fn ask_guard(&self, signal: Signal) {
        let _ = kill_process(self.guard, signal); // it may have ended a moment ago
    }

    /// Kills all that the command has started, as it is found now. What it starts meanwhile is found by the next
    /// call. Returns whether there was anything.
    pub(crate) fn kill(&self) -> bool {
        if cfg!(target_os = "linux") {
            return tree::kill_below_this(&self.strangers);
        }
        let killed = match self.group {
            Group::Own => kill_process_group(self.guard, Signal::KILL),
            Group::Shared => kill_process(self.guard, Signal::KILL),
        };
        killed.is_ok()
    }

    /// Passes a signal on, by the guard, unless the terminal has sent it to all in the foreground.
    pub(crate) fn pass_on(&self, received: Received) {
        if received.sender.is_some() || self.group == Group::Own {
            self.ask_guard(received.signal);
        }
    }
}

fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}
