//! The exit status of `zsem`.

use std::process::ExitCode;

/// How `zsem` ends, as its caller sees it. The numbers are those of `sysexits.h`, where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status(u8);

impl Status {
    pub(crate) const OK: Self = Self(0);
    /// The answer is no.
    pub(crate) const NO: Self = Self(1);
    /// The command line is wrong.
    pub(crate) const USAGE: Self = Self(64);
    /// Redis does not answer.
    pub(crate) const AWAY: Self = Self(69);
    /// The system refuses what `zsem` itself needs.
    pub(crate) const SYSTEM: Self = Self(71);
    /// There is no permit.
    pub(crate) const NO_PERMIT: Self = Self(75);
    /// The permit was lost, and the command stopped.
    pub(crate) const LOST: Self = Self(76);
    /// Redis refuses.
    pub(crate) const REFUSED: Self = Self(77);
    /// A setting is wrong.
    pub(crate) const CONFIG: Self = Self(78);
    /// The command cannot be run.
    pub(crate) const CANNOT_RUN: Self = Self(126);
    /// There is no such command.
    pub(crate) const NOT_FOUND: Self = Self(127);

    pub(crate) const fn new(status: u8) -> Self {
        Self(status)
    }

    /// The status of a command that a signal has ended, or of `zsem` if it was ended by one.
    pub(crate) fn of_signal(signal: i32) -> Self {
        Self(128_u8.saturating_add(u8::try_from(signal).unwrap_or(0)))
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        status.0.into()
    }
}
