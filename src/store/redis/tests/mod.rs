#![allow(clippy::panic, clippy::unwrap_used)]

mod errors;
mod narrow_server;
mod schema;
mod scripts;
mod wire;
