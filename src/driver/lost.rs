//! Waiters that the store has lost: one that is found to be lost makes the line ask about all.

#![allow(clippy::panic, clippy::unwrap_used)]

use tokio::time::Instant;

use super::scene::{LEASE_MS, Scene};
use crate::id::{ClientId, PermitId};
use crate::options::Wake;
use crate::store::{Rule, Settled};

/// An asking period, and a little.
const PERIOD_MS: u64 = 1_100;

fn others(client: u64, count: u64) -> Vec<PermitId> {
    (1..=count).map(|n| PermitId::new(ClientId::from_bits(client), n, 1, LEASE_MS)).collect()
}

/// All `limit` units are held by another client.
fn full(limit: u32) -> (Scene, Vec<PermitId>) {
    let mut scene = Scene::new(limit);
    let holders = others(8, limit.into());
    let reply = scene.foreign(8, |turn| {
        turn.limit = limit;
        turn.admit.extend(holders.iter().map(|&id| (id, Rule::Wait)));
    });
    assert!(reply.admitted.iter().all(|settled| matches!(settled, Settled::Granted { .. })));
    (scene, holders)
}

impl Scene {
    /// Sends and answers what the line has to say; how many turns that were.
    fn talk(&mut self) -> usize {
        let mut turns = 0;
        while let Some(turn) = self.next() {
            turns += 1;
            self.run_and_settle(turn);
        }
        turns
    }

    /// Lets time pass; how many turns the line took.
    async fn live(&mut self, ms: u64) -> usize {
        let mut turns = 0;
        for _ in 0..ms / 10 {
            self.pass(10).await;
            turns += self.talk();
        }
        turns
    }

    fn in_the_queue(&mut self) -> u64 {
        self.books.inspect(self.micros / 1000).waiters_total
    }

    /// Takes what was granted and gives it back at once; how many that were.
    fn serve(&mut self, waiters: &mut Vec<u64>) -> usize {
        let before = waiters.len();
        waiters.retain(|&counter| match self.granted(counter) {
            Some(hold) => {
                assert!(hold.release());
                self.line.give_back(counter, None);
                false
            }
            None => true,
        });
        before - waiters.len()
    }
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_put_back_and_granted_in_one_turn_tells_of_the_others() {
    let (mut scene, holders) = full(5);
    let mut waiters: Vec<u64> = (0..200).map(|_| scene.enter()).collect();
    scene.talk();
    scene.books.lose_queue();
    scene.foreign(8, |turn| turn.release.extend(&holders));
    let mut served = 0;
    for _ in 0..PERIOD_MS / 10 {
        scene.live(10).await;
        served += scene.serve(&mut waiters);
        scene.talk();
    }
    // Five at a time and one round a step: what is left is on its way.
    assert!(served >= 25, "only {served} of 200 were served");
    assert_eq!(
        scene.in_the_queue() + scene.books.inspect(scene.micros / 1000).in_use,
        200 - served as u64
    );
}

#[tokio::test(start_paused = true)]
async fn a_waiter_that_is_put_back_and_too_large_tells_of_the_others() {
    let (mut scene, _) = full(3);
    scene.enter_as(Rule::Wait, 3, LEASE_MS, Wake::Push);
    for _ in 0..4 {
        scene.enter();
    }
    scene.talk();
    scene.books.lose_queue();
    scene.books.set_limit(Some(2), scene.micros);
    scene.live(PERIOD_MS).await;
    assert_eq!(scene.in_the_queue(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_turn_that_tells_that_too_few_wait_makes_the_line_speak_soon() {
    let (mut scene, _) = full(1);
    for _ in 0..200 {
        scene.enter();
    }
    scene.talk();
    scene.books.lose_queue();
    scene.enter();
    scene.live(150).await;
    assert_eq!(scene.in_the_queue(), 201);
}

#[tokio::test(start_paused = true)]
async fn waiters_behind_one_that_polls_are_not_forgotten() {
    let (mut scene, _) = full(1);
    scene.enter_as(Rule::Wait, 1, LEASE_MS, Wake::Poll);
    for _ in 0..4 {
        scene.enter();
    }
    scene.talk();
    scene.books.lose_queue();
    scene.live(PERIOD_MS).await;
    assert_eq!(scene.in_the_queue(), 5);
}

#[tokio::test(start_paused = true)]
async fn waiters_behind_one_that_was_woken_late_are_not_forgotten() {
    let (mut scene, holders) = full(1);
    for _ in 0..5 {
        scene.enter();
    }
    scene.talk();
    // Granted to the first of ours, who is not told in time; all but the books is lost.
    let token = scene.foreign(8, |turn| turn.release.extend(&holders)).last;
    scene.pass(2_000).await;
    scene.books.lose_permits();
    scene.books.lose_queue();
    let newcomer = others(9, 1)[0];
    scene.foreign(9, |turn| turn.admit.push((newcomer, Rule::Wait)));
    scene.line.wake(Scene::id(1), token, Instant::now());
    scene.live(PERIOD_MS).await;
    assert_eq!(scene.in_the_queue(), 5);
}

#[tokio::test(start_paused = true)]
async fn asking_about_a_thousand_lost_waiters_ends_after_a_second_round() {
    let (mut scene, _) = full(1);
    for _ in 0..1_000 {
        scene.enter();
    }
    let round = scene.talk();
    assert_eq!(round, 8);
    scene.books.lose_queue();
    let turns = scene.live(PERIOD_MS).await;
    assert_eq!(scene.in_the_queue(), 1_000);
    assert!(turns <= 2 + 2 * round, "{turns} turns");
    let turns = scene.live(3_000).await;
    assert!(turns <= 3, "{turns} turns in 3 s though nothing is amiss");
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_is_lost_again_amid_the_questions_is_asked_about_again() {
    for after in 1..10 {
        let (mut scene, _) = full(1);
        for _ in 0..1_000 {
            scene.enter();
        }
        scene.talk();
        scene.books.lose_queue();
        scene.pass(1_000).await;
        for _ in 0..after {
            let turn = scene.next().unwrap();
            scene.run_and_settle(turn);
        }
        scene.books.lose_queue();
        scene.live(PERIOD_MS).await;
        assert_eq!(scene.in_the_queue(), 1_000, "lost again after {after} turns");
    }
}
