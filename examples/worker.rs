//! Workers that run jobs of different weights, never more than N units of them at once.
//!
//! ```sh
//! cargo run --example worker                                       # four workers, one process
//! REDIS_URL=redis://127.0.0.1 cargo run --example worker           # and as many processes as you like
//! ```

use std::collections::VecDeque;
use std::env;
use std::error::Error;
use std::fmt::{self, Display};
use std::io::{Write, stdout};
use std::process::ExitCode;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use zset_semaphore::{Client, MemoryStore};

const HELP: &str = "\
Usage: worker [OPTION]...

Runs jobs that weigh 1 to 3 units each, and never more units at once than the limit.

  --jobs N       how many jobs there are [40]
  --workers N    how many workers run them, one at a time each [4]
  --limit N      how many units may run at once [6]
  --name NAME    workers with the same name share the limit [jobs]
  --job-ms N     how long a job takes, in milliseconds [200]
  --lease-ms N   how long the units of a crashed worker stay taken, in milliseconds [10000]
  --help         print this text

With REDIS_URL=redis://[user:password@]host[:port] the count is in Redis, and the limit is that of
all processes together. Without it, the count is in this process. Ctrl-c and SIGTERM let the jobs
that run come to their end, and start no others.";

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> ExitCode {
    let args = env::args_os().skip(1).map(|arg| arg.to_string_lossy().into_owned());
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("worker: {error}");
            ExitCode::from(2)
        }
    }
}

async fn run(args: impl Iterator<Item = String>) -> Result<()> {
    let options = Options::parse(args)?;
    if options.help {
        say(HELP);
        return Ok(());
    }
    // Most workers are processes of their own. So those here have a client of their own each.
    let client = match env::var_os("REDIS_URL") {
        Some(url) => Client::builder().url(url.to_string_lossy()),
        None => Client::builder().memory(&MemoryStore::new()),
    };
    // The default is 500 ms. With more, a start on a very busy machine does not fail.
    let client = client.call_timeout(Duration::from_secs(3));
    let mut clients = Vec::new();
    for number in 1..=options.workers {
        let client = client.clone().label(format!("worker {number}")).connect().await;
        clients.push(client.map_err(|error| format!("REDIS_URL: {error}"))?);
    }

    let stopping = stop_at_signal();
    let jobs = Jobs::new(&options);
    let mut workers = JoinSet::new();
    for (number, client) in (1..).zip(clients) {
        let (options, jobs, stopping) = (options.clone(), jobs.clone(), stopping.clone());
        workers.spawn(async move {
            let worked = work(number, &client, &options, &jobs, stopping).await;
            // Waits until the store knows of the last release: else its units would stay taken
            // until the lease ends.
            let ended = client.shutdown().await;
            worked.and(ended.map_err(Into::into))
        });
    }
    let outcomes = workers.join_all().await;
    say(jobs.summary());
    outcomes.into_iter().collect()
}

/// Takes job after job until there is none, or it is time to stop.
async fn work(
    number: usize,
    client: &Client,
    options: &Options,
    jobs: &Jobs,
    mut stopping: watch::Receiver<bool>,
) -> Result<()> {
    let lease = Duration::from_millis(options.lease_ms);
    let semaphore = client.semaphore(&options.name, options.limit).lease(lease).build()?;
    while let Some(job) = jobs.take() {
        let permit = tokio::select! {
            biased;
            // What is dropped here goes back: the acquire leaves the queue, the job its worker.
            _ = stopping.wait_for(|stop| *stop) => break,
            permit = semaphore.acquire(job.units) => permit?,
        };
        // Whatever the job writes would carry this token, so that a late write can be refused.
        let token = permit.fencing_token();
        say(format_args!("worker {number} starts {job}, token {token}"));
        // Once the permit is lost somebody else may hold its units, so `run` drops the work.
        match permit.run(job.run()).await {
            Ok(()) => {
                say(format_args!("worker {number} ended {job}"));
                job.done();
            }
            Err(lost) => say(format_args!("worker {number} stopped {job}: {lost}")),
        }
        // Here the permit is dropped. That gives its units back, and waits for nothing.
    }
    Ok(())
}

