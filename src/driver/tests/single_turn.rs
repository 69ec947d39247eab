//! One turn after the other: what a state has to say, and what it remembers.

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::harness::{Harness, LEASE, LEASE_MS};
use crate::driver::state::{Outgoing, WaitEnd};
use crate::error::{StoreError, StoreErrorKind};
use crate::hold::Hold;
use crate::id::{ClientId, PermitId};
use crate::numbers::{Epoch, Millis};
use crate::released::Released;
use crate::store::memory::MemoryState;
use crate::store::{Kick, TurnReply, WaiterOutcome, WhenFull};

#[tokio::test(start_paused = true)]
async fn a_new_ticket_replaces_the_old_one() {
    let mut harness = Harness::new(1);
    let other = PermitId::new(ClientId::from_bits(8), 1, 1, LEASE);
    harness.foreign(8, |turn| turn.admit.push((other, WhenFull::Wait)));
    let waiter = harness.enter();
    let late = harness.next().unwrap(); // will run again, after the wipe
    harness.state.unanswered(late.number, &StoreError::timeout("late"), Instant::now());
    let asks = harness.next().unwrap();
    harness.run_and_settle(asks);
    harness.store = MemoryState::default();
    harness.foreign(8, |turn| turn.admit.push((other, WhenFull::Wait)));
    harness.run(&late);
    harness.state.ask_about_all();
    let asks = harness.next().unwrap();
    assert_eq!(asks.turn.ask.len(), 1);
    harness.run_and_settle(asks);
    harness.state.cancel(waiter, Instant::now());
    let mut turns = 0;
    for _ in 0..1_000 {
        while let Some(turn) = harness.next() {
            turns += 1;
            harness.run_and_settle(turn);
        }
        harness.pass(10).await;
    }
    assert!(
        harness.state.queue_len() == 0 && turns < 5,
        "{turns} turns in 10 s for nobody; {} in the queue",
        harness.state.queue_len()
    );
}

#[tokio::test(start_paused = true)]
async fn a_release_is_not_forgotten_while_a_lost_renewal_may_hold_the_permit() {
    let mut harness = Harness::new(1);
    let counter = harness.enter_with(WhenFull::Wait, 5_000);
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    let hold = harness.granted(counter).unwrap();
    let error = StoreError::timeout("lost");
    harness.pass(4_000).await;
    let renewal = harness.next().unwrap();
    harness.run(&renewal); // its reply is lost
    harness.pass(500).await;
    harness.state.unanswered(renewal.number, &error, Instant::now());
    assert!(hold.release());
    harness.state.give_back(counter, None);
    for _ in 0..2 {
        let turn = harness.next().unwrap(); // never arrives
        assert_eq!(turn.turn.release.len(), 1);
        harness.pass(500).await;
        harness.state.unanswered(turn.number, &error, Instant::now());
    }
    harness.state.request_turn();
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    assert_eq!(harness.store.inspect(harness.micros / 1000).in_use, 0, "for 3.5 s more");
}

#[tokio::test(start_paused = true)]
async fn the_first_turn_of_a_recovery_does_not_end_it() {
    let mut harness = Harness::new(600);
    for _ in 0..600 {
        harness.enter();
    }
    while let Some(turn) = harness.next() {
        harness.run_and_settle(turn);
    }
    for counter in 1..=600 {
        harness.granted(counter).unwrap();
    }
    harness.store = MemoryState::default();
    harness.enter();
    let first = harness.next().unwrap();
    harness.run_and_settle(first);
    for _ in 0..50 {
        harness.enter();
    }
    let recovers = harness.next().unwrap();
    assert_eq!((recovers.turn.renew.len(), recovers.turn.admit.len()), (224, 0));
    harness.run_and_settle(recovers);
    let recovers = harness.next().unwrap();
    assert_eq!((recovers.turn.renew.len(), recovers.turn.admit.len()), (224, 0));
}

