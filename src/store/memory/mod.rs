//! The store in this process. It does the same as the scripts in `lua/`, on tokio's clock.
//!
//! # Implementation
//!
//! Each file here does the same steps as the file of the same name in `lua/`: `turn/renew` is the twin of
//! `lua/turn/renew.lua`. A test runs the same random turns through both and compares every reply, so a
//! change in one needs the same change in its twin. Steps that only make the script faster (ids in runs,
//! texts made once, scores that are not read) have no twin.

#[cfg(all(test, feature = "redis"))]
mod content;
mod inspect;
mod kick;
mod meta;
mod names;
mod score;
mod session;
mod set_limit;
mod shared;
mod sorted_set;
mod state;
mod store;
mod turn;

#[cfg(test)]
mod tests;

#[cfg(all(test, feature = "redis"))]
pub(crate) use content::{Content, MetaContent};
#[cfg(test)]
pub(crate) use state::MemoryState;
pub use store::MemoryStore;