/// Becomes true at ctrl-c or SIGTERM.
fn stop_at_signal() -> watch::Receiver<bool> {
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(async move {
        terminated().await;
        say("stopping: what runs comes to its end, nothing new starts");
        stop.send_replace(true);
    });
    stopping
}

async fn terminated() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut term) = signal(SignalKind::terminate()) {
            tokio::select! { _ = term.recv() => {}, _ = tokio::signal::ctrl_c() => {} }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}

// ---- The jobs: a made-up list ------------------------------------------------------------------

/// The jobs that are to be done, and what became of the others.
#[derive(Clone)]
struct Jobs(Arc<Mutex<Books>>);

struct Books {
    waiting: VecDeque<(usize, u32)>,
    takes: Duration,
    done: usize,
    units_at_work: u32,
    most_units_at_work: u32,
}

impl Jobs {
    fn new(options: &Options) -> Self {
        // No job may weigh more than the limit: it could never run.
        let weights = [1, 2, 3, 1, 1, 3, 2].map(|units| options.limit.min(units));
        Self(Arc::new(Mutex::new(Books {
            waiting: (1..=options.jobs).zip(weights.into_iter().cycle()).collect(),
            takes: Duration::from_millis(options.job_ms),
            done: 0,
            units_at_work: 0,
            most_units_at_work: 0,
        })))
    }

    fn take(&self) -> Option<Job> {
        let (number, units) = self.books().waiting.pop_front()?;
        Some(Job { number, units, done: false, jobs: self.clone() })
    }

    fn summary(&self) -> String {
        let Books { waiting, done, most_units_at_work: most, .. } = &*self.books();
        format!("{done} jobs done, {} left; at most {most} units at once", waiting.len())
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job in a worker's hands; unless it is done it goes back to the head of the list.
struct Job {
    number: usize,
    units: u32,
    done: bool,
    jobs: Jobs,
}

impl Job {
    async fn run(&self) {
        let _at_work = AtWork::begin(self);
        let takes = self.jobs.books().takes;
        sleep(takes).await;
    }

    fn done(mut self) {
        self.done = true;
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let mut books = self.jobs.books();
        if self.done {
            books.done += 1;
        } else {
            books.waiting.push_front((self.number, self.units));
        }
    }
}

impl Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job {} (weight {})", self.number, self.units)
    }
}

/// Counts the units of a job for as long as it works.
struct AtWork<'a>(&'a Job);

impl<'a> AtWork<'a> {
    fn begin(job: &'a Job) -> Self {
        let mut books = job.jobs.books();
        books.units_at_work += job.units;
        books.most_units_at_work = books.most_units_at_work.max(books.units_at_work);
        Self(job)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.jobs.books().units_at_work -= self.0.units;
    }
}

/// As `println!`, which would panic when nobody reads any more.
fn say(line: impl Display) {
    let _ = writeln!(stdout(), "{line}");
}

// ---- The command line --------------------------------------------------------------------------

#[derive(Clone)]
struct Options {
    help: bool,
    jobs: usize,
    workers: usize,
    limit: u32,
    name: String,
    job_ms: u64,
    lease_ms: u64,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self {
            help: false,
            jobs: 40,
            workers: 4,
            limit: 6,
            name: "jobs".to_owned(),
            job_ms: 200,
            lease_ms: 10_000,
        };
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
            match &*arg {
                "--help" | "-h" => options.help = true,
                "--jobs" => options.jobs = number(&arg, &value()?)?,
                "--workers" => options.workers = number(&arg, &value()?)?,
                "--limit" => options.limit = number(&arg, &value()?)?,
                "--name" => options.name = value()?,
                "--job-ms" => options.job_ms = number(&arg, &value()?)?,
                "--lease-ms" => options.lease_ms = number(&arg, &value()?)?,
                _ => return Err(format!("unknown argument `{arg}`; try --help").into()),
            }
        }
        Ok(options)
    }
}

fn number<N: FromStr + Default + PartialEq>(arg: &str, value: &str) -> Result<N> {
    match value.parse() {
        Ok(number) if number != N::default() => Ok(number),
        _ => Err(format!("{arg} is `{value}`; it must be a whole number above 0").into()),
    }
}