/// Their numbers do not tell, where the clock of the new server is behind that of the old one.
#[tokio::test(start_paused = true)]
async fn after_a_loss_of_data_nobody_vouches_for_what_was_not_put_back() {
    let mut harness = Harness::new(300);
    for _ in 0..300 {
        harness.enter();
    }
    while let Some(turn) = harness.next() {
        harness.run_and_settle(turn);
    }
    let holds: Vec<_> = (1..=300).map(|counter| harness.granted(counter).unwrap()).collect();
    harness.store = MemoryState::default();
    harness.micros -= 1_000_000;
    harness.state.request_turn();
    let notices = harness.next().unwrap();
    harness.run_and_settle(notices);
    let recovers = harness.next().unwrap();
    let healed = |hold: &&Arc<Hold>| recovers.turn.renew.iter().any(|(id, _)| *id == hold.id);
    let (put_back, missing): (Vec<_>, Vec<_>) = holds.iter().partition(healed);
    harness.run_and_settle(recovers);
    for hold in [put_back[0], put_back[1], missing[0]] {
        harness.release(hold);
    }
    let releases = harness.next().unwrap();
    assert_eq!((releases.turn.release.len(), releases.turn.release_from), (3, None));
    harness.release(put_back[2]);
    harness.release(put_back[3]);
    harness.run_and_settle(releases);
    let releases = harness.next().unwrap();
    let vouched_for = put_back[2].token.min(put_back[3].token);
    assert_eq!((releases.turn.release.len(), releases.turn.release_from), (2, Some(vouched_for)));
}

