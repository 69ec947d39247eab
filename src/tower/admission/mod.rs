//! The admission of a request: the wait for its permit, and the permit itself.

pub(crate) mod admitted;
pub(crate) mod future;
pub(crate) mod limiter;
mod local_cap;
pub(crate) mod permit;
pub(crate) mod request;
mod wait;
pub(crate) mod wait_deadline;
