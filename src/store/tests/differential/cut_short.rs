//! A turn is cut short at each of its writes, as in a cluster that moves the keys while it runs. What is left
//! breaks no rule, and the next turn of the client, in a higher epoch, settles all.

use std::collections::HashSet;
use std::sync::Arc;

use crate::id::{ClientId, PermitId};
use crate::numbers::{Epoch, Incarnation, Millis, Seq, ServerId};
use crate::store::memory::Content;
use crate::store::{
    Ask, LOOK_BOUND, Meeting, Server, Turn, TurnOutcome, TurnReply, WaiterOutcome, WhenFull,
};

use super::redis_side::RedisSide;

const LIMIT: u32 = 400;
const LEASE: u64 = 30_000;
const SERVER: u64 = 7;

/// One name, and what its two clients know.
struct World {
    redis: RedisSide,
    name: Arc<str>,
    now: u64,
    limit: u32,
    counter: u64,
    epochs: [u64; 2],
    seen: Option<Seq>,
    incarnation: Option<Incarnation>,
    ids: [Vec<PermitId>; 2],
}

fn client(which: usize) -> ClientId {
    ClientId::from_bits((which as u64 + 1) << 40)
}

impl World {
    async fn start() -> Self {
        let redis = RedisSide::start((0..2).map(client)).await;
        redis.set_server(ServerId::new(SERVER).unwrap()).await;
        Self {
            redis,
            name: "".into(),
            now: 4_000_000_000_000_000,
            limit: LIMIT,
            counter: 0,
            epochs: [0; 2],
            seen: None,
            incarnation: None,
            ids: [Vec::new(), Vec::new()],
        }
    }

    async fn begin(&mut self, name: String) {
        self.name = name.into();
        self.pass(1).await;
        self.redis.begin(&self.name).await;
        self.limit = LIMIT;
        self.epochs = [0; 2];
        (self.seen, self.incarnation) = (None, None);
        self.ids = [Vec::new(), Vec::new()];
    }

    async fn pass(&mut self, ms: u64) {
        self.now += ms * 1_000;
        self.redis.set_clock(self.now).await;
    }

    fn turn(&self, which: usize) -> Turn {
        Turn {
            seen: self.seen,
            incarnation: self.incarnation,
            epoch: Epoch::new(self.epochs[which]),
            ..Turn::new(self.name.clone(), client(which), "".into(), self.limit)
        }
    }

    fn new_ids(&mut self, which: usize, count: usize, units: u32, lease: u64) -> Vec<PermitId> {
        let counters = self.counter + 1..;
        self.counter += count as u64;
        let id = |counter| PermitId::new(client(which), counter, units, Millis::new(lease));
        let ids: Vec<_> = counters.take(count).map(id).collect();
        self.ids[which].extend(&ids);
        ids
    }

    /// A turn that admits newcomers that wait.
    fn admit(&mut self, which: usize, count: usize, units: u32, lease: u64) -> Turn {
        let ids = self.new_ids(which, count, units, lease);
        Turn { admit: ids.iter().map(|&id| (id, WhenFull::Wait)).collect(), ..self.turn(which) }
    }

    /// Runs a turn that is not cut short.
    async fn run(&mut self, which: usize, turn: Turn) -> TurnReply {
        self.pass(1).await;
        let TurnOutcome::Answered(reply) = self.redis.turn(which, &turn).await else {
            panic!("stale: {turn:?}")
        };
        self.seen = self.seen.max(reply.last);
        self.incarnation = Some(reply.incarnation);
        reply
    }

    /// Holds permits until their leases end.
    async fn hold(&mut self, which: usize, count: usize, units: u32, lease: u64) -> Vec<PermitId> {
        let turn = self.admit(which, count, units, lease);
        let ids = turn.admit.iter().map(|&(id, _)| id).collect();
        let reply = self.run(which, turn).await;
        let granted = |it: &WaiterOutcome| matches!(it, WaiterOutcome::Granted { .. });
        assert!(reply.admitted.iter().all(granted));
        ids
    }

    /// What the driver says after a turn that was refused: the same, in a higher epoch.
    fn again(&mut self, which: usize, turn: &Turn) -> Turn {
        self.epochs[which] += 1;
        let newcomers = turn.admit.iter();
        let newcomers = newcomers.map(|&(id, when_full)| Ask { id, ticket: None, when_full });
        Turn {
            ask: turn.ask.iter().copied().chain(newcomers).collect(),
            admit: Vec::new(),
            release_from: None,
            epoch: Epoch::new(self.epochs[which]),
            ..turn.clone()
        }
    }

    /// Checks what is true after each single write.
    fn check(&self, content: &Content, what: &str) {
        let permits: Vec<PermitId> = content.permits.iter().map(|(id, _)| parsed(id)).collect();
        let extra: u64 = permits.iter().map(|id| u64::from(id.units()) - 1).sum();
        let in_use = extra + permits.len() as u64;
        assert!(in_use <= u64::from(self.limit), "{what}: {in_use} in use");
        if let Some(meta) = &content.meta
            && !permits.is_empty()
        {
            assert_eq!(meta.extra, extra, "{what}");
        }
        let queue: HashSet<PermitId> = content.queue.iter().map(|(id, _)| parsed(id)).collect();
        let both = permits.iter().find(|id| queue.contains(id));
        assert_eq!(both, None, "{what}: in the queue and among the permits");
    }

