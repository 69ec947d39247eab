//! Random steps. A number that picks one of several is taken modulo how many there are.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::numbers::Millis;
use crate::store::{Kick, WhenFull};

pub(super) const CLIENTS: usize = 3;

/// A turn, or what happens between turns.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Turn(RandomTurn),
    /// A turn that had no answer runs once more, after those that followed it.
    LateTurn {
        client: usize,
        pick: usize,
    },
    SetLimit(Option<u32>),
    Kick {
        client: usize,
        pick: usize,
        kick: Kick,
    },
    Inspect,
    Advance {
        micros: u64,
    },
    /// A server takes over whose clock is behind.
    TurnBack {
        micros: u64,
    },
    Lose(Key),
    LoseAllKeys,
    /// The keys are copied, for a later `RollBack`.
    Snapshot,
    /// The keys are as they were when they were copied.
    RollBack,
    /// Another server runs the scripts from now on. All clients have new connections.
    ChangeServer,
}

/// A key that is lost alone.
#[derive(Debug, Clone, Copy)]
pub(super) enum Key {
    Permits,
    Queue,
    Clients,
    Meta,
}

impl Key {
    pub(super) const ALL: [Self; 4] = [Self::Permits, Self::Queue, Self::Clients, Self::Meta];
}

#[derive(Debug, Clone)]
pub(super) struct RandomTurn {
    pub(super) client: usize,
    pub(super) limit: u32,
    pub(super) admit: Vec<Newcomer>,
    /// Ids that the store knows already, which are admitted once more.
    pub(super) again: Vec<usize>,
    pub(super) release: Vec<usize>,
    pub(super) cancel: Vec<usize>,
    pub(super) renew: Vec<(usize, Millis)>,
    pub(super) ask: Vec<RandomAsk>,
    pub(super) epoch: EpochChange,
    /// Whether the permits were granted under an old incarnation.
    pub(super) old_incarnation: bool,
    pub(super) labelled: bool,
    pub(super) declares: bool,
    pub(super) meets: Option<RandomMeeting>,
}

/// What a client tells of the server.
#[derive(Debug, Clone, Copy)]
pub(super) struct RandomMeeting {
    pub(super) grace: Millis,
    pub(super) up: Millis,
    pub(super) told: Told,
}

