//! An example as a process.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use test_support::owned_process::OwnedProcess;
use test_support::processes::example;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually};
use tokio::net::TcpSocket;

/// For what takes some seconds by itself, on a machine that has other things to do.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A running example; what it says goes to files. Dropping it kills it.
pub(crate) struct Example {
    pub(crate) process: OwnedProcess,
    directory: TempDir,
    what: String,
}

impl Example {
    pub(crate) fn start(name: &str, args: &str, redis_url: Option<String>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Self::command(name, args, redis_url);
        command
            .stdout(File::create(directory.path().join("stdout")).unwrap())
            .stderr(File::create(directory.path().join("stderr")).unwrap());
        let process = OwnedProcess::spawn(&mut command).unwrap();
        Self { process, directory, what: format!("{name} {args}") }
    }

    pub(crate) fn command(name: &str, args: &str, redis_url: Option<String>) -> Command {
        let binary = example(name);
        let built = modified(&binary);
        // `cargo test` builds the examples, `cargo test --test examples` does not.
        let out_of_date = sources(name).into_iter().find(|source| modified(source) > built);
        assert!(
            out_of_date.is_none(),
            "{out_of_date:?} is newer than the example: run `cargo build --examples`"
        );
        let mut command = Command::new(binary);
        // Not the variable of the person who runs the tests.
        command.env_remove("REDIS_URL").args(args.split_whitespace()).stdin(Stdio::null());
        if let Some(url) = redis_url {
            command.env("REDIS_URL", url);
        }
        command
    }

    pub(crate) fn stdout(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("stdout")).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("stderr")).unwrap()
    }

    pub(crate) fn complains_not(&self) {
        assert_eq!(self.stderr(), "", "`{}` complains", self.what);
    }

    /// Waits for a whole line that begins so; returns the rest of it.
    pub(crate) async fn says(&self, prefix: &str) -> String {
        let find = || {
            let said = self.stdout();
            let mut whole_lines = said.split_inclusive('\n').filter_map(|it| it.strip_suffix('\n'));
            whole_lines.find_map(|line| line.strip_prefix(prefix).map(str::to_owned))
        };
        let mut found = None;
        eventually(&format!("`{}` says {prefix:?}", self.what), PATIENCE, async || {
            self.complains_not();
            found = find();
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// As ctrl-c does.
    pub(crate) fn interrupt(&self) {
        let pid = Pid::from_raw(self.process.pid().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::INT).unwrap();
    }

    /// Waits for its end; returns its exit code and all it has said.
    pub(crate) async fn end(mut self) -> (Option<i32>, String, String) {
        let status = self.process.wait_for_exit(LONG).await;
        (status.code(), self.stdout(), self.stderr())
    }
}

/// The file of a short example; for a show its folder, and what the shows have in common.
fn sources(name: &str) -> Vec<PathBuf> {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let file = examples.join(format!("{name}.rs"));
    if file.exists() {
        return vec![file];
    }
    let files = |folder| std::fs::read_dir(examples.join(folder)).unwrap();
    files(name).chain(files("common")).map(|file| file.unwrap().path()).collect()
}

fn modified(path: &Path) -> SystemTime {
    path.metadata().and_then(|it| it.modified()).unwrap()
}

/// How many hold and how many wait, as Redis has it.
pub(crate) async fn held_and_queued(redis: &RedisServer, name: &str) -> (u64, u64) {
    let held = redis.query(&["ZCARD", &format!("zsem:{{{name}}}:permits")]).await;
    (held, redis.query(&["ZCARD", &format!("zsem:{{{name}}}:queue")]).await)
}

/// An address that refuses connections, ours for as long as the socket lives.
pub(crate) fn refusing_addr() -> (TcpSocket, SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let addr = socket.local_addr().unwrap();
    (socket, addr)
}
