//! The slot that a watched body lies in, between its reader and its watcher.

use std::pin::Pin;
use std::sync::Mutex;
use std::{fmt, mem};

use http_body::{Body, SizeHint};

use super::end::EndReason;
use super::permit::PermitBody;
use crate::sync::lock;

/// What the reader and the watcher of a body share.
pub(super) struct Slot<B> {
    content: Mutex<Content<B>>,
}

enum Content<B> {
    Body(Pin<Box<PermitBody<B>>>),
    /// A poll has taken the body out.
    Out,
    /// The body was ended from outside. The reason is here until the reader was told.
    Ended(Option<EndReason>),
}

impl<B> Slot<B> {
    pub(super) fn new(body: PermitBody<B>) -> Self {
        Self { content: Mutex::new(Content::Body(Box::pin(body))) }
    }

    /// Ends the body: drops it, and then its permit. Does nothing if it has ended already.
    pub(super) fn end(&self, end: EndReason) {
        let mut content = lock(&self.content);
        let over = match &*content {
            Content::Body(body) => body.permit().is_none(),
            Content::Out => false,
            Content::Ended(_) => true,
        };
        if !over {
            let ended = mem::replace(&mut *content, Content::Ended(Some(end)));
            // Foreign code runs in the drop, so the lock is released first.
            drop(content);
            drop(ended);
        }
    }

    /// Takes the body out for a poll, or returns why it has ended.
    pub(super) fn take_out(&self) -> Result<Pin<Box<PermitBody<B>>>, Option<EndReason>> {
        match &mut *lock(&self.content) {
            Content::Ended(end) => Err(end.take()),
            content => match mem::replace(content, Content::Out) {
                Content::Body(body) => Ok(body),
                // A poll of the body has panicked.
                Content::Out | Content::Ended(_) => Err(None),
            },
        }
    }

    /// Puts the body back after a poll, or returns why it was ended during the poll.
    pub(super) fn put_back(&self, body: Pin<Box<PermitBody<B>>>) -> Result<(), Option<EndReason>> {
        match &mut *lock(&self.content) {
            Content::Ended(end) => Err(end.take()),
            content => {
                *content = Content::Body(body);
                Ok(())
            }
        }
    }
}

impl<B: Body> Slot<B> {
    pub(super) fn is_end_stream(&self) -> bool {
        match &*lock(&self.content) {
            Content::Body(body) => body.is_end_stream(),
            Content::Out => true,
            Content::Ended(untold) => untold.is_none(),
        }
    }

    /// Returns the size hint of the body. If an event may follow the body, the size is not known before its
    /// end.
    pub(super) fn size_hint(&self, has_last_event: bool) -> SizeHint {
        match &*lock(&self.content) {
            Content::Body(body) if !has_last_event || body.is_end_stream() => body.size_hint(),
            _ => SizeHint::default(),
        }
    }
}

impl<B> fmt::Debug for Slot<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*lock(&self.content) {
            Content::Body(body) => body.fmt(f),
            Content::Out => f.write_str("polled"),
            Content::Ended(untold) => f.debug_tuple("Ended").field(untold).finish(),
        }
    }
}
