//! HTTP/1.1 as the load generator speaks it: requests laid out once, replies looked at, not parsed.
//!
//! ```text
//!   PUT /v1/kv/bench/00000|00042| HTTP/1.1 ... content-length: 256 ... value
//!                         ^^^^^ the only bytes that change from request to request
//! ```
//!
//! Of a reply it reads the status and the `content-length`; the body is counted and thrown away. A full client
//! spends more on a request than a node on the answer, which on a shared machine would be measured instead of
//! the node. A chunked reply is a `protocol` failure: the calls that are measured here do not send one.

use std::{net::SocketAddr, ops::Range};

use rand::{RngCore, SeedableRng, rngs::SmallRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    plan::{KeySpace, Plan},
    run::{Driver, Failure, Kind, Session},
};

/// The longest reply head that is understood.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Connections to Raftmap nodes.
#[derive(Debug, Clone)]
pub struct HttpDriver {
    addrs: Vec<SocketAddr>,
    spread: bool,
    keys: KeySpace,
    value: Vec<u8>,
    get_query: String,
}

impl HttpDriver {
    /// Clients go to `addrs` in turn, or with `spread` false all to the first one, and to the next when a
    /// connection fails. `get_query` is what gets carry behind the key: nothing, or `?consistency=stale`.
    ///
    /// # Panics
    /// If `addrs` is empty.
    pub fn new(addrs: Vec<SocketAddr>, spread: bool, plan: &Plan, get_query: &str) -> HttpDriver {
        assert!(!addrs.is_empty(), "a driver needs an address");
        let mut value = vec![0; plan.value_bytes];
        SmallRng::seed_from_u64(7).fill_bytes(&mut value);
        HttpDriver {
            addrs,
            spread,
            keys: plan.keys.clone(),
            value,
            get_query: get_query.to_owned(),
        }
    }
}

impl Driver for HttpDriver {
    type Session = HttpSession;

    async fn connect(&self, client: usize, attempt: usize) -> Result<HttpSession, Failure> {
        let first = if self.spread { client } else { 0 };
        let addr = self.addrs[(first + attempt) % self.addrs.len()];
        let stream = TcpStream::connect(addr).await.map_err(|_closed| Failure::Connect)?;
        stream.set_nodelay(true).map_err(|_closed| Failure::Connect)?;
        let put = Request::new("PUT", addr, &self.keys, "", Some(&self.value));
        let get = Request::new("GET", addr, &self.keys, &self.get_query, None);
        Ok(HttpSession {
            stream,
            keys: self.keys.clone(),
            put,
            get,
            buffer: vec![0; HEAD_BYTES_MAX],
        })
    }
}

/// One keep-alive connection.
#[derive(Debug)]
pub struct HttpSession {
    stream: TcpStream,
    keys: KeySpace,
    put: Request,
    get: Request,
    buffer: Vec<u8>,
}

impl Session for HttpSession {
    async fn perform(&mut self, kind: Kind, key: u64) -> Result<(), Failure> {
        let request = match kind {
            Kind::Put => &mut self.put,
            Kind::Get => &mut self.get,
        };
        self.keys.write_digits(key, &mut request.bytes[request.digits.clone()]);
        self.stream.write_all(&request.bytes).await.map_err(|_broken| Failure::Reset)?;
        match (kind, self.reply().await?) {
            (_, 200..=299) | (Kind::Get, 404) => Ok(()),
            (_, status) => Err(Failure::Status(status)),
        }
    }
}

impl HttpSession {
    /// Reads one whole reply and returns its status.
    async fn reply(&mut self) -> Result<u16, Failure> {
        let mut filled = 0;
        loop {
            filled += self.read(filled).await?;
            if let Some(head) = Head::find(&self.buffer[..filled])? {
                // Nothing may follow: requests are not pipelined.
                let mut missing =
                    (head.bytes + head.body_bytes).checked_sub(filled).ok_or(Failure::Protocol)?;
                while missing > 0 {
                    missing = missing.checked_sub(self.read(0).await?).ok_or(Failure::Protocol)?;
                }
                return Ok(head.status);
            }
        }
    }

