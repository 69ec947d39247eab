//! One turn after the other: what a line says without fail, and what it keeps in mind.

#![allow(clippy::panic, clippy::unwrap_used)]

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::scene::{LEASE_MS, Scene};
use super::waiter::WaitEnd;
use crate::error::StoreError;
use crate::hold::Hold;
use crate::id::{ClientId, PermitId};
use crate::released::Released;
use crate::store::memory::Books;
use crate::store::{Rule, Settled, TurnReply};

#[tokio::test(start_paused = true)]
async fn a_new_ticket_replaces_the_old_one() {
    let mut scene = Scene::new(1);
    let other = PermitId::new(ClientId::from_bits(8), 1, 1, LEASE_MS);
    scene.foreign(8, |turn| turn.admit.push((other, Rule::Wait)));
    let waiter = scene.enter();
    let late = scene.next().unwrap(); // will run again, after the wipe
    scene.line.unanswered(late.number, &StoreError::timeout("late"), Instant::now());
    let asks = scene.next().unwrap();
    scene.run_and_settle(asks);
    scene.books = Books::default();
    scene.foreign(8, |turn| turn.admit.push((other, Rule::Wait)));
    scene.run(&late);
    scene.line.ask_about_all();
    let asks = scene.next().unwrap();
    assert_eq!(asks.turn.ask.len(), 1);
    scene.run_and_settle(asks);
    scene.line.cancel(waiter, Instant::now());
    let mut turns = 0;
    for _ in 0..1_000 {
        while let Some(turn) = scene.next() {
            turns += 1;
            scene.run_and_settle(turn);
        }
        scene.pass(10).await;
    }
    assert!(
        scene.line.queue.is_empty() && turns < 5,
        "{turns} turns in 10 s for nobody; queue {:?}",
        scene.line.queue
    );
}

#[tokio::test(start_paused = true)]
async fn a_release_is_not_forgotten_while_a_lost_renewal_may_hold_the_permit() {
    let mut scene = Scene::new(1);
    let counter = scene.enter_with(Rule::Wait, 5_000);
    let turn = scene.next().unwrap();
    scene.run_and_settle(turn);
    let hold = scene.granted(counter).unwrap();
    let error = StoreError::timeout("lost");
    scene.pass(4_000).await;
    let renewal = scene.next().unwrap();
    scene.run(&renewal); // its reply is lost
    scene.pass(500).await;
    scene.line.unanswered(renewal.number, &error, Instant::now());
    assert!(hold.release());
    scene.line.give_back(counter, None);
    for _ in 0..2 {
        let turn = scene.next().unwrap(); // never arrives
        assert_eq!(turn.turn.release.len(), 1);
        scene.pass(500).await;
        scene.line.unanswered(turn.number, &error, Instant::now());
    }
    scene.line.nudge();
    let turn = scene.next().unwrap();
    scene.run_and_settle(turn);
    assert_eq!(scene.books.inspect(scene.micros / 1000).in_use, 0, "for 3.5 s more");
}

#[tokio::test(start_paused = true)]
async fn the_first_healing_turn_does_not_end_the_healing() {
    let mut scene = Scene::new(600);
    for _ in 0..600 {
        scene.enter();
    }
    while let Some(turn) = scene.next() {
        scene.run_and_settle(turn);
    }
    for counter in 1..=600 {
        scene.granted(counter).unwrap();
    }
    scene.books = Books::default();
    scene.enter();
    let first = scene.next().unwrap();
    scene.run_and_settle(first);
    for _ in 0..50 {
        scene.enter();
    }
    let heals = scene.next().unwrap();
    assert_eq!((heals.turn.renew.len(), heals.turn.admit.len()), (224, 0));
    scene.run_and_settle(heals);
    let heals = scene.next().unwrap();
    assert_eq!((heals.turn.renew.len(), heals.turn.admit.len()), (224, 0));
}

