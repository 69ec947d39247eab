//! A turn as arguments, and replies read back. Pure; `lua/turn.lua` describes the layout.

mod decode;
mod encode;
mod inspection;
pub(super) mod names;
mod words;

pub(crate) use decode::read_turn;
pub(super) use decode::{read_kick, read_wake};
pub(crate) use encode::{Args, write_turn};
pub(super) use inspection::read_inspection;
