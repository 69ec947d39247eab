//! The store in Redis. It counts by the scripts in `lua/`.

mod config;
mod errors;
mod scripts;
mod session;
mod store;
mod subscription;
pub(crate) mod wire;

#[cfg(test)]
mod tests;

pub(crate) use config::RedisConfig;
