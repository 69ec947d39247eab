//! `zsem run` on a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process_group};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use test_support::owned_process::OwnedProcess;
use test_support::redis_server::RedisServer;
use test_support::wait::{eventually, within};
use zset_semaphore::Inspection;

use crate::program::{LONG, as_in_a_shell, is_alive, semaphore, setsid, until};

/// A terminal, and a process that it controls.
struct Terminal {
    keyboard: File,
    screen: Arc<Mutex<String>>,
    process: OwnedProcess,
}

impl Terminal {
    fn run(server: &RedisServer, args: &[&str]) -> Self {
        Self::start(server, &[&[env!("CARGO_BIN_EXE_zsem")], args].concat())
    }

    /// Runs a line of bash in which `$0` is `zsem`.
    fn bash(server: &RedisServer, line: &str) -> Self {
        Self::start(server, &["bash", "-c", line, env!("CARGO_BIN_EXE_zsem")])
    }

    fn start(server: &RedisServer, command_line: &[&str]) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap();
        let side =
            || -> OwnedFd { open(&*path, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap() };
        let mut command = setsid();
        command.arg("--ctty").args(command_line);
        command.env("ZSEM_URL", server.url()).env_remove("REDIS_URL").env_remove("NO_COLOR");
        command.stdin(Stdio::from(side())).stdout(Stdio::from(side())).stderr(Stdio::from(side()));
        let process = OwnedProcess::spawn(&mut command).unwrap();
        let keyboard = File::from(master);
        let (mut output, screen) = (keyboard.try_clone().unwrap(), Arc::new(Mutex::default()));
        let shown: Arc<Mutex<String>> = Arc::clone(&screen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shown.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Self { keyboard, screen, process }
    }

    fn screen(&self) -> String {
        self.screen.lock().unwrap().clone()
    }

    fn types(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).unwrap();
    }

    async fn shows(&self, text: &str) {
        eventually(&format!("the screen shows {text:?}"), LONG, async || {
            self.screen().contains(text)
        })
        .await;
    }

    async fn status(&mut self) -> Option<i32> {
        Some(as_in_a_shell(self.process.wait_for_exit(LONG).await))
    }

    /// Waits for a line with this word and a number of a process.
    async fn pid_of(&self, word: &str) -> Pid {
        let word = format!("{word} ");
        let mut found = None;
        eventually(&format!("the screen shows {word:?} and a number"), LONG, async || {
            let screen = self.screen();
            let mut lines = screen.split_inclusive('\n').filter(|line| line.ends_with('\n'));
            found = lines.find_map(|line| line.trim_end().strip_prefix(&word)?.parse().ok());
            found.is_some()
        })
        .await;
        Pid::from_raw(found.unwrap()).unwrap()
    }
}

const CTRL_C: &[u8] = b"\x03";
const CTRL_D: &[u8] = b"\x04";
const CTRL_Z: &[u8] = b"\x1a";

#[tokio::test]
async fn a_key_reaches_the_command_once_and_its_status_counts() {
    let server = RedisServer::start().await;
    let script =
        "trap 'echo got INT' INT; trap 'exit 4' TERM; echo ready; while :; do sleep 0.02; done";
    let mut terminal = Terminal::run(&server, &["run", "s", "--", "sh", "-c", script]);
    terminal.shows("ready").await;
    terminal.types(CTRL_C);
    terminal.shows("got INT").await;
    // What a process sends is passed on, what the terminal sends has reached it already.
    terminal.process.terminate();
    assert_eq!(terminal.status().await, Some(4));
    assert_eq!(terminal.screen().matches("got INT").count(), 1, "{}", terminal.screen());
}

#[tokio::test]
async fn the_command_reads_from_the_terminal() {
    let server = RedisServer::start().await;
    let mut terminal =
        Terminal::run(&server, &["run", "s", "--", "sh", "-c", "read line; echo \"<$line>\""]);
    terminal.types(b"hello\n");
    terminal.shows("<hello>").await;
    assert_eq!(terminal.status().await, Some(0));
    let mut terminal = Terminal::run(&server, &["run", "s", "--", "cat"]);
    terminal.types(CTRL_D);
    assert_eq!(terminal.status().await, Some(0));
}