impl RandomMeeting {
    /// A meeting of a client that wants no grace.
    pub(super) const PLAIN: Self =
        Self { grace: Millis::new(0), up: Millis::new(3_600_000), told: Told::Present };
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Told {
    Present,
    /// A server behind the same proxy.
    Another,
    Unknown,
}

impl RandomTurn {
    /// A turn that says nothing.
    pub(super) fn silent(client: usize) -> Self {
        Self {
            client,
            limit: 200,
            admit: Vec::new(),
            again: Vec::new(),
            release: Vec::new(),
            cancel: Vec::new(),
            renew: Vec::new(),
            ask: Vec::new(),
            epoch: EpochChange::None,
            old_incarnation: false,
            labelled: false,
            declares: false,
            meets: None,
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Newcomer {
    pub(super) units: u32,
    pub(super) lease: Millis,
    pub(super) when_full: WhenFull,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct RandomAsk {
    pub(super) pick: usize,
    pub(super) tells_ticket: bool,
    pub(super) when_full: WhenFull,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum EpochChange {
    None,
    Rise,
    /// The turn has the epoch before.
    Late,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    let micros = prop_oneof![
        6 => 0u64..2_000_000,
        3 => 2_000_000u64..8_000_000,
        1 => 8_000_000u64..200_000_000,
        1 => Just(4_000_000_000),
    ];
    let kick = (0..CLIENTS, any::<usize>(), prop_oneof![Just(Kick::Remove), Just(Kick::Mark)]);
    let key = prop_oneof![Just(Key::Permits), Just(Key::Queue), Just(Key::Clients)];
    prop_oneof![
        100 => turn().prop_map(Step::Turn),
        40 => micros.prop_map(|micros| Step::Advance { micros }),
        4 => prop::option::of(prop_oneof![0u32..9, 60u32..300]).prop_map(Step::SetLimit),
        12 => kick.prop_map(|(client, pick, kick)| Step::Kick { client, pick, kick }),
        6 => Just(Step::Inspect),
        1 => Just(Step::LoseAllKeys),
        2 => Just(Step::Lose(Key::Meta)),
        3 => key.prop_map(Step::Lose),
        6 => Just(Step::Snapshot),
        4 => Just(Step::RollBack),
        5 => Just(Step::ChangeServer),
        6 => (0..CLIENTS, any::<usize>())
            .prop_map(|(client, pick)| Step::LateTurn { client, pick }),
    ]
}

fn turn() -> impl Strategy<Value = RandomTurn> {
    prop_oneof![3 => any_turn(), 2 => plain_turn()]
}

/// A turn of those that most turns are: it releases, or admits newcomers of one unit that wait, or both. Nobody
/// waits as a rule, so the script takes a short way.
fn plain_turn() -> impl Strategy<Value = RandomTurn> {
    let limit = prop_oneof![2 => 0u32..7, 3 => 60u32..300];
    let newcomer = Newcomer { units: 1, lease: Millis::new(30_000), when_full: WhenFull::Wait };
    let admit = prop_oneof![6 => 0usize..2, 2 => 2usize..6, 1 => 60usize..140];
    let admit = admit.prop_map(move |count| vec![newcomer; count]);
    let release = prop_oneof![6 => vec(any::<usize>(), 0..3), 1 => vec(any::<usize>(), 0..150)];
    let epoch = prop_oneof![
        16 => Just(EpochChange::None),
        1 => Just(EpochChange::Rise),
        1 => Just(EpochChange::Late),
    ];
    (0..CLIENTS, limit, admit, release, epoch, prop::bool::weighted(0.2), meeting()).prop_map(
        |(client, limit, admit, release, epoch, declares, meets)| RandomTurn {
            limit,
            admit,
            release,
            epoch,
            declares,
            meets,
            ..RandomTurn::silent(client)
        },
    )
}

/// Each list of a turn is short as a rule, and longer than one command takes now and then.
fn any_turn() -> impl Strategy<Value = RandomTurn> {
    let picks = |n| vec(any::<usize>(), 0..n);
    let limit = prop_oneof![3 => 0u32..3, 3 => 0u32..7, 2 => 60u32..300];
    let epoch = prop_oneof![
        16 => Just(EpochChange::None),
        1 => Just(EpochChange::Rise),
        1 => Just(EpochChange::Late),
    ];
    let lists = (
        newcomers(),
        prop_oneof![6 => picks(3), 2 => picks(10), 1 => picks(150)],
        prop_oneof![8 => picks(2), 1 => picks(150)],
        prop_oneof![
            8 => vec((any::<usize>(), (50u64..40_000).prop_map(Millis::new)), 0..4),
            1 => vec((any::<usize>(), Just(Millis::new(3_000))), 0..150),
        ],
        prop_oneof![8 => vec(ask(), 0..4), 1 => vec(ask(), 0..120)],
    );
    let client = (0..CLIENTS, any::<bool>(), prop::bool::weighted(0.3));
    (client, limit, lists, epoch, any::<bool>(), meeting()).prop_map(
        |((client, labelled, declares), limit, lists, epoch, old_incarnation, meets)| {
            let (admit, release, cancel, renew, ask) = lists;
            RandomTurn {
                client,
                limit,
                admit,
                again: Vec::new(),
                release,
                cancel,
                renew,
                ask,
                epoch,
                old_incarnation,
                labelled,
                declares,
                meets,
            }
        },
    )
}

/// Newcomers in runs of a kind.
fn newcomers() -> impl Strategy<Value = Vec<Newcomer>> {
    let units = prop_oneof![Just(1u32), 2u32..5];
    let lease = prop_oneof![3 => Just(30_000u64), 2 => 50u64..5_000, 1 => Just(60_000)];
    let in_a_row = prop_oneof![12 => Just(1usize), 2 => 2usize..6, 1 => 60usize..140];
    let run = (units, lease, when_full(), in_a_row).prop_map(|(units, lease, when_full, count)| {
        vec![Newcomer { units, lease: Millis::new(lease), when_full }; count]
    });
    vec(run, 0..4).prop_map(|runs| runs.concat())
}

fn meeting() -> impl Strategy<Value = Option<RandomMeeting>> {
    let grace = prop_oneof![2 => Just(0u64), 2 => 1u64..3_000, 1 => 3_000u64..60_000];
    let up = prop_oneof![1 => 0u64..60_000, 2 => Just(3_600_000)];
    let told =
        prop_oneof![8 => Just(Told::Present), 1 => Just(Told::Another), 1 => Just(Told::Unknown)];
    let meeting = (grace.prop_map(Millis::new), up.prop_map(Millis::new), told)
        .prop_map(|(grace, up, told)| RandomMeeting { grace, up, told });
    prop::option::weighted(0.15, meeting)
}

fn ask() -> impl Strategy<Value = RandomAsk> {
    (any::<usize>(), any::<bool>(), when_full())
        .prop_map(|(pick, tells_ticket, when_full)| RandomAsk { pick, tells_ticket, when_full })
}

fn when_full() -> impl Strategy<Value = WhenFull> {
    prop_oneof![
        4 => Just(WhenFull::Wait),
        1 => Just(WhenFull::Refuse),
        1 => (0u32..6).prop_map(WhenFull::WaitBehind),
    ]
}
