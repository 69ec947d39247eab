//! What a process tells the witness: one datagram per event, stamped with CLOCK_MONOTONIC.
//!
//! What is reported of a hold lies *within* what was held: it begins after `acquire` has returned, it ends
//! before the permit is given back, and each report says until when the holder believes at least, so that one who
//! is frozen or killed needs no last word.

use std::fmt::Display;
use std::os::unix::net::UnixDatagram;
use std::str::FromStr;
use std::sync::Arc;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A task begins to ask.
    Asked { task: u32, at: u64, units: u32, name: String },
    /// It was given nothing.
    Missed { task: u32, why: String },
    /// It holds a permit since `from`, and until `sure_until` whatever happens to its process.
    Entered {
        task: u32,
        hold: u64,
        id: String,
        units: u32,
        token: u64,
        from: u64,
        sure_until: u64,
        most: u64,
    },
    /// It was seen that a renewal has moved its end.
    Renewed { hold: u64, sure_until: u64 },
    /// It believed until then.
    Left { hold: u64, until: u64, how: String },
    /// All permits of this client are about to be taken from their holders.
    Closing { client: String, at: u64 },
    /// How an explicit release ended, and the like: counted, no more.
    Counted { what: String },
}

/// Reports of the present process, from any thread or task.
#[derive(Clone)]
pub struct Reporter(Arc<UnixDatagram>);

impl Reporter {
    pub fn connect(address: &str) -> Self {
        let socket = UnixDatagram::unbound().expect("making a socket");
        socket.connect(address).expect("connecting to the witness");
        Self(Arc::new(socket))
    }

    pub fn tell(&self, event: &Event) {
        let line = encode(std::process::id(), event);
        self.0.send(line.as_bytes()).expect("the witness listens");
    }

    pub fn count(&self, what: impl Into<String>) {
        self.tell(&Event::Counted { what: what.into() });
    }
}

fn encode(process: u32, event: &Event) -> String {
    match event {
        Event::Asked { task, at, units, name } => format!("? {process} {task} {at} {units} {name}"),
        Event::Missed { task, why } => format!("x {process} {task} {why}"),
        Event::Entered { task, hold, id, units, token, from, sure_until, most } => {
            format!("+ {process} {task} {hold} {id} {units} {token} {from} {sure_until} {most}")
        }
        Event::Renewed { hold, sure_until } => format!("~ {process} {hold} {sure_until}"),
        Event::Left { hold, until, how } => format!("- {process} {hold} {until} {how}"),
        Event::Closing { client, at } => format!("c {process} {client} {at}"),
        Event::Counted { what } => format!("# {process} {what}"),
    }
}

/// The process and what it tells.
///
/// # Panics
///
/// At what no [`Reporter`] sends.
pub fn decode(line: &str) -> (u32, Event) {
    // The last field of a report may have spaces.
    let fields = match line.as_bytes().first() {
        Some(b'?') => 6,
        Some(b'+') => 10,
        Some(b'-') => 5,
        Some(b'x' | b'~' | b'c') => 4,
        _ => 3,
    };
    let words: Vec<_> = line.splitn(fields, ' ').collect();
    let event = match words[1..] {
        [_, task, at, units, name] if words[0] == "?" => Event::Asked {
            task: number(task),
            at: number(at),
            units: number(units),
            name: name.to_owned(),
        },
        [_, task, hold, id, units, token, from, sure_until, most] => Event::Entered {
            task: number(task),
            hold: number(hold),
            id: id.to_owned(),
            units: number(units),
            token: number(token),
            from: number(from),
            sure_until: number(sure_until),
            most: number(most),
        },
        [_, hold, until, how] if words[0] == "-" => {
            Event::Left { hold: number(hold), until: number(until), how: how.to_owned() }
        }
        [_, task, why] if words[0] == "x" => {
            Event::Missed { task: number(task), why: why.to_owned() }
        }
        [_, hold, sure_until] if words[0] == "~" => {
            Event::Renewed { hold: number(hold), sure_until: number(sure_until) }
        }
        [_, client, at] if words[0] == "c" => {
            Event::Closing { client: client.to_owned(), at: number(at) }
        }
        [_, what] if words[0] == "#" => Event::Counted { what: what.to_owned() },
        _ => panic!("not a report: {line:?}"),
    };
    (number(words[1]), event)
}

fn number<N: FromStr<Err: Display>>(word: &str) -> N {
    word.parse().unwrap_or_else(|error| panic!("{word:?} is no number of a report: {error}"))
}
