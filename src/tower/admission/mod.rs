//! The admission of a request: the wait for its permit, and what it is let through with.

pub(crate) mod admitted;
pub(crate) mod future;
pub(crate) mod limiter;
mod local_cap;
pub(crate) mod permit;
pub(crate) mod request;
mod wait;
pub(crate) mod wait_deadline;
