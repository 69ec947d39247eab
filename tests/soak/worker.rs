//! A process of the soak: tasks that ask for permits in every way there is, hold them and give them back.

use std::io::{Read, pipe};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use fork::{Fork, fork};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use zset_semaphore::{Client, ZSetSemaphore};

use crate::asking::ask;
use crate::book::nanos;
use crate::cluster::spread;
use crate::names::{Kind, NAMES, Name, PASSING, PASSING_LEASE, PASSING_LIMIT};
use crate::reports::{Event, Reporter};
use crate::scene::ms;
use test_support::child_role::{FromParent, runtime, say, setting};
use test_support::ledger::monotonic_nanos;

/// How many processes a process that forks becomes.
pub const FORKS: usize = 3;
const LONGEST_CLOSE: Duration = Duration::from_secs(3);
const PASSING_EVERY: Duration = Duration::from_secs(4);

/// What the tasks of a process work on.
#[derive(Clone, Copy)]
struct Work {
    names: &'static [Name],
    failover_grace: Duration,
}

/// All names of one server.
const ONE_SERVER: Work = Work { names: &NAMES, failover_grace: Duration::ZERO };

impl Work {
    fn spread() -> Self {
        let grace = setting("GRACE_MS").parse().expect("a number");
        Self { names: spread::names(), failover_grace: Duration::from_millis(grace) }
    }
}

pub struct Worker {
    work: Work,
    pub reporter: Reporter,
    /// One client over RESP3, one over RESP2.
    sides: [Side; 2],
    pub stop: watch::Receiver<bool>,
    /// Counts the parent's words.
    rushes: watch::Receiver<u64>,
    pub next_hold: AtomicU64,
}

/// A client that is replaced now and then.
struct Side {
    url: String,
    work: Work,
    /// This process says the other limit where there are two.
    other: bool,
    open: Mutex<(Client, Vec<Vec<ZSetSemaphore>>)>,
}

impl Side {
    fn new(url: String, work: Work, other: bool) -> Self {
        let open = Mutex::new(open(&url, work, other));
        Self { url, work, other, open }
    }

    fn handle(&self, name: usize, lease: usize) -> ZSetSemaphore {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.1[name][lease].clone()
    }

    fn client(&self) -> Client {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    fn reopen(&self) -> Client {
        let new = open(&self.url, self.work, self.other);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *open, new).0
    }
}

fn open(url: &str, work: Work, other: bool) -> (Client, Vec<Vec<ZSetSemaphore>>) {
    let client = Client::open(url).expect("the parent's url");
    let handles = |name: &Name| name.handles(&client, other, work.failover_grace);
    let handles = work.names.iter().map(handles).collect();
    (client, handles)
}

/// Works until the process is killed or told to stop.
pub fn work(from_parent: FromParent) {
    work_with(ONE_SERVER, open_sides(ONE_SERVER), from_parent);
}

/// As [`work`], on the names that are spread over a cluster.
pub fn work_in_cluster(from_parent: FromParent) {
    let work = Work::spread();
    work_with(work, open_sides(work), from_parent);
}

/// Forks after the clients are made, and works in all processes until this one is killed.
pub fn work_in_forks(from_parent: FromParent) {
    let (mut end, keep_open) = pipe().expect("a pipe");
    let sides = open_sides(ONE_SERVER);
    for _ in 1..FORKS {
        if matches!(fork().expect("forking"), Fork::Child) {
            drop(keep_open);
            say(format!("forked {}", std::process::id()));
            thread::spawn(move || {
                // Its end is the end of the process that forked.
                let _ = end.read(&mut [0]);
                std::process::exit(0);
            });
            // Only the parent hears its own parent: here nobody says a word.
            let (_sender, nothing) = mpsc::unbounded_channel();
            return work_with(ONE_SERVER, sides, nothing);
        }
    }
    work_with(ONE_SERVER, sides, from_parent);
}

fn open_sides(work: Work) -> [Side; 2] {
    let other = index() % 2 == 1;
    ["URL", "RESP2_URL"].map(|url| Side::new(setting(url), work, other))
}

fn work_with(work: Work, sides: [Side; 2], mut from_parent: FromParent) {
    runtime().block_on(async {
        let (stop, stopped) = watch::channel(false);
        let (rush, rushes) = watch::channel(0);
        let reporter = Reporter::connect(&setting("WITNESS"));
        let next_hold = AtomicU64::new(0);
        let worker = Arc::new(Worker { work, reporter, sides, stop: stopped, rushes, next_hold });
        let seed: u64 = setting("SEED").parse().expect("a number");
        let mut random = Rng::with_seed(seed ^ u64::from(std::process::id()));
        let mut tasks = start_tasks(&worker, &mut random);
        say("working");
        while let Some(line) = from_parent.recv().await {
            match line.as_str() {
                "stop" => break,
                "rush" => rush.send_modify(|count| *count += 1),
                close => reopen(Arc::clone(&worker), random.usize(..2), close.to_owned()),
            }
        }
        let _ = stop.send(true);
        while let Some(ended) = tasks.join_next().await {
            ended.expect("no task panics");
        }
        for side in &worker.sides {
            match side.client().shutdown().await {
                Ok(()) => {}
                Err(error) => return say(format!("stopped, but {error}")),
            }
        }
        say("stopped");
    });
}

