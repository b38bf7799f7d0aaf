//! Lists: page by page, or as one stream in bounded memory.

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{Stream, stream};
use http::header::ACCEPT;
use serde::Deserialize;

use crate::{
    api::{Bounds, EndLine, ListReply, Record},
    client::Client,
    error::{Error, Result},
    options::{ListOptions, ReadOptions},
    request::Request,
    transport::{next_piece, problem_of, whole_body},
};

/// The longest line of a stream: a record of the largest key and value in their most verbose JSON form.
const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

impl Client {
    /// One page of a list; `cursor` of the reply goes into the options of the next.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the revision is no longer kept; else as in [`Error`].
    pub async fn list(&self, options: &ListOptions) -> Result<ListReply> {
        let mut request = list_request(options)?;
        if let Some(cursor) = &options.cursor {
            request.param("cursor", cursor);
        }
        self.transport.call(&request).await?.json()
    }

    /// How many keys are between `bounds`, and at which revision.
    ///
    /// # Errors
    /// As [`Client::list`].
    pub async fn count(&self, bounds: &Bounds, read: &ReadOptions) -> Result<(u64, u64)> {
        let options = ListOptions { read: read.clone(), ..ListOptions::of(bounds.clone()) };
        let mut request = list_request(&options)?;
        request.flag("count_only", true);
        let reply: ListReply = self.transport.call(&request).await?.json()?;
        Ok((reply.count, reply.revision))
    }

    /// All records between the bounds, of one revision, as they arrive. Memory holds one record.
    ///
    /// The options' time-out is for the beginning of the reply; after that each piece has 30 s.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a separator or a cursor; else as [`Client::list`].
    pub async fn list_stream(&self, options: &ListOptions) -> Result<Records> {
        if options.separator.is_some() || options.cursor.is_some() {
            return Err(Error::invalid("a streamed list takes no separator and no cursor"));
        }
        let request = list_request(options)?.header(ACCEPT, "application/x-ndjson");
        let response = self.transport.open(&request).await?;
        if !response.status().is_success() {
            let status = response.status().as_u16();
            let body = whole_body(response).await.map_err(Error::internal)?;
            return Err(problem_of(status, &body));
        }
        Ok(Records { response, buffer: BytesMut::new(), searched: 0, count: 0, end: None })
    }
}

fn list_request(options: &ListOptions) -> Result<Request> {
    let mut request = Request::read("/v1/kv");
    request.bounds(&options.bounds)?;
    if let Some(limit) = options.limit {
        request.param("limit", &limit.to_string());
    }
    request.flag("reverse", options.reverse);
    request.flag("keys_only", options.keys_only);
    if let Some(separator) = &options.separator {
        request.bytes_param("separator", separator);
    }
    request.read_options(&options.read);
    Ok(request)
}

/// A streamed list.
///
/// Always true: it yields every record or an error; `None` comes only after the node's line that says so.
#[derive(Debug)]
pub struct Records {
    response: reqwest::Response,
    /// What has arrived of the lines that were not yielded.
    buffer: BytesMut,
    /// How much of the buffer is known to hold no line end.
    searched: usize,
    count: u64,
    end: Option<EndLine>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Line {
    End(EndLine),
    Record(Box<Record>),
}

impl Records {
    /// The next record; `None` after the last.
    ///
    /// # Errors
    /// [`Error::Retry`] if the stream was cut off: what came before is good, but it is not all.
    pub async fn next(&mut self) -> Result<Option<Record>> {
        if self.end.is_some() {
            return Ok(None);
        }
        let line = self.line().await?;
        match serde_json::from_slice(&line) {
            Ok(Line::Record(record)) => {
                self.count += 1;
                Ok(Some(*record))
            }
            Ok(Line::End(end)) if end.count == self.count => {
                self.end = Some(end);
                Ok(None)
            }
            Ok(Line::End(end)) => Err(Error::internal(format!(
                "the stream says it had {} records, but {} came",
                end.count, self.count
            ))),
            Err(e) => Err(Error::internal(format!("line {} of the stream: {e}", self.count + 1))),
        }
    }

    /// The closing line, once the last record was yielded: the revision that all records show, and their number.
    #[must_use]
    pub fn end(&self) -> Option<EndLine> {
        self.end
    }

    /// The same as a [`Stream`]; after an error it ends.
    pub fn into_stream(self) -> impl Stream<Item = Result<Record>> + Send {
        stream::try_unfold(self, |mut records| async move {
            Ok(records.next().await?.map(|record| (record, records)))
        })
    }

    async fn line(&mut self) -> Result<Bytes> {
        loop {
            let unsearched = &self.buffer[self.searched..];
            if let Some(at) = unsearched.iter().position(|&b| b == b'\n') {
                let line = self.buffer.split_to(self.searched + at).freeze();
                self.buffer.advance(1);
                self.searched = 0;
                return Ok(line);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(Error::internal(format!("a line longer than {LINE_BYTES_MAX} bytes")));
            }
            match next_piece(&mut self.response).await {
                Ok(Some(piece)) => self.buffer.extend_from_slice(&piece),
                Ok(None) => return Err(self.cut("it ended without its last line")),
                Err(reason) => return Err(self.cut(&reason)),
            }
        }
    }

    fn cut(&self, reason: &str) -> Error {
        let reason = format!("the list was cut off after {} records: {reason}", self.count);
        Error::Retry { reason, problem: None }
    }
}
