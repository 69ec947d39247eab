//! The bodies: responses that hold a permit, and requests that are read ahead.

pub(crate) mod capped;
pub(crate) mod end;
pub(crate) mod permit;
pub(crate) mod read_ahead;
mod slot;
mod stall_detector;
mod watched;

#[cfg(test)]
mod tests;
