//! A process that stays, and the faults that strike it or its way to the server.

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use crate::scene::{Deck, Scene, ms};
use crate::witness::Witness;
use test_support::fault_proxy::FaultProxy;
use test_support::processes::Child;
use test_support::redis_server::RedisServer;
use test_support::wait::PATIENCE;

#[derive(Clone, Copy)]
enum Of {
    Kill,
    Freeze,
    BlackHole,
    HeldRequests,
    HeldReplies,
    SlowReplies,
    Cut,
    Refused,
    OldConnectionsHeld,
    LostReply,
    HeldWakeUps,
    Close,
    CloseNow,
    Drop,
}

const OF_PROCESS: [Of; 14] = [
    Of::Kill,
    Of::Freeze,
    Of::BlackHole,
    Of::HeldRequests,
    Of::HeldReplies,
    Of::SlowReplies,
    Of::Cut,
    Of::Refused,
    Of::OldConnectionsHeld,
    Of::LostReply,
    Of::HeldWakeUps,
    Of::Close,
    Of::CloseNow,
    Of::Drop,
];

/// A process, and its two ways to the server.
pub struct Station {
    pub child: Child,
    index: usize,
    proxies: [FaultProxy; 2],
    seeds: Rng,
}

impl Station {
    pub async fn open(index: usize, server: &RedisServer, witness: &Witness, seeds: Rng) -> Self {
        let proxies =
            [FaultProxy::start(server.addr()).await, FaultProxy::start(server.addr()).await];
        proxies[1].without_resp3();
        let mut seeds = seeds;
        let child = spawn(index, &proxies, witness, &mut seeds).await;
        Self { child, index, proxies, seeds }
    }

    pub async fn storm(&mut self, scene: &Scene, end: Instant, mut random: Rng) {
        let mut deck = Deck::new(&OF_PROCESS);
        loop {
            sleep(ms(&mut random, 50..500)).await;
            let kind = deck.draw(&mut random);
            let mut random = random.fork();
            if Instant::now() >= end {
                return;
            }
            self.rush();
            let name = self.strike(kind, scene, &mut random).await;
            scene.done(name, Some(self.child.pid()));
        }
    }

    /// Has all tasks of that kind ask at once, where this process has some.
    pub fn rush(&mut self) {
        self.child.send("rush");
    }

    /// Lets the fault come and go.
    async fn strike(&mut self, kind: Of, scene: &Scene, random: &mut Rng) -> &'static str {
        // Now and then longer than a client is presumed alive and any lease here lasts; one who is frozen for less than
        // a lease shows nothing.
        let long = if matches!(kind, Of::Freeze) { 3 } else { 8 };
        let span = if random.u32(..long) == 0 { 1_500..4_500 } else { 50..1_200 };
        let span = ms(random, span);
        let first = random.usize(..2);
        // One of its ways, or both.
        let hit: Vec<&FaultProxy> =
            if random.bool() { vec![&self.proxies[first]] } else { self.proxies.iter().collect() };
        match kind {
            Of::Kill => {
                self.kill(&scene.witness).await;
                return "process killed";
            }
            Of::Freeze => {
                self.child.freeze();
                sleep(span).await;
                self.child.thaw();
                return "process frozen";
            }
            Of::Close => return self.send("close", "client closed"),
            Of::CloseNow => return self.send("close now", "client closed at once"),
            Of::Drop => return self.send("drop", "client dropped"),
            _ => {}
        }
        for proxy in &hit {
            match kind {
                Of::BlackHole => proxy.black_hole(),
                Of::HeldRequests => proxy.hold_requests(),
                Of::HeldReplies => proxy.hold_replies(),
                Of::Cut => proxy.cut(),
                Of::Refused => {
                    proxy.refuse(true);
                    proxy.cut();
                }
                Of::LostReply => proxy.lose_next_reply(),
                Of::HeldWakeUps => proxy.hold_wake_ups(),
                _ => {}
            }
        }
        match kind {
            Of::SlowReplies => {
                let end = Instant::now() + span;
                while Instant::now() < end {
                    let pause = ms(random, 5..120);
                    hit.iter().for_each(|proxy| proxy.hold_replies());
                    sleep(pause).await;
                    hit.iter().for_each(|proxy| proxy.pass());
                    sleep(pause / 4).await;
                }
            }
            Of::OldConnectionsHeld => {
                // Long enough to be replaced; what was held runs after that.
                let frozen: Vec<_> = hit.iter().map(|proxy| proxy.freeze_existing()).collect();
                sleep(span).await;
                frozen.into_iter().for_each(|frozen| frozen.release());
            }
            Of::Cut | Of::LostReply => {}
            _ => sleep(span).await,
        }
        for proxy in &hit {
            proxy.refuse(false);
            proxy.pass();
        }
        match kind {
            Of::BlackHole => "black hole",
            Of::HeldRequests => "requests held",
            Of::HeldReplies => "replies held",
            Of::SlowReplies => "slow replies",
            Of::Cut => "connections cut",
            Of::Refused => "connections refused",
            Of::OldConnectionsHeld => "old connections held",
            Of::LostReply => "reply lost",
            _ => "wake-ups held",
        }
    }

    fn send(&mut self, word: &str, name: &'static str) -> &'static str {
        self.child.send(word);
        name
    }

    async fn kill(&mut self, witness: &Witness) {
        let process = self.child.pid();
        let at = self.child.kill();
        witness.state().killed(process, at);
        self.child = spawn(self.index, &self.proxies, witness, &mut self.seeds).await;
    }
}

async fn spawn(
    index: usize,
    proxies: &[FaultProxy; 2],
    witness: &Witness,
    seeds: &mut Rng,
) -> Child {
    let env = [
        ("URL", proxies[0].url()),
        ("RESP2_URL", proxies[1].url()),
        ("WITNESS", witness.address()),
        ("SEED", seeds.u64(..).to_string()),
        ("INDEX", index.to_string()),
        ("SHARE", "1".to_owned()),
    ];
    let mut child = Child::spawn("worker", &env);
    child.expect_line("@working", PATIENCE).await;
    child
}
