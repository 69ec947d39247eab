//! Seals traits, so that methods can be added to them.

use std::fmt;

/// Supertrait of the traits that only this crate implements.
pub trait Sealed: fmt::Debug {}
