//! Processes that fork: none of them takes what another one holds for its own.

use std::collections::HashSet;
use std::io::{PipeReader, Read, pipe};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::process::exit;
use std::task::{Context, Waker};

use fork::{Fork, fork};
use tokio::runtime::{Builder, Runtime};
use zset_semaphore::{
    AcquireError, Client, ControlError, ExtendError, Permit, PermitId, ReleaseError, Released,
    TryAcquireError, ZSetSemaphore,
};

use test_support::child_role::{FromParent, say, setting};
use test_support::processes::Child;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, within};

const LIMIT: u32 = 2;
const PROCESSES: usize = 5;

pub(crate) fn play(role: &str, from_parent: FromParent) {
    match role {
        "compete" => compete(from_parent),
        "inherit" => inherit(from_parent),
        _ => panic!("no role {role}"),
    }
}

fn semaphore() -> ZSetSemaphore {
    let client = Client::builder().url(setting("URL")).call_timeout(PATIENCE).build().unwrap();
    client.semaphore("s", LIMIT).build().unwrap()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Forks, and has this process and its children try to get a permit each.
fn compete(mut from_parent: FromParent) {
    let (mut end, keep_open) = pipe().unwrap();
    let made_before = semaphore(); // in either case: whatever a process draws on once is drawn on
    let mine = || if setting("MADE") == "before" { made_before.clone() } else { semaphore() };
    for _ in 1..PROCESSES {
        if matches!(fork().unwrap(), Fork::Child) {
            drop(keep_open);
            run_and_exit(|| take_one(&mine(), || wait_for(&mut end)));
        }
    }
    take_one(&mine(), || while from_parent.blocking_recv().is_some() {});
}

fn take_one(semaphore: &ZSetSemaphore, until: impl FnOnce()) {
    let runtime = runtime();
    let permit = match runtime.block_on(semaphore.try_acquire(1)) {
        Ok(permit) => {
            say(format_args!("told {}", permit.id()));
            Some(permit)
        }
        Err(TryAcquireError::Full { .. }) => {
            say("told full");
            None
        }
        Err(error) => panic!("{error}"),
    };
    until();
    drop(permit);
}

/// A forked child has but one of its parent's threads: it ends with what it was made for, however that ends.
fn run_and_exit(work: impl FnOnce()) -> ! {
    let done = catch_unwind(AssertUnwindSafe(work));
    exit(i32::from(done.is_err()))
}

/// Until the process that has the other end of the pipe is gone.
fn wait_for(end: &mut PipeReader) {
    let _ = end.read(&mut [0]);
}

// Behaviour 60
#[tokio::test]
async fn processes_that_fork_before_or_after_a_client_is_made_share_no_permit() {
    for made in ["after", "before"] {
        let server = RedisServer::start().await;
        let env = [("URL", server.url()), ("MADE", made.to_owned())];
        let mut forking = Child::spawn("fork/compete", &env);
        let mut held = Vec::new();
        for _ in 0..PROCESSES {
            let told = forking.expect_line("@told ", PATIENCE).await;
            held.extend(told.parse::<PermitId>());
        }
        assert_eq!(held.len(), LIMIT as usize, "client made {made} the fork: {held:?} held");
        let clients: HashSet<_> = held.iter().map(PermitId::client).collect();
        assert_eq!(clients.len(), held.len(), "client made {made} the fork: {held:?} held");
    }
}

/// Forks while a client is at work, and has the child ask it for everything.
fn inherit(_: FromParent) {
    let unheard = setting("LAST_WORD") == "unheard";
    let at_work = || Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let runtime = if unheard { runtime() } else { at_work() };
    let semaphore = semaphore();
    let permit = runtime.block_on(semaphore.acquire(1)).unwrap();
    let mut asked = pin!(semaphore.acquire(1));
    if unheard {
        let _entered = runtime.enter();
        assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let (mut end, keep_open) = pipe().unwrap();
    if matches!(fork().unwrap(), Fork::Child) {
        drop(end);
        run_and_exit(|| {
            let asking = within(PATIENCE / 2, ask_all(&semaphore, permit));
            say(format_args!("child {}", self::runtime().block_on(asking)));
        });
    }
    drop(keep_open);
    wait_for(&mut end);
    runtime.block_on(async {
        let in_use = semaphore.inspect().await.unwrap().in_use;
        let lost = permit.is_lost();
        let released = permit.release().await.unwrap() == Released::Freed;
        say(format_args!("parent in_use={in_use} lost={lost} released={released}"));
    });
}

/// "closed", or what was not.
async fn ask_all(semaphore: &ZSetSemaphore, permit: Permit) -> String {
    let acquired = semaphore.acquire(1).await;
    let tried = semaphore.try_acquire(1).await;
    let inspected = semaphore.inspect().await;
    let extended = permit.extend(PATIENCE).await;
    let released = permit.release().await;
    let closed = matches!(acquired, Err(AcquireError::Closed))
        && matches!(tried, Err(TryAcquireError::Closed))
        && matches!(inspected, Err(ControlError::Closed))
        && matches!(extended, Err(ExtendError::Closed))
        && matches!(released, Err(ReleaseError::Closed));
    if closed {
        return "closed".to_owned();
    }
    format!("{acquired:?} {tried:?} {inspected:?} {extended:?} {released:?}")
}

// Behaviour 60
#[tokio::test]
async fn a_client_at_work_stays_with_its_process_and_its_copy_in_a_fork_is_closed() {
    for last_word in ["heard", "unheard"] {
        let server = RedisServer::start().await;
        let env = [("URL", server.url()), ("LAST_WORD", last_word.to_owned())];
        let mut forking = Child::spawn("fork/inherit", &env);
        let child = forking.expect_line("@child ", PATIENCE).await;
        assert_eq!(child, "closed", "the driver has {last_word} the last word before the fork");
        let parent = forking.expect_line("@parent ", PATIENCE).await;
        assert!(parent.ends_with("lost=false released=true"), "{parent}");
    }
}
