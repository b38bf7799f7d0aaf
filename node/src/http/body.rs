//! The body of a reply, with everything that is held until it is taken or given up.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

use super::conn::{Busy, Replying};
use super::limits::Permit;

/// Whatever ends a body before its end.
pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Pieces that are made as the client takes them. An error cuts the reply off, visibly.
pub(crate) type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, BoxError>> + Send>>;

/// The body of one reply.
pub(crate) struct Body {
    kind: Kind,
    held: Held,
}

enum Kind {
    Whole(Bytes),
    Pieces(Pieces),
    Peer(axum::body::Body),
}

/// Let go with the body.
#[derive(Default)]
pub(crate) struct Held {
    replying: Option<Replying>,
    _permit: Option<Permit>,
    _busy: Option<Busy>,
}

impl Held {
    /// By a client's reply.
    pub(crate) fn by_client(
        permit: Option<Permit>,
        replying: Option<Replying>,
        busy: Busy,
    ) -> Self {
        Held { replying, _permit: permit, _busy: Some(busy) }
    }

    /// By a reply that has no bound but its connection's.
    pub(crate) fn by_peer(busy: Busy) -> Self {
        Held { replying: None, _permit: None, _busy: Some(busy) }
    }
}

impl Body {
    pub(crate) fn whole(bytes: Bytes) -> Self {
        Body { kind: Kind::Whole(bytes), held: Held::default() }
    }

    pub(crate) fn pieces(pieces: Pieces) -> Self {
        Body { kind: Kind::Pieces(pieces), held: Held::default() }
    }

    pub(crate) fn peer(body: axum::body::Body) -> Self {
        Body { kind: Kind::Peer(body), held: Held::default() }
    }

    /// The same reply to a HEAD request: nothing is sent.
    pub(crate) fn head_only(self) -> Self {
        Body { kind: Kind::Whole(Bytes::new()), held: self.held }
    }

    pub(crate) fn holding(mut self, held: Held) -> Self {
        self.held = held;
        self
    }

    /// Bytes in memory until the client has taken them.
    pub(crate) fn len(&self) -> u64 {
        match &self.kind {
            Kind::Whole(bytes) => u64::try_from(bytes.len()).unwrap_or(u64::MAX),
            Kind::Pieces(_) | Kind::Peer(_) => 0,
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(replying) = &self.held.replying {
            replying.moved();
        }
        let piece = match &mut self.kind {
            Kind::Whole(bytes) if bytes.is_empty() => None,
            Kind::Whole(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Kind::Pieces(pieces) => {
                ready!(pieces.as_mut().poll_next(cx)).map(|p| p.map(Frame::data))
            }
            Kind::Peer(body) => {
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map_err(BoxError::from))
            }
        };
        Poll::Ready(piece)
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Whole(bytes) => bytes.is_empty(),
            Kind::Pieces(_) => false,
            Kind::Peer(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Whole(_) => SizeHint::with_exact(self.len()),
            Kind::Pieces(_) => SizeHint::default(),
            Kind::Peer(body) => body.size_hint(),
        }
    }
}
