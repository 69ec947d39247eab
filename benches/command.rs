//! What `zsem run` adds to a command where there is room, beside `flock` and `sem`, which count on one machine.
//!
//! `cargo bench --bench command --features cli` starts its own `redis-server`. All candidates run in turns, and each
//! round starts with another one. It ends with a status other than 0 if more was added than is asked.

#![allow(clippy::unwrap_used)]

use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use test_support::redis_server::RedisServer;

/// The most that `zsem run` may add to a command: its start, its connection, one round trip, and its exit.
const MOST: Duration = Duration::from_millis(15);

const ROUNDS: usize = 200;

/// The command that runs: one that does nothing.
const COMMAND: &str = "/bin/true";

struct Candidate {
    name: &'static str,
    words: Vec<String>,
    took: Vec<Duration>,
}

impl Candidate {
    fn new(name: &'static str, words: &[&str]) -> Self {
        let words = words.iter().map(|word| (*word).to_owned()).chain([COMMAND.to_owned()]);
        Self { name, words: words.collect(), took: Vec::with_capacity(ROUNDS) }
    }

    fn command(&self, url: &str) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]).env("ZSEM_URL", url);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// Whether it is installed and does what it should.
    fn works(&self, url: &str) -> bool {
        self.command(url).status().is_ok_and(|status| status.success())
    }

    fn run(&mut self, url: &str) {
        let start = Instant::now();
        let status = self.command(url).status().unwrap();
        self.took.push(start.elapsed());
        assert!(status.success(), "{}: {status}", self.name);
    }

    fn lowest(&self) -> Duration {
        self.took[0]
    }

    fn median(&self) -> Duration {
        self.took[self.took.len() / 2]
    }
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let server = runtime.block_on(RedisServer::start());
    let url = server.url();
    let lock = tempfile::NamedTempFile::new().unwrap();
    let zsem = env!("CARGO_BIN_EXE_zsem");
    let all = [
        Candidate::new("the command alone", &[]),
        Candidate::new("zsem run", &[zsem, "run", "-n", "4", "bench", "--"]),
        Candidate::new("flock", &["flock", lock.path().to_str().unwrap()]),
        Candidate::new("sem", &["sem", "--fg", "-j", "4", "--id", "zsem-bench"]),
    ];
    let (mut present, missing): (Vec<_>, Vec<_>) = all.into_iter().partition(|one| one.works(&url));
    for candidate in missing {
        println!("{} is left out: it is not installed", candidate.name);
    }
    assert!(present.iter().any(|one| one.name == "zsem run"), "zsem does not run");
    for round in 0..ROUNDS {
        let count = present.len();
        for turn in 0..count {
            present[(round + turn) % count].run(&url);
        }
    }
    for candidate in &mut present {
        candidate.took.sort_unstable();
    }
    report(&present)
}

fn report(all: &[Candidate]) -> ExitCode {
    let millis = |duration: Duration| duration.as_secs_f64() * 1e3;
    let bare = &all[0];
    println!("\n{ROUNDS} rounds, in ms | lowest | median | added, lowest | added, median");
    let mut is_met = false;
    for candidate in all {
        let (lowest, median) = (candidate.lowest(), candidate.median());
        let added = lowest.saturating_sub(bare.lowest());
        println!(
            "{:18} | {:.2} | {:.2} | {:.2} | {:.2}",
            candidate.name,
            millis(lowest),
            millis(median),
            millis(added),
            millis(median.saturating_sub(bare.median())),
        );
        if candidate.name == "zsem run" {
            is_met = added <= MOST;
        }
    }
    let verdict = if is_met { "met" } else { "NOT MET" };
    println!("must: zsem run adds at most {:.0} ms: {verdict}", millis(MOST));
    if is_met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
