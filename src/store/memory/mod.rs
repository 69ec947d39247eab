//! The store in this process: it counts as the scripts of `lua/` do, on tokio's clock.
//!
//! # Implementation
//!
//! A file here does what the file of the same name in `lua/` does, step for step: `turn/renew` is
//! the twin of `lua/turn/renew.lua`. A test runs the same random turns through both and compares
//! every reply, so a change of one needs the same change of its twin. What the script does only to
//! pay less (ids in runs, texts made once, scores that are not read) has no twin.

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

#[cfg(test)]
pub(crate) use state::MemoryState;
pub use store::MemoryStore;
