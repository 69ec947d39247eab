//! A TCP port that nobody else takes while its server is down.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A port that is ours from before the server's start until after its end.
///
/// It is bound but does not listen. With SO_REUSEADDR on both sides Linux lets the server listen there all the
/// same, and hands the port to nobody who asks for any free one. While the server is dead, connecting is refused.
pub struct ReservedPort(TcpSocket);

impl ReservedPort {
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().expect("making a socket");
        socket.set_reuseaddr(true).expect("sharing the port");
        socket.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("finding a free port");
        Self(socket)
    }

    pub fn addr(&self) -> SocketAddr {
        self.0.local_addr().expect("a bound socket has an address")
    }
}
