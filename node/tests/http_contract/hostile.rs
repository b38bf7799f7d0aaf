//! Clients that do what none should. The node lives, answers others, and shows no trace of them.

use std::time::{Duration, Instant};

use raftmap_node::http::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::nodes::{Nodes, until};
use crate::wire::{At, PATIENCE, read_reply};

/// Writes and reads as everybody else does, in decent time.
async fn serves_others(at: &At) {
    let began = Instant::now();
    let revision = at.put("/v1/kv/other", "x").await.number("kv-revision");
    assert_eq!(at.get("/v1/kv/other").await.is(200).number("kv-revision"), revision);
    assert!(began.elapsed() < Duration::from_secs(5), "took {:?}", began.elapsed());
}

/// Waits until the other side closes.
async fn closed(socket: &mut TcpStream) -> Vec<u8> {
    let mut rest = Vec::new();
    let end = timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
    let _reset_or_end = end.expect("closed in time");
    rest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_requests_are_refused_and_never_an_internal_error() {
    let nodes = Nodes::one().await;
    let at = nodes.only();
    at.put("/v1/kv/a", "x").await.is(201);
    let before = at.fingerprint().await;
    let long = |length: usize| "h".repeat(length);

    for request in [
        // Two lengths that contradict each other, and both framings at once.
        "PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"
            .into(),
        "PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n".into(),
        "PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999999999999\r\n\r\n".into(),
        "PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nab".into(),
        "PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n\
         fffffffffffffffffff\r\nab"
            .into(),
        "PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\nab".into(),
        "PUT /v1/kv/%zz HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\na".into(),
        "PUT /v1/kv/a\u{0}b HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\na".into(),
        "PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\nbad header: 1\r\n\r\n".into(),
        "PUT /v1/kv/a HTTP/1.1\r\nhost : x\r\ncontent-length: 1\r\n\r\na".into(),
        "PUT /v1/kv/a HTTP/9.9\r\nhost: x\r\n\r\n".into(),
        "P\u{1}T /v1/kv/a HTTP/1.1\r\nhost: x\r\n\r\n".into(),
        "\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\u{1}\u{fc}\u{3}\u{3}\r\n\r\n".into(),
        format!("GET /v1/kv/a HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", long(20_000)),
        format!("GET /v1/kv/a HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", long(500_000)),
        format!("GET /v1/kv/a HTTP/1.1\r\nhost: x\r\n{}\r\n", "x: y\r\n".repeat(500)),
        format!("GET /v1/kv/{} HTTP/1.1\r\nhost: x\r\n\r\n", long(40_000)),
        format!("GET /v1/kv/{} HTTP/1.1\r\nhost: x\r\n\r\n", long(200_000)),
    ] {
        let request: String = request;
        let head = request.lines().next().unwrap_or_default().chars().take(60).collect::<String>();
        let mut socket = at.connect().await;
        // The node may close before it took everything.
        let _ = socket.write_all(request.as_bytes()).await;
        let _ = socket.shutdown().await;
        let reply = String::from_utf8_lossy(&closed(&mut socket).await).into_owned();
        if let Some(status) = reply.split(' ').nth(1) {
            assert!(status.starts_with('4') || status == "505", "{head}: {status}");
        }
    }
    assert_eq!(at.fingerprint().await, before);
    serves_others(&at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_can_not_be_smuggled_into_another() {
    let nodes = Nodes::one().await;
    let at = nodes.only();
    at.put("/v1/kv/a", "x").await.is(201);
    // Chunked wins over the length (RFC 9112 §6.3), or all of it is refused; what follows the
    // chunks is then never a request of its own on a connection that goes on.
    let request = "PUT /v1/kv/b HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\
         transfer-encoding: chunked\r\n\r\n0\r\n\r\nDELETE /v1/kv/a HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut socket = at.connect().await;
    socket.write_all(request.as_bytes()).await.unwrap();
    let _ = socket.shutdown().await;
    closed(&mut socket).await;
    assert_eq!(at.get("/v1/kv/a").await.is(200).text(), "x");
    serves_others(&at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_idle_connections_cost_nothing() {
    let nodes = Nodes::one().await;
    let at = nodes.only();
    let mut idle = Vec::new();
    for count in 0..1_000 {
        let mut socket = at.connect().await;
        if count % 2 == 0 {
            socket.write_all(b"GET /v1/kv/a HTTP/1.1\r\nho").await.unwrap();
        }
        idle.push(socket);
    }
    for _ in 0..20 {
        serves_others(&at).await;
    }
    drop(idle);
    serves_others(&at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn heads_that_do_not_end_and_idle_connections_are_closed() {
    let nodes = Nodes::one().await;
    let limits = Limits {
        head_timeout: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(400),
        ..Limits::default()
    };
    let (at, _stop) = nodes.with_limits(limits).await;

    let mut half = at.connect().await;
    half.write_all(b"GET /v1/kv/a HTTP/1.1\r\nhost: x\r\nx: ").await.unwrap();
    let mut silent = at.connect().await;
    let mut served = at.connect().await;
    served.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    read_reply(&mut served).await.unwrap().is(200);

    let began = Instant::now();
    assert_eq!(closed(&mut half).await, b"");
    let half_after = began.elapsed();
    assert_eq!(closed(&mut silent).await, b"");
    assert_eq!(closed(&mut served).await, b"");
    assert!(half_after < began.elapsed(), "a head has less time than an idle connection");
    serves_others(&at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_given_up() {
    let nodes = Nodes::one().await;
    nodes.only().put("/v1/kv/large", vec![b'v'; 8 << 20]).await.is(201);
    let limits = Limits { write_stall: Duration::from_millis(200), ..Limits::default() };
    let (at, _stop) = nodes.with_limits(limits).await;
    let mut sockets = Vec::new();
    for _ in 0..8 {
        let mut socket = at.connect().await;
        let request = "GET /v1/kv/large HTTP/1.1\r\nhost: x\r\n\r\n".repeat(4);
        socket.write_all(request.as_bytes()).await.unwrap();
        sockets.push(socket);
    }
    until("every stalled reply to be given up", || async {
        let figures = at.get("/metrics").await.text();
        figures.lines().any(|line| line == "raftmap_http_requests_under_way 1")
    })
    .await;
    serves_others(&at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_beyond_the_bound_are_told_or_closed() {
    let nodes = Nodes::one().await;
    let limits = Limits { connections_max: 2, peer_connections_reserve: 1, ..Limits::default() };
    let (at, _stop) = nodes.with_limits(limits).await;
    let held = [at.connect().await, at.connect().await];
    let asked = || async {
        let request = b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
        at.raw(request).await
    };
    until("the node to see both", || async {
        asked().await.is_some_and(|reply| reply.status == 429)
    })
    .await;
    let surplus = at.connect().await;
    until("the reserve to be taken", || async { asked().await.is_none() }).await;
    drop((held, surplus));
    until("room again", || async { asked().await.is_some_and(|reply| reply.status == 200) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_break_off_anywhere_leave_no_trace() {
    let nodes = Nodes::one().await;
    let at = nodes.only();
    at.put("/v1/kv/a", "x").await.is(201);
    let before = at.fingerprint().await;
    let request = b"PUT /v1/kv/a HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nvalue";
    for end in 0..request.len() {
        let mut socket = at.connect().await;
        socket.write_all(&request[..end]).await.unwrap();
        drop(socket);
    }
    assert_eq!(at.fingerprint().await, before);
    serves_others(&at).await;
}

/// The preface and the settings that begin an HTTP/2 connection.
async fn http2(at: &At) -> TcpStream {
    let mut socket = at.connect().await;
    socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    socket.write_all(&frame(4, 0, 0, b"")).await.unwrap();
    socket
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// `GET /` for the authority `x`, from the static table.
const GET_ROOT: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'x'];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_that_are_reset_at_once_end_their_connection() {
    let nodes = Nodes::one().await;
    let at = nodes.only();
    let mut socket = http2(&at).await;
    let mut flood = Vec::new();
    for stream in (1..40_000).step_by(2) {
        flood.extend_from_slice(&frame(1, 0x05, stream, GET_ROOT));
        flood.extend_from_slice(&frame(3, 0, stream, &8_u32.to_be_bytes()));
    }
    // The node closes in the middle of it, or survives all of it: either way it serves others.
    let flooding = tokio::spawn(async move {
        let _ = socket.write_all(&flood).await;
        socket
    });
    serves_others(&at).await;
    let mut socket = timeout(PATIENCE, flooding).await.expect("in time").unwrap();
    let _ = socket.shutdown().await;
    closed(&mut socket).await;
    serves_others(&at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_without_an_end_end_their_connection() {
    let nodes = Nodes::one().await;
    let at = nodes.only();
    let mut socket = http2(&at).await;
    let mut field = vec![0x00, 0x01, b'x', 0x7f, 0x81, 0x7d];
    field.extend_from_slice(&[b'y'; 16_000]);
    let _ = socket.write_all(&frame(1, 0, 1, &[GET_ROOT, &field[..]].concat())).await;
    let flooding = tokio::spawn(async move {
        for _ in 0..2_000 {
            if socket.write_all(&frame(9, 0, 1, &field)).await.is_err() {
                break;
            }
        }
        let _ = socket.shutdown().await;
        socket
    });
    serves_others(&at).await;
    let mut socket = timeout(PATIENCE, flooding).await.expect("in time").unwrap();
    closed(&mut socket).await;
    serves_others(&at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_versions_of_http_are_spoken_on_one_port() {
    let nodes = Nodes::one().await;
    let at = nodes.only();
    let url = format!("http://{}/v1/kv/a", at.addr);
    let client = reqwest::Client::builder().http2_prior_knowledge().no_proxy().build().unwrap();
    let put = client.put(&url).body("x").send().await.unwrap();
    assert_eq!((put.status(), put.version()), (201.try_into().unwrap(), http::Version::HTTP_2));
    let got = client.get(&url).send().await.unwrap();
    assert_eq!(got.headers()["etag"], "\"2\"");
    assert_eq!(got.text().await.unwrap(), "x");
    let head = client.head(&url).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], "1");
    let beyond = client.put(&url).body(vec![b'v'; (8 << 20) + 1]).send().await.unwrap();
    assert_eq!(beyond.status(), 413);
    let absent = client.delete(format!("{url}?prev=2")).send().await.unwrap();
    assert_eq!(absent.status(), 400);
    serves_others(&at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_to_stop_lets_requests_end() {
    let nodes = Nodes::one().await;
    let (at, stop) = nodes.with_limits(Limits::default()).await;
    let mut idle = at.connect().await;
    let mut busy = at.connect().await;
    let head = b"PUT /v1/kv/late HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\n";
    busy.write_all(head).await.unwrap();
    until("the node to have begun", || async {
        let figures = nodes.only().get("/metrics").await.text();
        !figures.lines().any(|line| line == "raftmap_http_connections 0")
    })
    .await;
    at.get("/livez").await.is(200);

    stop.send_replace(true);
    assert_eq!(closed(&mut idle).await, b"");
    busy.write_all(b"value").await.unwrap();
    assert_eq!(read_reply(&mut busy).await.unwrap().is(201).json()["created"], true);
    closed(&mut busy).await;
    until("nothing to listen", || async { TcpStream::connect(at.addr).await.is_err() }).await;
}
