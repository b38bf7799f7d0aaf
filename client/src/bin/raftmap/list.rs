//! `raftmap list [PREFIX]`

use std::{
    ffi::OsString,
    io::{self, BufWriter, Write},
};

use bytes::Bytes;
use clap::Args;
use raftmap_client::{
    ListOptions,
    api::{Bounds, Record},
};
use serde_json::json;

use crate::{
    args::{ReadArgs, bytes},
    context::Context,
    failure::Failure,
    output::{Out, printable},
};

/// In text one line per key: the key, a tab, the value, with control characters escaped. In JSON one record per line and
/// a last line with "end", as the HTTP interface streams it.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    prefix: Option<OsString>,
    /// From this key on (inclusive)
    #[arg(long, value_name = "KEY", conflicts_with = "prefix")]
    start: Option<OsString>,
    /// Up to this key (exclusive)
    #[arg(long, value_name = "KEY", conflicts_with = "prefix")]
    end: Option<OsString>,
    /// At most so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: Option<u32>,
    /// Without values
    #[arg(long)]
    keys_only: bool,
    /// Only how many there are
    #[arg(long, conflicts_with_all = ["limit", "keys_only", "reverse", "separator"])]
    count: bool,
    /// From the last to the first
    #[arg(long)]
    reverse: bool,
    /// Show what lies below the next separator as one group
    #[arg(long, value_name = "TEXT")]
    separator: Option<OsString>,
    #[command(flatten)]
    read: ReadArgs,
}

pub(crate) async fn run(args: ListArgs, context: &Context) -> Result<(), Failure> {
    let read = args.read.options();
    let as_bytes = |text: Option<OsString>| text.map(|t| Bytes::from(bytes(t)));
    let bounds = match (as_bytes(args.prefix), as_bytes(args.start), as_bytes(args.end)) {
        (Some(prefix), ..) if !prefix.is_empty() => Bounds::Prefix(prefix),
        (_, None, None) => Bounds::All,
        (_, start, end) => Bounds::Range { start, end },
    };
    if args.count {
        let (count, revision) = context.client.count(&bounds, &read).await?;
        let value = json!({ "count": count, "revision": revision });
        return context.out.result(&value, || count.to_string());
    }
    let options = ListOptions {
        limit: args.limit,
        reverse: args.reverse,
        keys_only: args.keys_only,
        separator: as_bytes(args.separator),
        read,
        ..ListOptions::of(bounds)
    };
    let mut stdout = BufWriter::new(io::stdout().lock());
    if options.separator.is_some() {
        pages(context, options, &mut stdout).await?;
    } else {
        stream(context, &options, &mut stdout).await?;
    }
    stdout.flush().map_err(Failure::stdout)
}

async fn stream(
    context: &Context,
    options: &ListOptions,
    to: &mut impl Write,
) -> Result<(), Failure> {
    let mut records = context.client.list_stream(options).await?;
    while let Some(record) = records.next().await? {
        write(context.out, to, &record)?;
    }
    match records.end() {
        Some(end) if context.out.is_json() => {
            context.out.write(to, &end, String::new).map_err(Failure::stdout)
        }
        _ => Ok(()),
    }
}

/// Groups come in pages only, and each page has its items and its groups in one order.
async fn pages(
    context: &Context,
    mut options: ListOptions,
    to: &mut impl Write,
) -> Result<(), Failure> {
    let mut left = options.limit.map(u64::from);
    loop {
        options.limit = left.map(|left| u32::try_from(left).unwrap_or(u32::MAX));
        let page = context.client.list(&options).await?;
        if context.out.is_json() {
            context.out.write(to, &page, String::new).map_err(Failure::stdout)?;
        } else {
            let keys = page.items.iter().map(|r| (&r.key, line(r)));
            let groups = page.prefixes.iter().map(|p| (&p.prefix, printable(&p.prefix)));
            let mut lines: Vec<_> = keys.chain(groups).collect();
            lines.sort_by(|a, b| if options.reverse { b.0.cmp(a.0) } else { a.0.cmp(b.0) });
            for (_, line) in lines {
                writeln!(to, "{line}").map_err(Failure::stdout)?;
            }
        }
        left = left.map(|left| left.saturating_sub(page.count));
        options.cursor = page.cursor;
        if options.cursor.is_none() || left == Some(0) {
            return Ok(());
        }
    }
}

fn write(out: Out, to: &mut impl Write, record: &Record) -> Result<(), Failure> {
    out.write(to, record, || line(record)).map_err(Failure::stdout)
}

fn line(record: &Record) -> String {
    match &record.value {
        Some(value) => format!("{}\t{}", printable(&record.key), printable(value)),
        None => printable(&record.key),
    }
}
