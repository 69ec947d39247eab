//! What a command gets: arguments, environment, input, output.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::eventually;

use crate::program::{LONG, Program, bash, semaphore, until_told, zsem};

#[tokio::test]
async fn arguments_arrive_byte_for_byte_and_no_shell_sees_them() {
    let server = RedisServer::start().await;
    let odd = OsStr::from_bytes(b"\xff $HOME * `x`\n");
    let words = ["run", "s", "--", "printf", "[%s]"].map(OsStr::new);
    let args = words.into_iter().chain([odd, OsStr::new("--"), OsStr::new(""), OsStr::new("-n")]);
    let mut command = zsem(&server.url(), args);
    command.stdout(Stdio::piped());
    let output = command.output().unwrap();
    assert_eq!(output.stdout, b"[\xff $HOME * `x`\n][--][][-n]");
}

#[tokio::test]
async fn a_line_of_the_shell_is_run_only_where_it_is_asked_for() {
    let server = RedisServer::start().await;
    let mut command = zsem(&server.url(), ["run", "-c", "echo $((1 + 1)) | cat", "s"]);
    let end = Program::of(&mut command).end().await;
    assert_eq!((end.status, end.stdout.as_str()), (0, "2\n"));
}

#[tokio::test]
async fn input_is_passed_and_the_output_is_that_of_the_command_alone() {
    let server = RedisServer::start().await;
    let mut command = zsem(&server.url(), ["run", "s", "--", "sh", "-c", "cat; echo error >&2"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let text = "x".repeat(300_000);
    let mut input = child.stdin.take().unwrap();
    let write = std::thread::spawn({
        let text = text.clone();
        move || input.write_all(text.as_bytes()).unwrap()
    });
    let output = child.wait_with_output().unwrap();
    write.join().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == text.as_bytes() && output.stderr == b"error\n");
}

#[tokio::test]
async fn the_command_knows_its_permit_by_the_environment() {
    let server = RedisServer::start().await;
    let script = "echo $ZSEM_NAME/$ZSEM_UNITS/$ZSEM_LIMIT; echo $ZSEM_TOKEN; echo $ZSEM_ID";
    let end = Program::run(&server.url(), "-n 5 --units 2 jobs/a", script).end().await;
    let lines: Vec<_> = end.stdout.lines().collect();
    let [name, token, id] = lines[..] else { panic!("{end:?}") };
    assert_eq!(name, "jobs/a/2/5");
    let id: zset_semaphore::PermitId = id.parse().unwrap();
    assert_eq!(id.units(), 2);
    let next = semaphore(&server, "jobs/a", 5).await.acquire(1).await.unwrap();
    assert!(next.fencing_token() > token.parse().unwrap());
}

#[tokio::test]
async fn signals_that_the_parent_ignores_stay_ignored_and_no_others_are() {
    let server = RedisServer::start().await;
    let ignored = |line: &str| {
        let script = format!("trap '' HUP; exec {line}");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script]).env("ZSEM_URL", server.url()).env_remove("REDIS_URL");
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        u64::from_str_radix(text.trim().rsplit(char::is_whitespace).next().unwrap(), 16).unwrap()
    };
    let look = "grep SigIgn /proc/self/status";
    let zsem = env!("CARGO_BIN_EXE_zsem");
    assert_eq!(ignored(&format!("setsid {zsem} run s -- {look}")), ignored(look));
    assert_eq!(ignored(look) & 1, 1, "HUP");
}

#[tokio::test]
async fn without_a_limit_the_one_that_others_have_declared_counts() {
    let server = RedisServer::start().await;
    let others = semaphore(&server, "s", 3).await;
    let _held = [others.acquire(1).await.unwrap(), others.acquire(1).await.unwrap()];
    let end = Program::run(&server.url(), "--try s", "echo $ZSEM_LIMIT").end().await;
    assert_eq!((end.status, end.stdout.as_str()), (0, "3\n"), "{end:?}");
    let end = Program::run(&server.url(), "--try alone", "echo $ZSEM_LIMIT").end().await;
    assert_eq!((end.status, end.stdout.as_str()), (0, "1\n"), "{end:?}");
}

