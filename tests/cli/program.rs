//! `zsem` as a process without a terminal.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Once};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use test_support::owned_process::OwnedProcess;
use test_support::redis_server::RedisServer;
use test_support::wait::eventually;
use zset_semaphore::{Client, Inspection, ZSetSemaphore};

/// For what takes a moment by itself, on a machine that has other things to do.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A running `zsem`; what it says goes to files. Dropping it kills it.
pub(crate) struct Program {
    process: OwnedProcess,
    directory: TempDir,
}

/// How it has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) status: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// `setsid`, which becomes the program after it. The program has the default reaction to signals, also where this
/// process ignores some, as the background jobs of a shell do: a reaction of one's own is not passed on to a program.
pub(crate) fn setsid() -> Command {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [Signal::INT, Signal::QUIT] {
            let always = Arc::new(AtomicBool::new(true));
            signal_hook::flag::register_conditional_default(signal.as_raw(), always).unwrap();
        }
    });
    Command::new("setsid")
}

/// A command that runs `zsem` in a session of its own, so that it has no terminal. `setsid` becomes `zsem`.
pub(crate) fn zsem<A: AsRef<OsStr>>(url: &str, args: impl IntoIterator<Item = A>) -> Command {
    let mut command = setsid();
    command.arg(env!("CARGO_BIN_EXE_zsem")).args(args);
    // Not the variables of the person who runs the tests.
    command.env_remove("REDIS_URL").env_remove("NO_COLOR").env("ZSEM_URL", url);
    command.stdin(Stdio::null());
    command
}

/// A command that runs a line of bash without a terminal. In it, `$0` is `zsem`.
pub(crate) fn bash(server: &RedisServer, line: &str) -> Command {
    let mut command = setsid();
    command.args(["bash", "-c", line, env!("CARGO_BIN_EXE_zsem")]);
    command.env("ZSEM_URL", server.url()).env_remove("REDIS_URL");
    command
}

impl Program {
    pub(crate) fn start(server: &RedisServer, line: &str) -> Self {
        Self::of(&mut zsem(&server.url(), line.split_whitespace()))
    }

    /// Starts `zsem run NAME.. -- sh -c SCRIPT`.
    pub(crate) fn run(url: &str, line: &str, script: &str) -> Self {
        let words = ["run"].into_iter().chain(line.split_whitespace());
        Self::of(&mut zsem(url, words.chain(["--", "sh", "-c", script])))
    }

    pub(crate) fn of(command: &mut Command) -> Self {
        let directory = tempfile::tempdir().unwrap();
        command
            .env("DIR", directory.path())
            .stdout(File::create(directory.path().join("stdout")).unwrap())
            .stderr(File::create(directory.path().join("stderr")).unwrap());
        Self { process: OwnedProcess::spawn(command).unwrap(), directory }
    }

    pub(crate) fn stdout(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.path().join("stdout")).unwrap())
            .into_owned()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.directory.path().join("stderr")).unwrap())
            .into_owned()
    }

    /// Waits for a whole line on standard output that begins so; returns the rest of it.
    pub(crate) async fn says(&self, prefix: &str) -> String {
        let mut found = None;
        eventually(&format!("zsem says {prefix:?}"), LONG, async || {
            let said = self.stdout();
            let mut lines = said.split_inclusive('\n').filter_map(|it| it.strip_suffix('\n'));
            found = lines.find_map(|line| line.strip_prefix(prefix).map(str::to_owned));
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Waits for a line `pid N`, which the command has printed.
    pub(crate) async fn pid_of_command(&self) -> Pid {
        self.pid_of("pid").await
    }

    /// Waits for a line with this word and a number of a process.
    pub(crate) async fn pid_of(&self, word: &str) -> Pid {
        Pid::from_raw(self.says(&format!("{word} ")).await.parse().unwrap()).unwrap()
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.pid()).unwrap()).unwrap()
    }

    pub(crate) fn send(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Makes a file in the folder that the command knows as `$DIR`.
    pub(crate) fn touch(&self, name: &str) {
        File::create(self.directory.path().join(name)).unwrap();
    }

    /// Opens a file in that folder.
    pub(crate) fn file(&self, name: &str) -> File {
        File::open(self.directory.path().join(name)).unwrap()
    }

    pub(crate) fn process(&mut self) -> &mut OwnedProcess {
        &mut self.process
    }

    pub(crate) async fn end(mut self) -> End {
        let status = as_in_a_shell(self.process.wait_for_exit(LONG).await);
        End { status, stdout: self.stdout(), stderr: self.stderr() }
    }

    /// How it has ended, as its parent learns it.
    pub(crate) async fn exit(mut self) -> ExitStatus {
        self.process.wait_for_exit(LONG).await
    }

    pub(crate) async fn status(self) -> i32 {
        self.end().await.status
    }
}

/// The status that a shell has of a process in `$?`.
pub(crate) fn as_in_a_shell(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap())
}

/// A script that says that it is `ready`, and ends with this status once the test has touched `go`.
pub(crate) fn until_told(status: i32) -> String {
    format!("echo ready; while [ ! -e $DIR/go ]; do sleep 0.02; done; exit {status}")
}

/// Whether a process is there and not only waits to be collected.
pub(crate) fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    // The state follows the name, which stands in brackets.
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with(['Z', 'X']))
}

/// The semaphore as the library has it.
pub(crate) async fn semaphore(server: &RedisServer, name: &str, limit: u32) -> ZSetSemaphore {
    let client = Client::connect(server.url()).await.unwrap();
    client.semaphore(name, limit).build().unwrap()
}

pub(crate) async fn until(semaphore: &ZSetSemaphore, what: &str, so: impl Fn(&Inspection) -> bool) {
    eventually(what, LONG, async || semaphore.inspect().await.is_ok_and(|seen| so(&seen))).await;
}
