//! The program `zsem`, as a real process over a real Redis.

// `allow-unwrap-in-tests` does not reach the helpers of tests.
#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used)]

mod check;
mod command;
mod confined;
mod crowd;
mod descendants;
mod examples;
mod guard;
mod hold;
mod listing;
mod lost;
mod nested;
mod outage;
mod program;
mod queue;
mod signals;
mod status;
mod steering;
mod stopped;
mod storm;
mod terminal;
mod tmux;
mod wrong_input;
