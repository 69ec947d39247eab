//! The names of the wire format, defined once for the scripts and for the crate: `Flag::MORE` here is
//! `Flag.MORE` in `lua/`.

use crate::id::DEFAULT_LEASE;
use crate::numbers::Millis;
use crate::store::bounds;

/// Defines groups of constants, and [`all`], which lists them as they are written in the scripts.
macro_rules! names {
    ($($(#[$about:meta])* $group:ident: $kind:ty {
        $($(#[$doc:meta])* $name:ident = $value:expr;)*
    })*) => {
        $(
            $(#[$about])*
            pub(in crate::store::redis) enum $group {}

            impl $group {
                $($(#[$doc])* pub(in crate::store::redis) const $name: $kind = $value;)*
            }
        )*

        /// Returns each name as Lua spells it, with the literal that it stands for.
        pub(in crate::store::redis) fn all() -> Vec<(&'static str, String)> {
            vec![$($((
                concat!(stringify!($group), ".", stringify!($name)),
                $group::$name.literal(),
            ),)*)*]
        }
    };
}

names! {
    /// Time spans of both stores, in milliseconds.
    Span: Millis {
        DEFAULT_LEASE = DEFAULT_LEASE;
        CLAIM = bounds::CLAIM;
        ALIVE = bounds::ALIVE;
        TTL_SLACK = bounds::TTL_SLACK;
        META_OUTLIVES = bounds::META_OUTLIVES;
        FORGET_AFTER = bounds::FORGET_AFTER;
        CLOCKS_DIFFER = bounds::CLOCKS_DIFFER;
    }

    /// The bounds of one turn, in both stores.
    Bound: usize {
        LOOK = bounds::LOOK_BOUND;
        FORGET = bounds::FORGET_BOUND;
        /// How many members go into one command.
        CHUNK = 64;
        /// The bytes of a label that `inspect` returns.
        LABEL = bounds::LABEL_BOUND;
    }

    /// The versions of all that the keys of a semaphore hold.
    Schema: u64 {
        /// The one that this version of the crate writes. It refuses data of a higher one.
        PRESENT = bounds::SCHEMA;
    }

    /// The numbers of a semaphore in one field of `meta`, as `struct.pack` of Lua writes them.
    State: &'static str {
        FORMAT = "<BBBddddddd";
    }

    /// The server that a name was last used on, and its grace, in one field of `meta`.
    Server: &'static str {
        FORMAT = "<dddd";
    }

    /// The id of a server.
    ServerId: &'static str {
        /// The part of its `run_id` that is kept, as a number: 48 bits.
        PATTERN = "%x%x%x%x%x%x%x%x%x%x%x%x";
    }

    /// The first word of each section of a turn.
    Section: &'static str {
        EPOCH = "e";
        /// The client's connection is new to the name.
        MEET = "m";
        /// Keeps the limit and the label of the client.
        DECLARE = "d";
        /// Permits of one unit.
        RELEASE_LIGHT = "r";
        /// Permits of more than one unit.
        RELEASE_HEAVY = "R";
        CANCEL = "c";
        /// The incarnation of the permits that are renewed.
        GRANTED_UNDER = "i";
        RENEW = "n";
        ASK = "q";
        /// Newcomers for one unit and the default lease that wait.
        ADMIT_PLAIN = "w";
        ADMIT_OTHER = "a";
    }

    /// What to do with a newcomer that does not fit. A number means that it waits unless that many wait
    /// already.
    WhenFull: &'static str {
        WAIT = "w";
        REFUSE = "t";
    }

    /// The first word of a reply is the sum of its flags.
    Flag: u64 {
        /// The turn is stale, and the reply has another form.
        NONE = 0;
        /// In each reply to a turn that is not stale.
        ANSWERED = 1;
        OVERRIDDEN = 2;
        PUT_BACK = 4;
        MORE = 8;
        EARLIEST = 16;
        MISSING = 32;
        EXCEPTIONS = 64;
        OTHERS = 128;
        /// The newcomers have the last numbers of the turn, and no outcomes follow.
        ALL_GRANTED = 256;
    }

    /// The outcome of a waiter or a newcomer.
    Outcome: u64 {
        GRANTED = 1;
        QUEUED = 2;
        REFUSED = 3;
        KICKED = 4;
        TOO_LARGE = 5;
        /// An earlier turn had granted it.
        FOUND_GRANTED = 7;
    }

    /// The outcome of a renewal that did not just renew.
    RenewalException: u64 {
        GONE = 1;
        KICKED = 2;
        PUT_BACK = 3;
    }

    /// What a kick found and did.
    Kick: u64 {
        NOT_HELD = 0;
        MARKED = 1;
        REMOVED = 2;
    }
}

/// How a constant is written in a script.
trait Literal {
    fn literal(&self) -> String;
}

macro_rules! literal_as_displayed {
    ($($kind:ty)*) => {
        $(impl Literal for $kind {
            fn literal(&self) -> String {
                self.to_string()
            }
        })*
    };
}

literal_as_displayed!(u64 usize Millis);

impl Literal for &'static str {
    fn literal(&self) -> String {
        format!("'{self}'")
    }
}
