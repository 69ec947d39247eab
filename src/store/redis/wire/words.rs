//! A reply, read word by word from the front.

use std::borrow::Cow;

use redis::Value;

use crate::error::{StoreError, StoreErrorKind};
use crate::id::PermitId;
use crate::numbers::Seq;

/// The words of a flat list that have not been read yet.
pub(super) struct Words<'a> {
    rest: std::slice::Iter<'a, Value>,
}

/// The reply is malformed. No caller needs to know the details.
pub(super) struct Garbled;

impl Garbled {
    /// Returns the error of a call whose reply this is.
    pub(super) fn reply_to(self, call: &str) -> StoreError {
        StoreError::new(
            StoreErrorKind::Protocol,
            format!("the server's answer to {call} makes no sense; is it a Redis of version 7?"),
        )
    }
}

impl<'a> Words<'a> {
    pub(super) fn of(list: &'a Value) -> Result<Self, Garbled> {
        match list {
            Value::Array(values) => Ok(Self { rest: values.iter() }),
            _ => Err(Garbled),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.len() == 0
    }

    fn next(&mut self) -> Result<&'a Value, Garbled> {
        self.rest.next().ok_or(Garbled)
    }

    fn int(&mut self) -> Result<i64, Garbled> {
        match self.next()? {
            Value::Int(n) => Ok(*n),
            _ => Err(Garbled),
        }
    }

    pub(super) fn number(&mut self) -> Result<u64, Garbled> {
        u64::try_from(self.int()?).map_err(|_| Garbled)
    }

    /// Reads an optional number; -1 stands for `None`.
    pub(super) fn optional_small(&mut self) -> Result<Option<u32>, Garbled> {
        match self.int()? {
            -1 => Ok(None),
            number => u32::try_from(number).map(Some).map_err(|_| Garbled),
        }
    }

    pub(super) fn seq(&mut self) -> Result<Seq, Garbled> {
        Seq::new(self.number()?).ok_or(Garbled)
    }

    pub(super) fn small(&mut self) -> Result<u32, Garbled> {
        u32::try_from(self.number()?).map_err(|_| Garbled)
    }

    /// Reads the number of items that follow. It is at most the number of words left, so that a wrong number
    /// reserves no memory.
    pub(super) fn count(&mut self) -> Result<usize, Garbled> {
        let count = usize::try_from(self.number()?).map_err(|_| Garbled)?;
        if count <= self.rest.len() { Ok(count) } else { Err(Garbled) }
    }

    /// Reads a number of at least 1 and at most `most`.
    pub(super) fn one_to(&mut self, most: usize) -> Result<usize, Garbled> {
        let number = usize::try_from(self.number()?).map_err(|_| Garbled)?;
        if (1..=most).contains(&number) { Ok(number) } else { Err(Garbled) }
    }

    pub(super) fn text(&mut self) -> Result<&'a str, Garbled> {
        match self.next()? {
            Value::BulkString(bytes) => std::str::from_utf8(bytes).map_err(|_| Garbled),
            Value::SimpleString(text) => Ok(text),
            _ => Err(Garbled),
        }
    }

    /// Reads a text that anybody may have written. What is not UTF-8 becomes U+FFFD.
    pub(super) fn any_text(&mut self) -> Result<Cow<'a, str>, Garbled> {
        match self.next()? {
            Value::BulkString(bytes) => Ok(String::from_utf8_lossy(bytes)),
            Value::SimpleString(text) => Ok(Cow::Borrowed(text)),
            _ => Err(Garbled),
        }
    }

    pub(super) fn id(&mut self) -> Result<PermitId, Garbled> {
        self.text()?.parse().map_err(|_| Garbled)
    }

    pub(super) fn list(&mut self) -> Result<Self, Garbled> {
        Self::of(self.next()?)
    }
}
