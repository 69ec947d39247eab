//! A process that stays, and the faults that strike it.

use std::time::Duration;

use fastrand::Rng;
use test_support::processes::Child;
use test_support::redis_cluster::RedisCluster;
use tokio::time::sleep;

use super::word::{Word, Words};
use crate::scene::{Deck, Scene, ms};

#[derive(Clone, Copy)]
enum Of {
    Kill,
    Freeze,
    Close,
    CloseNow,
    Drop,
}

const OF_PROCESS: [Of; 5] = [Of::Kill, Of::Freeze, Of::Close, Of::CloseNow, Of::Drop];

/// By then a process has started, however busy the machine is.
const START: Duration = Duration::from_secs(60);

pub struct Station {
    pub child: Child,
    index: usize,
    url: String,
    grace: Duration,
    seeds: Rng,
}

impl Station {
    pub async fn open(
        index: usize,
        cluster: &RedisCluster,
        scene: &Scene,
        grace: Duration,
        mut seeds: Rng,
    ) -> Self {
        let url = cluster.url();
        let child = spawn(index, &url, grace, scene, &mut seeds).await;
        Self { child, index, url, grace, seeds }
    }

    /// Lets faults strike until the storm is over.
    pub async fn storm(&mut self, scene: &Scene, words: &Words, mut random: Rng) {
        let mut deck = Deck::new(&OF_PROCESS);
        loop {
            tokio::select! {
                () = sleep(ms(&mut random, 1_000..6_000)) => {}
                () = words.other_than(Word::Storm) => {}
            }
            match words.last() {
                Word::Storm => {}
                Word::Rush => {
                    self.child.send("rush");
                    words.other_than(Word::Rush).await;
                    continue;
                }
                Word::Still => {
                    self.be_still(words).await;
                    continue;
                }
                Word::Calm => return,
            }
            let kind = deck.draw(&mut random);
            let span = ms(&mut random, 50..2_500);
            let name = self.strike(kind, scene, span).await;
            scene.done(name, Some(self.child.pid()));
        }
    }

    /// While half of the processes are to be frozen, every second one is.
    async fn be_still(&mut self, words: &Words) {
        if self.index.is_multiple_of(2) {
            self.child.freeze();
        }
        words.other_than(Word::Still).await;
        self.child.thaw();
    }

    /// Lets the fault come and go.
    async fn strike(&mut self, kind: Of, scene: &Scene, span: Duration) -> &'static str {
        match kind {
            Of::Kill => {
                let process = self.child.pid();
                let at = self.child.kill();
                scene.witness.state().killed(process, at);
                self.child = spawn(self.index, &self.url, self.grace, scene, &mut self.seeds).await;
                "process killed"
            }
            Of::Freeze => {
                self.child.freeze();
                sleep(span).await;
                self.child.thaw();
                "process frozen"
            }
            Of::Close => self.send("close", "client closed"),
            Of::CloseNow => self.send("close now", "client closed at once"),
            Of::Drop => self.send("drop", "client dropped"),
        }
    }

    fn send(&mut self, word: &str, name: &'static str) -> &'static str {
        self.child.send(word);
        name
    }
}

async fn spawn(index: usize, url: &str, grace: Duration, scene: &Scene, seeds: &mut Rng) -> Child {
    let env = [
        ("URL", url.to_owned()),
        ("RESP2_URL", url.to_owned()),
        ("WITNESS", scene.witness.address()),
        ("SEED", seeds.u64(..).to_string()),
        ("INDEX", index.to_string()),
        ("SHARE", "1".to_owned()),
        ("GRACE_MS", grace.as_millis().to_string()),
    ];
    let mut child = Child::spawn("cluster worker", &env);
    child.expect_line("@working", START).await;
    child
}
