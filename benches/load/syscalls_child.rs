//! One task that acquires and releases, or makes as many bare calls: the child of
//! [`syscalls`](super::syscalls).

use std::fs;

use crate::pairs_child::{Bare, Ours};
use closed_loop::Candidate;
use test_support::child_role::{FromParent, say, setting};
use test_support::ledger::monotonic_nanos;

pub(crate) const ROLE: &str = "system calls";

/// Does as many pairs as each line says, and tells the nanoseconds and how often its threads slept.
pub(crate) async fn play(from_parent: FromParent) {
    let url = setting("URL");
    match setting("CANDIDATE").as_str() {
        "ours" => pairs(Ours::new(&url, &["syscalls".to_owned()], 1).await, from_parent).await,
        "bare" => pairs(Bare::at(&url).await, from_parent).await,
        other => panic!("there is no candidate {other:?}"),
    }
}

async fn pairs<C: Candidate>(candidate: C, mut from_parent: FromParent) {
    // As requests and jobs are: a task of the runtime.
    let loop_ = async move {
        say("ready");
        while let Some(line) = from_parent.recv().await {
            let pairs: usize = line.parse().expect("a number of pairs");
            let (slept, start) = (sleeps(), monotonic_nanos());
            for _ in 0..pairs {
                let permit = candidate.acquire(0).await;
                candidate.release(permit).await;
            }
            let took = monotonic_nanos() - start;
            say(format!("done {took} {}", sleeps() - slept));
        }
    };
    tokio::spawn(loop_).await.expect("it does not panic");
}

/// How often the threads of this process have given up their processor to wait.
fn sleeps() -> u64 {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let of_thread = |thread: fs::DirEntry| {
        let status = fs::read_to_string(thread.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line?.trim().parse::<u64>().ok()
    };
    threads.filter_map(of_thread).sum()
}
