//! Behaviour 45, with thousands of connections. Their clients run in another process, since the number of
//! open files of a process is limited.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use futures_util::{StreamExt, stream};
use http_body_util::BodyExt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use zset_semaphore::tower::ZSetSemaphoreLayer;

use crate::probe::{Tally, idle, semaphore, settled};
use crate::web::{Client, VERSIONS, Web};
use test_support::child_role::{FromParent, say, setting};
use test_support::processes::Child;
use test_support::wait::{PATIENCE, within};

const IDLERS: usize = 3000;
const LIMIT: u32 = 8;
/// There are many connections, and the machine may be busy.
const LONG: Duration = Duration::from_secs(60);

/// Raises the number of open files to the most that is allowed.
fn raise_the_limit_of_open_files() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
    assert!(most.is_none_or(|most| most > IDLERS as u64 + 200), "only {most:?} open files");
}

/// The child: it opens the connections, and sends requests over them when it is told to.
pub fn idlers(mut from_parent: FromParent) {
    raise_the_limit_of_open_files();
    let address = setting("ADDRESS");
    let mut served = Vec::new();
    let mut others = Vec::new();
    for n in 0..IDLERS {
        let mut socket = TcpStream::connect(&address).expect("the server listens");
        match n % 10 {
            // Never sends anything.
            0 => others.push(socket),
            // Has sent the begin of a request, and stops.
            1 => {
                socket.write_all(b"GET /text HTTP/1.1\r\nhost:").expect("it is open");
                others.push(socket);
            }
            _ => {
                ask(&mut socket);
                served.push(socket);
            }
        }
    }
    say("all are idle");
    assert_eq!(from_parent.blocking_recv().as_deref(), Some("again"));
    served.iter_mut().for_each(ask);
    say("all were answered");
    drop(from_parent.blocking_recv());
}

fn ask(socket: &mut TcpStream) {
    socket.write_all(b"GET /text HTTP/1.1\r\nhost: here\r\n\r\n").expect("it is open");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\ntext") {
        let mut some = [0; 1000];
        let n = socket.read(&mut some).expect("the server answers");
        assert!(n > 0, "closed after {:?}", String::from_utf8_lossy(&answer));
        answer.extend(&some[..n]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_thousands_of_idle_connections_others_take_the_whole_limit_and_all_are_served() {
    raise_the_limit_of_open_files();
    let chats = semaphore(LIMIT);
    let tally = Tally::default();
    let handler = {
        let tally = tally.clone();
        async move || {
            let running = tally.enter();
            let tokens = stream::iter(["token "]).chain(stream::pending());
            Body::from_stream(tokens.map(move |token| {
                let _ = &running;
                Ok::<_, Infallible>(token)
            }))
        }
    };
    let routes = Router::new().route("/text", get(async || "text")).route("/chat", get(handler));
    let server = Web::serve(routes.layer(ZSetSemaphoreLayer::new(chats.clone()).answer())).await;
    let mut child = Child::spawn("idlers", &[("ADDRESS", server.address.to_string())]);
    child.expect_line("@all are idle", LONG).await;
    idle(&chats).await;

    for version in VERSIONS {
        let mut talking = Vec::new();
        for _ in 0..LIMIT {
            let mut client = Client::open(version, &server).await;
            let mut chat = within(PATIENCE, client.get("/chat")).await;
            chat.frame().await.unwrap().unwrap();
            talking.push((client, chat));
        }
        settled(&chats, u64::from(LIMIT), 0).await;
        assert_eq!(tally.running(), LIMIT as usize);

        // As many others are let through when the first ones have gone.
        let mut next = Vec::new();
        for _ in 0..LIMIT {
            let client = Client::open(version, &server).await;
            next.push(client.sending(::http::Method::GET, "/chat", crate::web::Upload::none()));
        }
        settled(&chats, u64::from(LIMIT), u64::from(LIMIT)).await;
        drop(talking);
        let next = futures_util::future::join_all(next);
        let next: Vec<_> = within(PATIENCE, next).await.into_iter().map(Result::unwrap).collect();
        settled(&chats, u64::from(LIMIT), 0).await;
        drop(next);
        idle(&chats).await;
    }
    assert_eq!((tally.peak(), tally.running()), (LIMIT as usize, 0));

    // The connections have stayed open.
    child.send("again");
    child.expect_line("@all were answered", LONG).await;
    idle(&chats).await;
}
