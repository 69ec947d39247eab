//! The bodies: responses that hold a permit, and requests that are read ahead.

pub(crate) mod capped;
pub(crate) mod permit;
pub(crate) mod read_ahead;
mod stall_detector;
pub(crate) mod watched;

#[cfg(test)]
mod tests;
