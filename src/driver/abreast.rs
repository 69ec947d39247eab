//! Two turns of one name in flight: what the second one may say, and in which order they may land.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, advance};

use super::batch::Outgoing;
use super::line::Line;
use super::scene::{LEASE_MS, Scene};
use crate::error::StoreError;
use crate::hold::{Hold, Truth};
use crate::store::memory::Books;
use crate::store::{Rule, TurnReply};

fn admitted(outgoing: &Outgoing) -> Vec<u64> {
    outgoing.turn.admit.iter().map(|(id, _)| id.counter()).collect()
}

#[tokio::test(start_paused = true)]
async fn a_third_turn_waits_and_what_comes_meanwhile_is_gathered() {
    let mut scene = Scene::new(9);
    let turns = [1, 2].map(|counter| {
        assert_eq!(scene.enter(), counter);
        scene.next().unwrap()
    });
    assert_eq!(turns.each_ref().map(admitted), [[1], [2]]);
    scene.enter();
    scene.enter();
    assert!(scene.next().is_none());
    let [first, second] = turns;
    scene.run_and_settle(first);
    assert_eq!(admitted(&scene.next().unwrap()), [3, 4]);
    scene.run_and_settle(second);
    assert!(scene.granted(1).is_some() && scene.granted(2).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_waiter_is_taken_back_behind_the_turn_that_names_it() {
    let mut scene = Scene::new(9);
    let cancelled = scene.enter();
    let first = scene.next().unwrap();
    scene.line.cancel(cancelled, Instant::now());
    scene.enter();
    let second = scene.next().unwrap();
    assert!(second.turn.cancel.is_empty(), "it would run for nothing if it overtook the other");
    scene.run_and_settle(second);
    assert!(scene.next().is_none(), "the first one is still out");
    scene.run_and_settle(first);
    assert_eq!(scene.next().unwrap().turn.cancel, [Scene::id(cancelled)]);
}

#[tokio::test(start_paused = true)]
async fn a_permit_released_amid_its_renewal_is_taken_back_behind_it() {
    let mut scene = Scene::new(9);
    let counter = scene.enter();
    let turn = scene.next().unwrap();
    scene.run_and_settle(turn);
    let hold = scene.granted(counter).unwrap();
    advance(Duration::from_millis(LEASE_MS / 2)).await;
    let renewal = scene.next().unwrap();
    assert_eq!(renewal.turn.renew.len(), 1);
    assert!(hold.release());
    scene.line.give_back(counter, None);
    scene.enter();
    let second = scene.next().unwrap();
    assert!(second.turn.release.is_empty(), "after a loss of data the renewal would put it back");
    scene.run_and_settle(renewal);
    scene.run_and_settle(second);
    assert_eq!(scene.next().unwrap().turn.release, [hold.id]);
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_lands_late_does_not_reopen_a_wait_that_has_ended() {
    let mut scene = Scene::new(1);
    let holder = scene.enter();
    let turn = scene.next().unwrap();
    scene.run_and_settle(turn);
    let hold = scene.granted(holder).unwrap();
    // The first turn queues one; the second frees the unit, and so grants it.
    let waiter = scene.enter();
    let queues = scene.next().unwrap();
    assert!(hold.release());
    scene.line.give_back(holder, None);
    let frees = scene.next().unwrap();
    let (queued, freed) = (scene.run(&queues), scene.run(&frees));
    assert_eq!(freed.others.len(), 1);
    scene.line.settle(frees.number, freed, Instant::now());
    scene.line.settle(queues.number, queued, Instant::now());
    assert!(scene.granted(waiter).is_some());
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_a_turn_while_something_is_amiss() {
    type Amiss = fn(&mut Line);
    let amiss: [(&str, Amiss); 4] = [
        ("a new connection", Line::reconnected),
        ("trouble", |line| {
            line.turn_failed(&StoreError::timeout("away"), Instant::now(), Instant::now());
        }),
        ("a question", Line::nudge),
        ("lost data", Line::renew_all),
    ];
    for (what, happens) in amiss {
        let mut scene = Scene::new(9);
        scene.enter();
        assert!(scene.next().is_some());
        scene.enter();
        happens(&mut scene.line);
        assert!(scene.next().is_none(), "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_reply_of_a_follower_does_not_end_the_healing() {
    let mut scene = Scene::new(300);
    let mut holds = Vec::new();
    for _ in 0..300 {
        scene.enter();
    }
    while let Some(turn) = scene.next() {
        scene.run_and_settle(turn);
    }
    for counter in 1..=300 {
        holds.push(scene.granted(counter).unwrap());
    }
    scene.books = Books::default(); // data is lost
    scene.enter();
    let first = scene.next().unwrap();
    scene.enter();
    let second = scene.next().unwrap();
    scene.run_and_settle(first);
    scene.run_and_settle(second);
    for _ in 0..50 {
        scene.enter();
    }
    let heals = scene.next().unwrap();
    assert_eq!(heals.turn.renew.len(), 224);
    assert_eq!(heals.turn.admit.len(), 0, "newcomers take the room of those who hold");
}

/// A permit with a lease of 300 ms.
fn hold_briefly(scene: &mut Scene) -> Arc<Hold> {
    let counter = scene.enter_with(Rule::Wait, 300);
    let turn = scene.next().unwrap();
    scene.run_and_settle(turn);
    scene.granted(counter).unwrap()
}

#[tokio::test(start_paused = true)]
async fn turns_without_an_answer_do_not_cost_a_short_lease() {
    let mut scene = Scene::new(9);
    let hold = hold_briefly(&mut scene);
    scene.pass(100).await;
    let renewal = scene.next().unwrap();
    assert_eq!(renewal.turn.renew.len(), 1);
    scene.enter();
    let _follower = scene.next().unwrap();
    // Both replies are lost.
    assert!(scene.next().is_none());
    scene.pass(50).await;
    let relief = scene.next().expect("in time for the lease");
    assert_eq!((relief.turn.renew.len(), relief.turn.ask.len()), (1, 0));
    assert!(scene.next().is_none());
    let before = hold.deadline();
    scene.run_and_settle(relief);
    assert!(hold.deadline() > before);
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_without_an_answer_does_not_cost_a_short_lease() {
    let mut scene = Scene::new(9);
    let hold = hold_briefly(&mut scene);
    scene.pass(90).await;
    scene.enter(); // what is due soon would ride along, but not so soon
    scene.line.due = super::agenda::Agenda::default();
    let newcomer = scene.next().unwrap();
    assert!(newcomer.turn.renew.is_empty());
    scene.line.renew_now(hold.id.counter());
    assert!(scene.next().is_none(), "the answer may come any moment");
    scene.pass(50).await;
    let relief = scene.next().expect("in time for the lease");
    assert_eq!(relief.turn.renew.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_short_lease_that_has_gone_relieves_no_long_one() {
    let mut scene = Scene::new(9);
    let brief = hold_briefly(&mut scene);
    let _long = scene.hold();
    scene.release(&brief);
    let turn = scene.next().unwrap();
    scene.run_and_settle(turn);
    scene.pass(10_500).await;
    let _renewal = scene.next().unwrap(); // without an answer
    let mut reliefs = 0;
    for _ in 0..100 {
        scene.pass(5).await;
        while scene.next().is_some() {
            reliefs += 1;
        }
    }
    assert_eq!(reliefs, 0, "for a lease of 30 s");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_late_counts_and_a_release_waits_for_all_that_renew() {
    let mut scene = Scene::new(9);
    let hold = hold_briefly(&mut scene);
    scene.pass(100).await;
    let (sent, renewal) = (Instant::now(), scene.next().unwrap());
    scene.pass(50).await;
    let relief = scene.next().unwrap();
    scene.pass(50).await;
    scene.run_and_settle(renewal);
    assert_eq!(hold.deadline(), sent + Duration::from_millis(294));
    assert!(hold.release());
    scene.line.give_back(hold.id.counter(), None);
    scene.enter();
    let next = scene.next().unwrap();
    assert!(next.turn.release.is_empty(), "after a loss of data the relief would put it back");
    scene.run_and_settle(relief);
    scene.run_and_settle(next);
    assert_eq!(scene.next().unwrap().turn.release, [hold.id]);
}

/// Over a round trip of nearly a third of the lease some renewal is in flight at any time.
#[tokio::test(start_paused = true)]
async fn after_a_loss_of_data_renewals_in_flight_hold_nobody_up_for_ever() {
    let mut scene = Scene::new(9);
    let hold = hold_briefly(&mut scene);
    let other = scene.hold();
    scene.books = Books::default();
    let mut newcomer = None;
    let mut flying = VecDeque::new();
    for step in 0..400 {
        while let Some(turn) = scene.next() {
            flying.push_back((Instant::now() + Duration::from_millis(95), turn));
        }
        scene.pass(5).await;
        while flying.front().is_some_and(|(at, _)| *at <= Instant::now()) {
            let (_, turn) = flying.pop_front().unwrap();
            scene.run_and_settle(turn);
        }
        if step == 100 {
            newcomer = Some(scene.enter());
            scene.release(&other);
        }
    }
    assert!(matches!(hold.truth(), Truth::HeldUntil(_)), "{:?}", hold.truth());
    assert!(scene.granted(newcomer.unwrap()).is_some(), "waits for 1.5 s with room for it");
    assert!(scene.line.take_backs.is_empty(), "nothing is given back");
}

/// The question would put its waiter back into the queue when what a turn that ran before did to it
/// is over already: granted and released, expired, kicked out at once, or too large.
#[tokio::test(start_paused = true)]
async fn a_question_that_arrives_late_leaves_nothing_that_nobody_knows() {
    let mut scene = Scene::new(1);
    let hold = scene.hold();
    let waiter = scene.enter_with(Rule::Wait, 100);
    let queues = scene.next().unwrap();
    scene.run_and_settle(queues);
    scene.line.ask_about_all();
    let asks = scene.next().unwrap();
    assert_eq!(asks.turn.ask.len(), 1);
    scene.release(&hold);
    let mut asks = Some(asks);
    for ms in 1..=350 {
        scene.pass(1).await;
        if ms == 300 {
            scene.run_and_settle(asks.take().unwrap());
        }
        while let Some(turn) = scene.next() {
            scene.run_and_settle(turn); // what goes out meanwhile overtakes the question
        }
        if scene.line.held.contains_key(&waiter) {
            let granted = scene.granted(waiter).unwrap();
            scene.release(&granted);
        }
    }
    let left = scene.books.inspect(scene.micros / 1000);
    assert_eq!((left.holders, left.waiters), (Vec::new(), Vec::new()));
    assert!(scene.line.is_flushed() && scene.line.waiters.is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_follows_a_question() {
    let mut scene = Scene::new(1);
    let hold = scene.hold();
    scene.enter();
    let queues = scene.next().unwrap();
    scene.run_and_settle(queues);
    scene.line.ask_about_all();
    let asks = scene.next().unwrap();
    scene.release(&hold);
    assert!(scene.next().is_none(), "it would free a unit, and so grant what is asked about");
    scene.run_and_settle(asks);
    assert_eq!(scene.next().unwrap().turn.release, [hold.id]);
}

/// A waiter that the reply of the second turn grants while that of the first, which queued it, is
/// still out.
async fn granted_amid_its_admission(scene: &mut Scene) -> (Outgoing, Arc<Hold>) {
    let hold = scene.hold();
    let waiter = scene.enter();
    let queues = scene.next().unwrap();
    scene.release(&hold);
    let frees = scene.next().unwrap();
    scene.run(&queues);
    scene.run_and_settle(frees);
    (queues, scene.granted(waiter).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_release_goes_behind_the_turn_that_names_its_id() {
    let mut scene = Scene::new(1);
    let (queues, hold) = granted_amid_its_admission(&mut scene).await;
    scene.release(&hold);
    assert!(scene.next().is_none(), "named by two turns in flight");
    scene.line.unanswered(queues.number, &StoreError::timeout("lost"), Instant::now());
    assert_eq!(scene.next().unwrap().turn.release, [hold.id]);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_goes_behind_the_turn_that_names_its_id() {
    for ms_before_it_is_due in [0, 1_000] {
        let mut scene = Scene::new(1);
        let (queues, hold) = granted_amid_its_admission(&mut scene).await;
        scene.pass(LEASE_MS / 3 - ms_before_it_is_due).await; // due, or about to ride along
        scene.enter();
        let follower = scene.next().unwrap();
        assert_eq!(follower.turn.renew, [], "named by two turns in flight");
        scene.line.unanswered(queues.number, &StoreError::timeout("lost"), Instant::now());
        scene.run_and_settle(follower);
        scene.line.nudge();
        assert_eq!(scene.next().unwrap().turn.renew, [(hold.id, LEASE_MS)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_take_back_is_not_forgotten_while_the_turn_that_names_its_id_is_under_way() {
    let mut scene = Scene::new(1);
    let cancelled = scene.enter_with(Rule::Wait, 50);
    let admits = scene.next().unwrap();
    scene.line.cancel(cancelled, Instant::now());
    for _ in 0..60 {
        scene.pass(1_000).await; // call timeouts may be as long
        assert!(scene.next().is_none());
    }
    scene.run_and_settle(admits);
    let takes_back = scene.next().unwrap();
    assert_eq!(takes_back.turn.cancel.len(), 1);
    scene.run_and_settle(takes_back);
    assert_eq!(scene.books.inspect(scene.micros / 1000).in_use, 0);
}

#[tokio::test(start_paused = true)]
async fn a_turn_asks_about_a_waiter_once() {
    let mut scene = Scene::new(1);
    let holder = scene.enter();
    let turn = scene.next().unwrap();
    scene.run_and_settle(turn);
    let hold = scene.granted(holder).unwrap();
    let _waiter = scene.enter_with(Rule::Wait, 50);
    let queues = scene.next().unwrap();
    assert!(hold.release());
    scene.line.give_back(holder, None);
    let frees = scene.next().unwrap();
    let (queued, freed) = (scene.run(&queues), scene.run(&frees));
    scene.pass(60).await;
    scene.line.settle(frees.number, freed, Instant::now());
    scene.line.settle(queues.number, queued, Instant::now());
    scene.line.ask_about_all();
    let asks = scene.next().unwrap();
    assert_eq!(asks.turn.ask.len(), 1, "{:?}", asks.turn.ask);
}

/// Whether a lease is held for 200 times its length, with each reply late by the round trip and
/// each `lost`th one lost.
async fn is_held(lease_ms: u64, round_trip_ms: u64, lost: usize) -> bool {
    let mut scene = Scene::new(9);
    let counter = scene.enter_with(Rule::Wait, lease_ms);
    let (start, mut hold) = (Instant::now(), None);
    let mut flying: Vec<(u64, u64, Option<TurnReply>)> = Vec::new();
    let mut turns = 0;
    for ms in 0..200 * lease_ms {
        while let Some(at) = flying.iter().position(|&(lands_at, ..)| lands_at <= ms) {
            let (_, number, reply) = flying.remove(at);
            match reply {
                Some(reply) => scene.line.settle(number, reply, Instant::now()),
                None => scene.line.unanswered(number, &StoreError::timeout("lost"), Instant::now()),
            }
        }
        while let Some(turn) = scene.next() {
            turns += 1;
            let reply = scene.run(&turn);
            let is_lost = lost > 0 && turns % lost == 0;
            let lands_at = if is_lost { ms + 500 } else { ms + round_trip_ms };
            flying.push((lands_at, turn.number, Some(reply).filter(|_| !is_lost)));
        }
        hold = hold.or_else(|| scene.granted(counter));
        let held = hold.as_ref().is_some_and(|it| matches!(it.truth(), Truth::HeldUntil(_)));
        if !held && ms > round_trip_ms {
            return false;
        }
        scene.pass(1).await;
    }
    start.elapsed() >= Duration::from_millis(200 * lease_ms)
}

#[tokio::test(start_paused = true)]
async fn a_lease_is_held_while_a_round_trip_takes_up_to_a_third_of_it() {
    for (lease_ms, round_trip_ms) in [(50, 1), (50, 8), (50, 12), (50, 16), (300, 100)] {
        assert!(is_held(lease_ms, round_trip_ms, 0).await, "{lease_ms} over {round_trip_ms} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_does_not_cost_a_lease() {
    for (lease_ms, round_trip_ms, lost) in [(50, 1, 3), (50, 10, 3), (600, 1, 2), (600, 90, 3)] {
        let held = is_held(lease_ms, round_trip_ms, lost).await;
        assert!(held, "{lease_ms} over {round_trip_ms} ms, with 1 of {lost} lost");
    }
}
