//! Cases that chance hardly ever finds.

use crate::numbers::Millis;
use crate::store::{Kick, WhenFull};

use super::generator::{EpochChange, Key, Newcomer, RandomTurn, Step};
use super::harness::Harness;

fn run(cases: Vec<Vec<Step>>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut harness = Harness::start().await;
        for steps in cases {
            if let Err(error) = harness.run(steps.clone()).await {
                panic!("{error}: {steps:?}");
            }
        }
    });
}

const LEASE: u64 = 30_000;
const LOSE_META: Step = Step::Lose(Key::Meta);

fn silent(client: usize) -> Step {
    Step::Turn(RandomTurn::silent(client))
}

/// A turn that admits `count` newcomers.
fn admit(client: usize, count: usize, units: u32, lease: u64) -> Step {
    let newcomer = Newcomer { units, lease: Millis::new(lease), when_full: WhenFull::Wait };
    Step::Turn(RandomTurn { admit: vec![newcomer; count], ..RandomTurn::silent(client) })
}

fn renew(client: usize) -> Step {
    let renew = vec![(0, Millis::new(40_000))];
    Step::Turn(RandomTurn { renew, ..RandomTurn::silent(client) })
}

fn release(client: usize, first: usize, second: usize) -> Step {
    Step::Turn(RandomTurn { release: vec![first, second], ..RandomTurn::silent(client) })
}

/// A turn that makes all earlier ones stale.
fn raise_epoch(client: usize) -> Step {
    let epoch = EpochChange::Rise;
    Step::Turn(RandomTurn { labelled: true, declares: true, epoch, ..RandomTurn::silent(client) })
}

fn late_turn(client: usize) -> Step {
    Step::LateTurn { client, pick: 0 }
}

fn mark(client: usize) -> Step {
    Step::Kick { client, pick: 0, kick: Kick::Mark }
}

fn advance(seconds: u64) -> Step {
    Step::Advance { micros: seconds * 1_000_000 }
}

#[test]
fn clients_are_forgotten_after_an_hour_in_which_somebody_holds_and_nobody_waits() {
    let mut hour = vec![admit(0, 1, 1, LEASE), raise_epoch(1), raise_epoch(2)];
    hour.extend((0..130).flat_map(|_| [advance(30), renew(0)]));
    hour.extend([Step::Inspect, raise_epoch(0), Step::Inspect]);
    run(vec![hour]);
}

#[test]
fn an_operator_sets_the_limit_where_meta_is_lost_beside_waiters_alone() {
    let before = vec![Step::SetLimit(Some(0)), admit(0, 3, 1, LEASE), LOSE_META];
    run(vec![
        [before, vec![Step::SetLimit(Some(2)), Step::Inspect, silent(0), Step::Inspect]].concat(),
    ]);
}

/// The second turn of the client runs again when the epoch that made it stale is lost: while what
/// it admitted is held, and while others wait.
#[test]
fn a_late_turn_admits_nobody_twice_though_its_epoch_is_lost() {
    run(vec![
        vec![
            admit(0, 1, 1, LEASE),
            admit(0, 2, 3, LEASE),
            raise_epoch(0),
            LOSE_META,
            late_turn(0),
            Step::Inspect,
        ],
        vec![
            admit(0, 1, 1, LEASE),
            admit(0, 2, 3, LEASE),
            raise_epoch(0),
            LOSE_META,
            Step::SetLimit(Some(7)),
            admit(1, 2, 3, LEASE),
            late_turn(0),
            Step::SetLimit(None),
            raise_epoch(1),
            Step::Inspect,
        ],
        vec![
            Step::SetLimit(Some(1)),
            admit(0, 1, 1, LEASE),
            admit(0, 2, 1, LEASE),
            raise_epoch(0),
            LOSE_META,
            Step::SetLimit(Some(1)),
            late_turn(0),
            Step::Inspect,
        ],
    ]);
}

