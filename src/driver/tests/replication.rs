//! The lines of those who wait until replicas have their grants, over connections that count when the test says so.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, advance};

use super::slow_replication::Question;
use super::slow_store::Slow;
use crate::driver::place::Place;
use crate::driver::replication::LineStarter;
use crate::error::{StoreError, StoreErrorKind};
use crate::hold::Hold;
use crate::id::{ClientId, PermitId};
use crate::lost_reason::LostReason;
use crate::numbers::{Millis, PlaceId, Replicas, Seq};
use crate::store::{Acknowledged, BoxFuture};

const CALL_TIMEOUT: Duration = Duration::from_millis(400);
/// More than any pause between two questions that failed.
const PAUSE: Duration = Duration::from_millis(60);

type Answered = JoinHandle<Option<Result<(), StoreError>>>;

/// A place with a connection.
struct Scene {
    place: Arc<Place>,
    slow: Arc<Slow>,
}

impl Scene {
    fn new() -> Self {
        let mut scene = Self { place: Arc::new(Place::new(PlaceId::FIRST)), slow: Arc::default() };
        scene.connect();
        scene
    }

    /// Puts a new connection in the place of the present one.
    fn connect(&mut self) {
        self.slow = Arc::default();
        self.place.link().up(self.slow.clone(), Instant::now());
    }

    /// Asks for a grant on `wanted` replicas.
    fn ask(&self, counter: u64, wanted: u32) -> Answered {
        self.ask_with(counter, wanted, &|serve| drop(tokio::spawn(serve)))
    }

