//! What the storm of the cluster tells the processes' stations.

use tokio::sync::watch;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// Let faults strike.
    Storm,
    /// Tasks that are called ask at once.
    Rush,
    /// Half of the processes are frozen.
    Still,
    /// The storm is over.
    Calm,
}

pub struct Words(watch::Sender<Word>);

impl Words {
    pub fn new() -> Self {
        Self(watch::Sender::new(Word::Storm))
    }

    pub fn say(&self, word: Word) {
        self.0.send_replace(word);
    }

    pub fn last(&self) -> Word {
        *self.0.borrow()
    }

    /// Waits until another word than this one is said.
    pub async fn other_than(&self, word: Word) {
        let mut said = self.0.subscribe();
        let _ = said.wait_for(|said| *said != word).await;
    }
}
