//! `raftmap touch KEY --ttl 30s`

use std::ffi::OsString;

use clap::Args;
use raftmap_client::{Deadline, api::Ttl};

use crate::{
    args::{ConditionArgs, bytes, parse_ttl},
    context::Context,
    failure::Failure,
};

#[derive(Debug, Args)]
pub(crate) struct TouchArgs {
    key: OsString,
    /// The key goes after this long; none: it stays
    #[arg(long, value_name = "DURATION", value_parser = parse_ttl, required_unless_present = "lease", conflicts_with = "lease")]
    ttl: Option<Ttl>,
    /// The key goes with this lease
    #[arg(long, value_name = "ID")]
    lease: Option<u64>,
    #[command(flatten)]
    condition: ConditionArgs,
}

pub(crate) async fn run(args: TouchArgs, context: &Context) -> Result<(), Failure> {
    let deadline = match (args.ttl, args.lease) {
        (Some(ttl), _) => Deadline::Ttl(ttl),
        (None, Some(lease)) => Deadline::Lease(lease),
        (None, None) => return Err(Failure::Usage("--ttl or --lease is needed".to_owned())),
    };
    let condition = args.condition.condition();
    let record = context.client.touch(bytes(args.key), deadline, condition).await?;
    context.out.result(&record, || match (record.ttl_ms, record.lease) {
        (Some(ms), _) => format!("goes in {ms} ms"),
        (None, Some(lease)) => format!("goes with lease {lease}"),
        (None, None) => "stays".to_owned(),
    })
}
