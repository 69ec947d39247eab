//! When a rejected client should try again: the estimate, and what it is made of.

mod ended_holds;
pub(crate) mod estimate;
pub(crate) mod hold_times;
pub(crate) mod jitter;

#[cfg(test)]
mod tests;
