//! Child processes: this very test binary in another role, or an example.
//!
//! Parent and child talk in lines. The child's own side is [`child_role`](crate::child_role).

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::child_role::ROLE;
use crate::ledger::monotonic_nanos;
use crate::owned_process::OwnedProcess;

/// The test that [`child_role::play`](crate::child_role::play) is called from.
const ENTRY: &str = "child_process";

/// A running child. Dropping it kills it.
pub struct Child {
    process: OwnedProcess,
    // Open as long as this lives: its end tells a child that its parent is gone.
    stdin: Option<ChildStdin>,
    lines: mpsc::UnboundedReceiver<String>,
}

impl Child {
    /// Runs this test binary again, in the named role, with more variables in its environment.
    pub fn spawn(role: &str, env: &[(&str, String)]) -> Self {
        let binary = std::env::current_exe().expect("the path of this test binary");
        let mut command = Command::new(binary);
        // The arguments of the standard test harness, which is what runs below `cargo nextest`, too.
        command.args([ENTRY, "--exact", "--nocapture"]);
        Self::run_role(&mut command, role, env)
    }

    /// As [`spawn`](Self::spawn), by a program that is not this test binary.
    pub fn run_role(command: &mut Command, role: &str, env: &[(&str, String)]) -> Self {
        command.env(ROLE, role).envs(env.iter().map(|(name, value)| (name, value)));
        // In a group of its own a frozen child, too, ends when its parent is killed: the kernel hangs up on a
        // group that nobody is left to look after. And Ctrl-C reaches the parent alone, which ends it in order.
        command.process_group(0);
        Self::run(command)
    }

    /// Runs an example of this package.
    pub fn spawn_example<A: AsRef<OsStr>>(name: &str, args: &[A], env: &[(&str, String)]) -> Self {
        let mut command = Command::new(example(name));
        command.args(args).envs(env.iter().map(|(name, value)| (name, value)));
        Self::run(&mut command)
    }

    /// Runs any command. Its standard error is the test's.
    pub fn run(command: &mut Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = OwnedProcess::spawn(command)
            .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
        let child = process.child_mut();
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().expect("asked for above");
        Self { process, stdin, lines: read_lines(stdout) }
    }

    /// Waits for a line that begins with `prefix` and returns the rest of it; other lines are skipped.
    ///
    /// # Panics
    ///
    /// If no such line comes in time, or the child ends before.
    pub async fn expect_line(&mut self, prefix: &str, patience: Duration) -> String {
        let deadline = Instant::now() + patience;
        let mut skipped = Vec::new();
        let why = loop {
            match timeout_at(deadline, self.lines.recv()).await {
                Ok(Some(line)) => match line.strip_prefix(prefix) {
                    Some(rest) => return rest.trim().to_owned(),
                    None => skipped.push(line),
                },
                Ok(None) => break "closed its output",
                Err(_) => break "did not say it in time",
            }
        };
        panic!(
            "waited {patience:?} for {prefix:?} of process {}, which {why}; exit status: {:?}. \
             If no test ran: the binary needs a test `{ENTRY}` at its root. It said: {skipped:#?}",
            self.pid(),
            self.process.exited()
        );
    }

    /// Waits until the child, and all to whom it has handed its output on, have ended or closed it.
    pub async fn wait_for_end_of_output(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while let Some(_line) = timeout_at(deadline, self.lines.recv()).await.unwrap_or_else(|_| {
            panic!("the output of process {} has not ended in {patience:?}", self.pid())
        }) {}
    }

    /// Sends one line to the child's standard input.
    pub fn send(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("its input is open");
        writeln!(stdin, "{line}").unwrap_or_else(|error| {
            let status = self.process.exited();
            panic!("telling the child {line:?}: {error}; exit status: {status:?}")
        });
    }

    /// Closes the child's standard input, which is what it sees of its parent's death.
    pub fn close_input(&mut self) {
        self.stdin = None;
    }

    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Stops the child (SIGSTOP) and returns once it has stopped.
    pub fn freeze(&mut self) {
        self.process.freeze();
    }

    /// Lets a frozen child go on (SIGCONT).
    pub fn thaw(&mut self) {
        self.process.thaw();
    }

    /// Asks the child to end (SIGTERM).
    pub fn terminate(&mut self) {
        self.process.terminate();
    }

    /// Kills the child (SIGKILL) and returns, once it is gone, the instant at which the kill was issued: the one
    /// that `Ledger::kill_all_of` takes.
    pub fn kill(&mut self) -> u64 {
        let at_ns = monotonic_nanos();
        self.process.kill();
        at_ns
    }

    /// Waits for the child to end by itself.
    pub async fn wait_for_exit(&mut self, patience: Duration) -> ExitStatus {
        self.process.wait_for_exit(patience).await
    }
}

/// The path of an example's binary, as `cargo test` and `cargo nextest run` build it.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("the path of this test binary");
    // target/<profile>/deps/<test>, target/<profile>/examples/<name>
    let profile = test.ancestors().nth(2).expect("a test binary lies in target/<profile>/deps");
    let path = profile.join("examples").join(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(
        path.is_file(),
        "the example `{name}` is not built ({} is missing): run `cargo build --example {name}` \
         with the profile and the features of this test",
        path.display()
    );
    path
}

/// Reads on a thread, at once, so that a child that says much never waits for a test that listens late.
fn read_lines(stdout: ChildStdout) -> mpsc::UnboundedReceiver<String> {
    let (sender, lines) = mpsc::unbounded_channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Reads on when nobody listens: a broken pipe would end the child.
            let _ = sender.send(line);
        }
    });
    lines
}
