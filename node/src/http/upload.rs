//! The body of a request: read whole, up to a bound, at a least pace.
//!
//! ```text
//!   bytes received
//!        │            ╱ must stay above: (t - grace) × rate
//!        │      ____╱
//!        │___╱╱
//!        └──────┴──────── t      one byte a second ends after the grace
//!             grace
//! ```
//!
//! A body beyond its bound is refused before it is read when it says its length, else as soon as
//! it is too long. What a refused request still sends is read on and thrown away for a while, so
//! that a client that only listens when it is done hears why.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use hyper::body::Body as HttpBody;
use raftmap_client::api::Code;
use tokio::time::{Instant, timeout_at};

use super::error::{ApiError, Result};
use super::limits::{BODY_SMALL_BYTES, Limits, Permit};

/// In what steps a body is counted that does not say its length.
const STEP_BYTES: u64 = 64 << 10;

/// The most that is thrown away of a refused body.
const DISCARD_BYTES_MAX: u64 = 64 << 20;

/// The longest that a refused body is listened to.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(10);

/// What a body may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    /// The bound in bytes.
    pub(crate) bytes: u64,
    /// How going beyond it is called.
    pub(crate) code: Code,
}

/// Reads `body` to its end.
pub(crate) async fn read<B>(
    body: &mut B,
    most: Most,
    permit: &mut Permit,
    limits: &Limits,
) -> Result<Bytes>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let announced = body.size_hint();
    if announced.lower() > most.bytes {
        return Err(ApiError::too_large(most.code, most.bytes));
    }
    if announced.exact() == Some(0) {
        return Ok(Bytes::new());
    }
    permit.hold(announced.exact().unwrap_or(0))?;
    let began = Instant::now();
    let mut whole = Whole::new(announced.exact());
    // A body that does not say its length is counted as it comes.
    let mut counted = BODY_SMALL_BYTES;
    loop {
        let earned = Duration::from_millis(whole.len() * 1000 / limits.body_rate.max(1));
        let deadline = began + limits.body_grace + earned;
        let data = match timeout_at(deadline, next(body)).await {
            Ok(Some(Ok(data))) => data,
            Ok(None) => return Ok(whole.finish()),
            Ok(Some(Err(()))) => return Err(ApiError::invalid("body", "it broke off").closing()),
            Err(_elapsed) => return Err(ApiError::invalid("body", "it came too slowly").closing()),
        };
        if whole.len() + length(&data) > most.bytes {
            return Err(ApiError::too_large(most.code, most.bytes));
        }
        whole.add(data);
        while announced.exact().is_none() && whole.len() > counted {
            permit.hold_more(STEP_BYTES)?;
            counted += STEP_BYTES;
        }
        if announced.exact() == Some(whole.len()) {
            return Ok(whole.finish());
        }
    }
}

/// Reads on what nobody wants any more, within its bounds.
pub(crate) async fn discard<B>(mut body: B)
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    let deadline = Instant::now() + DISCARD_TIME_MAX;
    let mut thrown_away = 0;
    while thrown_away < DISCARD_BYTES_MAX {
        match timeout_at(deadline, next(&mut body)).await {
            Ok(Some(Ok(data))) => thrown_away += length(&data),
            Ok(Some(Err(()))) | Ok(None) | Err(_) => return,
        }
    }
}

/// The next piece of data; trailers are skipped.
async fn next<B>(body: &mut B) -> Option<Result<Bytes, ()>>
where
    B: HttpBody<Data = Bytes> + Unpin,
{
    loop {
        match poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(_) => return Some(Err(())),
        }
    }
}

fn length(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// A body that grows; one that comes in one piece is never copied.
struct Whole {
    announced: Option<u64>,
    first: Bytes,
    rest: Option<BytesMut>,
}

impl Whole {
    fn new(announced: Option<u64>) -> Self {
        Whole { announced, first: Bytes::new(), rest: None }
    }

    fn len(&self) -> u64 {
        let bytes = self.rest.as_ref().map_or(self.first.len(), BytesMut::len);
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    fn add(&mut self, data: Bytes) {
        if self.first.is_empty() && self.rest.is_none() {
            self.first = data;
            return;
        }
        let rest = self.rest.get_or_insert_with(|| {
            let announced = usize::try_from(self.announced.unwrap_or(0)).unwrap_or(0);
            let mut whole = BytesMut::with_capacity(announced.max(self.first.len() + data.len()));
            whole.extend_from_slice(&std::mem::take(&mut self.first));
            whole
        });
        rest.extend_from_slice(&data);
    }

    fn finish(self) -> Bytes {
        self.rest.map_or(self.first, BytesMut::freeze)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::stream::{self, StreamExt as _};
    use http_body_util::{Full, StreamBody};
    use hyper::body::Frame;

    use super::*;
    use crate::http::limits::Admission;

    const MOST: Most = Most { bytes: 10, code: Code::ValueTooLarge };

    fn pieces(
        list: &[&'static [u8]],
    ) -> impl HttpBody<Data = Bytes, Error = Infallible> + Unpin + use<> {
        let frames: Vec<_> =
            list.iter().map(|piece| Ok(Frame::data(Bytes::from_static(piece)))).collect();
        StreamBody::new(stream::iter(frames))
    }

    async fn read_all<B: HttpBody<Data = Bytes> + Unpin>(mut body: B) -> Result<Bytes> {
        let limits = Limits::default();
        let mut permit = Admission::new(&limits).request().unwrap();
        read(&mut body, MOST, &mut permit, &limits).await
    }

    #[tokio::test]
    async fn a_body_is_read_whole_in_whatever_pieces_it_comes() {
        assert_eq!(read_all(pieces(&[])).await.unwrap(), "");
        assert_eq!(read_all(pieces(&[b"0123456789"])).await.unwrap(), "0123456789");
        assert_eq!(read_all(pieces(&[b"01", b"", b"234", b"56789"])).await.unwrap(), "0123456789");
        assert_eq!(read_all(Full::new(Bytes::from_static(b"abc"))).await.unwrap(), "abc");
    }

    #[tokio::test]
    async fn a_body_beyond_its_bound_is_refused_announced_or_not() {
        for error in [
            read_all(Full::new(Bytes::from_static(b"01234567890"))).await.unwrap_err(),
            read_all(pieces(&[b"0123456789", b"0"])).await.unwrap_err(),
        ] {
            assert_eq!(error.code(), Code::ValueTooLarge);
            assert_eq!(error.parts().problem.limit, Some(10));
        }
    }

    #[tokio::test]
    async fn a_body_that_falls_behind_its_pace_is_refused() {
        let grace = Duration::from_millis(20);
        let slow = Limits { body_grace: grace, body_rate: 1 << 30, ..Limits::default() };
        let earned = Limits { body_grace: Duration::ZERO, body_rate: 1, ..Limits::default() };
        let begun = || {
            let begin = stream::iter([Ok::<_, Infallible>(Frame::data(Bytes::from_static(b"x")))]);
            begin.chain(stream::pending())
        };
        let mut permit = Admission::new(&slow).request().unwrap();
        let error =
            read(&mut StreamBody::new(begun()), MOST, &mut permit, &slow).await.unwrap_err();
        assert_eq!(error.parts().problem.field.as_deref(), Some("body"));
        assert!(error.parts().close, "the rest will not be read");

        // At one byte a second a byte that came earns another second.
        let mut body = StreamBody::new(begun());
        let reading = read(&mut body, MOST, &mut permit, &earned);
        assert!(tokio::time::timeout(2 * grace, reading).await.is_err(), "still waiting");
    }
}
