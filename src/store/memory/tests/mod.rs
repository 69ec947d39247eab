#![allow(clippy::unwrap_used)]

mod sorted_set;
