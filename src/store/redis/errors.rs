//! Classifies errors of the redis crate, by their kind and code, never by their text.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::{StoreError, StoreErrorKind};

/// Returns the error of the operation that failed, with advice on what to do about it.
pub(super) fn store_error(error: RedisError, doing: &str) -> StoreError {
    let kind = kind_of(&error);
    let advice = match kind {
        StoreErrorKind::Unreachable => "; is the server running, and the URL right?",
        StoreErrorKind::Authentication => "; set the user and password of the URL right",
        StoreErrorKind::NotPermitted => "; give the Redis user the rights the README lists",
        StoreErrorKind::WrongType => "; another program uses a key of this name: change the prefix",
        StoreErrorKind::NewerSchema => "; upgrade this program's zset-semaphore",
        StoreErrorKind::OutOfMemory => "; raise the server's maxmemory or free some",
        StoreErrorKind::CannotPersist => "; check the server's disk and its settings",
        StoreErrorKind::ReadOnly => "; the URL must lead to the primary",
        _ => "",
    };
    let what = format!("{doing}: {error}{advice}");
    StoreError::with_source(kind, what, error)
}

pub(super) fn kind_of(error: &RedisError) -> StoreErrorKind {
    use ServerErrorKind::{
        Ask, BusyLoading, ClusterDown, MasterDown, Moved, NoPerm, ReadOnly, TryAgain,
    };
    match error.kind() {
        ErrorKind::AuthenticationFailed => StoreErrorKind::Authentication,
        ErrorKind::Io if error.is_timeout() => StoreErrorKind::Timeout,
        ErrorKind::Io if error.is_connection_refusal() => StoreErrorKind::Unreachable,
        ErrorKind::Io => StoreErrorKind::Disconnected,
        ErrorKind::Parse | ErrorKind::UnexpectedReturnType => StoreErrorKind::Protocol,
        ErrorKind::Server(BusyLoading | TryAgain | ClusterDown | MasterDown | Ask | Moved) => {
            StoreErrorKind::NotReady
        }
        ErrorKind::Server(ReadOnly) => StoreErrorKind::ReadOnly,
        ErrorKind::Server(NoPerm) => StoreErrorKind::NotPermitted,
        _ => match error.code() {
            Some("WRONGPASS" | "NOAUTH") => StoreErrorKind::Authentication,
            Some("WRONGTYPE") => StoreErrorKind::WrongType,
            Some("NEWERSCHEMA") => StoreErrorKind::NewerSchema,
            Some("OOM") => StoreErrorKind::OutOfMemory,
            Some("MISCONF") => StoreErrorKind::CannotPersist,
            Some("BUSY" | "NOREPLICAS") => StoreErrorKind::NotReady,
            _ => StoreErrorKind::Server,
        },
    }
}

/// Returns whether another protocol version would fail as well.
pub(super) fn is_hopeless(error: &RedisError) -> bool {
    use StoreErrorKind::{Authentication, Disconnected, NotReady, ReadOnly, Timeout, Unreachable};
    matches!(
        kind_of(error),
        Authentication | Disconnected | NotReady | ReadOnly | Timeout | Unreachable
    )
}

pub(super) fn is_noscript(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoScript)
}
