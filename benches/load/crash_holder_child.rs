//! A process that holds a permit of many names until it is killed: a child of
//! [`crash`](super::crash).

use std::time::Duration;

use zset_semaphore::{Client, Permit};

use test_support::child_role::{FromParent, say, setting};

pub(crate) const ROLE: &str = "crash holder";

pub(crate) async fn play(mut from_parent: FromParent) {
    let client = Client::connect(setting("URL")).await.expect("connecting");
    let mut permits: Vec<Permit> = Vec::new();
    for name in setting("NAMES").split(' ') {
        let lease = Duration::from_millis(setting("LEASE_MS").parse().expect("a number"));
        let semaphore = client.semaphore(name, 1).lease(lease).build().expect("a valid name");
        permits.push(semaphore.acquire(1).await.expect("nobody else is there"));
    }
    say("ready");
    // The parent says nothing: it kills.
    from_parent.recv().await;
}
