//! The processes that a command has started, however deep.
//!
//! # Implementation
//!
//! A process whose parent has ended gets another parent. On Linux that is the nearest ancestor that asked for it
//! ([`adopt_orphans`]), so no process leaves the tree of such an ancestor, whatever its group and its session.
//! `/proc` tells the parent of each process. Other systems have neither: there the tree is empty.

use std::collections::BTreeMap;
use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitIdOptions, WaitOptions, WaitStatus, kill_process};
use rustix::process::{WaitId, getpid, wait, waitid};

/// A process below another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: Pid,
    /// Whether it only waits to be collected.
    pub(super) is_dead: bool,
}

/// From now on, orphans below this process become its children.
pub(super) fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    // Without it, what was left behind is not found: nothing else is worse than before.
    let _ = rustix::process::set_child_subreaper(Some(getpid()));
}

/// Returns all processes below this one, but for those below `strangers`.
pub(super) fn below_this(strangers: &[Pid]) -> Vec<Process> {
    let mut children = BTreeMap::<i32, Vec<Process>>::new();
    for (parent, process) in all() {
        children.entry(parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut parents = vec![getpid()];
    while let Some(parent) = parents.pop() {
        let below = children.remove(&parent.as_raw_nonzero().get()).unwrap_or_default();
        let below = below.into_iter().filter(|process| !strangers.contains(&process.pid));
        let from = found.len();
        found.extend(below);
        parents.extend(found[from..].iter().map(|process| process.pid));
    }
    found
}

/// Returns the children that this process has already.
pub(super) fn children() -> Vec<Pid> {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    if waitid(WaitId::All, look).err() == Some(Errno::CHILD) {
        return Vec::new(); // as a rule, and much faster than a look at all processes
    }
    let own = getpid().as_raw_nonzero().get();
    let children = all().into_iter().filter(|(parent, _)| *parent == own);
    children.map(|(_, process)| process.pid).collect()
}

/// Kills all processes below this one, but for those below `strangers`. Returns whether any were alive that this
/// process may kill.
pub(super) fn kill_below_this(strangers: &[Pid]) -> bool {
    let alive = below_this(strangers).into_iter().filter(|process| !process.is_dead);
    let killed = alive.map(|process| kill_process(process.pid, Signal::KILL));
    killed.filter(|killed| *killed != Err(Errno::PERM)).count() > 0
}

/// Collects the children that have ended. Returns how `child` has ended, if it is among them.
pub(super) fn collect(child: Pid) -> Option<WaitStatus> {
    let mut found = None;
    while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
        if pid == child {
            found = Some(status);
        }
    }
    found
}

/// All processes that this one may see, each with the number of its parent.
fn all() -> Vec<(i32, Process)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let processes = numbers.filter_map(|number: i32| {
        // One that has ended meanwhile is passed over. A name need not be UTF-8.
        let stat = fs::read(format!("/proc/{number}/stat")).ok()?;
        parse(Pid::from_raw(number)?, &String::from_utf8_lossy(&stat))
    });
    processes.collect()
}

/// Reads `pid (name) state parent ..`; the name may have any character.
fn parse(pid: Pid, stat: &str) -> Option<(i32, Process)> {
    let mut words = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = words.next()?;
    let parent = words.next()?.parse().ok()?;
    Some((parent, Process { pid, is_dead: matches!(state, "Z" | "X") }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        let pid = Pid::INIT;
        for name in ["sh", "a b", "(x) S 9 9", ")", "\u{fffd}"] {
            let process = Process { pid, is_dead: false };
            assert_eq!(parse(pid, &format!("1 ({name}) S 7 8 9 0")), Some((7, process)), "{name}");
        }
        assert!(parse(pid, "1 (sh) Z 7 8").unwrap().1.is_dead);
        for wrong in ["", "1 (sh", "1 (sh) S", "1 (sh) S x 8", "1 (sh) S "] {
            assert_eq!(parse(pid, wrong), None, "{wrong}");
        }
    }
}
