//! `zsem run` where it does not see, or may not kill, all that the command has started.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::geteuid;
use tempfile::TempDir;
use test_support::redis_server::RedisServer;
use test_support::wait::eventually;
use tokio::time::sleep;

use crate::descendants::is_free;
use crate::program::{End, LONG, Program, bash, semaphore};

/// Enters a namespace of processes of its own, also without the rights of root.
const UNSHARE: &str = "unshare --user --map-root-user --pid --fork";

/// Says that this machine cannot run a test.
fn skip(lacks: &str) {
    let thread = std::thread::current();
    println!("skipped on this machine: {}: {lacks}", thread.name().unwrap_or("a test"));
}

/// Whether this machine lets this process enter such a namespace.
fn can_unshare() -> bool {
    let words = UNSHARE.split_whitespace().skip(1).chain(["--mount-proc", "true"]);
    let made = Command::new("unshare").args(words).stderr(Stdio::null()).status();
    made.is_ok_and(|status| status.success())
}

/// The processor time of a line of bash, which prints it last.
fn time_of(end: &End) -> Duration {
    let word = end.stderr.lines().rev().find_map(|line| line.strip_prefix("took "));
    let mut seconds = word.unwrap().split(' ').map(|part| part.parse::<f64>().unwrap());
    Duration::from_secs_f64(seconds.next().unwrap() + seconds.next().unwrap())
}

/// A line of the shell that waits for a file of the test, or for the end of the test.
const WAIT: &str = "while [ -e $DIR/stdout ] && [ ! -e $DIR/go ]; do sleep 0.02; done";

/// Lets `zsem` wait for a while once it has warned, and then lets end what it waits for.
async fn end_of_waiting(program: Program) -> End {
    eventually("it has warned", LONG, async || program.stderr().contains("warning")).await;
    sleep(Duration::from_secs(1)).await; // what it costs is measured
    program.touch("go");
    program.end().await
}

const TIMED: &str = "TIMEFORMAT=\"took %U %S\"; time";

#[tokio::test]
async fn as_the_first_process_zsem_passes_signals_on_and_ends_all_that_was_started() {
    if !can_unshare() {
        return skip("no namespaces of processes");
    }
    let server = RedisServer::start().await;
    let script = "trap 'echo got TERM; exit 4' TERM; kill -TERM 1; while :; do sleep 0.02; done";
    let line = format!("exec {UNSHARE} --mount-proc \"$0\" run s -- sh -c \"$SCRIPT\"");
    let end = Program::of(bash(&server, &line).env("SCRIPT", script)).end().await;
    assert!(end.status == 4 && end.stdout.contains("got TERM"), "{end:?}");
    let line = format!(
        "exec {UNSHARE} --mount-proc \"$0\" run --max-hold 500ms --grace 100ms s -- sh -c \"$SCRIPT\""
    );
    let script = "trap '' TERM; setsid sh -c 'while :; do sleep 0.02; done' & wait; wait";
    let end = Program::of(bash(&server, &line).env("SCRIPT", script)).end().await;
    assert_eq!(end.status, 76, "{end:?}");
}

#[tokio::test]
async fn without_a_proc_of_its_own_the_group_is_killed_and_the_rest_is_waited_for_at_rest() {
    if !can_unshare() {
        return skip("no namespaces of processes");
    }
    let server = RedisServer::start().await;
    let script = "trap '' TERM; exec 9>$DIR/lock; flock 9; sleep 600 &
        setsid sh -c 'trap \"\" TERM; $WAIT; echo over' 9>&- & echo ready; wait; wait"
        .replace("$WAIT", WAIT);
    let line = format!(
        "exec {UNSHARE} bash -c '{TIMED} \"$0\" run --max-hold 500ms --grace 100ms s -- sh -c \"$SCRIPT\"' \"$0\""
    );
    let program = Program::of(bash(&server, &line).env("SCRIPT", &script));
    program.says("ready").await;
    let lock = program.file("lock");
    let end = end_of_waiting(program).await;
    assert_eq!(end.status, 76, "{end:?}");
    assert!(end.stdout.contains("over"), "what has left the group was not waited for: {end:?}");
    assert!(is_free(&lock), "the group is alive: {end:?}");
    assert_eq!(end.stderr.matches("warning").count(), 1, "{end:?}");
    assert!(end.stderr.contains("/proc is not that of zsem"), "{end:?}");
    assert!(time_of(&end) < Duration::from_millis(500), "{end:?}");
}

#[tokio::test]
async fn without_any_proc_a_run_fails_before_it_waits() {
    if !can_unshare() {
        return skip("no namespaces of processes");
    }
    let server = RedisServer::start().await;
    let holder = semaphore(&server, "s", 1).await;
    let _held = holder.acquire(1).await.unwrap();
    let line = "exec unshare --user --map-root-user --mount sh -c \
        'mount -t tmpfs none /proc && exec \"$0\" run s -- true' \"$0\"";
    let end = Program::of(&mut bash(&server, line)).end().await;
    assert!(end.status == 71 && end.stderr.contains("/proc is needed"), "{end:?}");
}

#[tokio::test]
async fn where_no_more_threads_are_allowed_a_run_fails_as_by_the_system_or_runs() {
    if !geteuid().is_root() {
        return skip("not root, who alone can become a user without processes");
    }
    let server = RedisServer::start().await;
    let folder = programs_for_other_users();
    for most in 2..6 {
        let line = format!(
            "exec setpriv --reuid 54321 --clear-groups bash -c 'ulimit -u {most}; exec $FOLDER/zsem run s{most} -- true'"
        );
        let end = Program::of(bash(&server, &line).env("FOLDER", folder.path())).end().await;
        assert!(
            [0, 71].contains(&end.status) && !end.stderr.contains("panicked"),
            "{most}: {end:?}"
        );
    }
}

/// Makes a folder with `zsem` and a program that runs others as root, whoever starts it.
fn programs_for_other_users() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path();
    fs::copy(env!("CARGO_BIN_EXE_zsem"), folder.join("zsem")).unwrap();
    let found = Command::new("sh").args(["-c", "command -v setpriv"]).output().unwrap();
    let path = String::from_utf8(found.stdout).unwrap();
    let program = folder.join("setpriv");
    fs::copy(path.trim_end(), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755)).unwrap();
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

#[tokio::test]
async fn what_runs_as_another_user_is_named_once_and_waited_for_at_rest() {
    if !geteuid().is_root() {
        return skip("not root, who alone can start a process that this user may not kill");
    }
    let server = RedisServer::start().await;
    let folder = programs_for_other_users();
    let script =
        "$FOLDER/setpriv --reuid 0 sh -c 'echo pid $$; $WAIT' & wait; wait".replace("$WAIT", WAIT);
    let line = format!(
        "exec setpriv --reuid 65534 --clear-groups bash -c '{TIMED} $FOLDER/zsem run --max-hold 500ms --grace 100ms s \
            -- sh -c \"$SCRIPT\"'"
    );
    let mut command = bash(&server, &line);
    command.env("SCRIPT", &script).env("FOLDER", folder.path());
    let program = Program::of(&mut command);
    let other = program.pid_of_command().await.as_raw_nonzero();
    let end = end_of_waiting(program).await;
    assert_eq!(end.status, 76, "{end:?}");
    assert!(!fs::exists(format!("/proc/{other}")).unwrap(), "it was not waited for: {end:?}");
    assert_eq!(end.stderr.matches("warning").count(), 1, "{end:?}");
    assert!(end.stderr.contains(&format!("waits for its end: {other}\n")), "{end:?}");
    assert!(time_of(&end) < Duration::from_millis(500), "{end:?}");
}
