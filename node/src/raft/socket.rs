//! A TCP connection to a peer that can be severed from outside, and that counts its bytes.
//!
//! HTTP/2 has no way to drop a connection whose peer hangs: closing it politely waits for the streams.
//! Severing makes the next read fail, so that the connection's task ends and the socket closes at once.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use metrics::Counter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The handle that ends a connection.
#[derive(Debug, Default)]
pub(crate) struct Severed {
    yes: AtomicBool,
    reader: AtomicWaker,
}

impl Severed {
    pub(crate) fn sever(&self) {
        self.yes.store(true, Ordering::Release);
        self.reader.wake();
    }

    fn check(&self, cx: &Context<'_>) -> io::Result<()> {
        self.reader.register(cx.waker());
        if self.yes.load(Ordering::Acquire) {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "severed: the peer did not answer",
            ));
        }
        Ok(())
    }
}

/// The connection.
pub(crate) struct Socket {
    tcp: TcpStream,
    severed: Arc<Severed>,
    bytes_in: Counter,
    bytes_out: Counter,
}

impl Socket {
    pub(crate) fn new(
        tcp: TcpStream,
        bytes_in: Counter,
        bytes_out: Counter,
    ) -> (Socket, Arc<Severed>) {
        let severed = Arc::new(Severed::default());
        (Socket { tcp, severed: severed.clone(), bytes_in, bytes_out }, severed)
    }

    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = &result {
            self.bytes_out.increment(u64::try_from(*written).unwrap_or(u64::MAX));
        }
        result
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.severed.check(cx)?;
        let before = buf.filled().len();
        let result = Pin::new(&mut self.tcp).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        self.bytes_in.increment(u64::try_from(read).unwrap_or(u64::MAX));
        result
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.tcp).poll_write(cx, buf);
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs);
        self.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