#[test]
fn a_kicked_permit_stays_kicked_when_meta_is_lost_or_many_have_expired() {
    let expired = vec![admit(0, 10, 1, 1_000); 13];
    // More have expired than one turn prunes, and a kicked one stands behind them.
    let behind_expired = [admit(1, 1, 1, 1_500), mark(1), advance(2), renew(1)];
    run(vec![
        vec![admit(0, 1, 1, LEASE), mark(0), LOSE_META, Step::SetLimit(Some(4)), renew(0)],
        vec![admit(0, 1, 1, LEASE), LOSE_META, mark(0), Step::SetLimit(None), renew(0)],
        vec![admit(0, 1, 1, LEASE), mark(0), LOSE_META, renew(0), renew(0)],
        expired.into_iter().chain(behind_expired).collect(),
    ]);
}

#[test]
fn a_long_lease_outlives_the_loss_of_meta() {
    let held = || admit(0, 1, 1, 600_000);
    run(vec![
        vec![held(), LOSE_META, admit(1, 1, 1, 1_000), advance(20), Step::Inspect],
        vec![held(), LOSE_META, Step::SetLimit(None), advance(20), Step::Inspect],
    ]);
}

/// Redis removes many permits with one command where their tokens say that all must be there. Here
/// they say so, or nearly: of two that are released, one is gone, and is told as missing.
#[test]
fn a_release_of_what_is_gone_is_missing_though_its_token_is_among_the_trusted() {
    let grant = || admit(0, 1, 1, LEASE);
    let kick = |pick| Step::Kick { client: 0, pick, kick: Kick::Remove };
    let put_back = |pick| {
        let renew = vec![(pick, Millis::new(LEASE))];
        Step::Turn(RandomTurn { renew, old_incarnation: true, ..RandomTurn::silent(0) })
    };
    let first = || silent(1); // its number is the incarnation's
    run(vec![
        vec![first(), grant(), grant(), kick(0), release(0, 0, 0)],
        // The token of the kicked one is the last number, and the lowest of those released.
        vec![first(), grant(), kick(0), grant(), release(0, 0, 0)],
        // Data was lost, and one of two was put back.
        vec![first(), grant(), grant(), Step::LoseAllKeys, put_back(0), release(0, 0, 0)],
        vec![first(), grant(), grant(), Step::LoseAllKeys, put_back(1), release(0, 0, 0)],
    ]);
}

/// Both stores end a lease in the same millisecond. In that one its token is trusted no more.
#[test]
fn a_token_is_trusted_until_the_last_millisecond_of_its_lease_begins() {
    run(vec![vec![
        silent(1), // its number is the incarnation's: the next ones are above it
        Step::Advance { micros: 900 },
        admit(0, 1, 1, 50),
        admit(0, 1, 1, LEASE),
        Step::Advance { micros: 49_200 },
        silent(1), // prunes the first
        release(0, 0, 0),
    ]]);
}

#[test]
fn tokens_rise_above_what_the_caller_has_seen_where_a_new_server_is_behind() {
    run(vec![vec![
        advance(20),
        admit(0, 2, 1, LEASE),
        Step::LoseAllKeys,
        Step::TurnBack { micros: 10_000_000 },
        admit(0, 2, 1, LEASE),
        admit(1, 2, 1, LEASE),
    ]]);
}

/// A turn that admits ids that are held already, and a newcomer after them.
fn admit_again(client: usize, limit: u32, again: &[usize], count: usize) -> Step {
    let Step::Turn(turn) = admit(client, count, 1, LEASE) else { unreachable!() };
    Step::Turn(RandomTurn { limit, again: again.to_vec(), ..turn })
}

fn within(limit: u32, step: Step) -> Step {
    let Step::Turn(turn) = step else { unreachable!() };
    Step::Turn(RandomTurn { limit, ..turn })
}

