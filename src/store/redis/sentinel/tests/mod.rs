#![allow(clippy::panic, clippy::unwrap_used)]

mod answers;
mod opinions;
