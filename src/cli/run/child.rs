//! The command that runs under a permit.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::File;
use std::iter;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use tokio::sync::Notify;
use tokio::time::timeout;
use zset_semaphore::{Permit, ZSetSemaphore};

use crate::failure::Failure;
use crate::output::warn;
use crate::signals::{Received, Signals};
use crate::status::Status;

use super::deadline::{self, Teller};
use super::ending::Ending;
use super::exec::{guarded, own_program, tie};
use super::tree;

/// The command, as `zsem` sees it: the process that it has started, and all that is below that.
pub(crate) struct Child {
    /// The guard; or `zsem` once more, which starts the guard.
    first: Pid,
    /// Whether `first` has ended and was collected. Another process may have its number then.
    is_collected: Cell<bool>,
    group: Group,
    /// Notified whenever a child has ended.
    changes: Arc<Notify>,
}

/// How often the processes are listed to be asked. The second list has what was started while the first one was read and
/// asked.
const LOOKS: usize = 2;

const NOT_SHOWN: &str = "warning: /proc is not that of zsem: what has left the process group of the command is not killed";

/// The process group of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    /// Its own: signals go to all processes of the group.
    Own,
    /// That of `zsem`: on a terminal, so that the command may read from it, and Ctrl-C and Ctrl-Z reach both.
    Shared,
}

impl Child {
    /// Starts a command with the marks of its permit in the environment. The guard reads `deadlines`.
    pub(crate) fn start(
        command: &[OsString],
        deadlines: Option<&Teller>,
        semaphore: &ZSetSemaphore,
        permit: &Permit,
        signals: &Signals,
    ) -> Result<Self, Failure> {
        tree::adopt_orphans();
        let deadlines = deadlines.map_or_else(|| deadline::NONE.to_owned(), Teller::number);
        let mut step = guarded(&deadlines, command)?;
        step.env("ZSEM_NAME", semaphore.name())
            .env("ZSEM_ID", permit.id().to_string())
            .env("ZSEM_TOKEN", permit.fencing_token().to_string())
            .env("ZSEM_UNITS", permit.units().to_string())
            .env("ZSEM_LIMIT", semaphore.limit().to_string());
        Self::spawn(step, signals)
    }

    /// Starts `zsem` once more, with the same arguments. It ends when this process ends.
    pub(crate) fn again(signals: &Signals) -> Result<Self, Failure> {
        let arguments = std::env::args_os().skip(1);
        let command: Vec<_> = iter::once(own_program()?.into()).chain(arguments).collect();
        Self::spawn(tie(&command)?, signals)
    }

    fn spawn(mut step: Command, signals: &Signals) -> Result<Self, Failure> {
        let group = if has_terminal() { Group::Shared } else { Group::Own };
        if group == Group::Own {
            step.process_group(0);
        }
        let first = step.spawn().map_err(|error| Failure::of_system("the command", &error))?;
        let (first, changes) = (Pid::from_child(&first), signals.children());
        Ok(Self { first, is_collected: Cell::new(false), group, changes })
    }

    /// Resolves when the command has ended, once. Cancel-safe.
    pub(crate) async fn ended(&self) -> Status {
        loop {
            match self.collect() {
                Some(status) => return status,
                None => self.changed().await,
            }
        }
    }

    /// Collects what has ended. Returns how the command has ended, if it is among that.
    fn collect(&self) -> Option<Status> {
        let status = tree::collect(self.first)?;
        self.is_collected.set(true);
        Some(Status::of(status))
    }

    /// Resolves when a child has ended, or may have. Cancel-safe.
    pub(crate) async fn changed(&self) {
        self.changes.notified().await;
    }

    /// Collects what the command has left behind and has ended. Returns whether nothing of it runs any more.
    pub(crate) fn has_left_nothing(&self) -> bool {
        self.collect();
        !tree::has_children()
    }

    /// Sends a signal to all that the command has started. What is stopped goes on, to act on it.
    pub(crate) fn ask(&self, signal: Signal) {
        if !tree::is_shown() {
            return self.ask_first(signal);
        }
        let mut asked = vec![self.first];
        for _ in 0..LOOKS {
            let mut new = tree::below_this();
            new.retain(|pid| !asked.contains(pid));
            for pid in &new {
                let _ = kill_process(*pid, signal); // it may have ended a moment ago
                let _ = kill_process(*pid, Signal::CONT);
            }
            asked.extend(new);
        }
        if asked.len() == 1 {
            self.ask_first(signal); // it starts the command a moment later
        }
    }

    /// Sends a signal to the guard, which passes it on.
    fn ask_first(&self, signal: Signal) {
        if !self.is_collected.get() {
            let _ = kill_process(self.first, signal); // it may have ended a moment ago
        }
    }

    /// Kills all that the command has started. Resolves when nothing of it is left.
    pub(crate) async fn end_all(&self) {
        let (mut ending, mut has_warned) = (Ending::new(), false);
        if cfg!(target_os = "linux") && !tree::is_shown() {
            warn(NOT_SHOWN);
        }
        self.kill_group();
        while !ending.go_on() {
            if !has_warned && !ending.refused.is_empty() {
                has_warned = true;
                warn(&told_of(&ending.refused));
            }
            let _ = timeout(ending.pause, self.changed()).await; // it may last
        }
    }

    /// Kills the process group of the command, or the guard alone, which the command does not outlive.
    fn kill_group(&self) {
        if self.is_collected.replace(true) {
            return;
        }
        // It may have ended a moment ago.
        let _ = match self.group {
            Group::Own => kill_process_group(self.first, Signal::KILL),
            Group::Shared => kill_process(self.first, Signal::KILL),
        };
    }

    /// Passes a signal on, by the guard, unless the terminal has sent it to all in the foreground.
    pub(crate) fn pass_on(&self, received: Received) {
        if received.sender.is_some() || self.group == Group::Own {
            self.ask_first(received.signal);
        }
    }
}

fn told_of(refused: &[Pid]) -> String {
    let numbers: Vec<_> = refused.iter().map(|pid| pid.as_raw_nonzero().to_string()).collect();
    let numbers = numbers.join(", ");
    format!(
        "warning: zsem may not kill what runs as another user, and waits for its end: {numbers}"
    )
}

fn has_terminal() -> bool {
    File::open("/dev/tty").is_ok()
}
