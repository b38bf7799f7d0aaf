//! The body of a request to a peer: one frame, or a stream of bytes that goes on.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::BoxStream;
use hyper::body::{Body, Frame, SizeHint};

use super::wire::Pieces;

/// An error resets the HTTP/2 stream, which the peer sees as a cut.
pub(crate) enum PeerBody {
    Frame(Pieces),
    Stream(BoxStream<'static, io::Result<Bytes>>),
}

impl PeerBody {
    pub(crate) fn stream(
        stream: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
    ) -> PeerBody {
        PeerBody::Stream(Box::pin(stream))
    }
}

impl Body for PeerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match &mut *self {
            PeerBody::Frame(pieces) => {
                Poll::Ready(pieces.pop().map(|piece| Ok(Frame::data(piece))))
            }
            PeerBody::Stream(stream) => {
                stream.as_mut().poll_next(cx).map(|chunk| chunk.map(|chunk| chunk.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            PeerBody::Frame(pieces) => pieces.is_empty(),
            PeerBody::Stream(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            PeerBody::Frame(pieces) => {
                SizeHint::with_exact(u64::try_from(pieces.len()).unwrap_or(u64::MAX))
            }
            PeerBody::Stream(_) => SizeHint::default(),
        }
    }
}
