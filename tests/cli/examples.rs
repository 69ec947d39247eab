//! The files of `examples/command-line`, each run as it stands, with other commands under their names.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;
use test_support::redis_server::RedisServer;

use crate::program::{semaphore, setsid};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/command-line").join(name)
}

fn text(name: &str) -> String {
    fs::read_to_string(example(name)).unwrap()
}

/// A folder with `zsem`, and with programs that note their names and arguments in the file `log`.
fn folder(programs: &[&str]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    symlink(env!("CARGO_BIN_EXE_zsem"), folder.path().join("zsem")).unwrap();
    for name in programs {
        let program = folder.path().join(name);
        let log = folder.path().join("log");
        fs::write(&program, format!("#!/bin/sh\necho {name} \"$@\" >> {}\n", log.display()))
            .unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

fn log(folder: &TempDir) -> Vec<String> {
    let text = fs::read_to_string(folder.path().join("log")).unwrap_or_default();
    let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
    lines.sort_unstable();
    lines
}

/// Runs a program in the folder, without a terminal. Its programs come first in the path.
fn run(server: &RedisServer, folder: &TempDir, words: &[&str], input: &str) -> Output {
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let file = folder.path().join("input");
    fs::write(&file, input).unwrap();
    let mut command = setsid();
    command.args(["--wait"]).args(words).current_dir(folder.path());
    command.env("PATH", path).env("ZSEM_URL", server.url()).env_remove("REDIS_URL");
    command.stdin(Stdio::from(fs::File::open(file).unwrap())).output().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_line_of_cron_runs_one_at_a_time_and_ends_well_where_another_one_runs() {
    let server = RedisServer::start().await;
    let folder = folder(&["nightly-sync"]);
    let text = text("crontab");
    let line = text.lines().find(|line| line.starts_with("*/5 ")).unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    assert!(words[..5].iter().all(|field| field.chars().all(|c| "*/0123456789,-".contains(c))));
    let command = words[5..].join(" ").replace("/usr/local/bin/", "");
    let output = run(&server, &folder, &["sh", "-c", &command], "");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(log(&folder), ["nightly-sync"]);
    let _held = semaphore(&server, "nightly-sync", 1).await.acquire(1).await.unwrap();
    let output = run(&server, &folder, &["sh", "-c", &command], "");
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty() && output.stderr.is_empty(), "cron mails it: {output:?}");
    assert_eq!(log(&folder), ["nightly-sync"], "another one ran");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn downloads_are_all_made() {
    let server = RedisServer::start().await;
    let folder = folder(&["curl"]);
    let script = example("downloads.sh");
    let output =
        run(&server, &folder, &[script.to_str().unwrap()], "http://a/1\nhttp://a/2\nhttp://a/3\n");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        log(&folder),
        [
            "curl -fsSO --url http://a/1",
            "curl -fsSO --url http://a/2",
            "curl -fsSO --url http://a/3"
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deployment_is_run_by_the_script_and_by_the_job() {
    let server = RedisServer::start().await;
    let folder = folder(&["deploy.sh"]);
    let script = example("in-turn.sh");
    let script = script.to_str().unwrap();
    let output =
        run(&server, &folder, &["env", "ENVIRONMENT=test", script, "./deploy.sh", "a b"], "");
    assert!(output.status.success(), "{output:?}");
    let output = run(&server, &folder, &[script, "./deploy.sh"], "");
    assert!(!output.status.success(), "without an environment");

    let job = text("deploy.yml");
    let (_, block) = job.split_once("run: |\n").unwrap();
    let (before, step) = job.split_once("- name: Deploy").unwrap();
    assert!(!before.replace("# Set: the secret ZSEM_URL", "").contains("ZSEM_URL"), "{before}");
    assert!(step.contains("ZSEM_URL: ${{ secrets.ZSEM_URL }}"), "{step}");
    assert!(!block.contains("in-turn.sh"), "a run inside a run of the same name");
    let output = run(&server, &folder, &["env", "GITHUB_RUN_ID=7", "sh", "-eu", "-c", block], "");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(log(&folder), ["deploy.sh", "deploy.sh a b"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_unit_of_systemd_is_read_and_its_command_runs() {
    let server = RedisServer::start().await;
    let folder = folder(&["crawl"]);
    let text = text("crawler.service");
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let is_section = line.starts_with('[') && line.ends_with(']');
        assert!(
            is_section || line.split_once('=').is_some_and(|(key, _)| !key.contains(' ')),
            "{line}"
        );
    }
    let command = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let command = command.replace("/usr/local/bin/", "");
    let words: Vec<_> = command.split_whitespace().collect();
    let output = run(&server, &folder, &words, "");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(log(&folder), ["crawl"]);
    verified_by_systemd(&folder, &text);
}

/// Where systemd is installed, it has nothing to say against the unit.
fn verified_by_systemd(folder: &TempDir, text: &str) {
    let unit = folder.path().join("crawler.service");
    let text = text.replace("/usr/local/bin/", &format!("{}/", folder.path().display()));
    fs::write(&unit, text).unwrap();
    let Ok(output) = Command::new("systemd-analyze").arg("verify").arg(&unit).output() else {
        return;
    };
    let told = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<_> = told.lines().filter(|line| line.contains("crawler.service")).collect();
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_of_the_container_runs_and_its_times_fit() {
    let server = RedisServer::start().await;
    let folder = folder(&["crawl"]);
    let text = text("crawler.yaml");
    let command = text.lines().find_map(|line| line.trim().strip_prefix("command: ")).unwrap();
    let words: Vec<String> = serde_json::from_str(command).unwrap();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let output = run(&server, &folder, &words, "");
    assert!(output.status.success(), "{output:?}");
    assert_eq!(log(&folder), ["crawl"]);
    assert!(!text.contains('\t'), "YAML has no tabs");
}

#[test]
fn every_example_begins_with_two_lines_on_what_to_set_and_the_page_names_it() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/command-line.md");
    let page = fs::read_to_string(page).unwrap();
    for entry in fs::read_dir(example("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let text = text(&name);
        let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("#!")).take(2).collect();
        assert!(lines[0].starts_with("# Set: ") && lines[1].starts_with("# "), "{name}: {lines:?}");
        assert!(
            page.contains(&format!("examples/command-line/{name}")),
            "{name} is not on the page"
        );
    }
}
