//! A client of a chat, in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use test_support::child_role::{say, setting};
use test_support::processes::Child;

/// A client in a process of its own that sends what `curl -N http://ADDR/chat -d BODY` does.
pub(crate) fn curl(addr: &str, body: &str) -> Child {
    Child::spawn("chat client", &[("ADDR", addr.to_owned()), ("BODY", body.to_owned())])
}

/// Tells each line of the answer when it comes, and at last whether the answer was whole.
pub(crate) fn chat_client() {
    let (addr, body) = (setting("ADDR"), setting("BODY"));
    let mut socket = TcpStream::connect(&addr).unwrap();
    let head = [
        "POST /chat HTTP/1.1",
        &format!("Host: {addr}"),
        "User-Agent: curl/8.5.0",
        "Accept: */*",
        &format!("Content-Length: {}", body.len()),
        "Content-Type: application/x-www-form-urlencoded",
        "",
        &body,
    ];
    socket.write_all(head.join("\r\n").as_bytes()).unwrap();
    let mut lines = BufReader::new(socket).lines().map_while(Result::ok);
    say(format_args!("head {}", lines.next().unwrap_or_default()));
    for line in lines {
        // Of the chunked encoding, only the last chunk, which is empty, matters here.
        if line == "0" {
            return say("end");
        }
        say(line);
    }
    say("cut");
}
