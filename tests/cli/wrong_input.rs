//! Wrong input: each is told in one kind sentence, with the status that belongs to it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Stdio;

use test_support::redis_server::RedisServer;

use crate::program::{End, Program, bash, semaphore, zsem};

async fn end_of<A: AsRef<OsStr>>(url: &str, words: impl IntoIterator<Item = A>) -> End {
    Program::of(&mut zsem(url, words)).end().await
}

#[tokio::test]
async fn a_wrong_url_is_told_with_the_place_where_it_was_given() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name).display().to_string();
        fs::write(&path, bytes).unwrap();
        path
    };
    let empty = file("empty", b"\n");
    let two = file("two", b"redis://:s3cret@127.0.0.1\nredis://b\n");
    let binary = file("binary", b"\xff\xfe");
    let wrong = file("wrong", b"s3cret\n");
    let long = file("long", format!("redis://127.0.0.1{}", "\n".repeat(65_520)).as_bytes());
    for (words, told) in [
        (vec!["ls", "--url", "localhost"], "--url is "),
        (vec!["ls", "--url", ""], "--url is \"\""),
        (vec!["ls", "--url-file", "/nowhere"], "--url-file /nowhere: "),
        (vec!["ls", "--url-file", "/"], "--url-file /: "),
        (vec!["ls", "--url-file", &empty], "it is empty"),
        (vec!["ls", "--url-file", &two], "more than one line"),
        (vec!["ls", "--url-file", &binary], "it is not text"),
        (vec!["ls", "--url-file", &wrong], "wrong is "),
        (vec!["ls", "--url-file", &long], "long: it is longer than 65536 bytes"),
        (
            vec!["ls", "--url-file", "/dev/zero"],
            "--url-file /dev/zero: it is longer than 65536 bytes",
        ),
        (vec!["ls"], "$ZSEM_URL is "),
    ] {
        let end = end_of("http://:s3cret@h", &words).await;
        assert_eq!((end.status, end.stdout.as_str()), (78, ""), "{words:?}: {end:?}");
        assert!(end.stderr.contains(told) && end.stderr.lines().count() == 1, "{words:?}: {end:?}");
        assert!(!end.stderr.contains("s3cret"), "{end:?}");
    }
    let mut command = zsem("", ["ls"]);
    let end = Program::of(command.env("REDIS_URL", "localhost")).end().await;
    assert!(end.stderr.starts_with("zsem: $REDIS_URL is "), "{end:?}");
    command.env("ZSEM_URL", OsStr::from_bytes(b"\xff"));
    let end = Program::of(&mut command).end().await;
    assert_eq!((end.status, end.stderr.as_str()), (78, "zsem: $ZSEM_URL is not text\n"));
}

#[tokio::test]
async fn a_file_with_a_url_may_have_blank_lines_and_marks_of_editors() {
    let server = RedisServer::start().await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("url");
    let longest = server.url() + &"\n".repeat(65_536 - server.url().len());
    for text in [format!("\n {}\r\n\n", server.url()), format!("\u{feff}{}", server.url()), longest]
    {
        fs::write(&path, text).unwrap();
        let end = end_of("http://wrong", ["show", "s", "--url-file", path.to_str().unwrap()]).await;
        assert_eq!((end.status, end.stderr.as_str()), (0, ""));
    }
}

#[tokio::test]
async fn a_wrong_number_is_told_with_those_that_are_allowed() {
    for (line, told) in [
        ("run -n -1 s -- true", "1 to 4294967295"),
        ("run -n 0 s -- true", "1 to 4294967295"),
        ("run -n 4294967296 s -- true", "1 to 4294967295"),
        ("run --units 0 s -- true", "1 to 4294967295"),
        ("run --max-queue -3 s -- true", "0 to 4294967295"),
        ("run -E -1 s -- true", "from 0 to 255"),
        ("run -E 256 s -- true", "from 0 to 255"),
        ("limit s -1", "0 to 4294967295"),
        ("limit s many", "0 to 4294967295"),
        ("run -w 5 s -- true", "500ms, 2s or 1m30s"),
        ("run s true", "zsem run [OPTIONS] NAME -- COMMAND"),
        ("kick s", "zsem kick [OPTIONS] NAME ID..."),
    ] {
        let end = end_of("redis://nowhere", line.split_whitespace()).await;
        assert_eq!((end.status, end.stdout.as_str()), (64, ""), "{line}: {end:?}");
        assert!(end.stderr.starts_with("zsem: ") && end.stderr.contains(told), "{line}: {end:?}");
    }
    for (line, told) in [
        ("--call-deadline 0 ls", "zsem: --call-deadline is 0ns; allowed: 10 ms to 60 s\n"),
        ("--prefix a{b} ls", "zsem: --prefix is \"a{b}\"; "),
    ] {
        let end = end_of("redis://127.0.0.1", line.split_whitespace()).await;
        assert_eq!(end.status, 78, "{line}: {end:?}");
        assert!(end.stderr.starts_with(told), "{line}: {end:?}");
    }
}

#[tokio::test]
async fn arguments_that_are_no_text_or_steer_a_terminal_are_told_without_harm() {
    let server = RedisServer::start().await;
    let odd = "\u{1b}[2J\u{202e}\nzsem";
    for (words, status) in [
        (vec![OsStr::new("show"), OsStr::new(odd)], 78),
        (vec![OsStr::new("show"), OsStr::new("a"), OsStr::new(odd)], 64),
        (vec![OsStr::new("ls"), OsStr::new("--color"), OsStr::new(odd)], 64),
        (vec![OsStr::new("show"), OsStr::from_bytes(b"\xff\xfe")], 64),
        (vec![OsStr::new("show"), OsStr::new("")], 78),
    ] {
        let end = end_of(&server.url(), &words).await;
        assert_eq!((end.status, end.stdout.as_str()), (status, ""), "{words:?}: {end:?}");
        assert!(end.stderr.starts_with("zsem: "), "{words:?}: {end:?}");
        assert!(!end.stderr.contains(['\u{1b}', '\u{202e}']), "{words:?}: {end:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_nobody_reads_or_that_is_full_has_its_status_and_no_panic() {
    let server = RedisServer::start().await;
    let _held = semaphore(&server, "s", 1).await.acquire(1).await.unwrap();
    for line in ["ls", "show s", "limit s", "man", "completions bash", "--help", "check"] {
        for (rest, status) in [(">&-", 0), ("| true", 0), (">/dev/full", 71), ("2>&- >&- <&-", 0)] {
            let script = format!("\"$0\" {line} {rest}; exit ${{PIPESTATUS[0]}}");
            let mut command = bash(&server, &script);
            let end = Program::of(command.stdin(Stdio::null())).end().await;
            assert_eq!((end.status, end.stdout.as_str()), (status, ""), "{line} {rest}: {end:?}");
            let told = if status == 71 { "zsem: standard output: " } else { "" };
            assert!(end.stderr.starts_with(told), "{line} {rest}: {end:?}");
            assert_eq!(end.stderr.is_empty(), status == 0, "{line} {rest}: {end:?}");
        }
    }
}

#[tokio::test]
async fn errors_are_text_on_standard_error_also_where_json_is_wanted() {
    for (line, status) in [("--json show s", 69), ("--json limit s x", 64), ("--json kick s", 64)] {
        let end = end_of("unix:///nowhere", line.split_whitespace()).await;
        assert_eq!((end.status, end.stdout.as_str()), (status, ""), "{line}: {end:?}");
        assert!(end.stderr.starts_with("zsem: "), "{line}: {end:?}");
    }
}
