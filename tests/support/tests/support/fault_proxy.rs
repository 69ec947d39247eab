use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use test_support::fault_proxy::FaultProxy;
use test_support::redis_server::RedisServer;
use test_support::wait::{PATIENCE, eventually, within};

struct Bench {
    server: RedisServer,
    proxy: FaultProxy,
}

impl Bench {
    async fn new() -> Self {
        let server = RedisServer::start().await;
        let proxy = FaultProxy::start(server.addr()).await;
        Self { server, proxy }
    }

    async fn client(&self) -> Client {
        let total = self.proxy.connections_total();
        let stream = TcpStream::connect(self.proxy.addr()).await.unwrap();
        self.proxy.wait_for_connections(total + 1).await;
        Client { stream }
    }

    async fn counter_reaches(&self, count: u32) {
        let what = format!("the counter is {count}");
        eventually(&what, PATIENCE, async || self.counter().await == count).await;
    }

    async fn counter(&self) -> u32 {
        let count: Option<u32> = self.server.query(&["GET", "count"]).await;
        count.unwrap_or(0)
    }

    /// Sends without a wait for the answer, and returns once the proxy has got the bytes.
    async fn incr_into_the_proxy(&self, client: &mut Client) {
        let before = self.proxy.traffic().requests_received;
        client.send_incr().await;
        self.proxy.wait_for("the request", |t| t.requests_received > before).await;
    }
}

struct Client {
    stream: TcpStream,
}

impl Client {
    async fn send_incr(&mut self) {
        self.stream.write_all(b"INCR count\r\n").await.unwrap();
    }

    async fn reply(&mut self) -> String {
        let mut reply = [0; 64];
        let length = within(PATIENCE, self.stream.read(&mut reply)).await.unwrap();
        String::from_utf8_lossy(&reply[..length]).into_owned()
    }

    async fn hears_nothing(&mut self) {
        let mut byte = [0];
        let silence = Duration::from_millis(30);
        let heard = tokio::time::timeout(silence, self.stream.read(&mut byte)).await;
        assert!(heard.is_err(), "heard {heard:?}");
    }

    async fn is_closed(&mut self) {
        let mut byte = [0];
        match within(PATIENCE, self.stream.read(&mut byte)).await {
            Ok(0) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            other => panic!("still open: {other:?}"),
        }
    }
}

#[tokio::test]
async fn passes_and_counts() {
    let bench = Bench::new().await;
    let mut client = bench.client().await;
    client.send_incr().await;
    assert_eq!(client.reply().await, ":1\r\n");
    assert_eq!(bench.proxy.bytes_up(), "INCR count\r\n".len());
    assert_eq!(bench.proxy.bytes_down(), ":1\r\n".len());
    assert_eq!(bench.proxy.connections_total(), 1);
}

#[tokio::test]
async fn a_black_hole_swallows_old_and_new_and_gives_back_later() {
    let bench = Bench::new().await;
    let mut old = bench.client().await;
    bench.proxy.black_hole();
    let mut new = bench.client().await;
    bench.incr_into_the_proxy(&mut old).await;
    bench.incr_into_the_proxy(&mut new).await;
    old.hears_nothing().await;
    assert_eq!(bench.counter().await, 0);

    bench.proxy.pass();
    let mut replies = [old.reply().await, new.reply().await];
    replies.sort();
    assert_eq!(replies, [":1\r\n", ":2\r\n"]);
}

#[tokio::test]
async fn a_black_hole_hides_the_death_of_the_server() {
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    client.send_incr().await;
    client.reply().await;
    bench.proxy.black_hole();
    bench.server.kill();
    client.hears_nothing().await;
    bench.client().await.hears_nothing().await;
    bench.proxy.pass();
    client.is_closed().await;
}

#[tokio::test]
async fn held_replies_are_of_requests_that_ran() {
    let bench = Bench::new().await;
    let mut client = bench.client().await;
    bench.proxy.hold_replies();
    client.send_incr().await;
    bench.counter_reaches(1).await;
    client.hears_nothing().await;
    bench.proxy.pass();
    assert_eq!(client.reply().await, ":1\r\n");
}

#[tokio::test]
async fn held_requests_do_not_run() {
    let bench = Bench::new().await;
    let mut client = bench.client().await;
    bench.proxy.hold_requests();
    bench.incr_into_the_proxy(&mut client).await;
    assert_eq!(bench.counter().await, 0);
    bench.proxy.pass();
    assert_eq!(client.reply().await, ":1\r\n");
}

#[tokio::test]
async fn a_lost_reply_never_comes_and_no_later_one_takes_its_place() {
    let bench = Bench::new().await;
    let mut client = bench.client().await;
    bench.proxy.lose_next_reply();
    client.send_incr().await;
    bench.proxy.wait_for("the loss", |t| t.replies_lost == 1).await;
    client.send_incr().await;
    bench.counter_reaches(2).await;
    client.hears_nothing().await;

    let mut other = bench.client().await;
    other.send_incr().await;
    assert_eq!(other.reply().await, ":3\r\n");
}

#[tokio::test]
async fn a_frozen_connection_delivers_after_its_client_is_gone() {
    let bench = Bench::new().await;
    let mut old = bench.client().await;
    let frozen = bench.proxy.freeze_existing();
    bench.incr_into_the_proxy(&mut old).await;
    drop(old);

    let mut new = bench.client().await;
    bench.proxy.pass();
    new.send_incr().await;
    assert_eq!(new.reply().await, ":1\r\n");

    frozen.release();
    bench.counter_reaches(2).await;
}

#[tokio::test]
async fn wake_ups_are_held_apart_from_replies() {
    let bench = Bench::new().await;
    let mut listener = bench.client().await;
    listener.stream.write_all(b"SUBSCRIBE news\r\n").await.unwrap();
    assert!(listener.reply().await.contains("subscribe"));
    let mut caller = bench.client().await;

    bench.proxy.hold_wake_ups();
    let heard: u32 = bench.server.query(&["PUBLISH", "news", "late"]).await;
    assert_eq!(heard, 1);
    caller.send_incr().await;
    assert_eq!(caller.reply().await, ":1\r\n");
    listener.hears_nothing().await;

    bench.proxy.pass();
    assert!(listener.reply().await.contains("late"));
}

#[tokio::test]
async fn cuts_what_is_there_and_refuses_what_comes() {
    let bench = Bench::new().await;
    let mut client = bench.client().await;
    bench.proxy.refuse(true);
    bench.client().await.is_closed().await;
    client.send_incr().await;
    assert_eq!(client.reply().await, ":1\r\n");

    bench.proxy.cut();
    client.is_closed().await;

    bench.proxy.refuse(false);
    let mut again = bench.client().await;
    again.send_incr().await;
    assert_eq!(again.reply().await, ":2\r\n");
}

#[tokio::test]
async fn a_dead_server_closes_the_connection() {
    let mut bench = Bench::new().await;
    let mut client = bench.client().await;
    client.send_incr().await;
    client.reply().await;
    bench.server.kill();
    client.is_closed().await;
    bench.client().await.is_closed().await;
}
