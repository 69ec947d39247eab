pub(crate) mod capped;
pub(crate) mod read_ahead;
pub(crate) mod stall_detector;
pub(crate) mod watched;