/// Their numbers do not tell, where the clock of the new server is behind that of the old one.
#[tokio::test(start_paused = true)]
async fn after_a_loss_of_data_nobody_vouches_for_what_was_not_put_back() {
    let mut scene = Scene::new(300);
    for _ in 0..300 {
        scene.enter();
    }
    while let Some(turn) = scene.next() {
        scene.run_and_settle(turn);
    }
    let holds: Vec<_> = (1..=300).map(|counter| scene.granted(counter).unwrap()).collect();
    scene.books = Books::default();
    scene.micros -= 1_000_000;
    scene.line.nudge();
    let notices = scene.next().unwrap();
    scene.run_and_settle(notices);
    let heals = scene.next().unwrap();
    let healed = |hold: &&Arc<Hold>| heals.turn.renew.iter().any(|(id, _)| *id == hold.id);
    let (put_back, missing): (Vec<_>, Vec<_>) = holds.iter().partition(healed);
    scene.run_and_settle(heals);
    for hold in [put_back[0], put_back[1], missing[0]] {
        scene.release(hold);
    }
    let releases = scene.next().unwrap();
    assert_eq!((releases.turn.release.len(), releases.turn.release_from), (3, 0));
    scene.release(put_back[2]);
    scene.release(put_back[3]);
    scene.run_and_settle(releases);
    let releases = scene.next().unwrap();
    let vouched_for = put_back[2].token.min(put_back[3].token);
    assert_eq!((releases.turn.release.len(), releases.turn.release_from), (2, vouched_for));
}

