//! `raftmap get KEY`

use std::{
    ffi::OsString,
    io::{self, IsTerminal as _, Write as _},
};

use clap::Args;

use crate::{
    args::{ReadArgs, bytes},
    context::Context,
    failure::Failure,
    output::printable,
};

/// In text the value's bytes go to stdout as they are; on a terminal a line end follows.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    key: OsString,
    #[command(flatten)]
    read: ReadArgs,
}

pub(crate) async fn run(args: GetArgs, context: &Context) -> Result<(), Failure> {
    let key = bytes(args.key);
    let got = context.client.get(&key, &args.read.options()).await?;
    let Some(record) = got.record else {
        return Err(Failure::NotFound(format!("{}: not found", printable(&key))));
    };
    if context.out.is_json() {
        return context.out.result(&record, String::new);
    }
    let mut stdout = io::stdout().lock();
    let line_end: &[u8] = if stdout.is_terminal() { b"\n" } else { b"" };
    stdout
        .write_all(&record.value.unwrap_or_default())
        .and_then(|()| stdout.write_all(line_end))
        .and_then(|()| stdout.flush())
        .map_err(Failure::stdout)
}
