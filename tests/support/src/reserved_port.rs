//! A TCP port that nobody else takes while its server is down.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A port that is ours from before the server's start until after its end.
///
/// It is bound but does not listen. With SO_REUSEADDR on both sides Linux lets the server listen there all the
/// same, and hands the port to nobody who asks for any free one. While the server is dead, connecting is refused.
pub struct ReservedPort(TcpSocket);

impl ReservedPort {
    pub fn any() -> Self {
        Self::bind(0).expect("finding a free port")
    }

    /// Two ports, of which the second one is `above` the first one.
    pub fn pair(above: u16) -> (Self, Self) {
        // A port without a partner is kept until the end, lest it is found again.
        let mut alone = Vec::new();
        loop {
            let first = Self::any();
            let second = first.addr().port().checked_add(above).map(Self::bind);
            match second {
                Some(Ok(second)) => return (first, second),
                _ => alone.push(first),
            }
        }
    }

    fn bind(port: u16) -> io::Result<Self> {
        let socket = TcpSocket::new_v4().expect("making a socket");
        socket.set_reuseaddr(true).expect("sharing the port");
        socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
        Ok(Self(socket))
    }

    pub fn addr(&self) -> SocketAddr {
        self.0.local_addr().expect("a bound socket has an address")
    }
}
