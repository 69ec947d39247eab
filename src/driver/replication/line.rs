//! A line: callers at one place who want their grants on the same number of replicas.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep, timeout};

use crate::error::{StoreError, StoreErrorKind};
use crate::hold::Hold;
use crate::numbers::Replicas;
use crate::retry_delay::RetryDelay;
use crate::store::{BoxFuture, Replication, Session};
use crate::sync::lock;

use super::super::link::Link;
use super::super::place::Place;
use super::round::{Answer, Asker, Lag, MOST, Round};

/// A line that nobody stands in for this time gives its connection up.
const UNUSED: Duration = Duration::from_secs(60);
/// How long the server waits for replicas before it says how many there are: at first, as a part of the call
/// timeout, and then at the most, as a multiple of the first time.
const FIRST_PART: u32 = 2;
const LONGEST: u32 = 8;
/// The timeout for opening a connection, in call timeouts.
const OPENING: u32 = 4;

pub(in crate::driver) struct Line {
    wanted: Replicas,
    people: Mutex<People>,
    /// Somebody has come.
    more: Notify,
    lag: watch::Sender<Option<Lag>>,
}

/// Who stands in a line.
#[derive(Default)]
struct People {
    waiting: VecDeque<Asker>,
    /// The callers of the present question.
    round: Round,
    /// Whether the line has a task.
    is_served: bool,
}

/// What a caller has of its place in a line.
pub(crate) struct Asked {
    answer: oneshot::Receiver<Answer>,
    lag: watch::Receiver<Option<Lag>>,
}

/// Starts the task of a line.
pub(in crate::driver) struct LineStarter<'a> {
    pub(in crate::driver) place: &'a Arc<Place>,
    pub(in crate::driver) call_timeout: Duration,
    pub(in crate::driver) spawn: &'a dyn Fn(BoxFuture<'static, ()>),
}

/// Sends everybody away where the task of a line was dropped by its runtime.
struct Served {
    line: Arc<Line>,
    ended: bool,
}

impl Drop for Served {
    fn drop(&mut self) {
        if !self.ended {
            // Unlocked first: an answer that is dropped wakes foreign code.
            let people = std::mem::take(&mut *lock(&self.line.people));
            drop(people);
        }
    }
}

/// The connection of a line.
struct Open {
    session: Arc<dyn Session>,
    replication: Box<dyn Replication>,
}

impl Asked {
    /// Returns the answer, or `None` if the semaphore or the client is closed. Calls `on_lag` each time when the
    /// server has counted too few replicas.
    pub(crate) async fn answer(mut self, mut on_lag: impl FnMut(Lag)) -> Option<Answer> {
        loop {
            if let Some(lag) = *self.lag.borrow_and_update() {
                on_lag(lag);
            }
            tokio::select! {
                biased;
                answer = &mut self.answer => return answer.ok(),
                changed = self.lag.changed() => changed.ok()?,
            }
        }
    }
}

impl Line {
    pub(super) fn new(wanted: Replicas) -> Self {
        Self {
            wanted,
            people: Mutex::default(),
            more: Notify::new(),
            lag: watch::Sender::new(None),
        }
    }

    /// Stands in the line until replicas have the grant of `hold`.
    pub(in crate::driver) fn ask(
        self: &Arc<Self>,
        name: &Arc<str>,
        hold: &Arc<Hold>,
        starter: &LineStarter<'_>,
    ) -> Asked {
        let (done, answer) = oneshot::channel();
        let asker = Asker { name: Arc::clone(name), hold: Arc::clone(hold), done };
        let was_served = {
            let mut people = lock(&self.people);
            people.waiting.push_back(asker);
            std::mem::replace(&mut people.is_served, true)
        };
        self.more.notify_one();
        if !was_served {
            let served = Served { line: Arc::clone(self), ended: false };
            let serve = serve(served, Arc::clone(starter.place), starter.call_timeout);
            (starter.spawn)(Box::pin(serve));
        }
        Asked { answer, lag: self.lag.subscribe() }
    }

    /// Sends away the callers of a semaphore. Returns their grants.
    pub(super) fn send_away(&self, name: &str) -> Vec<Arc<Hold>> {
        let mut people = lock(&self.people);
        let (mut away, waiting): (VecDeque<_>, _) =
            std::mem::take(&mut people.waiting).into_iter().partition(|asker| *asker.name == *name);
        people.waiting = waiting;
        away.extend(people.round.take_of(name));
        drop(people);
        away.into_iter().map(|asker| asker.hold).collect()
    }

    /// Begins the next round, unless nobody stands in the line.
    fn begin_round(&self) -> bool {
        let mut people = lock(&self.people);
        let most = people.waiting.len().min(MOST);
        people.round = Round::new(people.waiting.drain(..most).collect::<Vec<_>>());
        !people.round.is_empty()
    }

    /// Ends the service if nobody stands in the line.
    fn ends(&self) -> bool {
        let mut people = lock(&self.people);
        people.is_served = !people.waiting.is_empty();
        let ends = !people.is_served;
        if ends {
            self.lag.send_replace(None);
        }
        ends
    }

