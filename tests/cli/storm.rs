//! Many commands and all faults at once, judged by the kernel's locks.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::eventually;
use tokio::time::{Instant, sleep};
use zset_semaphore::ZSetSemaphore;

use crate::program::{LONG, Program, semaphore, until};

const LIMIT: u32 = 3;
const CALLERS: usize = 8;
/// As the commands have it.
const LEASE: Duration = Duration::from_secs(2);
const LENGTH: Duration = Duration::from_secs(20);

/// Takes the lock of a free slot. There are as many as the limit, so one that finds none is one too many. Everything
/// that the command has started has the lock, too, and the kernel frees it when the last of them is dead.
const COMMAND: &str = "
    for slot in 1 2 3; do
        exec 9>>$SLOTS/$slot
        if flock --nonblock 9; then
            setsid sleep 600 & left=$!
            trap 'kill $left; wait $left; exit 1' TERM
            echo pid $$
            echo guard $PPID
            sleep $WHOLE.$((RANDOM % 3))$((RANDOM % 10))
            kill $left; wait $left
            exit 0
        fi
    done
    { echo $$; ls -l /proc/[0-9]*/fd/9 2>&1 | grep $SLOTS; } >> $SLOTS/too-many";

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    None,
    ZsemKilled,
    ZsemStopped,
    GuardKilled,
    CommandKilled,
    ZsemAsked,
    CommandAsked,
    CutOff,
    ConnectionLost,
    Kicked,
}

impl Fault {
    const ALL: [Self; 10] = [
        Self::None,
        Self::ZsemKilled,
        Self::ZsemStopped,
        Self::GuardKilled,
        Self::CommandKilled,
        Self::ZsemAsked,
        Self::CommandAsked,
        Self::CutOff,
        Self::ConnectionLost,
        Self::Kicked,
    ];

    /// Returns for how many whole seconds the command runs.
    fn seconds(self) -> &'static str {
        match self {
            Self::ZsemStopped => "4", // longer than the lease
            _ => "0",
        }
    }

    /// Happens to a command that runs, unless another caller's kick has ended it before.
    async fn happen(self, program: &mut Program, proxy: &FaultProxy, operator: &ZSetSemaphore) {
        let Some((command, guard)) = begun(program).await else { return };
        sleep(Duration::from_millis(fastrand::u64(..150))).await;
        match self {
            Self::None => {}
            Self::ZsemKilled => _ = program.process().kill(),
            Self::ZsemStopped if program.process().exited().is_none() => {
                program.send(Signal::STOP);
                sleep(LEASE + Duration::from_millis(500)).await;
                program.send(Signal::CONT);
            }
            Self::GuardKilled => send(guard, Signal::KILL),
            Self::CommandKilled => send(command, Signal::KILL),
            Self::ZsemAsked if program.process().exited().is_none() => program.send(Signal::TERM),
            Self::ZsemStopped | Self::ZsemAsked => {} // it has ended
            Self::CommandAsked => send(command, Signal::TERM),
            Self::CutOff => proxy.black_hole(),
            Self::ConnectionLost => proxy.cut(),
            Self::Kicked => {
                let holders = operator.inspect().await.unwrap().holders;
                if let Some(holder) = holders.first() {
                    _ = operator.kick(holder.id).await.unwrap();
                }
            }
        }
    }
}

/// Returns the command and its guard once it has its slot, or none if it has ended.
async fn begun(program: &mut Program) -> Option<(Pid, Pid)> {
    let of = |said: &str, word| {
        let number = said.lines().find_map(|line| line.strip_prefix(word))?;
        Pid::from_raw(number.parse().ok()?)
    };
    let mut found = None;
    eventually("a command runs or has ended", LONG, async || {
        let (said, has_ended) = (program.stdout(), program.process().exited().is_some());
        found = of(&said, "pid ").zip(of(&said, "guard ")).filter(|_| said.ends_with('\n'));
        found.is_some() || has_ended
    })
    .await;
    found
}

/// It may have ended a moment ago.
fn send(pid: Pid, signal: Signal) {
    assert!(matches!(kill_process(pid, signal), Ok(()) | Err(Errno::SRCH)));
}

/// Runs one command after the other, each with the next fault. Returns how often each fault came.
async fn call(first: usize, server: &RedisServer, slots: &Path) -> BTreeMap<Fault, usize> {
    let proxy = FaultProxy::start(server.addr()).await;
    let operator = semaphore(server, "s", LIMIT).await;
    let (begin, mut came) = (Instant::now(), BTreeMap::new());
    for fault in Fault::ALL.into_iter().cycle().skip(first) {
        if begin.elapsed() > LENGTH {
            break;
        }
        let mut command = crate::program::zsem(
            &proxy.url(),
            [
                "run", "-n", "3", "--lease", "2s", "--grace", "300ms", "s", "--", "bash", "-c",
                COMMAND,
            ],
        );
        let mut program = Program::of(command.env("SLOTS", slots).env("WHOLE", fault.seconds()));
        fault.happen(&mut program, &proxy, &operator).await;
        *came.entry(fault).or_default() += 1;
        program.exit().await;
        proxy.pass();
    }
    came
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_fault_lets_more_commands_run_than_the_limit_or_leaves_one_behind() {
    let server = RedisServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let slots = folder.path();
    let came = join_all((0..CALLERS).map(|first| call(first, &server, slots))).await;
    let of = |fault| came.iter().filter_map(|came| came.get(&fault)).sum::<usize>();
    println!("{:?}", Fault::ALL.map(|fault| (fault, of(fault))));
    assert!(Fault::ALL.into_iter().all(|fault| of(fault) > 0), "a fault did not come");
    let too_many = fs::read_to_string(slots.join("too-many")).unwrap_or_default();
    assert_eq!(too_many, "", "commands that ran although {LIMIT} others did");
    let left = semaphore(&server, "s", LIMIT).await;
    until(&left, "nothing is left", |seen| seen.in_use == 0 && seen.waiters_total == 0).await;
    for slot in 1..=LIMIT {
        let file = File::open(slots.join(slot.to_string())).unwrap();
        assert_eq!(flock(&file, FlockOperation::NonBlockingLockExclusive), Ok(()), "slot {slot}");
    }
}
