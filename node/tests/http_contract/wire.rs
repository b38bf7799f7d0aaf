//! HTTP/1.1 by hand, one request per connection.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Whatever is waited for comes within this time, or never.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Where requests go, and what their keys begin with.
#[derive(Debug, Clone)]
pub(crate) struct At {
    pub(crate) addr: SocketAddr,
    pub(crate) prefix: String,
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl At {
    pub(crate) fn new(addr: SocketAddr) -> At {
        At { addr, prefix: String::new() }
    }

    /// The target of a key under this prefix; `key` is already percent-encoded.
    pub(crate) fn key(&self, key: &str) -> String {
        format!("/v1/kv/{}{key}", self.prefix)
    }

    pub(crate) async fn get(&self, target: &str) -> Reply {
        self.send("GET", target, &[], b"").await
    }

    pub(crate) async fn put(&self, target: &str, body: impl AsRef<[u8]>) -> Reply {
        self.send("PUT", target, &[], body.as_ref()).await
    }

    pub(crate) async fn post(&self, target: &str, body: impl AsRef<[u8]>) -> Reply {
        self.send("POST", target, &[], body.as_ref()).await
    }

    pub(crate) async fn patch(&self, target: &str) -> Reply {
        self.send("PATCH", target, &[], b"").await
    }

    pub(crate) async fn delete(&self, target: &str) -> Reply {
        self.send("DELETE", target, &[], b"").await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
        for (name, value) in headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        if !body.is_empty() || matches!(method, "PUT" | "POST") {
            let _ = write!(head, "content-length: {}\r\n", body.len());
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.raw(&bytes).await.unwrap_or_else(|| panic!("no reply to {method} {target}"))
    }

    /// Sends bytes as they are; `None` when the connection ends without a whole reply.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Option<Reply> {
        let mut socket = self.connect().await;
        // A server that refuses early may close before it took all of it.
        let _ = socket.write_all(bytes).await;
        read_reply(&mut socket).await
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        let socket = timeout(PATIENCE, TcpStream::connect(self.addr)).await;
        socket.expect("accepted in time").expect("connect")
    }

    /// The revision and the digest of the whole state: equal before and after, nothing changed.
    pub(crate) async fn fingerprint(&self) -> (u64, String) {
        // The status is this node's own; a linearizable read before it makes it current.
        self.get("/v1/kv?count_only=true").await;
        let status = self.get("/v1/status").await.json();
        let store = &status["store"];
        let revision = store["revision"].as_u64().expect("a revision");
        (revision, store["digest"].as_str().expect("a digest").to_owned())
    }

    pub(crate) async fn revision(&self) -> u64 {
        let reply = self.get("/v1/kv?count_only=true&limit=1").await;
        reply.number("kv-revision")
    }
}

/// Reads one reply to the end of its body. A HEAD request's has none, and its connection ends.
pub(crate) async fn read_reply(socket: &mut TcpStream) -> Option<Reply> {
    timeout(PATIENCE, read(socket)).await.expect("a reply in time")
}

async fn read(socket: &mut TcpStream) -> Option<Reply> {
    let mut bytes = Vec::new();
    let body_at = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        more(socket, &mut bytes).await?;
    };
    let head = String::from_utf8_lossy(&bytes[..body_at]).into_owned();
    let mut lines = head.trim_end().split("\r\n");
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let mut reply = Reply { status, headers, body: bytes.split_off(body_at) };
    if reply.find("transfer-encoding") == Some("chunked") {
        reply.body = read_chunks(socket, reply.body).await?;
    } else if let Some(length) = reply.find("content-length") {
        let length: usize = length.parse().ok()?;
        while reply.body.len() < length {
            if more(socket, &mut reply.body).await.is_none() {
                // To a HEAD request: the length of what is not sent.
                return reply.body.is_empty().then_some(reply);
            }
        }
    }
    Some(reply)
}

async fn read_chunks(socket: &mut TcpStream, mut raw: Vec<u8>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let line = loop {
            if let Some(at) = raw.windows(2).position(|two| two == b"\r\n") {
                break at;
            }
            more(socket, &mut raw).await?;
        };
        let size = usize::from_str_radix(std::str::from_utf8(&raw[..line]).ok()?, 16).ok()?;
        while raw.len() < line + 2 + size + 2 {
            more(socket, &mut raw).await?;
        }
        body.extend_from_slice(&raw[line + 2..line + 2 + size]);
        raw.drain(..line + 2 + size + 2);
        if size == 0 {
            return Some(body);
        }
    }
}

async fn more(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    let mut buffer = [0; 16 << 10];
    match socket.read(&mut buffer).await {
        Ok(0) | Err(_) => None,
        Ok(count) => {
            bytes.extend_from_slice(&buffer[..count]);
            Some(())
        }
    }
}

impl Reply {
    pub(crate) fn find(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.find(name).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub(crate) fn number(&self, name: &str) -> u64 {
        self.header(name).parse().unwrap_or_else(|_| panic!("{name} is no number in {self:?}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// Checks the status, and what every reply carries.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Reply {
        assert_eq!(self.status, status, "{}", self.text());
        if self.find("content-length") != Some("0") && !self.body.is_empty() {
            self.header("content-type");
        }
        self.number("kv-node");
        self
    }

    /// Checks that this is the problem `code` with the status it comes with.
    #[track_caller]
    pub(crate) fn refused(self, status: u16, code: &str) -> Value {
        let reply = self.is(status);
        assert_eq!(reply.header("content-type"), "application/problem+json");
        let problem = reply.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status);
        for member in ["type", "title", "detail"] {
            assert!(problem[member].is_string(), "no {member} in {problem}");
        }
        assert_eq!(reply.find("retry-after").is_some(), matches!(status, 429 | 503));
        problem
    }

    /// Checks that this is 400 for `field`.
    #[track_caller]
    pub(crate) fn invalid(self, field: &str) -> Value {
        let problem = self.refused(400, "invalid_argument");
        assert_eq!(problem["field"], field, "{problem}");
        problem
    }
}
