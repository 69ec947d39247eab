//! A fake node of a cluster, which tells what no real one would.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::store::redis::url::Address;

/// It ends when it is dropped.
pub(super) struct FakeNode {
    pub(super) address: Address,
    says: Arc<Mutex<Says>>,
    task: AbortHandle,
}

#[derive(Clone, Default)]
struct Says {
    /// Which node has which slots.
    slots: Vec<(u16, u16, Address)>,
    delay: Duration,
    silent: bool,
}

impl FakeNode {
    /// A node that knows no slots.
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = Address::new("127.0.0.1", listener.local_addr().unwrap().port());
        let says = Arc::<Mutex<Says>>::default();
        let told = Arc::clone(&says);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&told)));
            }
        });
        Self { address, says, task: task.abort_handle() }
    }

    /// Says from now on that `primary` has all slots.
    pub(super) fn tell(&self, primary: &Address) {
        self.says.lock().unwrap().slots = vec![(0, 16_383, primary.clone())];
    }

    /// Answers so much later from now on.
    pub(super) fn delay(&self, delay: Duration) {
        self.says.lock().unwrap().delay = delay;
    }

    /// Answers nothing from now on.
    pub(super) fn be_silent(&self) {
        self.says.lock().unwrap().silent = true;
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, says: Arc<Mutex<Says>>) {
    let mut stream = BufReader::new(stream);
    while let Some(words) = read_command(&mut stream).await {
        let Says { slots, delay, silent } = says.lock().unwrap().clone();
        if silent {
            continue;
        }
        sleep(delay).await;
        let answer = match words.last().is_some_and(|word| word == "SLOTS") {
            true => as_reply(&slots),
            false => "+OK\r\n".to_owned(),
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read_command(stream: &mut BufReader<TcpStream>) -> Option<Vec<String>> {
    let count = read_number(stream, '*').await?;
    let mut words = Vec::new();
    for _ in 0..count {
        let length = read_number(stream, '$').await?;
        let mut word = vec![0; length + 2];
        stream.read_exact(&mut word).await.ok()?;
        word.truncate(length);
        words.push(String::from_utf8(word).ok()?);
    }
    Some(words)
}

async fn read_number(stream: &mut BufReader<TcpStream>, mark: char) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.trim_end().strip_prefix(mark)?.parse().ok()
}

fn as_reply(slots: &[(u16, u16, Address)]) -> String {
    let mut reply = format!("*{}\r\n", slots.len());
    for (first, last, primary) in slots {
        let (host, port) = (primary.host(), primary.port());
        let length = host.len();
        write!(reply, "*3\r\n:{first}\r\n:{last}\r\n*2\r\n${length}\r\n{host}\r\n:{port}\r\n")
            .unwrap();
    }
    reply
}
