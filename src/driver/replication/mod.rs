//! The wait until replicas have a grant, for those who want that.
//!
//! # Implementation
//!
//! Callers at one place who want the same number of replicas stand in one [`Line`], whose task serves them in
//! rounds: all who stand there share one question to the server, and those who come meanwhile share the next one.
//! Each number has a line of its own, so a number that cannot be reached holds up nobody else.
//!
//! A line asks by a second connection, since the question blocks it. The connection belongs to the session whose
//! turns go to the same place: it leads to the same server, and is given up together with the session. So a server
//! that has been left does not answer for the next one. The grants of a caller whose round has failed may be gone,
//! so the caller renews its permit before it asks again.

mod line;
mod lines;
mod round;

pub(crate) use line::Asked;
pub(super) use line::LineStarter;
pub(super) use lines::Lines;
pub(crate) use round::Lag;
