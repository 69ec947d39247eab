//! A connection to one sentinel, which is asked and listened to.

use std::convert::Infallible;

use futures_util::future::join3;
use redis::aio::MultiplexedConnection;
use redis::{ProtocolVersion, PushInfo, PushKind, RedisResult, Value};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::store::BoxFuture;
use crate::store::redis::connection_name::say_name;
use crate::store::redis::dial::with_protocol;
use crate::store::redis::transport::{Transport, config};
use crate::store::redis::url::Address;

use super::Sentinels;
use super::answer::{Answer, questions, read};
use super::refusal::Refusal;

/// The sentinel that leads a failover tells when it has told a replica to become the primary, and when it knows that
/// it is one. The others tell of it as soon as they know it. A sentinel that an operator resets tells what it
/// monitors.
const CHANNELS: [&str; 4] =
    ["+failover-state-wait-promotion", "+promoted-slave", "+switch-master", "+monitor"];

/// An open connection to a sentinel.
pub(super) struct Link {
    sentinels: Sentinels,
    connection: MultiplexedConnection,
    io: Option<BoxFuture<'static, ()>>,
    news: mpsc::UnboundedReceiver<News>,
}

/// What a sentinel says unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// The primary may have moved.
    Moved,
    /// The connection broke.
    Broken,
}

impl Link {
    /// Connects to a sentinel, and asks it. All that happens after its answer is told by
    /// [`news`](Self::news).
    pub(super) async fn open(
        sentinels: &Sentinels,
        address: &Address,
    ) -> Result<(Self, Answer), Refusal> {
        let opening = async {
            let mut link = Self::connect(sentinels, address).await.map_err(Refusal::Failed)?;
            let mut connection = link.connection.clone();
            let name = sentinels.name();
            let named = say_name(link.connection.clone(), &name, ProtocolVersion::RESP3);
            let asked = ask(link.connection.clone(), sentinels);
            let all = async { Ok(join3(connection.subscribe(&CHANNELS), asked, named).await) };
            let all = Transport::while_moving(&mut link.io, all).await;
            let (subscribed, answer, mode) = all.map_err(Refusal::Failed)?;
            let answer = answer.map_err(|refusal| refusal.of_server(mode))?;
            subscribed.map_err(Refusal::Failed)?;
            Ok((link, answer))
        };
        let patience = sentinels.patience();
        timeout(patience, opening).await.unwrap_or(Err(Refusal::Silent(patience)))
    }

    async fn connect(sentinels: &Sentinels, address: &Address) -> RedisResult<Self> {
        let client = with_protocol(&sentinels.dial().to(address)?, ProtocolVersion::RESP3)?;
        let (sender, news) = mpsc::unbounded_channel();
        let master = sentinels.master().to_owned();
        let tell = move |push| {
            if let Some(news) = news_of(&push, &master) {
                let _ = sender.send(news); // nobody listens any more
            }
            Ok::<_, Infallible>(())
        };
        let config = config().set_push_sender(tell);
        let Transport { connection, io } = Transport::open(&client, config).await?;
        Ok(Self { sentinels: sentinels.clone(), connection, io, news })
    }

    /// Asks again.
    pub(super) async fn ask(&mut self) -> Result<Answer, Refusal> {
        let asked = ask(self.connection.clone(), &self.sentinels);
        let asked = Transport::while_moving(&mut self.io, async { Ok(asked.await) });
        let patience = self.sentinels.patience();
        match timeout(patience, asked).await {
            Ok(answer) => answer.map_err(Refusal::Failed)?,
            Err(_) => Err(Refusal::Silent(patience)),
        }
    }

    /// Waits until the sentinel says something unasked.
    pub(super) async fn news(&mut self) -> News {
        let Self { io, news, .. } = self;
        let heard = async { Ok(news.recv().await.unwrap_or(News::Broken)) };
        Transport::while_moving(io, heard).await.unwrap_or(News::Broken)
    }
}

async fn ask(
    mut connection: MultiplexedConnection,
    sentinels: &Sentinels,
) -> Result<Answer, Refusal> {
    let questions = questions(sentinels.master());
    let replies = connection.send_packed_commands(&questions, 0, questions.len()).await;
    read(replies.map_err(Refusal::Failed)?)
}

/// Returns what a push message means for the primary.
fn news_of(push: &PushInfo, master: &str) -> Option<News> {
    match (&push.kind, push.data.as_slice()) {
        (PushKind::Disconnection, _) => Some(News::Broken),
        (PushKind::Message, [_, Value::BulkString(text)]) => {
            is_about(text, master).then_some(News::Moved)
        }
        _ => None,
    }
}

/// Returns whether a message of a sentinel is about `master`, whose name stands first, behind the word `master`, or
/// behind an `@`.
pub(super) fn is_about(message: &[u8], master: &str) -> bool {
    let words: Vec<_> = message.split(|byte| *byte == b' ').collect();
    let behind = |mark: &[u8]| {
        let at = words.iter().position(|word| *word == mark);
        at.and_then(|at| words.get(at + 1))
    };
    let monitored = || words.first().filter(|word| **word == b"master").and(words.get(1));
    let names = [words.first(), monitored(), behind(b"@")];
    names.into_iter().flatten().any(|name| *name == master.as_bytes())
}