    /// Answers all callers of the round.
    fn fail_round(&self, error: &StoreError) {
        let failed: Vec<_> = lock(&self.people).round.take_all().collect();
        answer(failed.into_iter().map(|asker| (asker, Err(error.clone()))));
    }

    /// Waits until somebody stands in the line. Returns false if nobody has come for a while, or the connection
    /// is no longer needed.
    async fn is_wanted(&self, session: Option<&Arc<dyn Session>>, place: &Place) -> bool {
        let is_left = async {
            if let Some(session) = session {
                place.link().left(session).await;
            }
        };
        tokio::select! {
            biased;
            () = self.more.notified() => true,
            () = is_left => false,
            () = sleep(UNUSED) => false,
        }
    }

    /// Takes a round by the connection that belongs to the present session.
    async fn round(
        &self,
        open: &mut Option<Open>,
        place: &Place,
        call_timeout: Duration,
    ) -> Answer {
        let session = place
            .link()
            .wait_for_session(call_timeout)
            .await
            .map_err(|link| no_session(link, call_timeout))?;
        let asking = async {
            let open = match open.take().filter(|open| Arc::ptr_eq(&open.session, &session)) {
                Some(present) => open.insert(present),
                None => {
                    let replication = connect(&session, place, call_timeout).await?;
                    open.insert(Open { session: Arc::clone(&session), replication })
                }
            };
            self.ask_about_round(&mut *open.replication, call_timeout).await
        };
        let asked = tokio::select! {
            biased;
            () = place.link().left(&session) => {
                let what = "the connection to the server whose replicas were asked about was given up";
                Err(StoreError::new(StoreErrorKind::Disconnected, what))
            }
            asked = asking => asked,
        };
        asked.inspect_err(|error| {
            if error.kind() == StoreErrorKind::ReadOnly {
                place.complain(&session, error.clone());
            }
        })
    }

    /// Asks about the grants of a round until each caller has an answer.
    async fn ask_about_round(
        &self,
        replication: &mut dyn Replication,
        call_timeout: Duration,
    ) -> Answer {
        let since = Instant::now();
        let first = call_timeout / FIRST_PART;
        let mut patience = first;
        let mut writes = true;
        loop {
            let grants = {
                let mut people = lock(&self.people);
                people.round.forget_gone();
                people.round.grants()
            };
            if grants.is_empty() {
                return Ok(());
            }
            let counting = replication.count(&grants, writes, self.wanted, patience);
            let counted =
                timeout(patience + call_timeout, counting).await.unwrap_or_else(|_| {
                    let what =
                        format!("no answer about replicas within {:?}", patience + call_timeout);
                    Err(StoreError::timeout(what))
                })?;
            let acknowledged = counted.replicas;
            let answered = lock(&self.people).round.take_answered(&grants, counted, self.wanted);
            let reached = self.wanted.are_reached_by(acknowledged);
            self.lag.send_replace((!reached).then_some(Lag { since, acknowledged }));
            answer(answered);
            (patience, writes) = ((patience * 2).min(first * LONGEST), false);
        }
    }
}

fn no_session(link: Link, within: Duration) -> StoreError {
    match link {
        Link::Down { error, .. } => error,
        _ => StoreError::timeout(format!("no connection within {within:?}")),
    }
}

fn answer(answered: impl IntoIterator<Item = (Asker, Answer)>) {
    for (asker, answer) in answered {
        drop(asker.done.send(answer)); // an answer may find nobody: its future was dropped
    }
}

/// Serves a line until nobody has stood in it for a while, or its connection is no longer needed.
async fn serve(mut served: Served, place: Arc<Place>, call_timeout: Duration) {
    let line = Arc::clone(&served.line);
    let mut open: Option<Open> = None;
    let mut delay = RetryDelay::default();
    while !served.ended {
        if line.begin_round() {
            let Err(error) = line.round(&mut open, &place, call_timeout).await else {
                delay.reset();
                continue;
            };
            open = None; // an answer may be under way there
            tracing::debug!(%error, "cannot ask about replicas");
            line.fail_round(&error);
            sleep(delay.after_failure()).await;
        } else if !line.is_wanted(open.as_ref().map(|open| &open.session), &place).await {
            served.ended = line.ends();
        }
    }
}

/// Opens the second connection of `session`, which has to lead to the same server as the first one.
async fn connect(
    session: &Arc<dyn Session>,
    place: &Place,
    call_timeout: Duration,
) -> Result<Box<dyn Replication>, StoreError> {
    let deadline = call_timeout * OPENING;
    let replication = timeout(deadline, session.replication()).await.unwrap_or_else(|_| {
        let what = format!("no connection to ask about replicas within {deadline:?}");
        Err(StoreError::timeout(what))
    })?;
    if let (Some(first), Some(second)) = (session.server(), replication.server())
        && first != second
    {
        let what = "the address leads to another server than it did";
        // Turns have to go there, too.
        place.complain(session, StoreError::new(StoreErrorKind::Disconnected, what));
        return Err(StoreError::new(StoreErrorKind::NotReady, what));
    }
    Ok(replication)
}
