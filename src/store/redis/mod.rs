//! The store in Redis. It runs the scripts in `lua/`.

mod cluster;
mod config;
mod connection_name;
mod dial;
mod errors;
mod known_script;
mod names;
mod replication;
mod role;
mod scripts;
mod sentinel;
mod server_info;
mod server_mode;
mod session;
mod store;
mod subscription;
mod transport;
mod url;
pub(crate) mod wire;

#[cfg(test)]
mod tests;

pub(crate) use config::RedisConfig;
