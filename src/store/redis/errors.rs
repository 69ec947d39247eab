//! Classifies errors of the redis crate, by their kind and code, never by their text. Redis 6.2 is the
//! exception: it wraps the error of a command that a script called into a text.

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
        StoreErrorKind::WrongMode => "; this is a cluster: use redis+cluster://",
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
        ErrorKind::Server(BusyLoading | TryAgain | ClusterDown | MasterDown) => {
            StoreErrorKind::NotReady
        }
        ErrorKind::Server(Ask | Moved) => StoreErrorKind::WrongMode,
        ErrorKind::Server(ReadOnly) => StoreErrorKind::ReadOnly,
        ErrorKind::Server(NoPerm) => StoreErrorKind::NotPermitted,
        ErrorKind::Server(ServerErrorKind::ResponseError) => {
            error.detail().and_then(code_in_script).map_or(StoreErrorKind::Server, kind_in_script)
        }
        _ => match error.code() {
            Some("WRONGPASS" | "NOAUTH") => StoreErrorKind::Authentication,
            Some("NEWERSCHEMA") => StoreErrorKind::NewerSchema,
            Some("BUSY" | "NOREPLICAS") => StoreErrorKind::NotReady,
            Some(code) => kind_in_script(code),
            None => StoreErrorKind::Server,
        },
    }
}

/// Returns the kind of an error that a command may have within a script.
fn kind_in_script(code: &str) -> StoreErrorKind {
    match code {
        "WRONGTYPE" => StoreErrorKind::WrongType,
        "OOM" => StoreErrorKind::OutOfMemory,
        "MISCONF" => StoreErrorKind::CannotPersist,
        "READONLY" => StoreErrorKind::ReadOnly,
        "NOPERM" => StoreErrorKind::NotPermitted,
        _ => StoreErrorKind::Server,
    }
}

/// Returns the code of the error of a command that a script called, where Redis 6.2 tells it in a text:
/// `Error running script (call to f_1c..): @user_script:51: @user_script: 51: -OOM command not allowed ..`
fn code_in_script(text: &str) -> Option<&str> {
    let (_, mut text) = text.strip_prefix("Error running script (call to f_")?.split_once("): ")?;
    while let Some((_, rest)) =
        text.strip_prefix("@user_script:").and_then(|at| at.split_once(": "))
    {
        text = rest;
    }
    // Redis 6.2 gives this error no code.
    if text.starts_with("The user executing the script can't ") {
        return Some("NOPERM");
    }
    text.trim_start_matches('-').split(' ').next()
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
