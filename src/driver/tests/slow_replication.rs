//! Connections that count replicas when the test says so.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::error::StoreError;
use crate::numbers::{Replicas, ServerId};
use crate::store::{Acknowledged, BoxFuture, Grants, Replication};

/// A question that waits for the test to answer it.
pub(super) struct Question {
    pub(super) grants: Grants,
    pub(super) writes: bool,
    pub(super) patience: Duration,
    pub(super) done: oneshot::Sender<Result<Acknowledged, StoreError>>,
}

impl Question {
    /// Returns the counters of the permits that it asks about, in their order.
    pub(super) fn counters(&self) -> Vec<u64> {
        let ids = self.grants.iter().flat_map(|(_, ids)| ids);
        let mut counters: Vec<_> = ids.map(|id| id.counter()).collect();
        counters.sort_unstable();
        counters
    }

    /// The server has all grants, and so has this number of replicas.
    pub(super) fn count(self, replicas: u32) {
        let held = self.grants.iter().map(|(_, ids)| Ok(vec![true; ids.len()])).collect();
        drop(self.done.send(Ok(Acknowledged { replicas, held })));
    }
}

/// What is shared by the connections that one session has opened.
#[derive(Clone, Default)]
pub(super) struct Questions {
    open: Arc<Mutex<Vec<Question>>>,
    /// The connections hold this.
    connections: Arc<()>,
    opened: Arc<AtomicU64>,
    /// By how much the id of their server differs from that of the session.
    pub(super) other_server: Arc<AtomicU64>,
}

impl Questions {
    pub(super) fn open(&self) -> Box<dyn Replication> {
        self.opened.fetch_add(1, Ordering::SeqCst);
        Box::new(SlowReplication(self.clone()))
    }

    /// How many connections there are.
    pub(super) fn connections(&self) -> usize {
        Arc::strong_count(&self.connections) - 1
    }

    /// How many connections were opened so far.
    pub(super) fn opened(&self) -> u64 {
        self.opened.load(Ordering::SeqCst)
    }

    /// The question that is open, if there is one.
    pub(super) fn take(&self) -> Option<Question> {
        let mut open = self.open.lock().unwrap();
        assert!(open.len() < 2, "a connection has one question at a time");
        open.pop()
    }
}

struct SlowReplication(Questions);

impl Replication for SlowReplication {
    fn server(&self) -> Option<ServerId> {
        ServerId::new(1 + self.0.other_server.load(Ordering::SeqCst))
    }

    fn count<'a>(
        &'a mut self,
        grants: &'a Grants,
        writes: bool,
        _: Replicas,
        patience: Duration,
    ) -> BoxFuture<'a, Result<Acknowledged, StoreError>> {
        let (done, answer) = oneshot::channel();
        let question = Question { grants: grants.clone(), writes, patience, done };
        self.0.open.lock().unwrap().push(question);
        Box::pin(async move { answer.await.unwrap() })
    }
}
