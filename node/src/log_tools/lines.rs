//! A dump as text: a line for each record.
//!
//! ```text
//!   lsn      4208  @4208     entry 1-1.2           81 bytes  kind 1  put, 40 bytes
//!   lsn      4344  @4344     truncate after 1-1.1
//!   DAMAGED  0000000000000001-….wal 5000 to 5100: a record does not verify
//! ```
//! A record in a frame that does not verify as a whole is marked with `!`: an open does not believe it.

use std::io::{self, Write};

use raftmap_log_store::tools::{Dumped, DumpedRecord, What};

use crate::raft::describe_payload;

/// Bytes of payload in one line of hexadecimal.
const HEX_LINE: usize = 32;

pub(super) fn write(out: &mut dyn Write, dumped: &Dumped<'_>, with_hex: bool) -> io::Result<()> {
    match dumped {
        Dumped::Damage { segment, from, to, why } => {
            writeln!(out, "DAMAGED  {} {from} to {to}: {why}", segment.display())
        }
        Dumped::Record(record) => write_record(out, record, with_hex),
    }
}

fn write_record(out: &mut dyn Write, record: &DumpedRecord<'_>, with_hex: bool) -> io::Result<()> {
    let mark = if record.in_whole_frame { ' ' } else { '!' };
    write!(out, "lsn{mark} {:>10}  @{:<9} ", record.lsn, record.offset)?;
    match record.what {
        What::Entry { id, kind, payload } => {
            let id = id.to_string();
            let what = describe_payload(kind, payload);
            writeln!(out, "entry {id:<14} {:>8} bytes  kind {kind}  {what}", payload.len())?;
            let lines = payload.chunks(HEX_LINE).filter(|_| with_hex);
            lines
                .enumerate()
                .try_for_each(|(i, line)| writeln!(out, "    {:>8}  {}", i * HEX_LINE, hex(line)))
        }
        What::Vote(vote) => writeln!(out, "vote {vote}"),
        What::Committed(id) => writeln!(out, "committed {id}"),
        What::TruncateAfter(Some(id)) => writeln!(out, "truncate after {id}"),
        What::TruncateAfter(None) => writeln!(out, "truncate all"),
        What::PurgeUpto(id) => writeln!(out, "purge up to {id}"),
        What::Seal { first, entries } => writeln!(out, "seal {entries} entries from {first} on"),
        What::Unreadable { why, claims_index } => {
            write!(out, "UNREADABLE {} bytes: {why}", record.bytes)?;
            match claims_index {
                Some(index) => writeln!(out, "; it says that it is entry {index}"),
                None => writeln!(out),
            }
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
