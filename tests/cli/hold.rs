//! `zsem hold` in scripts.

use rustix::process::Signal;
use test_support::redis_server::RedisServer;

use crate::program::{Program, bash, semaphore, setsid, zsem};

/// As on the page. The shell gives a job in the background no input.
const HOLD: &str = r#"
    dir=$(mktemp -d "$DIR/XXXXXX") && mkfifo "$dir/held" || exit 71
    "$0" hold -n 1 --until-signal s > "$dir/held" & holder=$!
    trap 'kill $holder; wait $holder; echo ended $?; rm -r "$dir"' EXIT
    trap 'exit 1' HUP INT TERM
    read -r held < "$dir/held" || exit 75
    echo "got $held"
    while [ ! -e "$DIR/go" ]; do sleep 0.02; done"#;

fn script(server: &RedisServer) -> Program {
    let mut command = setsid();
    command.args(["sh", "-c", HOLD, env!("CARGO_BIN_EXE_zsem")]);
    Program::of(command.env("ZSEM_URL", server.url()).env_remove("REDIS_URL"))
}

#[tokio::test]
async fn a_script_holds_a_permit_in_the_background_until_it_says_so() {
    let server = RedisServer::start().await;
    let seen = semaphore(&server, "s", 1).await;
    for is_ended in [false, true] {
        let program = script(&server);
        assert!(program.says("got id=").await.ends_with(" units=1"));
        assert_eq!(seen.inspect().await.unwrap().in_use, 1);
        match is_ended {
            true => program.send(Signal::TERM),
            false => program.touch("go"),
        }
        let end = program.end().await;
        assert_eq!((end.status, end.stderr.as_str()), (i32::from(is_ended), ""), "{end:?}");
        assert!(end.stdout.ends_with("ended 0\n"), "{end:?}");
        assert_eq!(seen.inspect().await.unwrap().in_use, 0, "it is given back before the end");
    }
}

#[tokio::test]
async fn a_script_that_gets_no_permit_learns_so() {
    let server = RedisServer::start().await;
    let _held = semaphore(&server, "s", 1).await.acquire(1).await.unwrap();
    let line = "\"$0\" hold -w 50ms -q --until-signal s & wait $!";
    let end = Program::of(&mut bash(&server, line)).end().await;
    assert_eq!((end.status, end.stdout.as_str(), end.stderr.as_str()), (75, "", ""));
}

#[tokio::test]
async fn a_hold_without_an_input_says_how_to_hold() {
    let server = RedisServer::start().await;
    let end = Program::of(&mut bash(&server, "\"$0\" hold s & wait $!")).end().await;
    assert_eq!((end.status, end.stderr.lines().count()), (0, 1), "{end:?}");
    assert!(end.stderr.contains("--until-signal"), "{end:?}");
    // An input that somebody has closed is how a hold ends.
    let mut command = zsem(&server.url(), ["hold", "s"]);
    let mut program = Program::of(command.stdin(std::process::Stdio::piped()));
    program.says("id=").await;
    drop(program.process().child_mut().stdin.take());
    assert_eq!(program.end().await.stderr, "");
}