#[tokio::test(start_paused = true)]
async fn nobody_vouches_for_a_permit_whose_lease_may_end_before_the_answer() {
    for (before_the_end, vouched_for) in [(1_990, false), (2_010, true)] {
        let mut harness = Harness::new(2);
        let holds = [harness.hold(), harness.hold()];
        let left = holds[0].deadline() - Instant::now();
        harness.pass(left.as_millis() as u64 - before_the_end).await; // an answer is awaited for 2 s at the most
        holds.iter().for_each(|hold| harness.release(hold));
        let releases = harness.next().unwrap();
        assert_eq!(releases.turn.release, [holds[0].id, holds[1].id]);
        let lowest = vouched_for.then_some(holds[0].token);
        assert_eq!(releases.turn.release_from, lowest, "{before_the_end} ms before the end");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_granted_under_another_incarnation_is_not_piggybacked() {
    for ms in [90, 100] {
        piggyback_after(ms).await; // it is to be renewed after 100 ms: near enough to ride, or due
    }
}

async fn piggyback_after(ms: u64) {
    let mut harness = Harness::new(2);
    let old = harness.hold();
    harness.store = MemoryState::default();
    harness.enter_with(WhenFull::Wait, 300);
    let grants = harness.next().unwrap();
    harness.run_and_settle(grants);
    let new = harness.granted(2).unwrap();
    harness.pass(ms).await;
    let recovers = harness.next().unwrap();
    assert_eq!(recovers.turn.renew, [(old.id, LEASE)]);
    assert_ne!(recovers.turn.incarnation, harness.state.incarnation(), "that of the old one");
    harness.run_and_settle(recovers);
    harness.state.request_turn();
    let rides = harness.next().unwrap();
    assert_eq!(rides.turn.renew, [(new.id, Millis::new(300))]);
    assert_eq!(rides.turn.incarnation, harness.state.incarnation());
}

#[tokio::test(start_paused = true)]
async fn a_new_connection_to_a_store_that_has_kept_its_data_holds_waiters_up_for_one_turn() {
    let mut harness = Harness::new(700);
    for _ in 0..600 {
        harness.enter();
    }
    while let Some(turn) = harness.next() {
        harness.run_and_settle(turn);
    }
    harness.state.reconnected();
    harness.enter();
    let first = harness.next().unwrap();
    assert_eq!((first.turn.renew.len(), first.turn.admit.len()), (224, 0));
    harness.run_and_settle(first);
    let second = harness.next().unwrap();
    assert_eq!((second.turn.renew.len(), second.turn.admit.len()), (224, 1));
}

#[tokio::test(start_paused = true)]
async fn tokens_rise_where_the_clock_of_an_empty_server_is_behind() {
    let mut harness = Harness::new(1);
    let old = harness.hold();
    harness.release(&old);
    let releases = harness.next().unwrap();
    harness.run_and_settle(releases);
    harness.store = MemoryState::default();
    harness.micros -= 1_000_000;
    let new = harness.hold();
    assert!(new.token > old.token);
}

#[tokio::test(start_paused = true)]
async fn a_release_without_an_answer_is_said_again_and_told_as_freed() {
    let mut harness = Harness::new(1);
    let hold = harness.hold();
    let (done, mut freed) = tokio::sync::oneshot::channel();
    assert!(hold.release());
    harness.state.give_back(hold.id.counter(), Some(done));
    let releases = harness.next().unwrap();
    harness.run(&releases); // its reply is lost
    harness.state.unanswered(releases.number, &StoreError::timeout("lost"), Instant::now());
    let again = harness.next().unwrap();
    assert_eq!(again.turn.release, [hold.id]);
    harness.run_and_settle(again);
    assert_eq!(freed.try_recv().unwrap().unwrap(), Released::Freed);
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_was_granted_unheard_and_kicked_is_told_and_given_back() {
    let mut harness = Harness::new(1);
    let hold = harness.hold();
    let waiter = harness.enter();
    let queues = harness.next().unwrap();
    harness.run_and_settle(queues);
    // Unheard: the turn that frees the unit is another client's, and its wake-up is lost.
    harness.foreign(8, |turn| turn.cancel.push(hold.id));
    harness.store.kick(Harness::id(waiter), Kick::Mark, harness.micros / 1000);
    harness.state.ask_about_all();
    let asks = harness.next().unwrap();
    harness.run_and_settle(asks);
    let polled = harness.state.poll_waiter(waiter, &mut None);
    assert!(matches!(polled, Poll::Ready(WaitEnd::Kicked)));
    assert_eq!(harness.next().unwrap().turn.cancel, [Harness::id(waiter)]);
}

#[tokio::test(start_paused = true)]
async fn a_grant_to_an_id_that_nobody_here_knows_is_given_back() {
    let mut harness = Harness::new(1);
    let hold = harness.hold();
    let stray = PermitId::new(ClientId::from_bits(7), 99, 1, LEASE);
    harness.foreign(7, |turn| turn.admit.push((stray, WhenFull::Wait))); // as by a turn of long ago
    harness.release(&hold);
    let frees = harness.next().unwrap();
    harness.run_and_settle(frees);
    assert_eq!(harness.next().unwrap().turn.cancel, [stray]);
}

#[tokio::test(start_paused = true)]
async fn the_next_turn_goes_when_the_store_says_so() {
    let mut harness = Harness::new(1);
    harness.hold();
    harness.enter();
    let queues = harness.next().unwrap();
    let reply = harness.run(&queues);
    let reply = TurnReply { more: true, earliest: None, ..reply };
    harness.state.answered(queues.number, reply, Instant::now());
    let goes_on = harness.next().unwrap(); // at once where work was left
    let reply = harness.run(&goes_on);
    let earliest = Some(Duration::from_millis(50));
    harness.state.answered(goes_on.number, TurnReply { earliest, ..reply }, Instant::now());
    harness.pass(49).await;
    assert!(harness.next().is_none());
    harness.pass(1).await;
    assert!(harness.next().is_some(), "a lease has ended");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_is_asked_again_after_a_pause() {
    let mut harness = Harness::new(1);
    harness.enter();
    let refused = harness.next().unwrap();
    harness.state.did_not_run(refused.number, &StoreError::timeout("refuses"), Instant::now());
    assert!(harness.next().is_none());
    harness.pass(50).await;
    assert_eq!(harness.next().unwrap().turn.ask.len(), 1);
}

// Behaviour 25
#[tokio::test(start_paused = true)]
async fn no_pause_is_longer_than_a_sixth_of_the_shortest_lease() {
    let error = StoreError::new(StoreErrorKind::NotReady, "not now");
    for did_not_run in [true, false] {
        let mut harness = Harness::new(2);
        for lease_ms in [30_000, 300] {
            let counter = harness.enter_with(WhenFull::Wait, lease_ms);
            let turn = harness.next().unwrap();
            harness.run_and_settle(turn);
            harness.granted(counter).unwrap();
        }
        harness.enter();
        let turn = harness.next().unwrap();
        let fail = |turn: Outgoing, harness: &mut Harness| match did_not_run {
            true => harness.state.did_not_run(turn.number, &error, Instant::now()),
            false => harness.state.refused(turn.number, &error, Instant::now()),
        };
        fail(turn, &mut harness);
        // Long enough that a pause would be far longer, and short enough for the lease.
        for _ in 0..5 {
            harness.pass(50).await;
            let turn = harness.next().expect("the pause is over");
            fail(turn, &mut harness);
        }
        harness.pass(40).await;
        assert_eq!(harness.state.held_ids().count(), 2);
        harness.pass(20).await;
        harness.next();
        assert_eq!(harness.state.held_ids().count(), 1, "the short lease has ended");
    }
}

#[tokio::test(start_paused = true)]
async fn a_turn_follows_its_name_at_once_and_slower_where_the_places_do_not_agree() {
    let mut harness = Harness::new(1);
    harness.enter();
    let elsewhere = StoreError::elsewhere("moved");
    for pause in [0, 2, 4, 8, 16, 32] {
        let sent = harness.next().unwrap();
        harness.state.redirected(sent.number, &elsewhere, Instant::now());
        if pause > 0 {
            harness.pass(pause - 1).await;
            assert!(harness.next().is_none());
            harness.pass(1).await;
        }
        assert!(harness.state.outage(None).is_none());
    }
    let sent = harness.next().unwrap();
    assert_eq!(sent.turn.ask.len(), 1);
    harness.state.redirected(sent.number, &elsewhere, Instant::now());
    assert!(harness.state.outage(None).is_some(), "it is told after the sixth");
    harness.pass(50).await;
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    assert!(harness.state.outage(None).is_none());
    harness.state.request_turn();
    let sent = harness.next().unwrap();
    harness.state.redirected(sent.number, &elsewhere, Instant::now());
    harness.state.request_turn();
    assert!(harness.next().is_some(), "it counts from the last answer");
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_was_refused_is_said_again_in_a_higher_epoch() {
    let mut harness = Harness::new(1);
    harness.enter();
    let refused = harness.next().unwrap();
    harness.state.refused(refused.number, &StoreError::timeout("refuses"), Instant::now());
    harness.pass(50).await;
    let again = harness.next().unwrap();
    assert_eq!((again.turn.epoch, again.turn.ask.len()), (refused.turn.epoch.next(), 1));
}

#[tokio::test(start_paused = true)]
async fn an_outage_does_not_make_the_heap_grow() {
    let mut harness = Harness::new(9);
    let counter = harness.enter_with(WhenFull::Wait, 30 * 24 * 3600 * 1000);
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    harness.granted(counter).unwrap();
    harness.state.recover_permits();
    let error = StoreError::timeout("refuses");
    let mut most = 0;
    for _ in 0..2_000 {
        if let Some(turn) = harness.next() {
            harness.state.did_not_run(turn.number, &error, Instant::now());
        }
        harness.pass(500).await;
        most = most.max(harness.state.deadlines().len());
    }
    assert!(most < 200, "{most} entries for one permit");
}

/// Whether a waiter whose wake-up was lost is asked about while others come all the time.
async fn starves(when_full: WhenFull) {
    let mut harness = Harness::new(1);
    let other = PermitId::new(ClientId::from_bits(8), 1, 1, LEASE);
    let reply = harness.foreign(8, |turn| turn.admit.push((other, WhenFull::Wait)));
    assert!(matches!(reply.admitted[0], WaiterOutcome::Granted { .. }));
    let waiter = harness.enter();
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    assert!(harness.granted(waiter).is_none());
    // The unit is freed, and granted to the waiter; the wake-up is lost.
    harness.pass(100).await;
    harness.foreign(8, |turn| turn.release.push(other));
    let mut asked = 0;
    for _ in 0..40 {
        harness.pass(500).await;
        let newcomer = harness.enter_with(when_full, LEASE_MS);
        while let Some(turn) = harness.next() {
            asked += turn.turn.ask.len();
            harness.run_and_settle(turn);
        }
        let polled = harness.state.poll_waiter(newcomer, &mut None);
        if let Poll::Ready(WaitEnd::Granted(hold)) = polled {
            assert!(hold.release());
            harness.state.give_back(newcomer, None);
        }
    }
    assert!(asked > 0, "in 20 s nobody asked about the waiter");
    assert!(harness.granted(waiter).is_some());
}

#[tokio::test(start_paused = true)]
async fn tries_do_not_starve_the_speaking() {
    starves(WhenFull::Refuse).await;
}

#[tokio::test(start_paused = true)]
async fn newcomers_do_not_starve_the_heartbeat() {
    starves(WhenFull::Wait).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_tries_all_the_time_is_not_presumed_dead() {
    let mut harness = Harness::new(1);
    let other = PermitId::new(ClientId::from_bits(8), 1, 1, LEASE);
    harness.foreign(8, |turn| turn.admit.push((other, WhenFull::Wait)));
    let waiter = harness.enter();
    let turn = harness.next().unwrap();
    harness.run_and_settle(turn);
    for _ in 0..10 {
        harness.pass(500).await;
        harness.enter_with(WhenFull::Refuse, LEASE_MS);
        while let Some(turn) = harness.next() {
            harness.run_and_settle(turn);
        }
    }
    let next = PermitId::new(ClientId::from_bits(9), 1, 1, LEASE);
    harness.foreign(8, |turn| turn.release.push(other));
    let barged = harness.foreign(9, |turn| turn.admit.push((next, WhenFull::Refuse)));
    assert_eq!(barged.admitted, [WaiterOutcome::Refused], "the waiter {waiter} was passed");
}

#[tokio::test(start_paused = true)]
async fn a_state_is_not_dropped_while_a_turn_of_its_may_run_and_count() {
    let mut harness = Harness::new(1);
    harness.state.request_turn();
    let lost = harness.next().unwrap();
    harness.state.remove_handle(1);
    harness.state.unanswered(lost.number, &StoreError::timeout("lost"), Instant::now());
    assert!(!harness.state.is_unused());
    let turn = harness.next().expect("one that makes the lost one void");
    harness.run_and_settle(turn);
    assert!(harness.state.is_unused() && harness.next().is_none());
    assert!(harness.is_void(&lost));
}

#[tokio::test(start_paused = true)]
async fn a_fresh_state_learns_of_its_epoch_and_nothing_is_amiss() {
    let mut harness = Harness::new(1);
    for _ in 0..3 {
        harness.state.request_turn();
        let lost = harness.next().unwrap();
        harness.state.unanswered(lost.number, &StoreError::timeout("lost"), Instant::now());
        let turn = harness.next().unwrap();
        harness.run_and_settle(turn);
    }
    harness.fresh_state(1);
    let waiter = harness.enter_with(WhenFull::Refuse, LEASE_MS);
    let cancelled = harness.enter();
    let first = harness.next().unwrap();
    harness.state.cancel(cancelled, Instant::now());
    assert!(harness.is_void(&first));
    harness.state.overtaken(first.number, Epoch::new(3));
    assert!(harness.state.outage(None).is_none());
    let second = harness.next().expect("at once, not after a pause");
    assert_eq!(second.turn.cancel, [Harness::id(cancelled)]);
    harness.run_and_settle(second);
    assert!(harness.granted(waiter).is_some());
    assert!(harness.next().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_try_is_not_told_that_all_is_taken_by_more_than_one_turn_prunes() {
    let mut harness = Harness::new(200);
    let dead = (1..=200)
        .map(|n| (PermitId::new(ClientId::from_bits(8), n, 1, Millis::new(1_000)), WhenFull::Wait));
    harness.foreign(8, |turn| {
        turn.limit = 200;
        turn.admit.extend(dead);
    });
    harness.pass(2_000).await;
    let tries: Vec<u64> =
        (0..100).map(|_| harness.enter_with(WhenFull::Refuse, LEASE_MS)).collect();
    while let Some(turn) = harness.next() {
        harness.run_and_settle(turn);
    }
    let granted = tries.into_iter().filter(|&counter| harness.granted(counter).is_some()).count();
    assert_eq!(granted, 100);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_without_an_answer_is_said_again_at_once() {
    let mut harness = Harness::new(1);
    let hold = harness.hold();
    harness.pass(LEASE_MS / 3).await;
    let renews = harness.next().unwrap();
    assert_eq!(renews.turn.renew, [(hold.id, LEASE)]);
    harness.pass(500).await;
    harness.state.unanswered(renews.number, &StoreError::timeout("lost"), Instant::now());
    assert_eq!(harness.next().unwrap().turn.renew, [(hold.id, LEASE)]);
}

#[tokio::test(start_paused = true)]
async fn a_state_is_dropped_after_a_refusal_which_no_late_turn_can_follow() {
    let mut harness = Harness::new(1);
    harness.state.request_turn();
    let turn = harness.next().unwrap();
    harness.state.remove_handle(1);
    let error = StoreError::new(StoreErrorKind::Server, "refuses");
    harness.state.refused(turn.number, &error, Instant::now());
    assert!(harness.state.is_unused());
}
