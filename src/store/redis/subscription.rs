//! Wake-ups: pushed over the connection of the turns, or read from a second connection.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use redis::aio::{PubSub, PubSubSink, PubSubStream};
use redis::{PushInfo, PushKind, RedisResult, Value};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::retry_delay::RetryDelay;
use crate::store::WakeListener;

use super::wire;

/// The connection state of a session, as the reader of wake-ups knows it.
#[derive(Default)]
pub(super) struct Health {
    broken: AtomicBool,
    subscribed: AtomicBool,
}

impl Health {
    /// Returns whether the connection of the turns broke.
    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::SeqCst)
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.subscribed.load(Ordering::SeqCst)
    }

    pub(super) fn set_subscribed(&self, subscribed: bool) {
        self.subscribed.store(subscribed, Ordering::SeqCst);
    }
}

/// Returns the receiver for the push messages of a RESP3 connection.
pub(super) fn push_sender(
    listener: Arc<dyn WakeListener>,
    health: Arc<Health>,
) -> impl Fn(PushInfo) -> Result<(), Infallible> {
    move |push| {
        match push.kind {
            PushKind::Message => {
                if let [_, Value::BulkString(payload)] = push.data.as_slice() {
                    deliver(&*listener, payload);
                }
            }
            PushKind::Disconnection => {
                health.broken.store(true, Ordering::SeqCst);
                listener.disconnected();
            }
            _ => {}
        }
        Ok(())
    }
}

pub(super) fn deliver(listener: &dyn WakeListener, payload: &[u8]) {
    if let Some((name, wake_ups)) = wire::read_wake(payload) {
        for (id, wake_up) in wake_ups {
            listener.wake(name, id, wake_up);
        }
    }
}

/// A second connection that reads wake-ups. It is closed when this is dropped.
pub(super) struct Subscriber {
    task: AbortHandle,
    doubt: Arc<Notify>,
}

impl Subscriber {
    /// Subscribes, and starts to read wake-ups.
    pub(super) async fn start(
        client: &redis::Client,
        channel: &str,
        listener: Arc<dyn WakeListener>,
        health: Arc<Health>,
    ) -> RedisResult<Self> {
        let messages = subscribe(client, channel).await?;
        health.set_subscribed(true);
        let doubt = Arc::<Notify>::default();
        let task = Task {
            client: client.clone(),
            channel: channel.to_owned(),
            listener,
            health,
            doubt: Arc::clone(&doubt),
        };
        Ok(Self { task: tokio::spawn(task.run(messages)).abort_handle(), doubt })
    }

    /// Requests a check of the connection.
    pub(super) fn doubt(&self) {
        self.doubt.notify_one();
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn subscribe(client: &redis::Client, channel: &str) -> RedisResult<PubSub> {
    let mut messages = client.get_async_pubsub().await?;
    messages.subscribe(channel).await?;
    Ok(messages)
}

/// Reads from the connection, and replaces it when it breaks or is silent.
struct Task {
    client: redis::Client,
    channel: String,
    listener: Arc<dyn WakeListener>,
    health: Arc<Health>,
    doubt: Arc<Notify>,
}

impl Task {
    /// The timeout for the answer to a check, and for a new connection.
    const PATIENCE: Duration = Duration::from_millis(500);

    async fn run(self, mut messages: PubSub) {
        loop {
            let (sink, stream) = messages.split();
            tokio::select! {
                () = self.read(stream) => {}
                () = self.check(sink) => tracing::debug!("the wake-up connection is silent"),
            }
            self.set_subscribed(false);
            messages = self.subscribe_again().await;
            self.set_subscribed(true);
        }
    }

    fn set_subscribed(&self, subscribed: bool) {
        self.health.set_subscribed(subscribed);
        self.listener.subscription_changed();
    }

    /// Reads until the connection breaks.
    async fn read(&self, mut messages: PubSubStream) {
        while let Some(message) = messages.next().await {
            deliver(&*self.listener, message.get_payload_bytes());
        }
    }

    /// Checks the connection whenever there is a doubt about it. Returns when the connection does not
    /// answer. The check subscribes to the channel again, which changes nothing and needs no further right.
    async fn check(&self, mut connection: PubSubSink) {
        loop {
            self.doubt.notified().await;
            let answer = timeout(Self::PATIENCE, connection.subscribe(&self.channel)).await;
            if !matches!(answer, Ok(Ok(()))) {
                return;
            }
        }
    }

    async fn subscribe_again(&self) -> PubSub {
        let mut delay = RetryDelay::default();
        loop {
            sleep(delay.after_failure()).await;
            let attempt = subscribe(&self.client, &self.channel);
            if let Ok(Ok(messages)) = timeout(Self::PATIENCE, attempt).await {
                return messages;
            }
        }
    }
}
