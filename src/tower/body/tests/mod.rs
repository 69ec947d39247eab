mod stall_detector;
mod watched;
