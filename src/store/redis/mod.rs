//! The store in Redis. It runs the scripts in `lua/`.

mod config;
mod connection_name;
mod errors;
mod known_script;
mod scripts;
mod session;
mod store;
mod subscription;
mod transport;
mod url;
pub(crate) mod wire;

#[cfg(test)]
mod tests;

pub(crate) use config::RedisConfig;