    fn ask_with(
        &self,
        counter: u64,
        wanted: u32,
        spawn: &dyn Fn(BoxFuture<'static, ()>),
    ) -> Answered {
        let line = self.place.lines().of(Replicas::new(wanted).unwrap());
        let starter = LineStarter { place: &self.place, call_timeout: CALL_TIMEOUT, spawn };
        let name = if counter < 100 { "s" } else { "t" };
        let asked = line.ask(&name.into(), &Arc::new(hold(counter)), &starter);
        tokio::spawn(asked.answer(|_| {}))
    }

    async fn question(&self) -> Question {
        self.maybe_question().await.expect("no question is open")
    }

    async fn maybe_question(&self) -> Option<Question> {
        settle().await;
        self.slow.questions.take()
    }
}

async fn settle() {
    for _ in 0..50 {
        yield_now().await;
    }
}

fn hold(counter: u64) -> Hold {
    let id = PermitId::new(ClientId::from_bits(1), counter, 1, Millis::new(30_000));
    let until = Instant::now() + Duration::from_secs(30);
    Hold::new(id, Seq::after(None), until, LostReason::RenewalTimeout, None)
}

async fn is_replicated(answered: Answered) -> bool {
    settle().await;
    assert!(answered.is_finished());
    matches!(answered.await.unwrap(), Some(Ok(())))
}

async fn failure(answered: Answered) -> StoreErrorKind {
    settle().await;
    assert!(answered.is_finished());
    answered.await.unwrap().unwrap().unwrap_err().kind()
}

// Behaviour 86
#[tokio::test(start_paused = true)]
async fn those_who_come_while_a_question_is_open_share_the_next_one() {
    let scene = Scene::new();
    let first = scene.ask(1, 1);
    let question = scene.question().await;
    assert_eq!((question.counters(), question.writes), (vec![1], true));
    let [second, third] = [scene.ask(2, 1), scene.ask(103, 1)];
    assert!(scene.maybe_question().await.is_none(), "one question at a time");
    question.count(1);
    assert!(is_replicated(first).await);
    assert!(!second.is_finished(), "the question was not about it");
    let question = scene.question().await;
    assert_eq!((question.counters(), question.writes), (vec![2, 103], true));
    question.count(3);
    assert!(is_replicated(second).await && is_replicated(third).await);
    assert_eq!(scene.slow.questions.opened(), 1);
}

// Behaviour 86
#[tokio::test(start_paused = true)]
async fn a_question_is_asked_again_without_a_write_and_more_patiently_until_the_number_is_reached()
{
    let scene = Scene::new();
    let answered = scene.ask(1, 2);
    let mut patience = CALL_TIMEOUT / 2;
    for (nth, replicas) in [0, 1, 0, 1, 1].into_iter().enumerate() {
        let question = scene.question().await;
        assert_eq!((question.counters(), question.writes), (vec![1], nth == 0));
        assert_eq!(question.patience, patience);
        patience = (patience * 2).min(CALL_TIMEOUT * 4);
        question.count(replicas);
    }
    scene.question().await.count(2);
    assert!(is_replicated(answered).await);
}

// Behaviour 87
#[tokio::test(start_paused = true)]
async fn who_stands_in_a_line_hears_how_far_the_replicas_are_behind() {
    let scene = Scene::new();
    let line = scene.place.lines().of(Replicas::new(2).unwrap());
    let spawn = |serve| drop(tokio::spawn(serve));
    let starter = LineStarter { place: &scene.place, call_timeout: CALL_TIMEOUT, spawn: &spawn };
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let ask = |counter| {
        let (asked, told) =
            (line.ask(&"s".into(), &Arc::new(hold(counter)), &starter), told.clone());
        tokio::spawn(asked.answer(move |lag| told.send((counter, lag)).unwrap()))
    };
    let first = ask(1);
    let since = Instant::now();
    let question = scene.question().await;
    advance(CALL_TIMEOUT).await;
    question.count(1);
    settle().await;
    let (counter, lag) = heard.try_recv().unwrap();
    assert_eq!((counter, lag.acknowledged, lag.since), (1, 1, since));
    let second = ask(2);
    settle().await;
    assert_eq!(heard.try_recv().unwrap(), (2, lag), "who comes later is told at once");
    scene.question().await.count(2);
    scene.question().await.count(2);
    assert!(is_replicated(first).await && is_replicated(second).await);
    assert!(heard.try_recv().is_err(), "nothing is behind any more");
}

// Behaviour 89
#[tokio::test(start_paused = true)]
async fn a_grant_that_the_server_does_not_have_is_not_replicated_however_many_replicas_there_are() {
    let scene = Scene::new();
    let answered = [scene.ask(1, 1), scene.ask(2, 1), scene.ask(103, 1), scene.ask(104, 1)];
    let question = scene.question().await;
    assert_eq!(question.counters(), [1, 2, 103, 104]);
    let moved = || StoreError::elsewhere("moved");
    let held = question.grants.iter().map(|(name, ids)| match &**name {
        "s" => Ok(ids.iter().map(|id| id.counter() != 1).collect()),
        _ => Err(moved()),
    });
    let held = held.collect();
    drop(question.done.send(Ok(Acknowledged { replicas: 9, held })));
    let [gone, here, moved_1, moved_2] = answered;
    assert_eq!(failure(gone).await, StoreErrorKind::NotReady);
    assert!(is_replicated(here).await);
    for moved in [moved_1, moved_2] {
        assert_eq!(failure(moved).await, StoreErrorKind::NotReady);
    }
}

// Behaviour 89
#[tokio::test(start_paused = true)]
async fn a_grant_that_is_missing_is_told_before_the_others_are_replicated() {
    let scene = Scene::new();
    let [gone, here] = [scene.ask(1, 1), scene.ask(2, 1)];
    let question = scene.question().await;
    let flags = question.grants[0].1.iter().map(|id| id.counter() != 1).collect();
    drop(question.done.send(Ok(Acknowledged { replicas: 0, held: vec![Ok(flags)] })));
    assert_eq!(failure(gone).await, StoreErrorKind::NotReady);
    let question = scene.question().await;
    assert_eq!(question.counters(), [2]);
    question.count(1);
    assert!(is_replicated(here).await);
}

// Behaviour 86
#[tokio::test(start_paused = true)]
async fn each_number_of_replicas_has_a_line_and_a_connection_of_its_own() {
    let scene = Scene::new();
    let five = scene.ask(1, 5);
    let question = scene.question().await;
    assert_eq!(question.counters(), [1]);
    let one = scene.ask(2, 1);
    scene.question().await.count(1);
    assert!(is_replicated(one).await && !five.is_finished());
    assert_eq!(scene.slow.questions.opened(), 2);
}

// Behaviour 89
#[tokio::test(start_paused = true)]
async fn a_connection_that_is_given_up_takes_its_question_along() {
    let mut scene = Scene::new();
    let answered = scene.ask(1, 1);
    let question = scene.question().await;
    let old = Arc::clone(&scene.slow);
    scene.connect();
    assert_eq!(failure(answered).await, StoreErrorKind::Disconnected);
    question.count(1);
    assert_eq!(old.questions.connections(), 0, "the second connection goes with the first");
    let again = scene.ask(1, 1);
    advance(PAUSE).await;
    scene.question().await.count(1);
    assert!(is_replicated(again).await);
    assert!(old.questions.take().is_none());
}

// Behaviour 89
#[tokio::test(start_paused = true)]
async fn a_second_connection_to_another_server_is_not_asked_and_the_first_one_is_replaced() {
    let scene = Scene::new();
    scene.slow.questions.other_server.store(1, Ordering::SeqCst);
    let answered = scene.ask(1, 1);
    assert_eq!(failure(answered).await, StoreErrorKind::NotReady);
    let (_, error) = scene.place.take_complaint().unwrap();
    assert!(error.breaks_connection(), "{error}");
    assert!(scene.slow.questions.take().is_none());
}

// Behaviour 89
#[tokio::test(start_paused = true)]
async fn a_primary_that_has_become_a_replica_is_complained_of() {
    let scene = Scene::new();
    let answered = scene.ask(1, 1);
    let error = StoreError::new(StoreErrorKind::ReadOnly, "a replica");
    drop(scene.question().await.done.send(Err(error)));
    assert_eq!(failure(answered).await, StoreErrorKind::ReadOnly);
    assert_eq!(scene.place.take_complaint().unwrap().1.kind(), StoreErrorKind::ReadOnly);
}

// Behaviour 87
#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_fails_the_question_and_the_next_one_has_a_new_connection() {
    let scene = Scene::new();
    let answered = scene.ask(1, 1);
    let _unanswered = scene.question().await;
    advance(CALL_TIMEOUT * 3 / 2 - Duration::from_millis(1)).await;
    settle().await;
    assert!(!answered.is_finished());
    advance(Duration::from_millis(2)).await;
    assert_eq!(failure(answered).await, StoreErrorKind::Timeout);
    let again = scene.ask(2, 1);
    advance(PAUSE).await;
    scene.question().await.count(1);
    assert!(is_replicated(again).await);
    assert_eq!((scene.slow.questions.opened(), scene.slow.questions.connections()), (2, 1));
}

