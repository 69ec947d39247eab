//! What the integration tests stand on: real servers, real faults, real processes and an outside witness.
//!
//! It knows neither the crate nor what the crate depends on: the crate's own unit tests, the benchmarks and
//! `benches/peers` use it too. What does know the crate is in `tests/common`.

pub mod belief;
pub mod child_role;
pub mod expiry;
mod fault_link;
pub mod fault_proxy;
pub mod ledger;
pub mod overlap;
pub mod owned_process;
pub mod packed_state;
pub mod processes;
pub mod redis_cluster;
pub mod redis_pair;
pub mod redis_server;
mod redis_stats;
pub mod reserved_port;
pub mod sentinel;
pub mod server_program;
pub mod shifted_clock;
pub mod wait;
