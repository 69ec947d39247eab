//! The processes that a command has started, however deep.
//!
//! # Implementation
//!
//! A process whose parent has ended gets another parent. On Linux that is the nearest ancestor that asked for it
//! ([`adopt_orphans`]), so no process leaves the tree of such an ancestor, whatever its group and its session. While
//! any of them is there, such an ancestor has a child, and `wait` tells so. `/proc` tells which they are.

use std::collections::BTreeMap;
use std::fs;
use std::iter;
use std::path::Path;

use rustix::io::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitOptions, WaitStatus, getpid, wait, waitid};

/// From now on, orphans below this process become its children.
pub(super) fn adopt_orphans() {
    #[cfg(target_os = "linux")]
    // Without it, what was left behind is not found: nothing else is worse than before.
    let _ = rustix::process::set_child_subreaper(Some(getpid()));
}

/// Returns whether this process has children, also such as have ended and were not collected.
pub(super) fn has_children() -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::All, look).err() != Some(Errno::CHILD)
}

/// Collects the children that have ended. Returns how many.
pub(super) fn collect_all() -> usize {
    let next = || wait(WaitOptions::NOHANG).ok().flatten();
    iter::from_fn(next).count()
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

/// Returns whether `/proc` is that of this process: another one has other numbers for the processes.
pub(super) fn is_shown() -> bool {
    let own = getpid().to_string();
    fs::read_link("/proc/self").is_ok_and(|shown| shown == Path::new(&own))
}

/// Returns the children of this process, as far as `/proc` shows them. One that comes or goes meanwhile may be missing.
pub(super) fn children() -> Vec<Pid> {
    if !is_shown() {
        return Vec::new();
    }
    listed_children().unwrap_or_else(|| {
        let own = getpid().as_raw_nonzero().get();
        all().into_iter().filter(|(parent, _)| *parent == own).map(|(_, pid)| pid).collect()
    })
}

/// Returns the children of each thread, where the kernel lists them.
fn listed_children() -> Option<Vec<Pid>> {
    let threads = fs::read_dir("/proc/self/task").ok()?;
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let lists: Vec<_> = lists.collect();
    let numbers = lists.iter().flat_map(|list| list.split_ascii_whitespace());
    let children = numbers.filter_map(|number| Pid::from_raw(number.parse().ok()?)).collect();
    (!lists.is_empty()).then_some(children)
}

/// Returns all processes below this one, as far as `/proc` shows them.
pub(super) fn below_this() -> Vec<Pid> {
    if !is_shown() {
        return Vec::new();
    }
    let mut children = BTreeMap::<i32, Vec<Pid>>::new();
    for (parent, pid) in all() {
        children.entry(parent).or_default().push(pid);
    }
    let mut found = Vec::new();
    let mut parents = vec![getpid()];
    while let Some(parent) = parents.pop() {
        let below = children.remove(&parent.as_raw_nonzero().get()).unwrap_or_default();
        found.extend(&below);
        parents.extend(&below);
    }
    found
}

/// All processes that this one may see, each with the number of its parent.
fn all() -> Vec<(i32, Pid)> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let processes = numbers.filter_map(|number: i32| {
        // One that has ended meanwhile is passed over. A name need not be UTF-8.
        let stat = fs::read(format!("/proc/{number}/stat")).ok()?;
        Some((parent(&String::from_utf8_lossy(&stat))?, Pid::from_raw(number)?))
    });
    processes.collect()
}

/// Reads `pid (name) state parent ..`; the name may have any character.
fn parent(stat: &str) -> Option<i32> {
    let mut words = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(1);
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_read_whatever_its_name() {
        for name in ["sh", "a b", "(x) S 9 9", ")", "\u{fffd}"] {
            assert_eq!(parent(&format!("1 ({name}) S 7 8 9 0")), Some(7), "{name}");
        }
        for wrong in ["", "1 (sh", "1 (sh) S", "1 (sh) S x 8", "1 (sh) S "] {
            assert_eq!(parent(wrong), None, "{wrong}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn children_are_listed_with_the_file_of_the_kernel_and_without() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let (pid, own) = (Pid::from_child(&child), getpid().as_raw_nonzero().get());
        assert!(is_shown() && has_children());
        assert!(children().contains(&pid) && below_this().contains(&pid));
        assert!(all().contains(&(own, pid)));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!children().contains(&pid));
    }
}
