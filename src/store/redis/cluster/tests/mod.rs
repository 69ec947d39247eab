#![allow(clippy::panic, clippy::unwrap_used)]

mod nodes_reply;
mod slot_map;
mod slots;
