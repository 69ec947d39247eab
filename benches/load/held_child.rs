//! A process that takes as many permits as there are and keeps them: the child of
//! [`held`](super::held).

use futures_util::future::join_all;
use rustix::time::{ClockId, clock_gettime};
use zset_semaphore::{Client, Permit, ZSetSemaphore};

use test_support::child_role::{FromParent, say, setting};

pub(crate) const ROLE: &str = "held";

/// So many acquires at a time: as many as a turn may name.
const AT_ONCE: usize = 256;

pub(crate) async fn play(mut from_parent: FromParent) {
    let count: usize = setting("COUNT").parse().expect("a number");
    let limit = u32::try_from(count).expect("a limit");
    let client = Client::connect(setting("URL")).await.expect("connecting");
    let semaphore = client.semaphore(setting("NAME"), limit).build().expect("a valid name");

    say("ready");
    from_parent.recv().await;
    let before = resident_bytes();
    let permits = take(&semaphore, count).await;
    say(format!("held {}", resident_bytes().saturating_sub(before)));
    while from_parent.recv().await.is_some() {
        let lost = permits.iter().filter(|permit| permit.is_lost()).count();
        say(format!("account {} {lost}", processor_nanos()));
    }
}

async fn take(semaphore: &ZSetSemaphore, count: usize) -> Vec<Permit> {
    let mut permits = Vec::with_capacity(count);
    while permits.len() < count {
        let some = AT_ONCE.min(count - permits.len());
        for permit in join_all((0..some).map(|_| semaphore.acquire(1))).await {
            permits.push(permit.expect("there is room for all"));
        }
    }
    permits
}

/// What this process has in memory.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")).expect("VmRSS in kB");
    1024 * kib.parse::<u64>().expect("a number")
}

/// Of all threads of this process so far.
fn processor_nanos() -> i64 {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    spent.tv_sec * 1_000_000_000 + spent.tv_nsec
}
