//! The guard: a process between `zsem` and the command that outlives `zsem`, if only for a moment.
//!
//! It kills all that the command has started when `zsem` has died, or does not tell in time that the permit is renewed.
//! It passes on what `zsem` sends, and ends as the command does. Without a terminal, it leads the process group of the
//! command: a command that leads its group cannot make a session of its own. What is sent to the group does not end the
//! guard.

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, poll};
use rustix::process::{Pid, Signal, getpgrp, getpid, getppid, kill_process, kill_process_group};
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::WithOrigin;

use crate::failure::Failure;
use crate::signals::{Reactions, Received, UNTOLD, is_fatal_to};
use crate::status::Status;

use super::ending::Ending;
use super::{deadline, exec, tree};

/// For how long a signal is held back. Who signals a whole group, or all processes of a unit, signals the command,
/// too, and it must not hear of it twice. `timeout` and `systemd` do that, one process after the other.
const HELD_BACK: Duration = Duration::from_millis(30);

/// How often the guard looks while it holds a signal back.
const LOOK: Duration = Duration::from_millis(2);

struct Guard {
    parent: Pid,
    command: Pid,
    /// What `zsem` has sent, and is to be passed on.
    held_back: Vec<(Signal, Instant)>,
    /// What came from others, so that the command has got it, too.
    from_others: Vec<(Signal, Instant)>,
}

/// Starts the command, and guards it until it has ended. `deadlines` is the number of the pipe from which it learns
/// until when the command may run.
pub(super) fn guard(parent: Pid, deadlines: &str, command: &[OsString]) -> Result<Status, Failure> {
    tree::adopt_orphans();
    let refused = |error| Failure::of_system("signals", &error);
    let reactions = Reactions::inherited();
    let mut signals = SignalsInfo::<WithOrigin>::new(reactions.to_catch()).map_err(refused)?;
    let handle = signals.handle();
    for signal in reactions.catchable() {
        // What it is sent must not end it. The system keeps some numbers for itself.
        let _ = handle.add_signal(signal);
    }
    if getppid() != Some(parent) {
        // Its signal came before it was caught.
        return Ok(Status::KILLED);
    }
    let is_over = Arc::new(AtomicBool::new(false));
    deadline::keep(parent, deadlines, &is_over);
    let started = exec::tie(command)?.spawn();
    let started = started.map_err(|error| Failure::of_system("the command", &error))?;
    let command = Pid::from_child(&started);
    let mut guard = Guard { parent, command, held_back: Vec::new(), from_others: Vec::new() };
    loop {
        let came = match (guard.held_back.is_empty(), reactions.are_ends_told()) {
            (true, true) => signals.wait(),
            (is_empty, _) => {
                sleep(if is_empty { UNTOLD } else { LOOK });
                signals.pending()
            }
        };
        for received in came.filter_map(|origin| Received::new(&origin)) {
            guard.note(received);
        }
        // First: who kills `zsem` and the command at once leaves the rest to the guard.
        if getppid() != Some(parent) || is_over.load(Ordering::Relaxed) {
            guard.end_all();
            return Ok(Status::KILLED);
        }
        if let Some(status) = tree::collect(command) {
            return Ok(Status::of(status));
        }
        guard.pass_on();
    }
}

impl Guard {
    fn note(&mut self, received: Received) {
        let (signal, now) = (received.signal, Instant::now());
        if received.sender == Some(getpid()) || signal == Signal::CHILD {
            return;
        }
        if received.sender != Some(self.parent) {
            self.from_others.push((signal, now));
        } else if self.held_back.iter().all(|(held_back, _)| *held_back != signal) {
            self.held_back.push((signal, now));
        }
    }

    /// Passes on what nobody else has sent to the command meanwhile.
    fn pass_on(&mut self) {
        let now = Instant::now();
        let is_recent = |at: Instant, age| now.saturating_duration_since(at) < age;
        self.from_others.retain(|(_, at)| is_recent(*at, 3 * HELD_BACK));
        let (from_others, command) = (&self.from_others, self.command);
        self.held_back.retain(|(signal, at)| {
            if is_recent(*at, HELD_BACK) {
                return true;
            }
            let is_by_others = from_others.iter().any(|(other, _)| other == signal);
            if !is_by_others || missed(command, *signal) {
                send(command, *signal);
            }
            false
        });
    }

    /// Kills all that the command has started, and the command first.
    fn end_all(&self) {
        let _ = kill_process(self.command, Signal::KILL);
        let mut ending = Ending::new();
        while !ending.go_on() {
            pause(ending.pause);
        }
    }
}

/// Returns whether a command that lives has not got a signal, although others have sent it to the guard: they have
/// found `zsem` and the guard by the file of their program, as `pidof` does.
fn missed(command: Pid, signal: Signal) -> bool {
    tree::is_shown() && is_fatal_to(command, signal)
}

/// Sleeps for this time. A signal, such as that of the end of a child, ends the sleep early.
fn pause(duration: Duration) {
    let time = Timespec { tv_sec: 0, tv_nsec: i64::from(duration.subsec_nanos()) };
    let _ = poll(&mut [], Some(&time));
}

/// Sends a signal to the command; or to its group, if the guard leads that.
fn send(command: Pid, signal: Signal) {
    // It may have ended a moment ago.
    let _ = match getpgrp() == getpid() {
        true => kill_process_group(getpid(), signal),
        false => kill_process(command, signal),
    };
}
