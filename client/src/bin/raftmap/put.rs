//! `raftmap put KEY VALUE|-`

use std::{
    ffi::OsString,
    io::{self, Read as _},
};

use clap::Args;
use raftmap_client::{
    Condition, PutOptions,
    api::{PutReply, Ttl},
};

use crate::{
    args::{ConditionArgs, bytes, is_dash, parse_ttl},
    context::Context,
    failure::Failure,
    output::printable,
};

#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    key: OsString,
    /// The value, or - to read it from stdin
    value: OsString,
    /// The key goes after this long; none: it stays, also under a default TTL
    #[arg(long, value_name = "DURATION", value_parser = parse_ttl, conflicts_with = "lease")]
    ttl: Option<Ttl>,
    /// The key goes with this lease
    #[arg(long, value_name = "ID")]
    lease: Option<u64>,
    #[command(flatten)]
    condition: ConditionArgs,
    /// Only if the key does not exist
    #[arg(long, conflicts_with_all = ["if_revision", "if_exists"])]
    if_absent: bool,
    /// Show the record before
    #[arg(long)]
    prev: bool,
}

pub(crate) async fn run(args: PutArgs, context: &Context) -> Result<(), Failure> {
    let options = PutOptions {
        ttl: args.ttl,
        lease: args.lease,
        condition: if args.if_absent { Condition::Absent } else { args.condition.condition() },
        prev: args.prev,
        timeout: None,
    };
    let value = if is_dash(&args.value) { stdin()? } else { bytes(args.value) };
    let reply = context.client.put(bytes(args.key), value, &options).await?;
    context.out.result(&reply, || text(&reply))
}

fn stdin() -> Result<Vec<u8>, Failure> {
    let mut value = Vec::new();
    let read = io::stdin().lock().read_to_end(&mut value);
    read.map_err(|e| Failure::local("read the value from stdin", e))?;
    Ok(value)
}

fn text(reply: &PutReply) -> String {
    let what = if reply.created { "created" } else { "updated" };
    let mut text = format!("{what} at revision {}", reply.revision);
    if let Some(value) = reply.prev.as_ref().and_then(|prev| prev.value.as_ref()) {
        text.push_str(&format!("\nbefore: {}", printable(value)));
    }
    text
}
