//! The end of all that runs below this process.
//!
//! # Implementation
//!
//! Only children are killed. What a child has started becomes a child when that has died, and is killed then. No other
//! process can have the number of a child, since only this process collects it. The last one has ended when there are
//! no children any more: no list of processes, which change while they are read, could tell that.

use std::collections::HashSet;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use super::tree;

/// How long to wait for what was killed, at first and at most. The end of a child ends the wait, so it is for those that
/// become children although no child has ended, and for those that this process may not kill.
const FIRST: Duration = Duration::from_millis(2);
const LONGEST: Duration = Duration::from_millis(250);

/// How far the end of all that runs below this process has come.
#[derive(Debug)]
pub(super) struct Ending {
    /// How long to wait before the next look.
    pub(super) pause: Duration,
    /// Children that this process may not kill.
    pub(super) refused: Vec<Pid>,
}

impl Ending {
    pub(super) fn new() -> Self {
        Self { pause: FIRST, refused: Vec::new() }
    }

    /// Kills the children, and those that become children meanwhile. Collects those that have ended. Returns whether
    /// none is left.
    pub(super) fn go_on(&mut self) -> bool {
        self.pause = LONGEST.min(self.pause * 2);
        self.refused.clear();
        self.collect();
        let mut killed = HashSet::new();
        loop {
            let new: Vec<Pid> =
                tree::children().into_iter().filter(|pid| killed.insert(*pid)).collect();
            if new.is_empty() {
                break;
            }
            for pid in new {
                if kill_process(pid, Signal::KILL) == Err(Errno::PERM) {
                    self.refused.push(pid);
                }
            }
            self.collect();
        }
        !tree::has_children()
    }

    fn collect(&mut self) {
        if tree::collect_all() > 0 {
            self.pause = FIRST;
        }
    }
}
