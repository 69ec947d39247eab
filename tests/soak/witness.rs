//! The outside witness of a soak: it collects what all processes report, and judges it second by second, so that an
//! hour takes no more memory than a minute.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tempfile::TempDir;

use crate::book::{Book, Hold, Kick, Loss, nanos};
use crate::cluster::spread;
use crate::excess::{Cause, Excess};
use crate::names::{Kind, Name, PASSING, limit_of};
use crate::reports::{Event, decode};
use crate::unbooked::Absence;
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

    // ---- what the parent did

    /// Ends all holds of a process that was killed at that instant.
    pub fn killed(&mut self, process: u32, at: u64) {
        self.dead.insert(process, at);
        self.struck.remove(&process);
        self.asking.retain(|&(asking, _), _| asking != process);
        self.last_entered.retain(|(entered, _), _| *entered != process);
        for hold in self.books.values_mut().flat_map(|book| book.holds.values_mut()) {
            if hold.process == process && hold.until.is_none() {
                hold.until = Some(at.min(hold.sure_until).min(hold.unsure_from).max(hold.from));
                hold.how = "killed".to_owned();
            }
        }
    }

    /// A fault of one process, or of all, has ended.
    pub fn struck(&mut self, process: Option<u32>, kind: &'static str) {
        let ended = monotonic_nanos();
        let all: BTreeSet<u32> = match process {
            Some(process) => [process].into(),
            None => self.last_entered.keys().map(|(process, _)| *process).collect(),
        };
        for process in all {
            self.struck.entry(process).or_default().push((kind, ended));
        }
    }

    /// The process has ended by itself.
    pub fn ended(&mut self, process: u32) {
        self.killed(process, monotonic_nanos());
    }

    /// An operator kicks a permit.
    pub fn kicked(&mut self, name: &str, id: &str, kick: Kick) {
        let book = self.book(name);
        if let Some(hold) = book.holds.values_mut().find(|hold| hold.id == id) {
            kick.mark(hold);
        }
        book.kicks.insert(id.to_owned(), kick);
    }

    /// From now on the limit may be up to `most`.
    pub fn limit(&mut self, name: &str, most: u32) {
        self.book(name).limit(monotonic_nanos(), most);
    }

    /// Redis forgot the `meta` of a name, or is about to: the handles' limit may be in force.
    pub fn lost_meta(&mut self, name: &str) {
        let at = monotonic_nanos();
        let book = self.book(name);
        book.limit(at, book.limit_now().max(limit_of(name)));
        book.lose_meta(at);
    }

    pub fn limit_now(&mut self, name: &str) -> u32 {
        self.book(name).limit_now()
    }

    /// Redis forgot the permits of a name.
    pub fn lost(&mut self, name: &str, loss: Loss) {
        self.book(name).lose(loss);
    }

    /// From now on, acknowledged writes about a name may have been lost.
    pub fn may_have_lost_writes(&mut self, name: &str, cause: Cause) {
        self.book(name).excuse(monotonic_nanos(), cause);
    }

    /// From `at` on, holders know of all writes about a name that were lost. From `tokens_at` on, tokens rise again.
    pub fn knows_of_lost_writes(&mut self, name: &str, at: u64, tokens_at: u64) {
        self.book(name).end_of_excuse(at, tokens_at);
    }

    /// A new primary lacks the last word about a permit.
    pub fn is_unbooked(&mut self, name: &str, id: &str, absence: Absence) {
        self.book(name).unbooked.add(id, absence);
    }

    /// The new primary has that permit again.
    pub fn is_booked(&mut self, name: &str, id: &str) {
        self.book(name).unbooked.booked(id, monotonic_nanos());
    }

    /// What is known of the holder of a permit, if one has told that it holds it.
    pub fn hold_of(&self, name: &str, id: &str) -> Option<&Hold> {
        self.books.get(name)?.holds.values().find(|hold| hold.id == id)
    }

    pub fn names(&self) -> Vec<String> {
        self.books.keys().cloned().collect()
    }

    // ---- what it finds

    /// Judges all that has been reported for certain.
    pub fn judge(&mut self) {
        self.judge_up_to(monotonic_nanos().saturating_sub(REPORTED));
    }

    /// Once all processes have ended.
    pub fn judge_all(&mut self) {
        self.judge_up_to(monotonic_nanos());
    }

    fn judge_up_to(&mut self, to: u64) {
        let (from, mut found) = (self.judged, Vec::new());
        if to <= from {
            return;
        }
        for (name, book) in &mut self.books {
            book.judge(from, to, &mut found);
            let name = if name.starts_with(PASSING) { PASSING } else { name };
            let most = self.most_units.entry(name.to_owned()).or_default();
            *most = (*most).max(book.most_units);
            for (kind, excess) in book.take_excess() {
                self.excess.entry(kind).or_default().add(excess);
            }
        }
        self.judged = to;
        self.dead.retain(|_, at| *at + 10 * REPORTED > to);
        let (now, longest) = (monotonic_nanos(), self.longest_wait_allowed);
        for ((process, task), asking) in &mut self.asking {
            if now.saturating_sub(asking.since) > nanos(longest) && !asking.told {
                asking.told = true;
                found.push(format!(
                    "{}: task {task} of process {process} has waited for {} units for more than {longest:?}",
                    asking.name, asking.units
                ));
            }
        }
        for finding in found {
            self.find(finding);
        }
    }

    /// By name: who of these processes was not let in since then, and who still waits since before.
    pub fn stuck_since(&self, processes: &[u32], since: u64) -> BTreeMap<String, Vec<String>> {
        let mut stuck: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for &process in processes {
            // Who comes only now and then is among those who wait.
            for name in self.names.iter().filter(|name| !name.kind.is_called()) {
                let last = self.last_entered.get(&(process, name.name.to_owned()));
                if last.is_none_or(|&last| last <= since) {
                    let who = format!("process {process} was not let in");
                    stuck.entry(name.name.to_owned()).or_default().push(who);
                }
            }
        }
        let now = monotonic_nanos();
        for ((process, task), asking) in &self.asking {
            if asking.since <= since && processes.contains(process) {
                let (units, waited) = (asking.units, now.saturating_sub(asking.since) as f64 / 1e9);
                let who = format!(
                    "task {task} of process {process} waits for {units} units since {waited:.1} s"
                );
                stuck.entry(asking.name.clone()).or_default().push(who);
            }
        }
        stuck
    }

    /// A name that nobody will use again, and when it was last heard of.
    pub fn passed(&self) -> Vec<(String, u64)> {
        let passing = self.books.iter().filter(|(name, _)| name.starts_with(PASSING));
        passing.map(|(name, book)| (name.clone(), book.last_heard)).collect()
    }

    pub fn forget_name(&mut self, name: &str) {
        self.books.remove(name);
    }
}

/// What no fault explains.
fn is_unexpected(name: &str, why: &str) -> bool {
    let never = ["unexpected", "ZeroUnits", "NoRuntime"].iter().any(|never| why.contains(never));
    never || (why.contains("TooLarge") && name != "moved")
}
