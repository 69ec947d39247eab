//! The candidates of `pairs` and `names`, each in a process of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::cores::{Cores, Placement};
use crate::pairs_child;
use crate::report::say;
use closed_loop::{Order, Round};
use test_support::processes::Child;
use test_support::redis_server::RedisServer;

/// Room for all tasks.
pub(crate) const LIMIT: u32 = 4096;
const PATIENCE: Duration = Duration::from_secs(60);

/// The places of the candidates in the list that [`start`] returns.
pub(crate) const OURS: usize = 0;
pub(crate) const BARE: usize = 1;
pub(crate) const PLAIN: usize = 2;
/// Behind ours, bare, plain and tokio's.
pub(crate) const DISTRIBUTED_LOCK_REDIS: usize = 4;

pub(crate) const TOKIO: &str = "tokio::sync::Semaphore";
pub(crate) const PEERS: [&str; 2] = ["distributed-lock-redis", "rslock"];

/// A candidate that runs.
pub(crate) struct Contender {
    pub(crate) label: &'static str,
    child: Child,
}

impl Contender {
    pub(crate) fn pid(&self) -> u32 {
        self.child.pid()
    }

    pub(crate) async fn round(&mut self, order: Order) -> Round {
        self.child.send(&order.to_line());
        Round::from_words(&self.child.expect_line("@round", PATIENCE).await)
    }
}

/// Starts a process of ours at any url, where the scheduler puts it.
pub(crate) async fn ours_at(label: &'static str, url: &str, names: usize) -> Contender {
    let env = [
        ("URL", url.to_owned()),
        ("NAMES", names.to_string()),
        ("LIMIT", LIMIT.to_string()),
        ("CORES", String::new()),
        ("CANDIDATE", "ours".to_owned()),
    ];
    let mut contender = Contender { label, child: Child::spawn(pairs_child::ROLE, &env) };
    contender.child.expect_line("@ready", PATIENCE).await;
    contender
}

/// A process of ours.
pub(crate) struct Ours<'a> {
    pub(crate) label: &'static str,
    pub(crate) candidate: &'static str,
    /// Another build of this benchmark; this one if there is none.
    pub(crate) program: Option<&'a Path>,
}

/// Starts processes of ours alone.
pub(crate) async fn of_ours(
    server: &RedisServer,
    cores: &Cores,
    placement: Placement,
    ours: &[Ours<'_>],
) -> Vec<Contender> {
    let mut contenders = Vec::new();
    for &Ours { label, candidate, program } in ours {
        let env = [
            ("URL", server.url()),
            ("NAMES", "1".to_owned()),
            ("LIMIT", LIMIT.to_string()),
            ("CORES", cores.of_clients(placement)),
            ("CANDIDATE", candidate.to_owned()),
        ];
        let mut child = match program {
            Some(program) => Child::run_role(&mut Command::new(program), pairs_child::ROLE, &env),
            None => Child::spawn(pairs_child::ROLE, &env),
        };
        child.expect_line("@ready", PATIENCE).await;
        contenders.push(Contender { label, child });
    }
    contenders
}

/// Starts them all. Tokio's and the peers run pinned alone, to save time.
pub(crate) async fn start(
    server: &RedisServer,
    cores: &Cores,
    placement: Placement,
    names: usize,
) -> Vec<Contender> {
    let env = [
        ("URL", server.url()),
        ("NAMES", names.to_string()),
        ("LIMIT", LIMIT.to_string()),
        ("CORES", cores.of_clients(placement)),
    ];
    let of_this_binary = |label, candidate: &str| {
        let mut env = env.to_vec();
        env.push(("CANDIDATE", candidate.to_owned()));
        Contender { label, child: Child::spawn(pairs_child::ROLE, &env) }
    };
    let mut contenders = vec![
        of_this_binary("zset-semaphore", "ours"),
        of_this_binary("bare", "bare"),
        of_this_binary("plain", "plain"),
    ];
    if placement == Placement::Pinned {
        contenders.push(of_this_binary(TOKIO, "tokio"));
        let program = build_peers();
        contenders.extend(
            program.iter().flat_map(|program| PEERS.map(|label| (program, label))).map(
                |(program, label)| Contender {
                    label,
                    child: Child::run_role(&mut Command::new(program), label, &env),
                },
            ),
        );
    }
    for contender in &mut contenders {
        contender.child.expect_line("@ready", PATIENCE).await;
    }
    contenders
}

/// The program that plays the peers; none where they cannot be had.
fn build_peers() -> Option<PathBuf> {
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers");
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers");
    let program = target.join("release/peers");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--locked", "--manifest-path"])
        .arg(package.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(&target)
        .stdin(Stdio::null())
        .status();
    match built {
        Ok(status) if status.success() && program.is_file() => Some(program),
        failure => {
            say(format_args!(
                "  The peers are left out, since building them failed: {failure:?}\n"
            ));
            None
        }
    }
}
