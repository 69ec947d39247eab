//! The kinds of errors, where a server tells them in a text.

use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::error::StoreErrorKind;
use crate::store::redis::errors::store_error;

/// As Redis 6.2 answers when a command in line 51 of a script has failed.
fn wrapped(inner: &str) -> StoreErrorKind {
    let kind = ErrorKind::Server(ServerErrorKind::ResponseError);
    let text =
        format!("Error running script (call to f_d32318f04b004bae): @user_script:51: {inner}");
    store_error(RedisError::from((kind, "response error", text)), "turn").kind()
}

// Behaviour 40
#[test]
fn the_error_of_a_command_within_a_script_of_redis_6_is_told_by_its_code() {
    for (inner, kind) in [
        ("@user_script: 51: -OOM command not allowed", StoreErrorKind::OutOfMemory),
        ("@user_script: 51: -READONLY You can't write", StoreErrorKind::ReadOnly),
        ("@user_script: 51: -MISCONF Redis is configured", StoreErrorKind::CannotPersist),
        ("WRONGTYPE Operation against a key", StoreErrorKind::WrongType),
        (
            "@user_script: 51: The user executing the script can't run this command or subcommand",
            StoreErrorKind::NotPermitted,
        ),
        ("attempt to index a nil value: OOM", StoreErrorKind::Server),
        ("", StoreErrorKind::Server),
    ] {
        assert_eq!(wrapped(inner), kind, "{inner}");
    }
}

// Behaviour 54
#[test]
fn the_text_of_another_error_tells_no_kind() {
    let kind = ErrorKind::Server(ServerErrorKind::ResponseError);
    for text in ["@user_script: 51: -OOM", "OOM", "Error running script: -OOM command"] {
        let error = RedisError::from((kind, "response error", text.to_owned()));
        assert_eq!(store_error(error, "turn").kind(), StoreErrorKind::Server, "{text}");
    }
}
