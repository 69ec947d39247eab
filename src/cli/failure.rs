//! Why a verb failed: the one place that prints errors.

use std::fmt::Display;
use std::io;

use zset_semaphore::{
    AcquireError, ConfigError, ConnectError, ControlError, ExtendError, LostReason, StoreError,
    StoreErrorKind, TryAcquireError,
};

use crate::output::{warn, write_error};
use crate::status::Status;

/// Why a verb failed, and the status that says so.
#[derive(Debug)]
pub(crate) struct Failure {
    status: Status,
    message: String,
    /// Whether somebody wants to read it.
    is_wanted: bool,
}

impl Failure {
    pub(crate) fn new(status: Status, message: impl Display) -> Self {
        Self { status, message: message.to_string(), is_wanted: true }
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

    /// A setting is refused that the caller knows by this name.
    pub(crate) fn of_setting(name: &str, error: &ConfigError) -> Self {
        let problem = error.problem().map(|problem| format!(": {problem}")).unwrap_or_default();
        let (value, allowed) = (error.value(), error.allowed());
        Self::new(Status::CONFIG, format!("{name} is {value}{problem}; allowed: {allowed}"))
    }

    /// Prints it on standard error, where it is wanted. Returns the status.
    pub(crate) fn print(self) -> Status {
        if self.is_wanted {
            warn(&self.message);
        }
        self.status
    }

    /// Keeps silent if there is no permit, and only then.
    pub(crate) fn unless_no_permit(self) -> Self {
        Self { is_wanted: self.status != Status::NO_PERMIT, ..self }
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
    if told.use_stderr() {
        let text = told.render().to_string(); // it repeats arguments, whatever they are
        write_error(&text.replacen("error: ", "zsem: ", 1));
        return Ok(Status::USAGE);
    }
    match told.print() {
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
        let option = match error.field() {
            "call_timeout" => "--call-deadline",
            "prefix" => "--prefix",
            "label" => "--label",
            "lease" => "--lease",
            "max_hold" => "--max-hold",
            other => other,
        };
        Self::of_setting(option, &error)
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

impl From<ExtendError> for Failure {
    fn from(error: ExtendError) -> Self {
        use LostReason::{Expired, Kicked, MaxHold, MissingInStore, RenewalTimeout};
        let status = match &error {
            ExtendError::Lost(Kicked | MissingInStore) => Status::NO_PERMIT,
            ExtendError::Lost(RenewalTimeout | Expired) => Status::AWAY,
            ExtendError::Lost(MaxHold) => Status::LOST,
            ExtendError::Config(_) => Status::CONFIG,
            _ => Status::SYSTEM,
        };
        Self::new(status, error)
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