#[tokio::test(start_paused = true)]
async fn nobody_vouches_for_a_permit_whose_lease_may_end_before_the_answer() {
    for (before_the_end, vouched_for) in [(1_990, false), (2_010, true)] {
        let mut scene = Scene::new(2);
        let holds = [scene.hold(), scene.hold()];
        let left = holds[0].deadline() - Instant::now();
        scene.pass(left.as_millis() as u64 - before_the_end).await; // an answer is awaited for 2 s at the most
        holds.iter().for_each(|hold| scene.release(hold));
        let releases = scene.next().unwrap();
        assert_eq!(releases.turn.release, [holds[0].id, holds[1].id]);
        let lowest = if vouched_for { holds[0].token } else { 0 };
        assert_eq!(releases.turn.release_from, lowest, "{before_the_end} ms before the end");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_granted_under_another_incarnation_does_not_ride_along() {
    for ms in [90, 100] {
        ride_along_after(ms).await; // it is to be renewed after 100 ms: near enough to ride, or due
    }
}

async fn ride_along_after(ms: u64) {
    let mut scene = Scene::new(2);
    let old = scene.hold();
    scene.books = Books::default();
    scene.enter_with(Rule::Wait, 300);
    let grants = scene.next().unwrap();
    scene.run_and_settle(grants);
    let new = scene.granted(2).unwrap();
    scene.pass(ms).await;
    let heals = scene.next().unwrap();
    assert_eq!(heals.turn.renew, [(old.id, LEASE_MS)]);
    assert_ne!(heals.turn.incarnation, scene.line.incarnation, "that of the old one");
    scene.run_and_settle(heals);
    scene.line.nudge();
    let rides = scene.next().unwrap();
    assert_eq!(rides.turn.renew, [(new.id, 300)]);
    assert_eq!(rides.turn.incarnation, scene.line.incarnation);
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_to_a_store_that_has_kept_its_data_holds_waiters_up_for_one_turn() {
    let mut scene = Scene::new(700);
    for _ in 0..600 {
        scene.enter();
    }
    while let Some(turn) = scene.next() {
        scene.run_and_settle(turn);
    }
    scene.line.reconnected();
    scene.enter();
    let first = scene.next().unwrap();
    assert_eq!((first.turn.renew.len(), first.turn.admit.len()), (224, 0));
    scene.run_and_settle(first);
    let second = scene.next().unwrap();
    assert_eq!((second.turn.renew.len(), second.turn.admit.len()), (224, 1));
}

#[tokio::test(start_paused = true)]
async fn tokens_rise_where_the_clock_of_an_empty_server_is_behind() {
    let mut scene = Scene::new(1);
    let old = scene.hold();
    scene.release(&old);
    let releases = scene.next().unwrap();
    scene.run_and_settle(releases);
    scene.books = Books::default();
    scene.micros -= 1_000_000;
    let new = scene.hold();
    assert!(new.token > old.token);
}

#[tokio::test(start_paused = true)]
async fn a_release_without_an_answer_is_said_again_and_told_as_freed() {
    let mut scene = Scene::new(1);
    let hold = scene.hold();
    let (done, mut freed) = tokio::sync::oneshot::channel();
    assert!(hold.release());
    scene.line.give_back(hold.id.counter(), Some(done));
    let releases = scene.next().unwrap();
    scene.run(&releases); // its reply is lost
    scene.line.unanswered(releases.number, &StoreError::timeout("lost"), Instant::now());
    let again = scene.next().unwrap();
    assert_eq!(again.turn.release, [hold.id]);
    scene.run_and_settle(again);
    assert_eq!(freed.try_recv().unwrap().unwrap(), Released::Freed);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_was_granted_unheard_and_kicked_is_told_and_given_back() {
    let mut scene = Scene::new(1);
    let hold = scene.hold();
    let waiter = scene.enter();
    let queues = scene.next().unwrap();
    scene.run_and_settle(queues);
    // Unheard: the turn that frees the unit is another client's, and its wake-up is lost.
    scene.foreign(8, |turn| turn.cancel.push(hold.id));
    scene.books.kick(Scene::id(waiter), false, scene.micros / 1000);
    scene.line.ask_about_all();
    let asks = scene.next().unwrap();
    scene.run_and_settle(asks);
    let polled = scene.line.poll_waiter(waiter, &mut None);
    assert!(matches!(polled, Poll::Ready(WaitEnd::Kicked)));
    assert_eq!(scene.next().unwrap().turn.cancel, [Scene::id(waiter)]);
}

#[tokio::test(start_paused = true)]
async fn a_grant_to_an_id_that_nobody_here_knows_is_given_back() {
    let mut scene = Scene::new(1);
    let hold = scene.hold();
    let stray = PermitId::new(ClientId::from_bits(7), 99, 1, LEASE_MS);
    scene.foreign(7, |turn| turn.admit.push((stray, Rule::Wait))); // as by a turn of long ago
    scene.release(&hold);
    let frees = scene.next().unwrap();
    scene.run_and_settle(frees);
    assert_eq!(scene.next().unwrap().turn.cancel, [stray]);
}

#[tokio::test(start_paused = true)]
async fn the_next_turn_goes_when_the_store_says_so() {
    let mut scene = Scene::new(1);
    scene.hold();
    scene.enter();
    let queues = scene.next().unwrap();
    let reply = scene.run(&queues);
    let reply = TurnReply { more: true, earliest: None, ..reply };
    scene.line.settle(queues.number, reply, Instant::now());
    let goes_on = scene.next().unwrap(); // at once where work was left
    let reply = scene.run(&goes_on);
    let earliest = Some(Duration::from_millis(50));
    scene.line.settle(goes_on.number, TurnReply { earliest, ..reply }, Instant::now());
    scene.pass(49).await;
    assert!(scene.next().is_none());
    scene.pass(1).await;
    assert!(scene.next().is_some(), "a lease has ended");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_is_asked_again_after_a_pause() {
    let mut scene = Scene::new(1);
    scene.enter();
    let refused = scene.next().unwrap();
    scene.line.did_not_run(refused.number, &StoreError::timeout("refuses"), Instant::now());
    assert!(scene.next().is_none());
    scene.pass(20).await;
    assert_eq!(scene.next().unwrap().turn.ask.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_outage_does_not_make_the_agenda_grow() {
    let mut scene = Scene::new(9);
    let counter = scene.enter_with(Rule::Wait, 30 * 24 * 3600 * 1000);
    let turn = scene.next().unwrap();
    scene.run_and_settle(turn);
    scene.granted(counter).unwrap();
    scene.line.renew_all();
    let error = StoreError::timeout("refuses");
    let mut most = 0;
    for _ in 0..2_000 {
        if let Some(turn) = scene.next() {
            scene.line.did_not_run(turn.number, &error, Instant::now());
        }
        scene.pass(500).await;
        most = most.max(scene.line.due.len());
    }
    assert!(most < 200, "{most} entries for one permit");
}

/// Whether a waiter whose wake-up was lost is asked about while others come all the time.
async fn starves(rule: Rule) {
    let mut scene = Scene::new(1);
    let other = PermitId::new(ClientId::from_bits(8), 1, 1, LEASE_MS);
    let reply = scene.foreign(8, |turn| turn.admit.push((other, Rule::Wait)));
    assert!(matches!(reply.admitted[0], Settled::Granted { .. }));
    let waiter = scene.enter();
    let turn = scene.next().unwrap();
    scene.run_and_settle(turn);
    assert!(scene.granted(waiter).is_none());
    // The unit is freed, and granted to the waiter; the wake-up is lost.
    scene.pass(100).await;
    scene.foreign(8, |turn| turn.release.push(other));
    let mut asked = 0;
    for _ in 0..40 {
        scene.pass(500).await;
        let newcomer = scene.enter_with(rule, LEASE_MS);
        while let Some(turn) = scene.next() {
            asked += turn.turn.ask.len();
            scene.run_and_settle(turn);
        }
        let polled = scene.line.poll_waiter(newcomer, &mut None);
        if let Poll::Ready(WaitEnd::Granted(hold)) = polled {
            assert!(hold.release());
            scene.line.give_back(newcomer, None);
        }
    }
    assert!(asked > 0, "in 20 s nobody asked about the waiter");
    assert!(scene.granted(waiter).is_some());
}

#[tokio::test(start_paused = true)]
async fn tries_do_not_starve_the_speaking() {
    starves(Rule::Try).await;
}

#[tokio::test(start_paused = true)]
async fn newcomers_do_not_starve_the_speaking() {
    starves(Rule::Wait).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_tries_all_the_time_is_not_presumed_dead() {
    let mut scene = Scene::new(1);
    let other = PermitId::new(ClientId::from_bits(8), 1, 1, LEASE_MS);
    scene.foreign(8, |turn| turn.admit.push((other, Rule::Wait)));
    let waiter = scene.enter();
    let turn = scene.next().unwrap();
    scene.run_and_settle(turn);
    for _ in 0..10 {
        scene.pass(500).await;
        scene.enter_with(Rule::Try, LEASE_MS);
        while let Some(turn) = scene.next() {
            scene.run_and_settle(turn);
        }
    }
    let next = PermitId::new(ClientId::from_bits(9), 1, 1, LEASE_MS);
    scene.foreign(8, |turn| turn.release.push(other));
    let barged = scene.foreign(9, |turn| turn.admit.push((next, Rule::Try)));
    assert_eq!(barged.admitted, [Settled::Refused], "the waiter {waiter} was passed");
}

#[tokio::test(start_paused = true)]
async fn a_line_is_not_dropped_while_a_turn_of_its_may_run_and_count() {
    let mut scene = Scene::new(1);
    scene.line.nudge();
    let lost = scene.next().unwrap();
    scene.line.remove_handle(1);
    scene.line.unanswered(lost.number, &StoreError::timeout("lost"), Instant::now());
    assert!(!scene.line.is_unused());
    let turn = scene.next().expect("one that makes the lost one void");
    scene.run_and_settle(turn);
    assert!(scene.line.is_unused() && scene.next().is_none());
    assert!(scene.is_void(&lost));
}

#[tokio::test(start_paused = true)]
async fn a_fresh_line_learns_of_its_epoch_and_nothing_is_amiss() {
    let mut scene = Scene::new(1);
    for _ in 0..3 {
        scene.line.nudge();
        let lost = scene.next().unwrap();
        scene.line.unanswered(lost.number, &StoreError::timeout("lost"), Instant::now());
        let turn = scene.next().unwrap();
        scene.run_and_settle(turn);
    }
    scene.fresh_line(1);
    let waiter = scene.enter_with(Rule::Try, LEASE_MS);
    let cancelled = scene.enter();
    let first = scene.next().unwrap();
    scene.line.cancel(cancelled, Instant::now());
    assert!(scene.is_void(&first));
    scene.line.stale(first.number, 3);
    assert!(scene.line.trouble().is_none());
    let second = scene.next().expect("at once, not after a pause");
    assert_eq!(second.turn.cancel, [Scene::id(cancelled)]);
    scene.run_and_settle(second);
    assert!(scene.granted(waiter).is_some());
    assert!(scene.next().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_try_is_not_told_that_all_is_taken_by_more_than_one_turn_prunes() {
    let mut scene = Scene::new(200);
    let dead = (1..=200).map(|n| (PermitId::new(ClientId::from_bits(8), n, 1, 1_000), Rule::Wait));
    scene.foreign(8, |turn| {
        turn.limit = 200;
        turn.admit.extend(dead);
    });
    scene.pass(2_000).await;
    let tries: Vec<u64> = (0..100).map(|_| scene.enter_with(Rule::Try, LEASE_MS)).collect();
    while let Some(turn) = scene.next() {
        scene.run_and_settle(turn);
    }
    let granted = tries.into_iter().filter(|&counter| scene.granted(counter).is_some()).count();
    assert_eq!(granted, 100);
}