/// The number of this process.
fn index() -> usize {
    setting("INDEX").parse().expect("a number")
}

fn start_tasks(worker: &Arc<Worker>, seeds: &mut Rng) -> JoinSet<()> {
    let share: u32 = setting("SHARE").parse().expect("a number");
    let mut tasks = JoinSet::new();
    let mut number = 0;
    let names = worker.work.names.iter().enumerate();
    for (place, name) in names.filter(|(_, name)| name.is_used_by(index())) {
        for _ in 0..name.tasks.div_ceil(share) {
            tasks.spawn(toil(Arc::clone(worker), place, name, number, seeds.fork()));
            number += 1;
        }
    }
    tasks.spawn(pass_by(Arc::clone(worker), number, seeds.fork()));
    tasks
}

/// Replaces a client; the old one ends as `how` says.
fn reopen(worker: Arc<Worker>, side: usize, how: String) {
    tokio::spawn(async move {
        let old = worker.sides[side].reopen();
        match how.as_str() {
            "close" => {
                let _ = timeout(LONGEST_CLOSE, old.shutdown()).await;
            }
            "close now" => {
                let client = old.id().to_string();
                worker.reporter.tell(&Event::Closing { client, at: monotonic_nanos() });
                let _ = old.shutdown_now().await;
            }
            "drop" => drop(old),
            _ => panic!("the parent does not say {how:?}"),
        }
    });
}

async fn toil(worker: Arc<Worker>, place: usize, name: &'static Name, task: u32, mut random: Rng) {
    let side = if name.kind == Kind::Rush { 0 } else { task as usize % 2 };
    let side = &worker.sides[side];
    let mut rushes = worker.rushes.clone();
    while !*worker.stop.borrow() {
        if name.kind.is_called() {
            worker.next_rush(&mut rushes).await;
        }
        let semaphore = side.handle(place, random.usize(..name.leases_ms.len()));
        // Less than what a process of the other limit may ask for, too.
        let most = (*name.units.end()).min(semaphore.limit());
        let units = random.u32(*name.units.start()..=most);
        let holding = name.holding(&mut random);
        worker.ask_and_hold(&semaphore, units, task, holding, name.kind, &mut random).await;
    }
}

/// Goes from name to name, as one who limits each of many tenants.
async fn pass_by(worker: Arc<Worker>, task: u32, mut random: Rng) {
    while !*worker.stop.borrow() {
        let period = monotonic_nanos() / nanos(PASSING_EVERY);
        let semaphore = worker.sides[random.usize(..2)]
            .client()
            .semaphore(format!("{PASSING}{period}"), PASSING_LIMIT)
            .lease(PASSING_LEASE)
            .failover_grace(worker.work.failover_grace)
            .build()
            .expect("these settings are allowed");
        let holding = ms(&mut random, 5..60);
        worker.ask_and_hold(&semaphore, 1, task, holding, Kind::Plain, &mut random).await;
        drop(semaphore);
        sleep(ms(&mut random, 50..400)).await;
    }
}

impl Worker {
    async fn next_rush(&self, rushes: &mut watch::Receiver<u64>) {
        let mut stop = self.stop.clone();
        tokio::select! {
            _ = rushes.changed() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn ask_and_hold(
        &self,
        semaphore: &ZSetSemaphore,
        units: u32,
        task: u32,
        holding: Duration,
        kind: Kind,
        random: &mut Rng,
    ) {
        let at = monotonic_nanos();
        let name = semaphore.name().to_owned();
        let passing = name.starts_with(PASSING);
        self.reporter.tell(&Event::Asked { task, at, units, name });
        let mut stop = self.stop.clone();
        let outcome = tokio::select! {
            outcome = ask(semaphore, units, passing, random) => outcome,
            _ = stop.wait_for(|stop| *stop) => Err("stopped".to_owned()),
        };
        match outcome {
            Ok(permit) => self.hold(permit, at, task, holding, kind, random).await,
            Err(why) => {
                self.reporter.tell(&Event::Missed { task, why });
                sleep(ms(random, 2..40)).await;
            }
        }
    }
}
