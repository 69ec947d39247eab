//! The outside witness of a soak: it collects what all processes report, and judges it second by second, so that an
//! hour takes no more memory than a minute.

mod judging;
mod told;

use std::collections::{BTreeMap, HashMap};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tempfile::TempDir;

use crate::book::{Book, Hold};
use crate::cluster::spread;
use crate::excess::Excess;
use crate::names::{Kind, Name, limit_of};
use crate::reports::{Event, decode};
use test_support::ledger::monotonic_nanos;

/// What happened this long ago has been reported, even by one who was frozen meanwhile.
const REPORTED: u64 = 12_000_000_000;

/// Nobody waits for longer in any storm, unless the soak says otherwise.
const LONGEST_WAIT: Duration = Duration::from_secs(40);

/// A name with more findings than this is not told of any more: the first ones say it.
const MOST_FINDINGS: usize = 20;

pub struct Witness {
    directory: TempDir,
    own: UnixDatagram,
    state: Arc<Mutex<State>>,
    collector: Option<JoinHandle<()>>,
}

/// A task that asks.
#[derive(Clone, Debug)]
pub struct Asking {
    pub name: String,
    pub units: u32,
    pub since: u64,
    told: bool,
}

#[derive(Default)]
pub struct State {
    names: &'static [Name],
    books: BTreeMap<String, Book>,
    /// By process and task.
    asking: HashMap<(u32, u32), Asking>,
    /// The instant at which a process was last seen to be let in, by name.
    last_entered: HashMap<(u32, String), u64>,
    /// Faults that a process has not been let in since: kind and end.
    struck: HashMap<u32, Vec<(&'static str, u64)>>,
    dead: HashMap<u32, u64>,
    judged: u64,
    pub findings: Vec<String>,
    pub holds: u64,
    pub losses: BTreeMap<String, u64>,
    pub missed: BTreeMap<String, u64>,
    pub counted: BTreeMap<String, u64>,
    /// By kind of fault: the longest time from its end until the process was let in again.
    pub recovery: BTreeMap<&'static str, u64>,
    pub longest_wait: u64,
    pub most_units: BTreeMap<String, u64>,
    /// By cause: how far names were over their limits where an acknowledged write may have been lost.
    pub excess: BTreeMap<&'static str, Excess>,
    /// Names that were used once and have left no key.
    pub names_gone: usize,
    /// Who waits for longer is found.
    pub longest_wait_allowed: Duration,
    /// Whether a permit that the store does not know is found, unless writes about its name may have been lost.
    pub finds_missing_permits: bool,
}

impl Witness {
    /// It judges these names from the start, and others from when it hears of them.
    pub fn start(names: &'static [Name]) -> Self {
        let directory = tempfile::tempdir().expect("making a directory for the witness's socket");
        let path = socket_path(&directory);
        let socket = UnixDatagram::bind(&path).expect("binding the witness's socket");
        let own = UnixDatagram::unbound().expect("making a socket");
        own.connect(&path).expect("connecting to the witness");
        let mut state = State {
            names,
            judged: monotonic_nanos(),
            longest_wait_allowed: LONGEST_WAIT,
            ..State::default()
        };
        for name in names {
            state.books.insert(name.name.to_owned(), Book::new(name.name, name.limit));
        }
        let state = Arc::new(Mutex::new(state));
        let collector = thread::spawn({
            let state = Arc::clone(&state);
            move || collect(&socket, &state)
        });
        Self { directory, own, state, collector: Some(collector) }
    }

