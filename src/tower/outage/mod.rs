//! Outages of the store: when one counts, what the policy does about requests, and its log lines.

pub(crate) mod decision;
pub(crate) mod log;
pub(crate) mod policy;

#[cfg(test)]
mod tests;
