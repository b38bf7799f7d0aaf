//! `raftmap export FILE|-`
//!
//! ```text
//!   {"key":"a","value":"1","create_revision":2,...}     one record per line, in key order, all of one revision
//!   {"end":true,"revision":13,"count":1}                a file without this line is not whole
//! ```
//!
//! A file appears under its name only when it is whole and on disk.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use clap::Args;
use raftmap_client::{ListOptions, Records, api::EndLine};
use serde::Serialize;

use crate::{
    args::{ReadArgs, bytes, is_dash},
    context::Context,
    failure::Failure,
    progress::Progress,
};

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// Where to, or - for stdout
    file: OsString,
    /// Only keys that begin so
    #[arg(long)]
    prefix: Option<OsString>,
    #[command(flatten)]
    read: ReadArgs,
}

pub(crate) async fn run(args: ExportArgs, context: &Context) -> Result<(), Failure> {
    let prefix = args.prefix.map(bytes).unwrap_or_default();
    let options = ListOptions { read: args.read.options(), ..ListOptions::prefix(prefix) };
    let (count, _) = context.client.count(&options.bounds, &options.read).await?;
    let progress = Progress::new("export", Some(count));
    let records = context.client.list_stream(&options).await?;
    if is_dash(&args.file) {
        let mut stdout = BufWriter::new(io::stdout().lock());
        return copy(records, &mut stdout, &progress, Failure::stdout).await.map(drop);
    }
    let end = to_file(&args.file, records, &progress).await?;
    drop(progress);
    let text = || format!("exported {} keys at revision {}", end.count, end.revision);
    context.out.result(&end, text)
}

async fn to_file(name: &OsStr, records: Records, progress: &Progress) -> Result<EndLine, Failure> {
    let mut partial = name.to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let failed = |e| Failure::local(format!("write {}", partial.display()), e);
    let mut file = BufWriter::new(File::create(&partial).map_err(failed)?);
    let copied = copy(records, &mut file, progress, failed).await;
    let whole = match copied {
        Ok(end) => file.get_ref().sync_all().map_err(failed).map(|()| end),
        Err(failure) => Err(failure),
    };
    match whole {
        Ok(end) => {
            let renamed = fs::rename(&partial, name);
            renamed.map_err(|e| Failure::local(format!("write {}", name.display()), e))?;
            Ok(end)
        }
        Err(failure) => {
            // The first failure is the one to report; what is left over has a name that says so.
            let _removed = fs::remove_file(&partial);
            Err(failure)
        }
    }
}

async fn copy(
    mut records: Records,
    to: &mut impl Write,
    progress: &Progress,
    failed: impl Fn(io::Error) -> Failure,
) -> Result<EndLine, Failure> {
    while let Some(record) = records.next().await? {
        line(to, &record).map_err(&failed)?;
        progress.add(1);
    }
    let end = records.end().expect("a stream without a next record has its end line");
    line(to, &end).and_then(|()| to.flush()).map_err(&failed)?;
    Ok(end)
}

fn line<T: Serialize>(to: &mut impl Write, value: &T) -> io::Result<()> {
    serde_json::to_writer(&mut *to, value)?;
    to.write_all(b"\n")
}
