//! Why a verb failed: the one place that prints errors.

use std::fmt::Display;
use std::io;

use zset_semaphore::{
    AcquireError, ConfigError, ConnectError, ControlError, StoreError, StoreErrorKind,
    TryAcquireError,
};

use crate::output::warn;
use crate::status::Status;

/// Why a verb failed, and the status that says so.
#[derive(Debug)]
pub(crate) struct Failure {
    status: Status,
    message: String,
}

impl Failure {
    pub(crate) fn new(status: Status, message: impl Display) -> Self {
        Self { status, message: message.to_string() }
    }

    /// The system refuses something.
    pub(crate) fn of_system(what: &str, error: &io::Error) -> Self {
        Self::new(Status::SYSTEM, format!("{what}: {error}"))
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn status(&self) -> Status {
        self.status
    }

    /// Prints it on standard error. Returns the status.
    pub(crate) fn print(self) -> Status {
        warn(&self.message);
        self.status
    }

    /// No permit: the status is the one that the caller has chosen.
    pub(crate) fn or_no_permit(self, chosen: Status) -> Self {
        match self.status {
            Status::NO_PERMIT => Self { status: chosen, ..self },
            _ => self,
        }
    }
}

/// What `clap` tells: help and versions go to standard output, errors to standard error.
pub(crate) fn by_clap(told: &clap::Error) -> Result<Status, Failure> {
    let printed = told.print();
    if told.use_stderr() {
        return Ok(Status::USAGE);
    }
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::of_system("standard output", &error))
        }
        _ => Ok(Status::OK),
    }
}

fn status_of(error: &StoreError) -> Status {
    use StoreErrorKind::{Disconnected, NotReady, Timeout, Unreachable, WrongMode};
    match error.kind() {
        Unreachable | Timeout | Disconnected | NotReady => Status::AWAY,
        WrongMode => Status::CONFIG,
        _ => Status::REFUSED,
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::new(Status::CONFIG, error)
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Config(error) => error.into(),
            ConnectError::Store(error) => Self::new(status_of(&error), error),
            other => Self::new(Status::SYSTEM, other),
        }
    }
}

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        match error {
            ControlError::Unavailable(error) => Self::new(status_of(&error), error),
            other => Self::new(Status::SYSTEM, other),
        }
    }
}

impl From<AcquireError> for Failure {
    fn from(error: AcquireError) -> Self {
        let status = match &error {
            AcquireError::Timeout { outage: Some(outage), .. } => status_of(outage),
            AcquireError::Refused(refused) => status_of(refused),
            AcquireError::ZeroUnits => Status::USAGE,
            AcquireError::TooLarge { .. } => Status::CONFIG,
            AcquireError::Closed | AcquireError::NoRuntime => Status::SYSTEM,
            _ => Status::NO_PERMIT,
        };
        Self::new(status, error)
    }
}

impl From<TryAcquireError> for Failure {
    fn from(error: TryAcquireError) -> Self {
        let status = match &error {
            TryAcquireError::Unavailable(unavailable) => status_of(unavailable),
            TryAcquireError::ZeroUnits => Status::USAGE,
            TryAcquireError::TooLarge { .. } => Status::CONFIG,
            TryAcquireError::Closed | TryAcquireError::NoRuntime => Status::SYSTEM,
            _ => Status::NO_PERMIT,
        };
        Self::new(status, error)
    }
}
