#![allow(clippy::panic, clippy::unwrap_used)]

mod fake_node;
mod nodes_reply;
mod refresh;
mod slot_map;
mod slots;
mod wakes;
