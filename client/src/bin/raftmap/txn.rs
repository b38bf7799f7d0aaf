//! `raftmap txn FILE|-`

use std::{
    ffi::OsString,
    fs,
    io::{self, Read as _},
};

use clap::Args;
use raftmap_client::api::{TxnReply, TxnRequest};

use crate::{args::is_dash, context::Context, failure::Failure};

/// The file holds the JSON body of POST /v1/txn. Which branch ran is a result: both exit with 0.
#[derive(Debug, Args)]
pub(crate) struct TxnArgs {
    /// The transaction, or - to read it from stdin
    file: OsString,
}

pub(crate) async fn run(args: TxnArgs, context: &Context) -> Result<(), Failure> {
    let body = read(&args.file)?;
    let txn: TxnRequest = serde_json::from_slice(&body)
        .map_err(|e| Failure::Usage(format!("the transaction cannot be read: {e}")))?;
    let reply = context.client.txn(&txn).await?;
    context.out.result(&reply, || text(&reply))
}

fn read(file: &OsString) -> Result<Vec<u8>, Failure> {
    if !is_dash(file) {
        return fs::read(file).map_err(|e| Failure::local(format!("read {}", file.display()), e));
    }
    let mut body = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut body);
    read.map_err(|e| Failure::local("read the transaction from stdin", e))?;
    Ok(body)
}

fn text(reply: &TxnReply) -> String {
    let branch = if reply.succeeded { "success" } else { "failure" };
    let mut text = format!("{branch} branch, revision {}", reply.revision);
    for result in &reply.results {
        let line = serde_json::to_string(result).expect("what was read from JSON can be written");
        text.push_str(&format!("\n{line}"));
    }
    text
}
