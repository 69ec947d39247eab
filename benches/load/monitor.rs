//! What clients send to a server, and what its scripts publish, in the order in which it runs it: by MONITOR.

use futures_util::StreamExt;
use tokio::sync::mpsc;

use test_support::redis_server::RedisServer;

/// A command as a client has sent it, or as a script has called it.
pub(crate) struct Sent {
    /// The address of the client, or `lua`.
    pub(crate) by: String,
    pub(crate) words: Vec<Vec<u8>>,
}

impl Sent {
    fn is_script(&self) -> bool {
        self.by != LUA
            && self.words.first().is_some_and(|name| name.to_ascii_uppercase().starts_with(b"EVAL"))
    }

    fn is_wake_up(&self) -> bool {
        self.by == LUA && self.words.first().is_some_and(|name| name == b"PUBLISH")
    }
}

/// Who sends what a script calls.
const LUA: &str = "lua";

/// What was seen since the last look.
#[derive(Default)]
pub(crate) struct Seen {
    /// The calls of scripts by clients.
    pub(crate) scripts: Vec<Sent>,
    /// What scripts published.
    pub(crate) wake_ups: Vec<Sent>,
}

/// Sees all commands from its start on.
pub(crate) struct Monitor<'a> {
    server: &'a RedisServer,
    lines: mpsc::UnboundedReceiver<String>,
}

impl<'a> Monitor<'a> {
    pub(crate) async fn start(server: &'a RedisServer) -> Self {
        let client = redis::Client::open(server.unix_url()).expect("the url of a server");
        let monitor = client.get_async_monitor().await.expect("a monitor");
        let (sender, lines) = mpsc::unbounded_channel();
        // Reads at once: a server drops those who read too slowly.
        tokio::spawn(async move {
            let mut seen = monitor.into_on_message::<String>();
            while let Some(line) = seen.next().await {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self { server, lines }
    }

    /// The scripts that were called since the last time, up to now.
    pub(crate) async fn scripts(&mut self) -> Vec<Sent> {
        self.look().await.scripts
    }

    /// What was called and published since the last time, up to now.
    pub(crate) async fn look(&mut self) -> Seen {
        const MARK: &str = "end of what is looked at";
        self.server.cmd(&["ECHO", MARK]).await;
        let mut seen = Seen::default();
        loop {
            let line = self.lines.recv().await.expect("the server shows the mark");
            match parse(&line) {
                Some(sent) if sent.is_script() => seen.scripts.push(sent),
                Some(sent) if sent.is_wake_up() => seen.wake_ups.push(sent),
                Some(sent) if sent.words.last().is_some_and(|word| word == MARK.as_bytes()) => {
                    return seen;
                }
                _ => {}
            }
        }
    }
}

/// `1700000000.000000 [0 127.0.0.1:6379] "WORD" "WORD"`, or with `lua` for the address.
fn parse(line: &str) -> Option<Sent> {
    let (_, rest) = line.split_once(" [")?;
    let (source, quoted) = rest.split_once("] ")?;
    let (_database, by) = source.split_once(' ')?;
    Some(Sent { by: by.to_owned(), words: words(quoted) })
}

/// Takes the words out of their quotes.
fn words(quoted: &str) -> Vec<Vec<u8>> {
    let mut bytes = quoted.bytes();
    let mut words = Vec::new();
    while bytes.any(|byte| byte == b'"') {
        let mut word = Vec::new();
        loop {
            match bytes.next() {
                Some(b'"') | None => break,
                Some(b'\\') => word.extend(escaped(&mut bytes)),
                Some(byte) => word.push(byte),
            }
        }
        words.push(word);
    }
    words
}

/// The byte that an escape stands for.
fn escaped(bytes: &mut impl Iterator<Item = u8>) -> Option<u8> {
    Some(match bytes.next()? {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'a' => 7,
        b'b' => 8,
        b'x' => {
            let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|n| u8::try_from(n).ok());
            digit(bytes.next()?)? * 16 + digit(bytes.next()?)?
        }
        itself => itself,
    })
}
