//! `raftmap del KEY` and `raftmap del --prefix P`

use std::ffi::OsString;

use clap::Args;
use raftmap_client::{
    DeleteOptions,
    api::{Bounds, Record},
};

use crate::{
    args::{ConditionArgs, bytes},
    context::Context,
    failure::Failure,
    output::printable,
};

/// Deleting what is not there is done, with 0 deleted.
#[derive(Debug, Args)]
pub(crate) struct DelArgs {
    #[arg(required_unless_present = "prefix")]
    key: Option<OsString>,
    /// Every key that begins so, all or none
    #[arg(long, conflicts_with_all = ["key", "if_revision", "if_exists"])]
    prefix: Option<OsString>,
    #[command(flatten)]
    condition: ConditionArgs,
    /// Show what was there
    #[arg(long)]
    prev: bool,
}

pub(crate) async fn run(args: DelArgs, context: &Context) -> Result<(), Failure> {
    let condition = args.condition.condition();
    let options = DeleteOptions { condition, prev: args.prev, timeout: None };
    match (args.key, args.prefix) {
        (Some(key), None) => {
            let reply = context.client.delete(bytes(key), &options).await?;
            context.out.result(&reply, || text(reply.deleted, reply.revision, reply.prev.iter()))
        }
        (_, Some(prefix)) => {
            let prefix = bytes(prefix);
            if prefix.is_empty() {
                return Err(Failure::Usage("an empty --prefix would delete every key".to_owned()));
            }
            let bounds = Bounds::Prefix(prefix.into());
            let reply = context.client.delete_range(&bounds, &options).await?;
            context.out.result(&reply, || text(reply.deleted, reply.revision, reply.prev.iter()))
        }
        (None, None) => Err(Failure::Usage("a KEY or --prefix is needed".to_owned())),
    }
}

fn text<'a>(deleted: u64, revision: u64, prev: impl Iterator<Item = &'a Record>) -> String {
    let mut text = format!("{deleted} deleted, revision {revision}");
    for record in prev {
        let value = record.value.as_deref().unwrap_or_default();
        text.push_str(&format!("\nbefore: {}\t{}", printable(&record.key), printable(value)));
    }
    text
}
