//! A process of the soak: tasks that ask for permits in every way there is, hold them and give them back.

use std::io::{Read, pipe};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use fastrand::Rng;
use fork::{Fork, fork};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use zset_semaphore::{AcquireError, Client, LostReason, Permit, TryAcquireError, ZSetSemaphore};

use crate::names::{Kind, MAX_HOLD, NAMES, Name, PASSING, PASSING_LEASE, PASSING_LIMIT};
use crate::reports::{Event, Reporter};
use crate::support::belief::local_deadline;
use crate::support::child_role::{FromParent, say, setting};
use crate::support::ledger::monotonic_nanos;

/// How many processes a process that forks becomes.
pub const FORKS: usize = 3;
/// How often a holder looks at its permit.
const LOOK: Duration = Duration::from_millis(10);
const LONGEST_CLOSE: Duration = Duration::from_secs(3);
const PASSING_EVERY: Duration = Duration::from_secs(4);

fn ms(random: &mut Rng, range: Range<u64>) -> Duration {
    Duration::from_millis(random.u64(range))
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("a short time")
}

struct Worker {
    reporter: Reporter,
    /// One client over RESP3, one over RESP2.
    sides: [Side; 2],
    stop: watch::Receiver<bool>,
    /// Counts the parent's words.
    rushes: watch::Receiver<u64>,
    next_hold: AtomicU64,
}

/// A client that is replaced now and then.
struct Side {
    url: String,
    /// This process says the other limit where there are two.
    other: bool,
    open: Mutex<(Client, Vec<Vec<ZSetSemaphore>>)>,
}

impl Side {
    fn new(url: String, other: bool) -> Self {
        let open = Mutex::new(open(&url, other));
        Self { url, other, open }
    }

    fn handle(&self, name: usize, lease: usize) -> ZSetSemaphore {
        let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.1[name][lease].clone()
    }

    fn client(&self) -> Client {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).0.clone()
    }

    fn reopen(&self) -> Client {
        let new = open(&self.url, self.other);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *open, new).0
    }
}

fn open(url: &str, other: bool) -> (Client, Vec<Vec<ZSetSemaphore>>) {
    let client = Client::open(url).expect("the parent's url");
    let handles = NAMES.iter().map(|name| name.handles(&client, other)).collect();
    (client, handles)
}

/// Works until the process is killed or told to stop.
pub fn work(from_parent: FromParent) {
    work_with(open_sides(), from_parent);
}

/// Forks after the clients are made, and works in all processes until this one is killed.
pub fn work_in_forks(from_parent: FromParent) {
    let (mut end, keep_open) = pipe().expect("a pipe");
    let sides = open_sides();
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
            return work_with(sides, nothing);
        }
    }
    work_with(sides, from_parent);
}

fn open_sides() -> [Side; 2] {
    let other = index() % 2 == 1;
    [Side::new(setting("URL"), other), Side::new(setting("RESP2_URL"), other)]
}

