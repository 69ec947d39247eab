//! Counts the system calls of a process: by `perf stat`, else by `strace -c`.

use std::fmt;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::time::sleep;

use test_support::processes::Child;

const PATIENCE: Duration = Duration::from_secs(30);
/// What strace needs to attach to all threads: it does not say when it has.
const ATTACHING: Duration = Duration::from_millis(500);

/// What is counted beside the sum. Clients of Redis send by `writev` or `sendto`, so
/// `write` is the eventfd by which tokio wakes a worker.
pub(crate) const CALLS: [&str; 6] =
    ["epoll_wait", "futex", "write", "writev", "sendto", "recvfrom"];

/// The program that counts.
#[derive(Clone, Copy)]
pub(crate) enum Counter {
    /// Counts in the kernel.
    Perf,
    /// Stops the process twice for each call.
    Strace,
}

impl Counter {
    /// None where this machine has neither, or lets nobody use them.
    pub(crate) fn here() -> Option<Self> {
        let runs = |command: &mut Command| {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok_and(|status| status.success())
        };
        if runs(Command::new("perf").args(["stat", "-e", &events(), "true"])) {
            return Some(Self::Perf);
        }
        runs(Command::new("strace").args(["-f", "-c", "true"])).then_some(Self::Strace)
    }

    /// Counts from now on, until [`Counting::stop`].
    pub(crate) async fn start(self, pid: u32) -> Counting {
        let directory = tempfile::tempdir().expect("making a directory for the counts");
        let output = directory.path().join("counts");
        let pid = pid.to_string();
        let process = match self {
            Self::Perf => {
                let mut command = Command::new("perf");
                // It starts disabled and says when it has obeyed.
                command.args(["stat", "-x", ",", "-D", "-1", "--control", "fd:0,1"]);
                command.args(["-e", &events(), "-p", &pid, "-o"]).arg(output).stderr(Stdio::null());
                let mut process = Child::run(&mut command);
                process.send("enable");
                process.expect_line("ack", PATIENCE).await;
                process
            }
            Self::Strace => {
                let mut command = Command::new("strace");
                command.args(["-f", "-c", "-p", &pid, "-o"]).arg(output).stderr(Stdio::null());
                let process = Child::run(&mut command);
                sleep(ATTACHING).await;
                process
            }
        };
        Counting { counter: self, process, directory }
    }
}

impl fmt::Display for Counter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Perf => "perf stat, which counts in the kernel",
            Self::Strace => "strace -c, which stops the process at each call",
        })
    }
}

fn events() -> String {
    let named = CALLS.map(|call| format!("syscalls:sys_enter_{call}")).join(",");
    format!("raw_syscalls:sys_enter,{named}")
}

/// A count that goes on.
pub(crate) struct Counting {
    counter: Counter,
    process: Child,
    directory: TempDir,
}

/// How often the process made any call, and each of [`CALLS`].
pub(crate) struct Counts {
    pub(crate) all: f64,
    pub(crate) named: [f64; CALLS.len()],
}

impl Counting {
    pub(crate) async fn stop(mut self) -> Counts {
        let pid = i32::try_from(self.process.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a pid"), Signal::INT).expect("it has not been waited for");
        self.process.wait_for_exit(PATIENCE).await;
        let path = self.directory.path().join("counts");
        let text = fs::read_to_string(path).expect("the counter has written");
        let count = |name: &str| match self.counter {
            Counter::Perf => of_perf(&text, name),
            Counter::Strace => of_strace(&text, name),
        };
        let all = match self.counter {
            Counter::Perf => count("raw_syscalls:sys_enter"),
            Counter::Strace => count("total"),
        };
        Counts { all, named: CALLS.map(count) }
    }
}

/// `count,,event,...`, where the event is `syscalls:sys_enter_` and the call, or a name of its own.
fn of_perf(text: &str, name: &str) -> f64 {
    let line = text.lines().map(|line| line.split(',').collect::<Vec<_>>()).find(|fields| {
        fields
            .get(2)
            .is_some_and(|event| event.strip_prefix("syscalls:sys_enter_").unwrap_or(event) == name)
    });
    line.and_then(|fields| fields[0].parse().ok()).unwrap_or(0.0)
}

/// `% time, seconds, usecs/call, calls, [errors,] name`; the last line is the total.
fn of_strace(text: &str, name: &str) -> f64 {
    let line = text
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|fields| fields.last() == Some(&name));
    line.and_then(|fields| fields.get(3)?.parse().ok()).unwrap_or(0.0)
}