    /// Reads behind `filled` bytes; the end of the stream or of the buffer is a failure.
    async fn read(&mut self, filled: usize) -> Result<usize, Failure> {
        if filled == self.buffer.len() {
            return Err(Failure::Protocol);
        }
        match self.stream.read(&mut self.buffer[filled..]).await {
            Ok(0) | Err(_) => Err(Failure::Reset),
            Ok(read) => Ok(read),
        }
    }
}

/// A request as it goes over the wire, and where the key's digits stand in it.
#[derive(Debug)]
struct Request {
    bytes: Vec<u8>,
    digits: Range<usize>,
}

impl Request {
    fn new(
        method: &str,
        host: SocketAddr,
        keys: &KeySpace,
        query: &str,
        body: Option<&[u8]>,
    ) -> Request {
        let mut bytes = format!("{method} /v1/kv/").into_bytes();
        let key_at = bytes.len();
        bytes.extend_from_slice(&keys.key(0));
        bytes.extend_from_slice(format!("{query} HTTP/1.1\r\nhost: {host}\r\n").as_bytes());
        if let Some(body) = body {
            bytes.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(body.unwrap_or_default());
        let digits = keys.digits_at();
        Request { bytes, digits: key_at + digits.start..key_at + digits.end }
    }
}

/// What matters of a reply's head.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    bytes: usize,
    body_bytes: usize,
}

impl Head {
    /// The head at the start of `bytes`; `None` while it is not whole.
    fn find(bytes: &[u8]) -> Result<Option<Head>, Failure> {
        let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = &bytes[..end];
        let status = head.get(9..12).and_then(number).ok_or(Failure::Protocol)?;
        let status = u16::try_from(status).map_err(|_too_long| Failure::Protocol)?;
        let length = head.split(|&b| b == b'\n').find_map(|line| {
            let (name, value) = line.split_at_checked(15)?;
            name.eq_ignore_ascii_case(b"content-length:").then(|| number(value.trim_ascii()))
        });
        let body_bytes = match (length, status) {
            (_, 204 | 304) => 0,
            (Some(length), _) => length.ok_or(Failure::Protocol)?,
            (None, _) => return Err(Failure::Protocol),
        };
        Ok(Some(Head { status, bytes: end + 4, body_bytes }))
    }
}

fn number(digits: &[u8]) -> Option<usize> {
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_found_only_when_whole() {
        let reply = b"HTTP/1.1 201 Created\r\nEtag: \"2\"\r\nContent-Length: 5\r\n\r\nhello";
        for cut in 0..reply.len() - 5 {
            assert_eq!(Head::find(&reply[..cut]), Ok(None), "{cut}");
        }
        let head = Head { status: 201, bytes: reply.len() - 5, body_bytes: 5 };
        assert_eq!(Head::find(reply), Ok(Some(head)));
    }

    #[test]
    fn a_reply_without_a_length_is_not_understood() {
        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(Head::find(chunked), Err(Failure::Protocol));
        assert_eq!(Head::find(b"nonsense\r\n\r\n"), Err(Failure::Protocol));
    }

    #[test]
    fn only_the_digits_of_a_request_change() {
        let keys = KeySpace::new(16, 100).unwrap();
        let host = "127.0.0.1:1".parse().unwrap();
        let mut request = Request::new("PUT", host, &keys, "", Some(b"xyz"));
        keys.write_digits(42, &mut request.bytes[request.digits.clone()]);
        assert_eq!(
            String::from_utf8(request.bytes).unwrap(),
            "PUT /v1/kv/bench/0000000042 HTTP/1.1\r\nhost: 127.0.0.1:1\r\ncontent-length: 3\r\n\r\nxyz"
        );
    }
}
