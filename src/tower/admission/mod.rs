pub(crate) mod future;
pub(crate) mod limiter;
pub(crate) mod permit;
pub(crate) mod wait_deadline;
