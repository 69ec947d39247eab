#![allow(clippy::panic, clippy::unwrap_used)]

pub(super) mod deaf;
mod errors;
mod missing_scripts;
mod narrow_server;
mod replication;
mod schema;
mod scripts;
mod wire;
