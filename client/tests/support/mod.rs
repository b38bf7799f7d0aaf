//! A node that answers as a test tells it, over a real socket, and remembers what it was asked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::Request,
    http::{HeaderMap, StatusCode},
    response::Response,
};

/// One request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Method, path and query, without the `timeout` that every attempt carries.
    pub(crate) line: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A fake node; it ends with the test process.
#[derive(Debug, Clone)]
pub(crate) struct Fake {
    pub(crate) addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    /// Starts one. `answer` gets the request and its number, from 0.
    pub(crate) fn start(
        answer: impl Fn(&Asked, usize) -> Response + Send + Sync + 'static,
    ) -> Fake {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let fake = Fake { addr, asked: Arc::clone(&asked) };
        let answer = Arc::new(answer);
        let app = Router::new().fallback(move |request: Request| {
            let (answer, asked) = (Arc::clone(&answer), Arc::clone(&asked));
            async move {
                let request = read(request).await;
                let number = {
                    let mut asked = asked.lock().unwrap();
                    asked.push(request.clone());
                    asked.len() - 1
                };
                answer(&request, number)
            }
        });
        // A runtime of its own: tests may block, and may run programs that ask it.
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                axum::serve(listener, app).await.unwrap();
            });
        });
        fake
    }

    pub(crate) fn endpoint(&self) -> String {
        self.addr.to_string()
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

/// An address where nobody listens.
pub(crate) fn nobody() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// Says who answers and who leads, as every reply of a node does.
pub(crate) fn from(node: u64, leader: u64) -> http::response::Builder {
    Response::builder().header("kv-node", node).header("kv-leader", leader)
}

pub(crate) fn json(status: u16, body: &serde_json::Value) -> Response {
    Response::builder().status(status).body(Body::from(body.to_string())).unwrap()
}

/// A refusal as a node writes it.
pub(crate) fn problem(code: raftmap_client::api::Code) -> Response {
    let problem = raftmap_client::api::Problem::new(code, "as the test wants it");
    let status = StatusCode::from_u16(problem.status).unwrap();
    let body = serde_json::to_string(&problem).unwrap();
    Response::builder().status(status).body(Body::from(body)).unwrap()
}

/// A record as a raw read answers it.
pub(crate) fn record(value: &'static str) -> Response {
    from(1, 1)
        .header("etag", "\"12\"")
        .header("kv-revision", 13)
        .header("kv-create-revision", 2)
        .header("kv-version", 5)
        .header("kv-tier", "hot")
        .body(Body::from(value))
        .unwrap()
}

async fn read(request: Request) -> Asked {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let uri = parts.uri.to_string();
    let (path, query) = uri.split_once('?').unwrap_or((&uri, ""));
    let kept: Vec<&str> =
        query.split('&').filter(|p| !p.is_empty() && !p.starts_with("timeout=")).collect();
    let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
    Asked { line: format!("{} {path}{query}", parts.method), headers: parts.headers, body }
}
