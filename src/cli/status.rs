//! The exit status of `zsem`.

use std::process::ExitCode;

use rustix::process::{Pid, Resource, Rlimit, Signal, WaitStatus, getpid, setrlimit};
use signal_hook::low_level::emulate_default_handler;

/// How `zsem` ends, as its caller sees it. The numbers are those of `sysexits.h`, where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    Code(u8),
    /// A signal has ended the command, the wait, or `zsem` itself. `zsem` ends by the same one: a shell then prints 128 + N, and
    /// leaves its loop on Ctrl-C.
    Signal(i32),
}

impl Status {
    pub(crate) const OK: Self = Self::Code(0);
    /// The answer is no.
    pub(crate) const NO: Self = Self::Code(1);
    /// The command line is wrong.
    pub(crate) const USAGE: Self = Self::Code(64);
    /// Redis does not answer.
    pub(crate) const AWAY: Self = Self::Code(69);
    /// The system refuses what `zsem` itself needs.
    pub(crate) const SYSTEM: Self = Self::Code(71);
    /// There is no permit.
    pub(crate) const NO_PERMIT: Self = Self::Code(75);
    /// The permit was lost, and the command stopped.
    pub(crate) const LOST: Self = Self::Code(76);
    /// Redis refuses.
    pub(crate) const REFUSED: Self = Self::Code(77);
    /// A setting is wrong.
    pub(crate) const CONFIG: Self = Self::Code(78);
    /// The command cannot be run.
    pub(crate) const CANNOT_RUN: Self = Self::Code(126);
    /// There is no such command.
    pub(crate) const NOT_FOUND: Self = Self::Code(127);
    /// SIGKILL has ended the command, or the guard, which ends so when it has killed the command.
    pub(crate) const KILLED: Self = Self::Signal(Signal::KILL.as_raw());

    /// The status of a process that has ended.
    pub(crate) fn of(status: WaitStatus) -> Self {
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => u8::try_from(code).map_or(Self::SYSTEM, Self::Code),
            (None, Some(signal)) => Self::Signal(signal),
            (None, None) => Self::SYSTEM,
        }
    }

    /// Ends this process by a signal, if that is the status. Returns the code otherwise, or where a signal cannot
    /// end it.
    pub(crate) fn end(self) -> ExitCode {
        match self {
            Self::Code(code) => code.into(),
            Self::Signal(signal) => {
                end_by(signal);
                128_u8.saturating_add(u8::try_from(signal).unwrap_or(0)).into()
            }
        }
    }
}

/// Ends this process by a signal, where the system lets it.
fn end_by(signal: i32) {
    // The first process of a container is not ended by a signal that it sends itself.
    if getpid() == Pid::INIT {
        return;
    }
    // Only the command may leave a dump of its memory.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    let _ = emulate_default_handler(signal); // it knows none of the real-time signals
}