#[tokio::test]
async fn the_url_comes_from_an_argument_a_file_or_the_environment_in_this_order() {
    let (server, other) = (RedisServer::start().await, RedisServer::start().await);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), format!("{}\n", server.url())).unwrap();
    let seen_by = async |command: &mut std::process::Command| {
        let end = Program::of(command).end().await;
        assert_eq!(end.status, 0, "{end:?}");
        let (mine, theirs) = (server.keys().await.len(), other.keys().await.len());
        for server in [&server, &other] {
            server.cmd(&["FLUSHALL"]).await;
        }
        (mine > 0, theirs > 0)
    };
    let (here, there) = (server.url(), other.url());
    let path = file.path().to_str().unwrap();
    let run = ["run", "s", "--", "true"];
    let with = |first: &[&str]| -> Vec<String> {
        first.iter().chain(&run).map(|word| (*word).to_owned()).collect()
    };
    assert_eq!(seen_by(&mut zsem(&there, with(&["-u", &here]))).await, (true, false));
    assert_eq!(seen_by(&mut zsem(&there, with(&["--url-file", path]))).await, (true, false));
    assert_eq!(seen_by(zsem(&there, run).env("REDIS_URL", &here)).await, (false, true));
    assert_eq!(seen_by(zsem("", run).env("REDIS_URL", &here)).await, (true, false));
}

/// Returns the status of a line of bash.
fn status_of_line(server: &RedisServer, line: &str) -> Option<i32> {
    bash(server, line).stdout(Stdio::null()).status().unwrap().code()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_nobody_can_read_change_no_status() {
    let server = RedisServer::start().await;
    let held = semaphore(&server, "full", 1).await.acquire(1).await.unwrap();
    assert_eq!(status_of_line(&server, "exec \"$0\" run --try full -- true 2>/dev/full"), Some(75));
    let kept = "exec \"$0\" run --when-lost keep --max-hold 100ms s -- sh -c 'sleep 0.5; exit 5' 2>/dev/full";
    assert_eq!(status_of_line(&server, kept), Some(5));
    drop(held);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parent_that_ignores_the_end_of_children_changes_no_status() {
    let server = RedisServer::start().await;
    assert_eq!(
        status_of_line(&server, "trap '' CHLD; exec \"$0\" run s -- sh -c 'exit 3'"),
        Some(3)
    );
}

#[tokio::test]
async fn a_url_and_a_file_with_one_exclude_each_other_wherever_they_stand() {
    for line in [
        "-u redis://a --url-file /b ls",
        "ls -u redis://a --url-file /b",
        "-u redis://a ls --url-file /b",
        "--url-file /b ls -u redis://a",
        "--url-file /b run -u redis://a s -- true",
    ] {
        let end = Program::of(&mut zsem("", line.split_whitespace())).end().await;
        assert_eq!(end.status, 64, "{line}: {end:?}");
    }
}

#[tokio::test]
async fn what_the_library_tells_goes_to_standard_error_where_it_is_wanted() {
    let server = RedisServer::start().await;
    let proxy = FaultProxy::start(server.addr()).await;
    let program = Program::run(&proxy.url(), "-v s", &until_told(0));
    program.says("ready").await;
    proxy.refuse(true);
    proxy.cut();
    eventually("the outage is told", LONG, async || program.stderr().contains("WARN")).await;
    proxy.refuse(false);
    program.touch("go");
    let end = program.end().await;
    assert_eq!((end.status, end.stdout.as_str()), (0, "ready\n"), "{end:?}");
    assert!(end.stderr.lines().all(|line| line.starts_with("zsem: ")), "{end:?}");
}
