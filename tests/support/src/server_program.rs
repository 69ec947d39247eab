//! Which program the tests run as their `redis-server`.

use std::env;
use std::process::Command;

/// The variable that names another server than the `redis-server` on the PATH: another version, or Valkey.
pub const SERVER: &str = "ZSEM_TEST_SERVER";

/// A command that runs the server, without arguments. Every test that starts a server begins with it.
pub fn server() -> Command {
    Command::new(env::var_os(SERVER).unwrap_or_else(|| "redis-server".into()))
}