    /// What [`Reporter::connect`](crate::reports::Reporter::connect) takes.
    pub fn address(&self) -> String {
        socket_path(&self.directory).into_os_string().into_string().expect("a path in UTF-8")
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        let _ = self.own.send(b"stop");
        if let Some(collector) = self.collector.take() {
            let _ = collector.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn socket_path(directory: &TempDir) -> PathBuf {
    directory.path().join("witness.sock")
}

fn collect(socket: &UnixDatagram, state: &Mutex<State>) {
    let mut buffer = [0; 4096];
    loop {
        let length = socket.recv(&mut buffer).expect("receiving a report");
        let line = String::from_utf8_lossy(&buffer[..length]);
        if line == "stop" {
            return;
        }
        let (process, event) = decode(&line);
        lock(state).take(process, event);
    }
}

impl State {
    fn take(&mut self, process: u32, event: Event) {
        match event {
            // A last word of one who was killed: nobody waits any more.
            Event::Asked { .. } if self.dead.contains_key(&process) => {}
            Event::Asked { task, at, units, name } => {
                self.book(&name).last_heard = monotonic_nanos();
                let asking = Asking { name, units, since: at, told: false };
                self.asking.insert((process, task), asking);
            }
            Event::Missed { task, why } => {
                let name =
                    self.heard_of(process, task).map_or_else(String::new, |asked| asked.name);
                if is_unexpected(&name, &why) {
                    self.find(format!("{name}: process {process} was told {why}"));
                }
                *self.missed.entry(why).or_default() += 1;
            }
            Event::Entered { task, hold, id, units, token, from, sure_until, most } => {
                let Some(asked) = self.heard_of(process, task) else { return };
                let entered = Hold {
                    process,
                    id,
                    units,
                    token,
                    asked: asked.since,
                    from,
                    sure_until,
                    unsure_from: most,
                    removed: u64::MAX,
                    until: None,
                    how: String::new(),
                    read: false,
                };
                self.enter(asked.name, hold, entered);
            }
            Event::Renewed { hold, sure_until } => {
                if let Some(hold) = self.hold(process, hold) {
                    hold.sure_until = hold.sure_until.max(sure_until);
                }
            }
            Event::Left { hold, until, how } => {
                if let Some(hold) = self.hold(process, hold) {
                    hold.until = Some(until.max(hold.from));
                    hold.how.clone_from(&how);
                }
                if how == "MissingInStore" {
                    self.missing(process, hold);
                }
                if how != "done" {
                    *self.losses.entry(how).or_default() += 1;
                }
            }
            Event::Closing { client, at } => {
                for hold in self.books.values_mut().flat_map(|book| book.holds.values_mut()) {
                    if hold.process == process && hold.id.starts_with(&client) {
                        hold.unsure_from = hold.unsure_from.min(at);
                    }
                }
            }
            Event::Counted { what } => *self.counted.entry(what).or_default() += 1,
        }
    }

    /// A task that asked has an answer.
    fn heard_of(&mut self, process: u32, task: u32) -> Option<Asking> {
        let asking = self.asking.remove(&(process, task))?;
        if let Some(book) = self.books.get_mut(&asking.name) {
            book.last_heard = monotonic_nanos();
        }
        Some(asking)
    }

    fn enter(&mut self, name: String, number: u64, mut hold: Hold) {
        self.holds += 1;
        self.longest_wait = self.longest_wait.max(hold.from.saturating_sub(hold.asked));
        if hold.from <= self.judged {
            self.find(format!("{name}: {} was reported too late to be judged", hold.id));
        }
        for (kind, ended) in self.struck.remove(&hold.process).unwrap_or_default() {
            if hold.from > ended {
                let longest = self.recovery.entry(kind).or_default();
                *longest = (*longest).max(hold.from - ended);
            } else {
                self.struck.entry(hold.process).or_default().push((kind, ended));
            }
        }
        self.last_entered.insert((hold.process, name.clone()), hold.from);
        if let Some(&at) = self.dead.get(&hold.process) {
            hold.until = Some(at.max(hold.from));
        }
        let book = self.book(&name);
        book.last_heard = monotonic_nanos();
        if let Some(kick) = book.kicks.get(&hold.id) {
            kick.mark(&mut hold);
        }
        book.holds.insert((hold.process, number), hold);
    }

    /// A holder was told that the store does not know its permit, before its lease had ended.
    fn missing(&mut self, process: u32, hold: u64) {
        let now = monotonic_nanos();
        let key = (process, hold);
        let mut finding = None;
        for (name, book) in &mut self.books {
            let Some(hold) = book.holds.get(&key).filter(|hold| hold.sure_until > now) else {
                continue;
            };
            let (id, from) = (hold.id.clone(), hold.from);
            let is_roomy = spread::is_of(Kind::Roomy, name);
            let is_excused = book.excuses_missing(&id, from, now, is_roomy);
            if !is_excused && (is_roomy || self.finds_missing_permits) {
                finding = Some(format!(
                    "{name}: the store does not know {id} of process {process}, and nothing was lost"
                ));
            }
        }
        finding.into_iter().for_each(|finding| self.find(finding));
    }

    fn book(&mut self, name: &str) -> &mut Book {
        self.books.entry(name.to_owned()).or_insert_with(|| Book::new(name, limit_of(name)))
    }

    fn hold(&mut self, process: u32, hold: u64) -> Option<&mut Hold> {
        self.books.values_mut().find_map(|book| book.holds.get_mut(&(process, hold)))
    }

    pub fn find(&mut self, finding: String) {
        if self.findings.len() < MOST_FINDINGS {
            println!("  FOUND: {finding}");
            self.findings.push(finding);
        }
    }
}

/// What no fault explains.
fn is_unexpected(name: &str, why: &str) -> bool {
    let never = ["unexpected", "ZeroUnits", "NoRuntime"].iter().any(|never| why.contains(never));
    never || (why.contains("TooLarge") && name != "moved")
}
