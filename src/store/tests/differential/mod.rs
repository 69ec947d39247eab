//! Both stores give the same replies to the same steps. The scripts run on a real server, and take
//! their time from the test.
//!
//! `generator` makes steps: turns, and what happens between turns. `harness` takes each step in
//! `memory_side` and in `redis_side`, and compares the replies of both, the clients that both wake, and what the
//! keys hold. `client` is
//! what the clients know, so that a turn says what the driver could say. `random` takes many steps
//! by chance, and shrinks a case that fails; `directed` has the cases that chance hardly ever
//! finds. `cut_short` lets each write of a turn fail, in Redis alone.

mod client;
mod cut_short;
mod directed;
mod generator;
mod harness;
mod memory_side;
mod random;
mod redis_side;