fn work_with(sides: [Side; 2], mut from_parent: FromParent) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let (stop, stopped) = watch::channel(false);
        let (rush, rushes) = watch::channel(0);
        let reporter = Reporter::connect(&setting("WITNESS"));
        let next_hold = AtomicU64::new(0);
        let worker = Arc::new(Worker { reporter, sides, stop: stopped, rushes, next_hold });
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
    for (place, name) in NAMES.iter().enumerate().filter(|(_, name)| name.is_used_by(index())) {
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
        if name.kind == Kind::Rush {
            worker.next_rush(&mut rushes).await;
        }
        let semaphore = side.handle(place, random.usize(..name.leases_ms.len()));
        // Less than what a process of the other limit may ask for, too.
        let most = (*name.units.end()).min(semaphore.limit());
        let units = random.u32(*name.units.start()..=most);
        let holding = ms(&mut random, name.hold_ms.clone());
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

    async fn hold(
        &self,
        permit: Permit,
        asked: u64,
        task: u32,
        holding: Duration,
        kind: Kind,
        random: &mut Rng,
    ) {
        let from = monotonic_nanos();
        let Some(sure_until) = local_deadline(&permit) else {
            let why = "lost before it was looked at".to_owned();
            return self.reporter.tell(&Event::Missed { task, why });
        };
        let hold = self.next_hold.fetch_add(1, Ordering::Relaxed);
        self.reporter.tell(&Event::Entered {
            task,
            hold,
            id: permit.id().to_string(),
            units: permit.units(),
            token: permit.fencing_token(),
            from,
            sure_until,
            // The longest hold counts from when the grant was heard of, which was after it was asked for.
            most: if kind == Kind::Bounded { asked + nanos(MAX_HOLD) } else { u64::MAX },
        });
        let extends = kind == Kind::Manual && random.u32(..4) > 0;
        let belief = Belief { hold, last_seen: from, sure_until };
        let (until, how) = self.believe(&permit, belief, Instant::now() + holding, extends).await;
        let lost = how != "done";
        self.reporter.tell(&Event::Left { hold, until, how });
        self.give_back(permit, lost, random).await;
    }

    /// Until when the holder believed for certain, and how it ended.
    async fn believe(
        &self,
        permit: &Permit,
        mut belief: Belief,
        end: Instant,
        extends: bool,
    ) -> (u64, String) {
        let lease = permit.id().lease();
        let mut extend_at = Instant::now() + lease / 3;
        loop {
            let now = monotonic_nanos();
            let Some(deadline) = local_deadline(permit) else {
                let reason = permit.lost().await;
                return (belief.lost(reason, now), format!("{reason:?}"));
            };
            belief.last_seen = now;
            if deadline > belief.sure_until {
                belief.sure_until = deadline;
                let hold = belief.hold;
                self.reporter.tell(&Event::Renewed { hold, sure_until: deadline });
            }
            if Instant::now() >= end || *self.stop.borrow() {
                return (now, "done".to_owned());
            }
            if extends && Instant::now() >= extend_at {
                extend_at = Instant::now() + lease / 3;
                // Bounded, so that its end is looked for.
                let _ = timeout(lease / 3, permit.extend(lease)).await;
            } else {
                tokio::select! {
                    biased;
                    _ = permit.lost() => {}
                    () = sleep(LOOK.min(end.saturating_duration_since(Instant::now()))) => {}
                }
            }
        }
    }

    async fn give_back(&self, permit: Permit, lost: bool, random: &mut Rng) {
        match random.u32(..4) {
            0 => {
                let how = match permit.release().await {
                    Ok(released) => format!("release: {released:?}"),
                    Err(error) => format!("release: {error:?}"),
                };
                if !lost {
                    self.reporter.count(how);
                }
            }
            1 => {
                let watch = permit.watch();
                let _ = timeout(ms(random, 0..20), watch.release()).await;
            }
            // Outside of any task.
            2 => drop(tokio::task::spawn_blocking(move || drop(permit)).await),
            _ => drop(permit),
        }
    }
}

struct Belief {
    hold: u64,
    /// The last instant at which `is_lost()` said no.
    last_seen: u64,
    /// The last deadline noted: it would have said no until then, by the clock.
    sure_until: u64,
}

impl Belief {
    /// Until when it was believed for certain, when it was seen at `now` that it is lost.
    fn lost(&self, reason: LostReason, now: u64) -> u64 {
        match reason {
            // By the clock, at the deadline noted or a later one.
            LostReason::Expired | LostReason::Unprovable => {
                self.last_seen.max(self.sure_until).min(now)
            }
            // By a word, which may have come at once after the last look.
            _ => self.last_seen,
        }
    }
}

/// Asks in one of many ways; what came of it, if no permit.
async fn ask(
    semaphore: &ZSetSemaphore,
    units: u32,
    hurried: bool,
    random: &mut Rng,
) -> Result<Permit, String> {
    let way = if hurried { random.u32(..6) } else { random.u32(..20) };
    match way {
        0 | 1 => match semaphore.try_acquire(units).await {
            Ok(permit) => Ok(permit),
            Err(error @ TryAcquireError::Unavailable(_)) => Err(of_store("try", &error)),
            Err(error) => Err(format!("try: {}", kind_of(&error))),
        },
        2 | 3 => semaphore.acquire(units).timeout(ms(random, 5..200)).await.map_err(|e| ended(&e)),
        // The future is dropped, at its first await or later.
        4 | 5 => {
            let patience = ms(random, 0..60);
            match timeout(patience, semaphore.acquire(units)).await {
                Ok(outcome) => outcome.map_err(|error| ended(&error)),
                Err(_) => Err("cancelled".to_owned()),
            }
        }
        _ => semaphore.acquire(units).await.map_err(|error| ended(&error)),
    }
}

fn ended(error: &AcquireError) -> String {
    match error {
        AcquireError::Refused(_) => of_store("acquire", error),
        error => kind_of(error),
    }
}

fn of_store(what: &str, error: &(impl std::error::Error + 'static)) -> String {
    let source = error.source().map_or_else(String::new, ToString::to_string);
    let kind =
        error.source().and_then(|source| source.downcast_ref::<zset_semaphore::StoreError>());
    let final_ = kind.is_some_and(zset_semaphore::StoreError::is_final);
    let kind = kind.map_or_else(|| "?".to_owned(), |error| format!("{:?}", error.kind()));
    // What no fault explains is told in full.
    if final_ { format!("{what}: unexpected: {kind}: {source}") } else { format!("{what}: {kind}") }
}

/// The name of the variant.
fn kind_of(error: &impl std::fmt::Debug) -> String {
    let shown = format!("{error:?}");
    shown.split([' ', '{', '(']).next().unwrap_or_default().to_owned()
}
