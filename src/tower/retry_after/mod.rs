pub(crate) mod estimate;
pub(crate) mod hold_times;
