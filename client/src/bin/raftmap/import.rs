//! `raftmap import FILE|-`: writes what `export` wrote, or lines made by hand.
//!
//! ```text
//!   lines ──► batch (at most 256 puts, 1 MiB) ──► one transaction ──► next batch
//! ```
//!
//! A batch is written whole or not at all, the file is not: after a failure everything before the failed batch
//! is there. Batches go one after the other, so of a key that comes twice the last line wins.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufRead, BufReader, Read as _, Seek as _},
    time::Duration,
};

use bytes::Bytes;
use clap::Args;
use raftmap_client::{
    PutOptions,
    api::{Ttl, TxnOp, TxnPut, TxnRequest, bytes::decode_base64},
};
use serde::Deserialize;
use serde_json::json;

use crate::{args::is_dash, context::Context, failure::Failure, progress::Progress};

/// The most puts of one transaction; a quarter of what a cluster allows by default.
const BATCH_PUTS_MAX: usize = 256;
/// The most bytes of keys and values of one transaction. What is larger goes as a put of its own, raw.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// The longest line that is read.
const LINE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// TTLs go on with what was left of them; leases are of their cluster and are not carried over.
#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// Lines as export writes them, or - for stdin
    file: OsString,
    /// Take a file without a last line with "end", which export always writes
    #[arg(long)]
    no_end: bool,
}

pub(crate) async fn run(args: ImportArgs, context: &Context) -> Result<(), Failure> {
    if is_dash(&args.file) {
        let lines = Lines::new(io::stdin().lock());
        return import(lines, None, args.no_end, context).await;
    }
    let failed = |e| Failure::local(format!("read {}", args.file.display()), e);
    let mut file = File::open(&args.file).map_err(failed)?;
    // A file can be read twice: what is not whole is refused before the first key is written.
    let count = check(Lines::new(BufReader::new(&file)), args.no_end)?;
    file.rewind().map_err(failed)?;
    import(Lines::new(BufReader::new(&file)), Some(count), args.no_end, context).await
}

fn check<R: BufRead>(mut lines: Lines<R>, no_end: bool) -> Result<u64, Failure> {
    while lines.next()?.is_some() {}
    lines.finish(no_end)
}

async fn import<R: BufRead>(
    mut lines: Lines<R>,
    count: Option<u64>,
    no_end: bool,
    context: &Context,
) -> Result<(), Failure> {
    let progress = Progress::new("import", count);
    let mut importer = Importer { context, batch: Vec::new(), bytes: 0, imported: 0, revision: 0 };
    while let Some(put) = lines.next()? {
        progress.add(1);
        importer.add(put).await?;
    }
    importer.send().await?;
    drop(progress);
    let Importer { imported, revision, .. } = importer;
    lines.finish(no_end)?;
    let leases = lines.leases;
    let value = json!({ "imported": imported, "revision": revision, "leases_dropped": leases });
    context.out.result(&value, || {
        let dropped =
            if leases == 0 { String::new() } else { format!(", {leases} without their lease") };
        format!("imported {imported} keys{dropped}, revision {revision}")
    })
}

struct Importer<'a> {
    context: &'a Context,
    batch: Vec<TxnPut>,
    bytes: usize,
    imported: usize,
    revision: u64,
}

impl Importer<'_> {
    async fn add(&mut self, put: TxnPut) -> Result<(), Failure> {
        let bytes = put.key.len() + put.value.len();
        if self.batch.len() == BATCH_PUTS_MAX || self.bytes + bytes > BATCH_BYTES_MAX {
            self.send().await?;
        }
        self.bytes += bytes;
        self.batch.push(put);
        Ok(())
    }

    async fn send(&mut self) -> Result<(), Failure> {
        let mut batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        let count = batch.len();
        let client = &self.context.client;
        self.revision = match batch.pop() {
            None => return Ok(()),
            Some(TxnPut { key, value, ttl, .. }) if batch.is_empty() => {
                let options = PutOptions { ttl, ..PutOptions::default() };
                client.put(key, value, &options).await?.revision
            }
            Some(last) => {
                batch.push(last);
                let success = batch.into_iter().map(TxnOp::Put).collect();
                client.txn(&TxnRequest { success, ..TxnRequest::default() }).await?.revision
            }
        };
        self.imported += count;
        Ok(())
    }
}

/// The lines of a file as puts.
struct Lines<R> {
    reader: R,
    number: u64,
    records: u64,
    leases: u64,
    /// What the last line says, once it was read.
    end: Option<u64>,
}

impl<R: BufRead> Lines<R> {
    fn new(reader: R) -> Lines<R> {
        Lines { reader, number: 0, records: 0, leases: 0, end: None }
    }

