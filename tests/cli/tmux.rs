//! `zsem` typed into an interactive shell, in a window of a real tmux.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use test_support::owned_process::OwnedProcess;
use test_support::redis_server::RedisServer;
use test_support::wait::eventually;

use crate::program::{LONG, semaphore, until};

/// When a key is pressed again that had no effect.
const AGAIN: Duration = Duration::from_secs(2);

/// A tmux with one window, in which a bash waits for commands. There, `$zsem` is the program.
struct Tmux {
    _server: OwnedProcess,
    socket: PathBuf,
    _folder: TempDir,
}

impl Tmux {
    /// Returns none where tmux is not installed.
    async fn start(redis: &RedisServer) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("tmux");
        let mut command = Command::new("tmux");
        // `-D` keeps the server a child of this process.
        command.arg("-D").arg("-S").arg(&socket).args(["-f", "/dev/null"]);
        command.env("ZSEM_URL", redis.url()).env("zsem", env!("CARGO_BIN_EXE_zsem"));
        command.env("PS1", "prompt> ").env("BASH_SILENCE_DEPRECATION_WARNING", "1");
        command.env_remove("REDIS_URL").env_remove("NO_COLOR").env_remove("TMUX");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(server) = OwnedProcess::spawn(&mut command) else {
            println!("skipped: tmux is not here");
            return None;
        };
        let tmux = Self { _server: server, socket, _folder: folder };
        let shell = ["bash", "--norc", "--noprofile", "-i"];
        let window = [&["new-session", "-d", "-x", "100", "-y", "30"], shell.as_slice()].concat();
        eventually("tmux opens a window", LONG, async || tmux.says(&window).status.success()).await;
        tmux.shows("prompt> ").await;
        Some(tmux)
    }

    /// Runs a command of tmux. `-N`: it must not start a server of its own.
    fn says(&self, command: &[&str]) -> Output {
        Command::new("tmux").arg("-N").arg("-S").arg(&self.socket).args(command).output().unwrap()
    }

    fn types(&self, line: &str) {
        assert!(self.says(&["send-keys", "-l", line]).status.success());
        self.presses("Enter");
    }

    fn presses(&self, key: &str) {
        assert!(self.says(&["send-keys", key]).status.success());
    }

    fn screen(&self) -> String {
        let output = self.says(&["capture-pane", "-p"]);
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Waits for a line of the screen that is this text. What was typed stands behind a prompt, so it is none.
    async fn shows(&self, line: &str) {
        self.shows_so(&format!("the line {line:?}"), |screen| {
            screen.lines().any(|shown| shown.trim_end() == line.trim_end())
        })
        .await;
    }

    async fn shows_so(&self, what: &str, so: impl Fn(&str) -> bool) {
        let shown = tokio::time::timeout(LONG, async {
            while !so(&self.screen()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        assert!(shown.await.is_ok(), "the screen does not show {what}, but:\n{}", self.screen());
    }
}

#[tokio::test]
async fn in_tmux_a_wait_is_shown_on_a_line_that_goes_away_and_ctrl_c_ends_it() {
    let server = RedisServer::start().await;
    let Some(tmux) = Tmux::start(&server).await else { return };
    let full = semaphore(&server, "s", 1).await;
    let held = full.acquire(1).await.unwrap();
    tmux.types("$zsem run s -- echo ran");
    tmux.shows_so("how long it waits", |screen| screen.contains("waiting for s: 2.")).await;
    tmux.presses("C-c");
    until(&full, "nobody waits", |seen| seen.waiters_total == 0).await;
    tmux.types("echo status $?");
    tmux.shows("status 130").await;
    tmux.types("clear; $zsem run s -- echo ran");
    tmux.shows_so("how long it waits", |screen| screen.contains("waiting for s: 2.")).await;
    held.release().await.unwrap();
    tmux.shows("ran").await;
    tmux.shows_so("nothing but what the command said", |screen| screen == "ran\nprompt>").await;
}

#[tokio::test]
async fn in_tmux_a_command_is_stopped_and_continued_as_a_job_of_the_shell() {
    let server = RedisServer::start().await;
    let Some(tmux) = Tmux::start(&server).await else { return };
    let seen = semaphore(&server, "s", 1).await;
    tmux.types("$zsem run --lease 10m s -- sh -c 'echo ready; read line; echo \"<$line>\"'");
    tmux.shows("ready").await;
    tmux.presses("C-z");
    tmux.shows_so("a stopped job", |screen| screen.contains("Stopped")).await;
    assert_eq!(seen.inspect().await.unwrap().in_use, 1, "a stopped command holds its permit");
    tmux.types("fg");
    tmux.types("on");
    tmux.shows("<on>").await;
    tmux.types("echo status $?");
    tmux.shows("status 0").await;
    assert_eq!(seen.inspect().await.unwrap().in_use, 0);
}

#[tokio::test]
async fn in_tmux_ctrl_c_and_ctrl_backslash_end_a_command() {
    let server = RedisServer::start().await;
    let Some(tmux) = Tmux::start(&server).await else { return };
    for (key, status) in [("C-c", 130), ("C-\\", 131)] {
        tmux.types("clear; $zsem run s -- sh -c 'echo ready; sleep 600; echo over'");
        tmux.shows("ready").await;
        tmux.presses(key);
        tmux.types("echo status $?");
        tmux.shows(&format!("status {status}")).await;
    }
}

#[tokio::test]
async fn in_tmux_a_command_learns_that_its_window_has_another_size() {
    let server = RedisServer::start().await;
    let Some(tmux) = Tmux::start(&server).await else { return };
    tmux.types("$zsem run s -- bash -c 'trap \"stty size\" WINCH; echo ready; while sleep 0.02; do :; done'");
    tmux.shows("ready").await;
    assert!(tmux.says(&["resize-window", "-x", "70", "-y", "20"]).status.success());
    tmux.shows("20 70").await;
    tmux.presses("C-c");
    tmux.shows_so("the prompt", |screen| screen.ends_with("prompt>")).await;
}

#[tokio::test]
async fn in_tmux_a_program_of_the_whole_screen_is_used_through_zsem() {
    let server = RedisServer::start().await;
    let Some(tmux) = Tmux::start(&server).await else { return };
    tmux.types("clear; seq 1000 | $zsem run s -- more");
    tmux.shows_so("the first page", |screen| screen.starts_with("1\n2\n3\n")).await;
    let mut pressed = Instant::now() - AGAIN;
    eventually("the second page", LONG, async || {
        // `more` may throw a key away that comes before it reads.
        if pressed.elapsed() >= AGAIN {
            tmux.presses("Space");
            pressed = Instant::now();
        }
        !tmux.screen().starts_with("1\n2\n3\n")
    })
    .await;
    tmux.shows_so("more pages", |screen| screen.contains("More")).await;
    tmux.presses("q");
    tmux.types("echo status $?");
    tmux.shows("status 0").await;
}

#[tokio::test]
async fn in_tmux_a_table_has_colours_unless_it_goes_into_a_pipe() {
    let server = RedisServer::start().await;
    let Some(tmux) = Tmux::start(&server).await else { return };
    let _held = semaphore(&server, "jobs", 1).await.acquire(1).await.unwrap();
    let with_escapes = || {
        let output = tmux.says(&["capture-pane", "-p", "-e"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    tmux.types("clear; $zsem ls | cat; echo over");
    tmux.shows("over").await;
    let plain = with_escapes();
    assert!(plain.contains("NAME") && !plain.contains('\u{1b}'), "{plain:?}");
    tmux.types("clear; $zsem ls; echo over");
    eventually("a bold heading", Duration::from_secs(10), async || {
        with_escapes().contains("\u{1b}[1mNAME")
    })
    .await;
}