    /// Checks that the reply tells a state of each waiter, that each key expires, and that all can be given back.
    async fn check_settled(&mut self, reply: &TurnReply, seen: Option<Seq>, what: &str) {
        let outcomes = reply.asked.iter().chain(&reply.admitted);
        let tokens = outcomes.filter_map(|outcome| match *outcome {
            WaiterOutcome::Granted { token, .. } => Some(token),
            _ => None,
        });
        let mut tokens: Vec<Seq> = tokens.collect();
        assert!(tokens.iter().all(|&token| Some(token) > seen), "{what}: {tokens:?}");
        tokens.sort_unstable();
        tokens.dedup();
        let content = self.redis.content(self.now).await; // it checks when keys expire
        self.check(&content, what);
        let clients: HashSet<&str> = content.clients.iter().map(|(id, _)| id.as_str()).collect();
        for (field, _) in content.meta.iter().flat_map(|meta| &meta.fields) {
            let client = field.trim_start_matches("l:");
            assert!(clients.contains(client), "{what}: {field} outlives its client");
        }
        let tickets: HashSet<u64> = content.queue.iter().map(|&(_, at)| at as u64).collect();
        assert_eq!(tickets.len(), content.queue.len(), "{what}: a ticket came twice");
        assert!(
            content.queue.iter().all(|&(_, at)| at as u64 <= Seq::or_zero(reply.last)),
            "{what}"
        );
        for which in 0..2 {
            for ids in std::mem::take(&mut self.ids[which]).chunks(200) {
                let turn = Turn { cancel: ids.to_vec(), ..self.turn(which) };
                self.run(which, turn).await;
            }
        }
        // Each looks at some of the permits and waiters of clients that are not there.
        self.pass(100_000).await;
        let mut left = self.run(0, self.turn(0)).await;
        while left.more {
            left = self.run(0, self.turn(0)).await;
        }
        assert_eq!((left.in_use, left.waiting), (0, 0), "{what}");
    }
}

fn parsed(id: &str) -> PermitId {
    id.parse().unwrap()
}

/// Makes the keys that the turn needs, and returns the turn, of the first client.
type Scene = for<'a> fn(&'a mut World) -> std::pin::Pin<Box<dyn Future<Output = Turn> + 'a>>;

