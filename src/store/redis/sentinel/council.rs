//! All sentinels of a primary together: each is asked, listened to, and connected to again when it was away.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::FuturesUnordered;
use tokio::time::{sleep, timeout};

use crate::store::BoxFuture;
use crate::store::redis::url::Address;

use super::answer::{Answer, Known};
use super::link::{Link, News};
use super::opinions::Opinions;
use super::refusal::Refusal;
use super::{MOST, Sentinels};

/// After this time without news a sentinel is asked, since its connection may have broken in silence.
const ROUND: Duration = Duration::from_secs(30);
/// The pause before a sentinel that is away is connected to again. It doubles up to [`ROUND`].
const PAUSE: Duration = Duration::from_secs(1);

pub(super) struct Council {
    sentinels: Sentinels,
    members: Vec<Address>,
    speaking: FuturesUnordered<BoxFuture<'static, Spoken>>,
    /// How many have not spoken yet.
    unheard: usize,
    opinions: Opinions,
}

struct Spoken {
    sentinel: Address,
    outcome: Result<(Link, Answer), Refusal>,
    /// The pause after a refusal. `None` if it is the first time that the sentinel speaks.
    pause: Option<Duration>,
}

impl Council {
    /// Asks all known sentinels.
    pub(super) fn new(sentinels: Sentinels) -> Self {
        let known = sentinels.known();
        let speaking = FuturesUnordered::new();
        let mut council = Self {
            sentinels,
            members: Vec::new(),
            speaking,
            unheard: 0,
            opinions: Opinions::default(),
        };
        known.into_iter().for_each(|sentinel| council.ask(sentinel));
        council
    }

    fn ask(&mut self, sentinel: Address) {
        if self.members.len() < MOST && !self.members.contains(&sentinel) {
            self.members.push(sentinel.clone());
            self.unheard += 1;
            self.speaking.push(Box::pin(first(self.sentinels.clone(), sentinel)));
        }
    }

    /// Returns how many sentinels there are.
    pub(super) fn size(&self) -> usize {
        self.members.len()
    }

    /// Returns whether each sentinel has answered or refused.
    pub(super) fn has_spoken(&self) -> bool {
        self.unheard == 0
    }

    /// Returns what the sentinels have said so far.
    pub(super) fn opinions(&self) -> &Opinions {
        &self.opinions
    }

    /// Listens until a sentinel speaks. There is always one that will.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(spoken) = ready!(Pin::new(&mut self.speaking).poll_next(cx)) else {
            return Poll::Pending;
        };
        let Spoken { sentinel, outcome, pause } = spoken;
        self.unheard -= usize::from(pause.is_none());
        let latest = match outcome {
            Ok((link, answer)) => {
                self.sentinels.learn(&sentinel, &answer);
                answer.others.iter().for_each(|other| self.ask(other.clone()));
                self.speaking.push(Box::pin(next(link, sentinel.clone())));
                Ok(answer.primary)
            }
            Err(refusal) => {
                let pause = pause.unwrap_or(PAUSE);
                let again = again(self.sentinels.clone(), sentinel.clone(), pause);
                self.speaking.push(Box::pin(again));
                Err(refusal)
            }
        };
        self.opinions.take_in(sentinel, latest);
        Poll::Ready(())
    }

    /// Returns a future that moves the bytes of the connection to the primary. It ends when that breaks, or when
    /// the sentinels say that the primary has moved.
    pub(super) fn beside(
        mut self,
        io: Option<BoxFuture<'static, ()>>,
        primary: Known,
    ) -> BoxFuture<'static, ()> {
        let mut io = io;
        Box::pin(poll_fn(move |cx| {
            while self.poll(cx).is_ready() {
                if self.opinions.deny(&primary, self.size()) {
                    return Poll::Ready(());
                }
            }
            match &mut io {
                Some(io) => io.as_mut().poll(cx),
                None => Poll::Pending,
            }
        }))
    }
}

async fn first(sentinels: Sentinels, sentinel: Address) -> Spoken {
    let outcome = Link::open(&sentinels, &sentinel).await;
    Spoken { sentinel, outcome, pause: None }
}

/// Waits until a sentinel that is connected to has news, and asks it.
async fn next(mut link: Link, sentinel: Address) -> Spoken {
    let news = timeout(jittered(ROUND), link.news()).await;
    let answer = match news {
        Ok(News::Broken) => Err(Refusal::Left),
        Ok(News::Moved) | Err(_) => link.ask().await,
    };
    Spoken { sentinel, outcome: answer.map(|answer| (link, answer)), pause: Some(PAUSE) }
}

/// Connects to a sentinel again after a pause, and asks it.
async fn again(sentinels: Sentinels, sentinel: Address, pause: Duration) -> Spoken {
    sleep(jittered(pause)).await;
    let outcome = Link::open(&sentinels, &sentinel).await;
    Spoken { sentinel, outcome, pause: Some((pause * 2).min(ROUND)) }
}

/// Returns between half of the time and all of it.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.5 + 0.5 * fastrand::f64())
}