#[tokio::test]
async fn ctrl_c_during_the_wait_ends_it_and_leaves_no_place_in_the_queue() {
    let server = RedisServer::start().await;
    let full = semaphore(&server, "s", 1).await;
    let _held = full.acquire(1).await.unwrap();
    let mut terminal = Terminal::run(&server, &["run", "s", "--", "echo", "ran"]);
    until(&full, "it waits", |seen| seen.waiters_total == 1).await;
    terminal.types(CTRL_C);
    assert_eq!(terminal.status().await, Some(130));
    assert_eq!(full.inspect().await.unwrap().waiters_total, 0);
}

#[tokio::test]
async fn a_long_wait_is_shown_with_the_place_on_one_line_that_goes_away() {
    let server = RedisServer::start().await;
    let full = semaphore(&server, "s", 1).await;
    let held = full.acquire(1).await.unwrap();
    let before = tokio::spawn(full.acquire(1));
    until(&full, "one waits", |seen| seen.waiters_total == 1).await;
    let mut terminal = Terminal::run(&server, &["run", "s", "--", "echo", "ran"]);
    until(&full, "both wait", |seen| seen.waiters_total == 2).await;
    assert!(!terminal.screen().contains("waiting"), "{}", terminal.screen());
    terminal.shows("waiting for s: 2.").await;
    terminal.shows(", 1 ahead").await;
    held.release().await.unwrap();
    drop(before.await.unwrap().unwrap());
    assert_eq!(terminal.status().await, Some(0));
    terminal.shows("ran").await;
    let screen = terminal.screen();
    assert!(!screen[..screen.find("ran").unwrap()].contains('\n'), "one line: {screen:?}");
    assert!(screen.contains("\r\u{1b}[Kran"), "it goes away: {screen:?}");
}

#[tokio::test]
async fn a_command_that_is_stopped_and_goes_on_keeps_its_permit() {
    let server = RedisServer::start().await;
    let full = semaphore(&server, "s", 1).await;
    let script = "echo ready; read line; echo \"<$line>\"";
    let mut terminal =
        Terminal::run(&server, &["run", "--lease", "30s", "s", "--", "sh", "-c", script]);
    terminal.shows("ready").await;
    terminal.types(CTRL_Z);
    // A shell would tell that the job is stopped, and go on with it. Here the session has no shell, so the
    // kernel does not stop its last group: the command must not be harmed by the key.
    terminal.types(b"on\n");
    terminal.shows("<on>").await;
    assert_eq!(terminal.status().await, Some(0));
    until(&full, "it is given back", |seen| seen.in_use == 0).await;
}

#[tokio::test]
async fn a_table_is_in_colour_on_a_terminal() {
    let server = RedisServer::start().await;
    let _held = semaphore(&server, "jobs", 1).await.acquire(1).await.unwrap();
    let mut terminal = Terminal::run(&server, &["ls"]);
    assert_eq!(terminal.status().await, Some(0));
    eventually("the table is shown", Duration::from_secs(5), async || {
        terminal.screen().contains("\u{1b}[1mNAME")
    })
    .await;
}

/// A command that starts a process which leaves the session and lets itself not be asked. Neither ends by itself.
const STARTER: &str = "trap '' TERM HUP
    setsid sh -c 'echo left $$; while :; do sleep 0.02; done' &
    echo pid $$
    while :; do sleep 0.02; done";

#[tokio::test]
async fn on_a_terminal_all_that_was_started_is_dead_before_the_next_one_is_let_in() {
    let server = RedisServer::start().await;
    let operator = semaphore(&server, "s", 1).await;
    let line = ["run", "--lease", "4s", "--grace", "500ms", "s", "--", "sh", "-c", STARTER];
    let mut terminal = Terminal::run(&server, &line);
    let (command, left) = (terminal.pid_of("pid").await, terminal.pid_of("left").await);
    let holder = operator.inspect().await.unwrap().holders[0].id;
    let next = tokio::spawn(operator.acquire(1));
    operator.kick(holder).await.unwrap();
    let permit = within(LONG, next).await.unwrap().unwrap();
    assert!(!is_alive(command) && !is_alive(left), "the next one was let in before");
    assert_eq!(terminal.status().await, Some(76));
    drop(permit);
}

