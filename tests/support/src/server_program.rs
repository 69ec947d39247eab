//! Which program the tests run as their `redis-server`.

use std::env;
use std::process::Command;
use std::sync::OnceLock;

/// The variable that names another server than the `redis-server` on the PATH: another version, or Valkey.
pub const SERVER: &str = "ZSEM_TEST_SERVER";

/// A command that runs the server, without arguments. Every test that starts a server begins with it.
pub fn server() -> Command {
    Command::new(env::var_os(SERVER).unwrap_or_else(|| "redis-server".into()))
}

/// The major version of the server: 7 for Redis 7.0.15.
pub fn major_version() -> u32 {
    static VERSION: OnceLock<u32> = OnceLock::new();
    *VERSION.get_or_init(|| {
        let said = server().arg("--version").output().expect("asking the server for its version");
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        let version = said.split_once("v=").and_then(|(_, rest)| rest.split_once('.'));
        version
            .and_then(|(major, _)| major.parse().ok())
            .unwrap_or_else(|| panic!("no version: {said}"))
    })
}
