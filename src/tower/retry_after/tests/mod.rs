mod estimate;
mod jitter;