    /// The next put; `None` at the end of the file.
    fn next(&mut self) -> Result<Option<TxnPut>, Failure> {
        loop {
            let mut text = Vec::new();
            let read = self.reader.by_ref().take(LINE_BYTES_MAX).read_until(b'\n', &mut text);
            if read.map_err(|e| Failure::local("read the records", e))? == 0 {
                return Ok(None);
            }
            self.number += 1;
            if text.trim_ascii().is_empty() {
                continue;
            }
            let line: Line = serde_json::from_slice(&text).map_err(|e| self.bad(&e.to_string()))?;
            if self.end.is_some() {
                return Err(self.bad("a line after the end"));
            }
            if line.end {
                self.end = Some(line.count.ok_or_else(|| self.bad("an end without a count"))?);
                continue;
            }
            self.records += 1;
            self.leases += u64::from(line.lease.is_some());
            return line.put().map(Some).map_err(|reason| self.bad(&reason));
        }
    }

    /// How many records there were, if the file is whole.
    fn finish(&self, no_end: bool) -> Result<u64, Failure> {
        let Lines { records, .. } = *self;
        match self.end {
            Some(count) if count == records => Ok(records),
            None if no_end => Ok(records),
            Some(count) => Err(Failure::Usage(format!(
                "the last line speaks of {count} records, but there are {records}"
            ))),
            None => Err(Failure::Usage(format!(
                "the file was cut off: after {records} records the last line with \"end\" is missing \
                 (--no-end takes it as it is)"
            ))),
        }
    }

    fn bad(&self, reason: &str) -> Failure {
        Failure::Usage(format!("line {}: {reason}", self.number))
    }
}

/// A line, tolerant of members that an import does not use.
#[derive(Deserialize)]
struct Line {
    key: Option<String>,
    key_base64: Option<String>,
    value: Option<String>,
    value_base64: Option<String>,
    ttl_ms: Option<u64>,
    lease: Option<u64>,
    #[serde(default)]
    end: bool,
    count: Option<u64>,
}

impl Line {
    fn put(self) -> Result<TxnPut, String> {
        let ttl = self.ttl_ms.map(|ms| Ttl::After(Duration::from_millis(ms.max(1))));
        Ok(TxnPut {
            key: bytes_of("key", self.key, self.key_base64)?,
            value: bytes_of("value", self.value, self.value_base64)?,
            ttl,
            lease: None,
            prev: false,
        })
    }
}

fn bytes_of(name: &str, plain: Option<String>, coded: Option<String>) -> Result<Bytes, String> {
    match (plain, coded) {
        (Some(text), None) => Ok(text.into()),
        (None, Some(text)) => decode_base64(text.as_bytes())
            .map(Bytes::from)
            .map_err(|reason| format!("`{name}_base64` is {reason}")),
        (None, None) => Err(format!("no `{name}`")),
        (Some(_), Some(_)) => Err(format!("both `{name}` and `{name}_base64`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Vec<TxnPut>, Lines<&[u8]>) {
        let mut lines = Lines::new(text.as_bytes());
        let puts = std::iter::from_fn(|| lines.next().unwrap()).collect();
        (puts, lines)
    }

    #[test]
    fn exported_lines_become_puts() {
        let (puts, lines) = read(
            "{\"key\":\"a\",\"value\":\"1\",\"create_revision\":2,\"version\":1,\"ttl_ms\":1500}\n\
             {\"key_base64\":\"/w==\",\"value_base64\":\"\",\"lease\":7}\n\
             {\"end\":true,\"revision\":9,\"count\":2}\n",
        );
        assert_eq!(puts[0].ttl, Some(Ttl::After(Duration::from_millis(1500))));
        assert_eq!(puts[1].key, Bytes::from_static(b"\xff"));
        assert_eq!((lines.finish(false).unwrap(), lines.leases), (2, 1));
    }

    #[test]
    fn a_file_that_was_cut_off_is_refused() {
        let (puts, lines) = read("{\"key\":\"a\",\"value\":\"1\"}\n");
        assert_eq!(puts.len(), 1);
        assert!(lines.finish(false).is_err());
        assert_eq!(lines.finish(true).unwrap(), 1);
    }

    #[test]
    fn a_last_line_that_miscounts_is_refused() {
        let (_, lines) = read("{\"end\":true,\"revision\":9,\"count\":2}\n");
        assert!(lines.finish(false).is_err());
        assert!(lines.finish(true).is_err());
    }

    #[test]
    fn a_bad_line_is_named_by_its_number() {
        let mut lines = Lines::new(&b"{\"key\":\"a\",\"value\":\"1\"}\n\n{\"key\":\"b\"}\n"[..]);
        assert!(lines.next().unwrap().is_some());
        assert_eq!(lines.next().unwrap_err().to_string(), "line 3: no `value`");
    }
}
