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
use super::promotion::{self, CONFIRMED};
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
    /// The replica that was chosen last, while it is asked whether it has become the primary.
    promoting: Option<Known>,
}

enum Spoken {
    Sentinel(Box<Word>),
    /// A replica that was asked has become the primary, or has not in time.
    Replica {
        replica: Known,
        is_promoted: bool,
    },
}

struct Word {
    sentinel: Address,
    outcome: Result<(Link, Answer), Refusal>,
    /// The pause after a refusal. `None` if it is the first time that the sentinel speaks.
    pause: Option<Duration>,
}

impl Spoken {
    fn of_sentinel(
        sentinel: Address,
        outcome: Result<(Link, Answer), Refusal>,
        pause: Option<Duration>,
    ) -> Self {
        Self::Sentinel(Box::new(Word { sentinel, outcome, pause }))
    }
}

impl Council {
    /// Asks all known sentinels.
    pub(super) fn new(sentinels: Sentinels) -> Self {
        let known = sentinels.known();
        let speaking = FuturesUnordered::new();
        let opinions = Opinions::with_promoted(sentinels.promoted());
        let mut council = Self {
            sentinels,
            members: Vec::new(),
            speaking,
            unheard: 0,
            opinions,
            promoting: None,
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

    /// Returns whether more than half of the sentinels have answered, or all have answered or refused.
    pub(super) fn is_heard_out(&self) -> bool {
        self.has_spoken() || self.opinions.answers().count() * 2 > self.size()
    }

    /// Listens until a sentinel speaks, or a replica was promoted. There is always one that will speak.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match ready!(Pin::new(&mut self.speaking).poll_next(cx)) {
            Some(Spoken::Sentinel(word)) => self.take_in(*word),
            Some(Spoken::Replica { replica, is_promoted }) => {
                self.promoting.take_if(|promoting| *promoting == replica);
                if is_promoted {
                    self.sentinels.note_promoted(&replica);
                    self.opinions.note_promoted(replica);
                }
            }
            None => return Poll::Pending,
        }
        Poll::Ready(())
    }

    fn take_in(&mut self, Word { sentinel, outcome, pause }: Word) {
        self.unheard -= usize::from(pause.is_none());
        let latest = match outcome {
            Ok((link, answer)) => {
                self.sentinels.learn(&sentinel, &answer);
                answer.others.iter().for_each(|other| self.ask(other.clone()));
                self.ask_replica(&answer);
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
    }

    /// Asks the replica that is about to become the primary whether it is one. The sentinel knows that only up to a
    /// second later. Each failover has an epoch that is higher than those before.
    fn ask_replica(&mut self, answer: &Answer) {
        let Some(address) = answer.promoting.clone() else { return };
        let replica = Known { address, epoch: answer.primary.epoch + 1 };
        if self.promoting.as_ref() != Some(&replica) {
            self.promoting = Some(replica.clone());
            self.speaking.push(Box::pin(asked(self.sentinels.clone(), replica)));
        }
    }

    /// Returns a future that moves the bytes of the connection to the primary. It ends when that breaks, or when
    /// the sentinels say that the primary has moved.
    pub(super) fn beside(
        mut self,
        io: Option<BoxFuture<'static, ()>>,
        primary: Known,
    ) -> BoxFuture<'static, ()> {
        let mut io = io;
        let mut doubted = Box::pin(sleep(CONFIRMED));
        let mut is_confirmed = false;
        Box::pin(poll_fn(move |cx| {
            while self.poll(cx).is_ready() {
                if self.opinions.deny(&primary, self.size()) {
                    return Poll::Ready(());
                }
            }
            is_confirmed |= self.opinions.confirm(&primary);
            if !is_confirmed && doubted.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
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
    Spoken::of_sentinel(sentinel, outcome, None)
}

/// Waits until a sentinel that is connected to has news, and asks it.
async fn next(mut link: Link, sentinel: Address) -> Spoken {
    let news = timeout(jittered(ROUND), link.news()).await;
    let answer = match news {
        Ok(News::Broken) => Err(Refusal::Left),
        Ok(News::Moved) | Err(_) => link.ask().await,
    };
    let outcome = answer.map(|answer| (link, answer));
    Spoken::of_sentinel(sentinel, outcome, Some(PAUSE))
}

/// Connects to a sentinel again after a pause, and asks it.
async fn again(sentinels: Sentinels, sentinel: Address, pause: Duration) -> Spoken {
    sleep(jittered(pause)).await;
    let outcome = Link::open(&sentinels, &sentinel).await;
    Spoken::of_sentinel(sentinel, outcome, Some((pause * 2).min(ROUND)))
}

async fn asked(sentinels: Sentinels, replica: Known) -> Spoken {
    let is_promoted = promotion::promoted(&sentinels, &replica.address).await;
    Spoken::Replica { replica, is_promoted }
}

/// Returns between half of the time and all of it.
pub(super) fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.5 + 0.5 * fastrand::f64())
}
