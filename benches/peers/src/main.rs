//! The crates of others in the closed loop of `benches/load`, whose child this is.

use std::time::Duration;

use closed_loop::Candidate;
use distributed_lock_core::traits::{DistributedSemaphore, LockHandle, SemaphoreProvider};
use distributed_lock_redis::{RedisDistributedSemaphore, RedisLockProvider, RedisSemaphoreHandle};
use rslock::{Lock, LockManager};
use test_support::child_role::{self, FromParent, setting};

const LEASE: Duration = Duration::from_secs(30);

fn main() {
    child_role::play(play);
    eprintln!("peers: `cargo bench --bench load` starts this program; alone it does nothing");
    std::process::exit(2);
}

/// Does not return.
fn play(role: &str, from_parent: FromParent) {
    closed_loop::pin();
    let runtime = tokio::runtime::Runtime::new().expect("starting a tokio runtime");
    runtime.block_on(async {
        let names: Vec<String> = (0..setting("NAMES").parse().expect("a number"))
            .map(|name: usize| format!("peers-{name}"))
            .collect();
        match role {
            "distributed-lock-redis" => {
                closed_loop::play(Tickets::new(&names).await, from_parent).await;
            }
            "rslock" => closed_loop::play(Locks::new(), from_parent).await,
            other => panic!("there is no peer {other:?}"),
        }
    });
    std::process::exit(0);
}

/// `distributed-lock-redis`: a semaphore on a sorted set.
struct Tickets(Vec<RedisDistributedSemaphore>);

impl Tickets {
    async fn new(names: &[String]) -> Self {
        let provider = RedisLockProvider::builder()
            .url(setting("URL"))
            .expiry(LEASE)
            .build()
            .await
            .expect("connecting");
        let limit = setting("LIMIT").parse().expect("a number");
        Self(names.iter().map(|name| provider.create_semaphore(name, limit)).collect())
    }
}

impl Candidate for Tickets {
    type Permit = RedisSemaphoreHandle;

    async fn acquire(&self, _: usize) -> RedisSemaphoreHandle {
        self.0[fastrand::usize(..self.0.len())].acquire(None).await.expect("there is room for all")
    }

    async fn release(&self, permit: RedisSemaphoreHandle) {
        permit.release().await.expect("the server answers");
    }
}

/// `rslock`: one lock per task, since it has no semaphore; nobody else wants it.
struct Locks(LockManager);

impl Locks {
    fn new() -> Self {
        let mut manager = LockManager::new(vec![setting("URL")]);
        manager.set_retry(1, Duration::ZERO); // a lock that is still there must not pass for a slow one
        Self(manager)
    }
}

impl Candidate for Locks {
    type Permit = Lock;

    async fn acquire(&self, task: usize) -> Lock {
        self.0.lock(format!("peers-{task}").as_str(), LEASE).await.expect("nobody else wants it")
    }

    async fn release(&self, permit: Lock) {
        self.0.unlock(&permit).await;
    }
}
