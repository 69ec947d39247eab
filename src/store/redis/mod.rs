//! The store in Redis. It runs the scripts in `lua/`.

mod config;
mod dial;
mod errors;
mod role;
mod scripts;
mod sentinel;
mod server_info;
mod session;
mod store;
mod subscription;
mod transport;
mod url;
pub(crate) mod wire;

#[cfg(test)]
mod tests;

pub(crate) use config::RedisConfig;