#[tokio::test]
async fn on_a_terminal_a_zsem_that_is_killed_takes_along_all_that_was_started() {
    let server = RedisServer::start().await;
    let mut terminal = Terminal::run(&server, &["run", "s", "--", "sh", "-c", STARTER]);
    let (command, left) = (terminal.pid_of("pid").await, terminal.pid_of("left").await);
    terminal.process.kill();
    eventually("both are gone", LONG, async || !is_alive(command) && !is_alive(left)).await;
}

#[tokio::test]
async fn on_a_terminal_what_ends_the_whole_group_leaves_nothing_that_was_started() {
    let server = RedisServer::start().await;
    let script = STARTER.replace("HUP", "HUP ALRM");
    let mut terminal = Terminal::run(&server, &["run", "s", "--", "sh", "-c", &script]);
    let (command, left) = (terminal.pid_of("pid").await, terminal.pid_of("left").await);
    let group = Pid::from_raw(i32::try_from(terminal.process.pid()).unwrap()).unwrap();
    kill_process_group(group, Signal::ALARM).unwrap();
    assert_eq!(terminal.status().await, Some(128 + 14));
    eventually("both are gone", LONG, async || !is_alive(command) && !is_alive(left)).await;
}

#[tokio::test]
async fn a_loop_of_the_shell_ends_by_ctrl_c() {
    let server = RedisServer::start().await;
    let full = semaphore(&server, "full", 1).await;
    let _held = full.acquire(1).await.unwrap();
    let mut terminal = Terminal::bash(
        &server,
        "while :; do \"$0\" run s -- sh -c 'echo ready; exec sleep 600'; done",
    );
    terminal.shows("ready").await;
    terminal.types(CTRL_C);
    assert_eq!(terminal.status().await, Some(130), "{}", terminal.screen());
    let mut terminal = Terminal::bash(&server, "while :; do \"$0\" run full -- true; done");
    until(&full, "it waits", |seen| seen.waiters_total == 1).await;
    terminal.types(CTRL_C);
    assert_eq!(terminal.status().await, Some(130), "{}", terminal.screen());
}

#[tokio::test]
async fn on_a_terminal_a_signal_to_the_group_reaches_the_command_once() {
    let server = RedisServer::start().await;
    let script = "trap 'echo got TERM' TERM; echo ready; i=0
        while [ $i -lt 25 ]; do sleep 0.02; i=$((i + 1)); done; echo over";
    let line = format!(
        "timeout --signal TERM 0.01 true; exec timeout 600 \"$0\" run s -- sh -c \"{script}\""
    );
    let mut terminal = Terminal::bash(&server, &line.replace("$i", "\\$i").replace("$((", "\\$(("));
    terminal.shows("ready").await;
    terminal.process.terminate();
    terminal.shows("over").await;
    assert_eq!(terminal.screen().matches("got TERM").count(), 1, "{}", terminal.screen());
    terminal.status().await;
}

#[tokio::test]
async fn a_permit_is_held_in_the_background_and_given_back_by_the_end_of_input_in_the_foreground() {
    let server = RedisServer::start().await;
    let seen = semaphore(&server, "s", 1).await;
    let line = "set -m; \"$0\" hold --lease 3s s & read line; fg";
    let mut terminal = Terminal::bash(&server, line);
    terminal.shows("id=").await;
    // A process that reads in the background is stopped, and one that is stopped does not renew.
    let left = |seen: &Inspection| seen.holders.first().map(|holder| holder.expires_in);
    until(&seen, "the lease goes on", |seen| {
        left(seen).is_some_and(|left| left < Duration::from_millis(2_300))
    })
    .await;
    until(&seen, "it is renewed", |seen| {
        left(seen).is_some_and(|left| left > Duration::from_millis(2_700))
    })
    .await;
    terminal.types(b"on\n");
    terminal.shows("hold --lease 3s s").await;
    terminal.types(CTRL_D);
    assert_eq!(terminal.status().await, Some(0));
    assert_eq!(seen.inspect().await.unwrap().in_use, 0);
}