// Behaviour 86
#[tokio::test(start_paused = true)]
async fn who_is_sent_away_gets_no_answer_and_the_others_stay() {
    let scene = Scene::new();
    let [asked, other] = [scene.ask(1, 1), scene.ask(101, 1)];
    let question = scene.question().await;
    let waiting = scene.ask(2, 1);
    settle().await;
    let away: Vec<_> =
        scene.place.lines().send_away("s").iter().map(|hold| hold.id.counter()).collect();
    assert_eq!(away.len(), 2);
    assert!(away.contains(&1) && away.contains(&2));
    question.count(1);
    assert!(is_replicated(other).await);
    assert!(asked.await.unwrap().is_none() && waiting.await.unwrap().is_none());
}

// Behaviour 86
#[tokio::test(start_paused = true)]
async fn who_has_gone_is_not_asked_about_again() {
    let scene = Scene::new();
    let [gone, stays] = [scene.ask(1, 1), scene.ask(2, 1)];
    let question = scene.question().await;
    gone.abort();
    settle().await;
    question.count(0);
    let question = scene.question().await;
    assert_eq!(question.counters(), [2]);
    stays.abort();
    settle().await;
    question.count(0);
    assert!(scene.maybe_question().await.is_none(), "nobody is left");
}

// Behaviour 86
#[tokio::test(start_paused = true)]
async fn a_line_closes_its_connection_after_a_minute_without_callers_or_with_the_first_connection()
{
    let mut scene = Scene::new();
    for _ in 0..2 {
        let answered = scene.ask(1, 1);
        scene.question().await.count(1);
        assert!(is_replicated(answered).await);
        advance(Duration::from_secs(59)).await;
        settle().await;
        assert_eq!(scene.slow.questions.connections(), 1);
    }
    assert_eq!(scene.slow.questions.opened(), 1);
    advance(Duration::from_secs(2)).await;
    settle().await;
    assert_eq!(scene.slow.questions.connections(), 0);
    let answered = scene.ask(2, 1);
    scene.question().await.count(1);
    assert!(is_replicated(answered).await);
    let old = Arc::clone(&scene.slow);
    assert_eq!((old.questions.opened(), old.questions.connections()), (2, 1));
    scene.connect();
    settle().await;
    assert_eq!(old.questions.connections(), 0);
}

// Behaviour 86
#[tokio::test(start_paused = true)]
async fn a_question_is_about_a_thousand_grants_at_the_most() {
    let scene = Scene::new();
    let answered: Vec<_> = (0..1_500).map(|counter| scene.ask(counter, 1)).collect();
    for count in [1_024, 476] {
        let question = scene.question().await;
        assert_eq!(question.counters().len(), count);
        question.count(1);
    }
    for answered in answered {
        assert!(matches!(answered.await.unwrap(), Some(Ok(()))));
    }
}

// Behaviour 86
#[tokio::test(start_paused = true)]
async fn a_line_whose_task_is_dropped_sends_everybody_away() {
    let scene = Scene::new();
    let answered = scene.ask_with(1, 1, &|serve| drop(serve));
    settle().await;
    assert!(answered.await.unwrap().is_none());
    let again = scene.ask(2, 1);
    scene.question().await.count(1);
    assert!(is_replicated(again).await);
}
