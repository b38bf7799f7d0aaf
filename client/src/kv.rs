//! The calls on keys.

use std::time::Duration;

use bytes::Bytes;
use http::Method;

use crate::{
    api::{Bounds, DeleteRangeReply, DeleteReply, PutReply, Record, TxnReply, TxnRequest},
    client::Client,
    error::{Error, Result},
    options::{Condition, Deadline, DeleteOptions, PutOptions, ReadOptions},
    request::Request,
    transport::Reply,
};

/// What a read of one key found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Got {
    /// The record; `None`: the key is absent.
    pub record: Option<Record>,
    /// The store's revision at the read.
    pub revision: u64,
    /// Which tier had it, `hot` or `cold`.
    pub tier: Option<String>,
    /// How far behind the node may have been; only for stale reads.
    pub staleness: Option<Duration>,
}

impl Client {
    /// Reads one key.
    ///
    /// # Errors
    /// As in [`Error`]; an absent key is no error.
    pub async fn get(&self, key: impl AsRef<[u8]>, options: &ReadOptions) -> Result<Got> {
        let key = key.as_ref();
        let mut request = Request::read("/v1/kv").on_key(key)?;
        request.read_options(options);
        let reply = self.transport.call(&request).await?;
        let record = match reply.success() {
            Ok(()) => Some(record_of(key, &reply)?),
            Err(Error::NotFound(problem)) if problem.code == crate::api::Code::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Got {
            record,
            revision: required(&reply, "kv-revision")?,
            tier: reply.headers.get("kv-tier").and_then(|v| v.to_str().ok()).map(str::to_owned),
            staleness: reply.number("kv-staleness-ms").map(Duration::from_millis),
        })
    }

    /// Writes one key. Without a TTL or lease in `options` the key loses those that it had.
    ///
    /// # Errors
    /// [`Error::Conflict`] if the condition did not hold, [`Error::Unknown`] if it may or may not have been
    /// written; else as in [`Error`].
    pub async fn put(
        &self,
        key: impl AsRef<[u8]>,
        value: impl Into<Bytes>,
        options: &PutOptions,
    ) -> Result<PutReply> {
        let mut request = Request::write(Method::PUT, "/v1/kv").on_key(key.as_ref())?;
        match (options.ttl, options.lease) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid("a TTL and a lease exclude each other"));
            }
            (Some(ttl), None) => request.param("ttl", &ttl.to_string()),
            (None, Some(lease)) => request.param("lease", &lease.to_string()),
            (None, None) => {}
        }
        request.flag("prev", options.prev);
        request.condition(options.condition);
        request.timeout = options.timeout;
        request.body = value.into();
        self.transport.call(&request).await?.json()
    }

    /// Deletes one key; an absent one is no error, and `deleted` is 0.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub async fn delete(
        &self,
        key: impl AsRef<[u8]>,
        options: &DeleteOptions,
    ) -> Result<DeleteReply> {
        let mut request = Request::write(Method::DELETE, "/v1/kv").on_key(key.as_ref())?;
        request.flag("prev", options.prev);
        request.condition(options.condition);
        request.timeout = options.timeout;
        self.transport.call(&request).await?.json()
    }

    /// Changes a key's deadline and nothing else: no revision, no event.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the key is absent; else as [`Client::put`].
    pub async fn touch(
        &self,
        key: impl AsRef<[u8]>,
        deadline: Deadline,
        condition: Condition,
    ) -> Result<Record> {
        let mut request = Request::write(Method::PATCH, "/v1/kv").on_key(key.as_ref())?;
        match deadline {
            Deadline::Ttl(ttl) => request.param("ttl", &ttl.to_string()),
            Deadline::Lease(lease) => request.param("lease", &lease.to_string()),
        }
        request.condition(condition);
        self.transport.call(&request).await?.json()
    }

    /// Deletes every key between `bounds`, all or none.
    ///
    /// # Errors
    /// [`Error::Conflict`] if there are more than one command may delete; [`Error::Invalid`] for
    /// [`Bounds::All`], which is [`Client::clear`]; else as [`Client::put`].
    pub async fn delete_range(
        &self,
        bounds: &Bounds,
        options: &DeleteOptions,
    ) -> Result<DeleteRangeReply> {
        if matches!(bounds, Bounds::All) {
            return Err(Error::invalid("deleting every key is a call of its own: clear"));
        }
        if options.condition != Condition::None {
            return Err(Error::invalid("deleting a range takes no condition"));
        }
        let mut request = Request::write(Method::DELETE, "/v1/kv");
        request.bounds(bounds)?;
        request.flag("prev", options.prev);
        request.timeout = options.timeout;
        self.transport.call(&request).await?.json()
    }

    /// Deletes every key of the store.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub async fn clear(&self) -> Result<DeleteRangeReply> {
        let mut request = Request::write(Method::DELETE, "/v1/kv");
        request.flag("all", true);
        self.transport.call(&request).await?.json()
    }

    /// Runs a transaction. A comparison that does not hold is a result, not an error.
    ///
    /// # Errors
    /// As [`Client::put`].
    pub async fn txn(&self, txn: &TxnRequest) -> Result<TxnReply> {
        let request = Request::write(Method::POST, "/v1/txn").json(txn)?;
        self.transport.call(&request).await?.json()
    }
}

/// A record from the headers and the raw body of a read.
fn record_of(key: &[u8], reply: &Reply) -> Result<Record> {
    Ok(Record {
        key: Bytes::copy_from_slice(key),
        value: Some(reply.body.clone()),
        create_revision: required(reply, "kv-create-revision")?,
        mod_revision: tag(reply)?,
        version: required(reply, "kv-version")?,
        lease: reply.number("kv-lease"),
        ttl_ms: reply.number("kv-ttl-ms"),
    })
}

fn required(reply: &Reply, name: &str) -> Result<u64> {
    reply
        .number(name)
        .ok_or_else(|| Error::internal(format!("the reply has no number in `{name}`")))
}

/// The number in a strong `ETag`.
fn tag(reply: &Reply) -> Result<u64> {
    let text = reply.headers.get(http::header::ETAG).and_then(|v| v.to_str().ok());
    text.and_then(|t| t.strip_prefix('"')?.strip_suffix('"')?.parse().ok())
        .ok_or_else(|| Error::internal("the reply has no revision in its ETag"))
}
