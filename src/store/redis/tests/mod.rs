#![allow(clippy::panic, clippy::unwrap_used)]

pub(super) mod deaf;
mod errors;
mod missing_scripts;
mod narrow_server;
mod schema;
mod scripts;
mod wire;