#[test]
fn a_second_request_with_the_same_id_is_one_permit() {
    let two = || admit(0, 2, 1, LEASE);
    run(vec![
        vec![two(), admit_again(0, 200, &[0], 0), admit_again(0, 200, &[0, 1], 0)],
        vec![two(), admit_again(0, 200, &[0, 1], 3), release(0, 0, 0), silent(0)],
        // The long way: somebody of more than one unit is among the newcomers.
        vec![two(), admit(0, 1, 3, LEASE), admit_again(0, 200, &[0, 1], 2), silent(0)],
    ]);
}

/// A client cannot know that all its permits were granted before, where data was lost unnoticed.
#[test]
fn a_second_request_for_a_permit_of_more_units_counts_them_once() {
    let heavy = |again: &[usize]| {
        let Step::Turn(turn) = admit(0, 1, 1, LEASE) else { unreachable!() };
        Step::Turn(RandomTurn { again: again.to_vec(), ..turn })
    };
    let again = |picks: &[usize], counts_as: Vec<Step>| {
        let kicked = vec![admit(0, 1, 4, LEASE), mark(0)];
        let begin = [kicked, vec![admit(0, 2, 4, 2 * LEASE), heavy(picks), Step::Inspect]].concat();
        [begin, counts_as, vec![silent(0), Step::Inspect]].concat()
    };
    run(vec![
        again(&[0, 1, 2], vec![]),
        again(&[1, 2], vec![release(0, 0, 0), release(0, 0, 0)]),
        again(&[0], vec![LOSE_META]),
    ]);
}

/// The short ways of the script end where these cases begin.
#[test]
fn a_turn_beside_a_short_way_is_told_the_same() {
    let one = || admit(0, 1, 1, LEASE);
    let heavy = || admit(1, 1, 4, LEASE);
    let release_one = || Step::Turn(RandomTurn { release: vec![0], ..RandomTurn::silent(0) });
    let swap = |limit| {
        let Step::Turn(turn) = admit(0, 2, 1, LEASE) else { unreachable!() };
        Step::Turn(RandomTurn { limit, release: vec![0], ..turn })
    };
    run(vec![
        // The limit is just reached, and passed by one.
        vec![within(3, admit(0, 2, 1, LEASE)), within(3, one()), within(3, one()), Step::Inspect],
        vec![heavy(), within(5, one()), within(5, one()), release_one(), Step::Inspect],
        vec![within(2, one()), swap(2), swap(2), Step::Inspect],
        // One waits, and there is room.
        vec![within(1, one()), within(1, one()), release_one(), one(), silent(1)],
        // An override below and above the limit of the handle.
        vec![Step::SetLimit(Some(1)), one(), one(), release_one()],
        vec![Step::SetLimit(Some(9)), within(1, one()), within(1, one()), release_one()],
        // A lease has ended, and nothing has removed its permit.
        vec![within(1, admit(0, 1, 1, 1_000)), advance(2), within(1, one()), silent(0)],
        vec![admit(0, 2, 1, 1_000), one(), advance(2), release_one(), one(), silent(0)],
        // A kicked permit is released.
        vec![one(), mark(0), release_one(), Step::Inspect],
        // Keys are lost alone.
        vec![heavy(), LOSE_META, release_one(), one(), Step::Inspect],
        vec![one(), heavy(), LOSE_META, release_one(), Step::Inspect],
        vec![one(), heavy(), Step::Lose(Key::Permits), release_one(), Step::Inspect],
        vec![one(), heavy(), Step::Lose(Key::Permits), within(1, one()), Step::Inspect],
        // The client has seen more than the store has given out: a release tells so, and so does the next turn.
        vec![
            advance(20),
            one(),
            one(),
            Step::LoseAllKeys,
            Step::TurnBack { micros: 10_000_000 },
            admit(1, 1, 1, LEASE),
            release_one(),
            admit(1, 1, 1, LEASE),
        ],
        // A newer turn has raised the epoch.
        vec![one(), raise_epoch(0), release_one(), one(), late_turn(0), release_one()],
    ]);
}
