//! Why a sentinel has not told where the primary is.

use std::fmt;
use std::time::Duration;

use redis::RedisError;

use crate::error::{StoreError, StoreErrorKind};
use crate::store::redis::errors::kind_of;
use crate::store::redis::server_mode::ServerMode;
use crate::store::redis::url::Address;

/// Why one sentinel has not told where the primary is.
#[derive(Debug)]
pub(super) enum Refusal {
    /// It has not answered within this time.
    Silent(Duration),
    /// Its connection broke.
    Left,
    Failed(RedisError),
    /// It is a server of another kind, if that is known.
    NoSentinel(Option<ServerMode>),
    UnknownMaster,
}

impl Refusal {
    /// The reason why the first question has failed.
    pub(super) fn of_first_question(error: RedisError) -> Self {
        match kind_of(&error) {
            StoreErrorKind::Server => Self::NoSentinel(None),
            _ => Self::Failed(error),
        }
    }

    /// Returns the reason, where the server has told of which kind it is.
    pub(super) fn of_server(self, mode: Option<ServerMode>) -> Self {
        match self {
            Self::NoSentinel(_) => Self::NoSentinel(mode),
            other => other,
        }
    }

    fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Silent(_) => StoreErrorKind::Timeout,
            Self::Left => StoreErrorKind::Disconnected,
            Self::Failed(error) => kind_of(error),
            Self::NoSentinel(_) | Self::UnknownMaster => StoreErrorKind::Server,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent(patience) => write!(f, "no answer within {patience:?}"),
            Self::Left => f.write_str("the connection broke"),
            Self::Failed(error) => write!(f, "{error}"),
            Self::NoSentinel(mode) => f.write_str(match mode {
                Some(ServerMode::Standalone) => "it is no sentinel; use redis:// for one server",
                Some(ServerMode::Cluster) => {
                    "it is no sentinel; use redis+cluster:// for a cluster"
                }
                Some(ServerMode::Sentinel) | None => "it is no sentinel",
            }),
            Self::UnknownMaster => f.write_str("it knows no master of this name"),
        }
    }
}

/// Returns the error where no sentinel has told where `master` is.
pub(super) fn error(master: &str, refusals: &[(&Address, &Refusal)]) -> StoreError {
    let mut kinds = refusals.iter().map(|(_, refusal)| refusal.kind());
    let first = kinds.next().unwrap_or(StoreErrorKind::Unreachable);
    let alike = kinds.all(|kind| kind == first);
    // Only if all say that the settings are wrong does nothing but a change of the settings help.
    let kind = if alike { first } else { StoreErrorKind::Unreachable };
    let advice = match kind {
        StoreErrorKind::Authentication => {
            "; set sentinel_user and sentinel_password of the URL right: they are not those of the primary"
        }
        StoreErrorKind::NotPermitted => {
            "; give the user of the sentinels the rights the README lists"
        }
        StoreErrorKind::Server => "; set the sentinels and the name of the master in the URL right",
        _ => "; are the sentinels running, and the URL right?",
    };
    let told = refusals.iter().map(|(address, refusal)| format!("{address}: {refusal}"));
    let told = told.collect::<Vec<_>>().join("; ");
    StoreError::new(kind, format!("no sentinel tells where {master} is: {told}{advice}"))
}
