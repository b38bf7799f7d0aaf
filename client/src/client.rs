//! The handle: made once, cloned freely, used from any task.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

use crate::{
    endpoints::Endpoints,
    error::{Error, Result},
    transport::Transport,
};

/// How long a call may take when nothing else is said: an election and a retry fit in twice.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// A client of one cluster.
///
/// Clones share connections, the table of endpoints and what was learnt about the leader. It must be used within a
/// tokio runtime.
///
/// ```no_run
/// # async fn example() -> raftmap_client::Result<()> {
/// use raftmap_client::{Client, PutOptions, ReadOptions};
///
/// let client = Client::new(["127.0.0.1:7701", "127.0.0.1:7702"])?;
/// let put = client.put("greeting", "hello", &PutOptions::default()).await?;
/// let got = client.get("greeting", &ReadOptions::default()).await?;
/// assert_eq!(got.record.map(|r| r.mod_revision), Some(put.revision));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Client {
    pub(crate) transport: Arc<Transport>,
}

/// What a [`Client`] is made of.
#[derive(Debug, Clone)]
pub struct Builder {
    endpoints: Vec<String>,
    token: Option<String>,
    timeout: Duration,
    pinned: bool,
}

impl Client {
    /// A client of the cluster that these `host:port` addresses belong to; one is enough, more survive its loss.
    ///
    /// # Errors
    /// [`Error::Invalid`] without addresses, or for one that is none.
    pub fn new<I: IntoIterator<Item = S>, S: Into<String>>(endpoints: I) -> Result<Client> {
        Client::builder(endpoints).build()
    }

    /// A client with other than the default settings.
    pub fn builder<I: IntoIterator<Item = S>, S: Into<String>>(endpoints: I) -> Builder {
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        Builder { endpoints, token: None, timeout: TIMEOUT_DEFAULT, pinned: false }
    }

    /// Every address that is known now: the given ones, then those learnt from the cluster.
    pub fn known_endpoints(&self) -> Vec<String> {
        self.transport.endpoints().all().iter().map(ToString::to_string).collect()
    }
}

impl Builder {
    /// A bearer token to send with every call.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Builder {
        self.token = Some(token.into());
        self
    }

    /// How long a call may take, retries included, when its options do not say; 10 s by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Builder {
        self.timeout = timeout;
        self
    }

    /// Uses the given endpoints alone: no other member's address is learnt, and calls are not sent to the leader
    /// unless it is among them. For looking at one node.
    #[must_use]
    pub fn pinned(mut self) -> Builder {
        self.pinned = true;
        self
    }

    /// Makes the client; nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::Invalid`] without addresses, for one that is none, or for a token that no header can carry.
    pub fn build(self) -> Result<Client> {
        let endpoints: Vec<String> =
            self.endpoints.iter().map(|text| address(text)).collect::<Result<_>>()?;
        let endpoints =
            Endpoints::new(endpoints).ok_or_else(|| Error::invalid("no endpoint was given"))?;
        let endpoints = if self.pinned { endpoints.pinned() } else { endpoints };
        let mut headers = HeaderMap::new();
        if let Some(token) = self.token {
            let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_bytes| {
                Error::invalid("the token holds bytes that no header can carry")
            })?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let transport = Transport::new(endpoints, self.timeout, headers)?;
        Ok(Client { transport: Arc::new(transport) })
    }
}

/// `host:port` of an endpoint, also when it was given as a URL.
fn address(text: &str) -> Result<String> {
    let bare = text.trim().trim_start_matches("http://").trim_end_matches('/');
    let parsed = bare.parse::<http::uri::Authority>().ok();
    match parsed.and_then(|authority| authority.port_u16()) {
        Some(port) if port > 0 => Ok(bare.to_owned()),
        _ => Err(Error::invalid(format!("`{text}` is not an address of the form host:port"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_host_and_port() {
        assert_eq!(address("127.0.0.1:7701").unwrap(), "127.0.0.1:7701");
        assert_eq!(address(" http://node-1:7701/ ").unwrap(), "node-1:7701");
        assert_eq!(address("[::1]:7701").unwrap(), "[::1]:7701");
        for text in ["", "node-1", "node-1:", "node-1:0", "node-1:99999", "a b:1", "https://a:1"] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_client_without_endpoints_is_refused() {
        assert!(matches!(Client::new(Vec::<String>::new()), Err(Error::Invalid { .. })));
    }
}