fn scenes() -> Vec<(&'static str, Scene)> {
    vec![
        ("first use", |world| Box::pin(async { world.admit(0, 1, 1, LEASE) })),
        ("plain grants", |world| {
            Box::pin(async {
                world.hold(1, 1, 1, LEASE).await;
                world.admit(0, 120, 1, LEASE)
            })
        }),
        ("grants of more units", |world| {
            Box::pin(async {
                world.hold(1, 1, 2, LEASE).await;
                world.admit(0, 100, 3, LEASE)
            })
        }),
        ("releases", |world| {
            Box::pin(async {
                let light = world.hold(0, 120, 1, LEASE).await;
                let heavy = world.hold(0, 3, 4, LEASE).await;
                let release = light.into_iter().chain(heavy).collect();
                Turn { release, ..world.turn(0) }
            })
        }),
        ("cancels", |world| {
            Box::pin(async {
                world.limit = 8;
                let mut cancel = world.hold(0, 2, 3, LEASE).await;
                let waiting = world.admit(0, 3, 3, LEASE);
                cancel.extend(waiting.admit.iter().map(|&(id, _)| id));
                world.run(0, waiting).await;
                Turn { cancel, ..world.turn(0) }
            })
        }),
        ("leases that have ended", |world| {
            Box::pin(async {
                world.hold(1, 90, 2, 1_000).await;
                world.hold(1, 60, 1, 1_500).await;
                world.hold(0, 1, 5, LEASE).await;
                world.pass(3_000).await;
                world.limit = 400;
                Turn { ..world.turn(0) }
            })
        }),
        ("renewals", |world| {
            Box::pin(async {
                let light = world.hold(0, 70, 1, LEASE).await;
                let heavy = world.hold(0, 2, 3, LEASE).await;
                world.pass(5_000).await;
                let renew = light.into_iter().chain(heavy);
                let renew = renew.map(|id| (id, Millis::new(LEASE))).collect();
                Turn { renew, ..world.turn(0) }
            })
        }),
        ("permits put back on another server", |world| {
            Box::pin(async {
                let server =
                    |id| Server { id: ServerId::new(id).unwrap(), up: Millis::new(9_999_999) };
                let meeting = |world: &World, id| Meeting {
                    known: world.incarnation,
                    grace: Millis::new(2_000),
                    server: Some(server(id)),
                };
                world.redis.set_server(ServerId::new(SERVER).unwrap()).await;
                let turn =
                    Turn { meets: Some(meeting(world, SERVER)), ..world.admit(0, 3, 2, LEASE) };
                world.run(0, turn).await;
                let older = world.redis.snapshot().await;
                let mut lost = world.hold(0, 2, 3, LEASE).await;
                lost.extend(world.hold(0, 2, 1, LEASE).await);
                world.redis.roll_back(&older).await;
                world.redis.set_server(ServerId::new(SERVER + 1).unwrap()).await;
                let meets = Some(meeting(world, SERVER + 1));
                let renew = lost.into_iter().map(|id| (id, Millis::new(LEASE))).collect();
                Turn { meets, renew, ..world.turn(0) }
            })
        }),
        ("waiters of both clients are served", |world| {
            Box::pin(async {
                world.limit = 6;
                let held = world.hold(0, 2, 3, LEASE).await;
                for which in [1, 0, 1] {
                    let turn = world.admit(which, 1, 2, LEASE);
                    world.run(which, turn).await;
                }
                Turn { release: held, ..world.turn(0) }
            })
        }),
        ("many waiters are served behind a lease that has ended", |world| {
            Box::pin(async {
                world.limit = 80;
                world.hold(0, 30, 1, LEASE).await;
                world.hold(1, 25, 2, 1_000).await;
                let turn = world.admit(1, 100, 1, LEASE);
                world.run(1, turn).await;
                world.pass(1_500).await;
                let release = world.ids[0].clone();
                Turn { release, ..world.turn(0) }
            })
        }),
        ("waiters of a client that has gone", |world| {
            Box::pin(async {
                world.limit = 2;
                world.hold(0, 2, 1, LEASE).await;
                let turn = world.admit(1, 3, 1, LEASE);
                world.run(1, turn).await;
                world.pass(4_000).await;
                let turn = world.admit(0, 1, 2, LEASE);
                world.run(0, turn).await;
                let release = world.ids[0][..2].to_vec();
                Turn { release, ..world.turn(0) }
            })
        }),
        ("newcomers are queued", |world| {
            Box::pin(async {
                world.limit = 3;
                world.hold(1, 1, 2, LEASE).await;
                world.admit(0, 140, 2, LEASE)
            })
        }),
        ("lost waiters are put back, and others found granted", |world| {
            Box::pin(async {
                world.limit = 4;
                let held = world.hold(0, 1, 4, LEASE).await;
                let waiting = world.admit(0, 2, 3, LEASE);
                let ids: Vec<_> = waiting.admit.iter().map(|&(id, _)| id).collect();
                let reply = world.run(0, waiting).await;
                world.redis.lose(super::generator::Key::Queue).await;
                let tickets = reply.admitted.iter().map(|outcome| match *outcome {
                    WaiterOutcome::Queued { ticket, .. } => Some(ticket),
                    _ => panic!("{outcome:?}"),
                });
                let when_full = WhenFull::Wait;
                let lost = ids.into_iter().zip(tickets);
                let lost = lost.map(|(id, ticket)| Ask { id, ticket, when_full });
                let granted = held.iter().map(|&id| Ask { id, ticket: None, when_full });
                Turn { ask: lost.chain(granted).collect(), ..world.turn(0) }
            })
        }),
        ("a declaration and a higher epoch", |world| {
            Box::pin(async {
                world.hold(0, 1, 2, LEASE).await;
                world.epochs[0] += 1;
                Turn { declares: true, label: "a label".into(), ..world.admit(0, 1, 1, LEASE) }
            })
        }),
        ("clients are forgotten", |world| {
            Box::pin(async {
                for which in [1, 0] {
                    world.hold(which, 1, 1, 4_000_000).await;
                    world.epochs[which] += 1;
                    let turn = Turn { declares: true, label: "x".into(), ..world.turn(which) };
                    world.run(which, turn).await;
                }
                world.pass(3_700_000).await;
                Turn { declares: true, label: "y".into(), ..world.turn(0) }
            })
        }),
    ]
}

#[tokio::test]
async fn a_turn_that_is_cut_short_at_any_write_breaks_no_rule_and_the_next_one_settles_all() {
    let mut world = World::start().await;
    let mut cuts = 0;
    for (scene, prepare) in scenes() {
        for for_good in [false, true] {
            for cut in 1.. {
                let what = format!("{scene}, cut at write {cut}, for good: {for_good}");
                world.begin(what.clone()).await;
                let turn = prepare(&mut world).await;
                world.pass(1).await;
                let Some(answer) = world.redis.cut_turn(0, &turn, cut, for_good).await else {
                    assert!(cut > 1, "{scene}: no write");
                    break;
                };
                cuts += 1;
                let (left, _) = world.redis.content_and_times(world.now).await;
                world.check(&left, &what);
                // Where the write succeeds at its second attempt, the turn is not cut short.
                let seen = world.seen;
                let reply = match answer {
                    Ok(TurnOutcome::Answered(reply)) => reply,
                    Ok(stale) => panic!("{what}: {stale:?}"),
                    Err(error) => {
                        assert!(error.to_string().contains("a cut"), "{what}: {error}");
                        let again = world.again(0, &turn);
                        world.run(0, again).await
                    }
                };
                world.check_settled(&reply, seen, &what).await;
            }
        }
    }
    assert!(cuts > 2 * LOOK_BOUND, "only {cuts} cuts");
}
