//! What handing something over costs without the crate: the baselines of [`handover`](super::handover).

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, PushInfo, PushKind, Value};
use tokio::sync::mpsc;

use crate::plain;
use crate::script::load;
use test_support::ledger::monotonic_nanos;

/// The least there is, of each kind of thing that could carry a permit to another process.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Baseline {
    /// From before PUBLISH until a task of the other process has the message.
    Publish,
    /// From before a script that releases and publishes until the other process, on hearing it,
    /// has the answer of a script that takes.
    Try,
    /// From before LPUSH until the other process's BLPOP has returned.
    List,
}

impl Baseline {
    pub(crate) const ALL: [Self; 3] = [Self::Publish, Self::Try, Self::List];

    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Publish => "PUBLISH",
            Self::Try => "PUBLISH->try",
            Self::List => "LPUSH->BLPOP",
        }
    }

    /// The channel or list on which a process listens for it.
    fn address(self, process: &str) -> String {
        format!("{} {process}", self.label())
    }

    pub(crate) fn labelled(label: &str) -> Self {
        let found = Self::ALL.into_iter().find(|baseline| baseline.label() == label);
        found.unwrap_or_else(|| panic!("there is no baseline {label:?}"))
    }
}

const RELEASE: &str = "
redis.call('ZREM', KEYS[1], ARGV[1])
redis.call('PUBLISH', ARGV[2], ARGV[3])";

const PERMIT: &str = "permit";

/// One process's end of all baselines.
pub(crate) struct Baselines {
    connection: MultiplexedConnection,
    release: String,
    other: String,
    latencies: mpsc::UnboundedReceiver<(Baseline, u64)>,
}

impl Baselines {
    /// `own` and `other` name the two processes.
    pub(crate) async fn connect(url: &str, own: &str, other: &str) -> Self {
        let (pushes, messages) = mpsc::unbounded_channel();
        let mut connection = connect(url, Some(pushes)).await;
        let release = load(&mut connection, RELEASE).await;
        let acquire = load(&mut connection, plain::ACQUIRE).await;
        for baseline in [Baseline::Publish, Baseline::Try] {
            connection.subscribe(baseline.address(own)).await.expect("subscribing");
        }
        let (heard, latencies) = mpsc::unbounded_channel();
        let list = Baseline::List.address(own);
        tokio::spawn(pop(connect(url, None).await, list, heard.clone()));
        let key = Baseline::Try.address(own);
        tokio::spawn(listen(messages, connection.clone(), acquire, key, heard));
        Self { connection, release, other: other.to_owned(), latencies }
    }

    /// The latency shows in the other process.
    pub(crate) async fn send(&mut self, baseline: Baseline) {
        let address = baseline.address(&self.other);
        let sent = monotonic_nanos();
        let mut call;
        match baseline {
            Baseline::Publish => {
                call = redis::cmd("PUBLISH");
                call.arg(address).arg(sent);
            }
            Baseline::Try => {
                call = redis::cmd("EVALSHA");
                // The key of each direction is named as its channel is.
                call.arg(&self.release).arg(1).arg(&address).arg(PERMIT).arg(&address).arg(sent);
            }
            Baseline::List => {
                call = redis::cmd("LPUSH");
                call.arg(address).arg(sent);
            }
        }
        call.query_async::<()>(&mut self.connection).await.expect("the server answers");
    }

    /// All that this process has heard of the other one so far.
    pub(crate) fn heard(&mut self) -> Vec<(Baseline, u64)> {
        std::iter::from_fn(|| self.latencies.try_recv().ok()).collect()
    }
}

async fn connect(
    url: &str,
    pushes: Option<mpsc::UnboundedSender<PushInfo>>,
) -> MultiplexedConnection {
    // BLPOP answers when it likes.
    let mut config = AsyncConnectionConfig::new().set_response_timeout(None);
    if let Some(pushes) = pushes {
        config = config.set_push_sender(pushes);
    }
    let client = redis::Client::open(format!("{url}?protocol=resp3")).expect("the url");
    client.get_multiplexed_async_connection_with_config(&config).await.expect("connecting")
}

async fn listen(
    mut messages: mpsc::UnboundedReceiver<PushInfo>,
    mut connection: MultiplexedConnection,
    acquire: String,
    key: String,
    heard: mpsc::UnboundedSender<(Baseline, u64)>,
) {
    while let Some(push) = messages.recv().await {
        let Some((baseline, sent)) = read(&push) else { continue };
        if baseline == Baseline::Try {
            let mut call = redis::cmd("EVALSHA");
            call.arg(&acquire).arg(1).arg(&key).arg(1).arg(plain::LEASE_MS).arg(PERMIT);
            call.query_async::<()>(&mut connection).await.expect("it runs");
        }
        let _ = heard.send((baseline, monotonic_nanos() - sent));
    }
}

/// Which baseline a message is of, and when it was sent.
fn read(push: &PushInfo) -> Option<(Baseline, u64)> {
    match (&push.kind, push.data.as_slice()) {
        (PushKind::Message, [Value::BulkString(address), Value::BulkString(sent)]) => {
            let label = std::str::from_utf8(address).ok()?.split(' ').next()?;
            let sent = std::str::from_utf8(sent).ok()?.parse().ok()?;
            Some((Baseline::labelled(label), sent))
        }
        _ => None,
    }
}

async fn pop(
    mut connection: MultiplexedConnection,
    list: String,
    heard: mpsc::UnboundedSender<(Baseline, u64)>,
) {
    let mut call = redis::cmd("BLPOP");
    call.arg(list).arg(0);
    loop {
        let (_, sent): (String, u64) =
            call.query_async(&mut connection).await.expect("the server outlives this process");
        let _ = heard.send((Baseline::List, monotonic_nanos() - sent));
    }
}
