//! Which program the tests run as their `redis-server`.

use std::env;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;

/// The variable that names another server than the `redis-server` on the PATH: another version, or Valkey.
pub const SERVER: &str = "ZSEM_TEST_SERVER";

/// A command that runs the server, without arguments. Every test that starts a server begins with it.
pub fn server() -> Command {
    Command::new(env::var_os(SERVER).unwrap_or_else(|| "redis-server".into()))
}

/// The major version of the server: 7 for Redis 7.0.15.
pub fn major_version() -> u32 {
    version().0
}

/// The major and the minor version of the server: 7 and 0 for Redis 7.0.15.
pub fn version() -> (u32, u32) {
    let said = said();
    let mut numbers = said.split_once("v=").into_iter().flat_map(|(_, rest)| rest.split('.'));
    let mut next = || numbers.next().and_then(|number| number.parse().ok());
    next().zip(next()).unwrap_or_else(|| panic!("no version: {said}"))
}

/// Whether the server is Valkey.
pub fn is_valkey() -> bool {
    said().starts_with("Valkey")
}

/// Whether the server has sharded channels. Redis has them from 7.0 on.
pub fn has_sharded_channels() -> bool {
    major_version() >= 7
}

/// Says that the server cannot run this test, because it lacks something. `scripts/engines` counts and names
/// these tests.
pub fn skip(lacks: &str) {
    let thread = thread::current();
    let test = thread.name().unwrap_or("a test");
    println!("skipped on this server: {test}, since it has no {lacks}");
}

/// What the server says of itself: `Redis server v=7.0.15 ..`.
fn said() -> &'static str {
    static SAID: OnceLock<String> = OnceLock::new();
    SAID.get_or_init(|| {
        let said = server().arg("--version").output().expect("asking the server for its version");
        String::from_utf8_lossy(&said.stdout).into_owned()
    })
}
