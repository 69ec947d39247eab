//! How long a permit is held, which decides what response and error come out of the layer.

use http_body::Body;

use super::body::PermitBody;
use super::error::{Error, Rejection};
use super::sealed::Sealed;
use crate::Permit;

/// Turns what the inner service answered, and the permit it was called under, into what the layer
/// answers. Sealed: see [`HoldBody`] and [`HoldHead`].
///
/// `Res` and `E` are the response and the error of the inner service.
pub trait Hold<Res, E>: Sealed {
    /// What the layer answers.
    type Response;
    /// How the layer fails.
    type Error;

    /// Keeps the permit for as long as the response needs it.
    #[doc(hidden)]
    fn hold(&self, response: Res, permit: Option<Permit>) -> Self::Response;

    /// Answers a request that got no permit, or fails it.
    #[doc(hidden)]
    fn reject(&self, rejection: Rejection) -> Result<Self::Response, Self::Error>;

    /// Passes on how the inner service failed.
    #[doc(hidden)]
    fn fail(&self, error: E) -> Self::Error;
}

/// Holds the permit until the body of an HTTP response ends: its last frame, its error, or its drop.
/// The default.
///
/// A response of `B` becomes one of [`PermitBody<B>`]. A body that is at its end from the start, as
/// that of a `204` or of an answer to `HEAD`, holds nothing.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct HoldBody;

impl Sealed for HoldBody {}

impl<B: Body, E> Hold<http::Response<B>, E> for HoldBody {
    type Response = http::Response<PermitBody<B>>;
    type Error = Error<E>;

    fn hold(&self, response: http::Response<B>, permit: Option<Permit>) -> Self::Response {
        response.map(|body| PermitBody::new(body, permit))
    }

    fn reject(&self, rejection: Rejection) -> Result<Self::Response, Self::Error> {
        Err(Error::Rejected(rejection))
    }

    fn fail(&self, error: E) -> Self::Error {
        Error::Inner(error)
    }
}

/// Holds the permit until the inner service has answered; leaves the response, of any type, alone.
///
/// What streams after the head is not capped; see
/// [`hold_head`](super::ZSetSemaphoreLayer::hold_head).
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct HoldHead;

impl Sealed for HoldHead {}

impl<Res, E> Hold<Res, E> for HoldHead {
    type Response = Res;
    type Error = Error<E>;

    fn hold(&self, response: Res, permit: Option<Permit>) -> Self::Response {
        drop(permit);
        response
    }

    fn reject(&self, rejection: Rejection) -> Result<Self::Response, Self::Error> {
        Err(Error::Rejected(rejection))
    }

    fn fail(&self, error: E) -> Self::Error {
        Error::Inner(error)
    }
}
