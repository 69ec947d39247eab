//! Tests of the driver: a state against the memory store, turn by turn.

#![allow(clippy::panic, clippy::unwrap_used)]

mod answers;
mod burst;
mod deadlines;
mod declarations;
mod ends;
mod gathering;
#[cfg(feature = "metrics")]
mod gauges;
mod grants;
mod harness;
mod late;
mod lost_waiters;
mod meetings;
mod moves;
mod news;
mod node;
mod pipelined;
mod place_closing;
mod places;
mod replication;
mod simulation;
mod single_turn;
mod slow_replication;
mod slow_store;
mod spread_store;
mod state;
mod task;
mod waiting;
