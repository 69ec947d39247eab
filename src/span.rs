//! The spans that are traced: a wait for a permit, and a turn.
//!
//! # Implementation
//!
//! Nobody pays for a span at a level that no subscriber has: it then costs the load of one static.

use tracing::field::Empty;
use tracing::{Span, debug_span, trace_span};

use crate::metrics::{TurnEnd, WaitOutcome};
use crate::store::{Database, Turn};

/// The span of a wait for a permit, from its first poll to its end. It is empty before and after that.
#[derive(Debug)]
pub(crate) struct WaitSpan(Span);

impl WaitSpan {
    /// Before the first poll.
    pub(crate) fn none() -> Self {
        Self(Span::none())
    }

    pub(crate) fn begin(semaphore: &str, units: u32) -> Self {
        Self(debug_span!("acquire", semaphore, units, outcome = Empty))
    }

    /// Returns the span, to be entered for each poll.
    pub(crate) fn get(&self) -> Span {
        self.0.clone()
    }

    /// Ends the span, unless it has ended.
    pub(crate) fn end(&mut self, outcome: WaitOutcome) {
        self.0.record("outcome", outcome.label());
        self.0 = Span::none();
    }
}

/// The span of a turn, from when it is sent until it lands.
#[derive(Debug)]
pub(crate) struct TurnSpan(Span);

impl TurnSpan {
    /// `database` tells which database runs the turn, and `address` the address of its server; without one, it runs in
    /// this process. The fields have the names that OpenTelemetry gives to those of calls to a database.
    pub(crate) fn begin(
        turn: &Turn,
        database: Option<Database<'_>>,
        address: impl Fn() -> String,
    ) -> Self {
        let server = || database.map(|_| Server::of(address()));
        let span = trace_span!(
            parent: None,
            "turn",
            semaphore = &*turn.name,
            ids = turn.ids(),
            outcome = Empty,
            otel.kind = database.map(|_| "client"),
            db.system.name = database.map(|database| database.system),
            db.operation.name = database.map(|database| database.operation),
            db.stored_procedure.name = database.map(|database| database.procedure),
            server.address = Empty,
            server.port = Empty,
        );
        if !span.is_disabled()
            && let Some(Server { address, port }) = server()
        {
            span.record("server.address", address);
            span.record("server.port", port);
        }
        Self(span)
    }

    /// Notes how the turn ended. The span ends when it is dropped.
    pub(crate) fn record(&self, end: TurnEnd) {
        self.0.record("outcome", end.label());
    }
}

/// The address of a server, in two parts. A unix socket has no port.
#[derive(Debug, PartialEq, Eq)]
struct Server {
    address: String,
    port: Option<u16>,
}

impl Server {
    fn of(shown: String) -> Self {
        let split = shown.rsplit_once(':');
        match split.and_then(|(host, port)| Some((host.to_owned(), port.parse().ok()?))) {
            Some((address, port)) => Self { address, port: Some(port) },
            None => Self { address: shown, port: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_split_at_its_port_if_it_has_one() {
        for (shown, address, port) in [
            ("127.0.0.1:6379", "127.0.0.1", Some(6379)),
            ("::1:6379", "::1", Some(6379)),
            ("/run/redis.sock", "/run/redis.sock", None),
            ("this process", "this process", None),
        ] {
            assert_eq!(Server::of(shown.to_owned()), Server { address: address.to_owned(), port });
        }
    }
}
