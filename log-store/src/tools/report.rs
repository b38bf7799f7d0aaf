//! What the tools found, as text for people.

use std::fmt;
use std::path::Path;

use crate::tools::inspect::{FileView, FrontierView, Inspection, SegmentView, StateView, Stated};

impl fmt::Display for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "log {}", self.dir.display())?;
        if let Some(holder) = &self.locked {
            writeln!(f, "  open      by a process ({holder}): its end may be moving")?;
        }
        match &self.identity {
            Stated::Says(identity) => {
                let (node, uuid) = (identity.node_id, identity.wal_uuid);
                writeln!(f, "  IDENTITY  node {node}, uuid {uuid:032x}")?;
            }
            Stated::Missing => writeln!(f, "  IDENTITY  missing")?,
            Stated::Unreadable(why) => writeln!(f, "  IDENTITY  UNREADABLE: {why}")?,
        }
        for slot in &self.frontier {
            match slot {
                Stated::Says(slot) => writeln!(f, "  FRONTIER  {slot}")?,
                Stated::Missing => writeln!(f, "  FRONTIER  missing")?,
                Stated::Unreadable(why) => writeln!(f, "  FRONTIER  UNREADABLE: {why}")?,
            }
        }
        for (what, text) in [("FAILED", &self.failed), ("REPAIRED", &self.repaired)] {
            if let Some(text) = text {
                writeln!(f, "  {what:<9} {}", text.replace('\n', "; "))?;
            }
        }
        for note in &self.notes {
            writeln!(f, "  NOTE      {note}")?;
        }
        for (what, files) in [("unfinished", &self.temporary), ("quarantine", &self.quarantine)] {
            for file in files {
                writeln!(f, "  {what} {file}")?;
            }
        }
        self.segments.iter().try_for_each(|segment| write!(f, "{segment}"))
    }
}

impl fmt::Display for FileView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.path.file_name().map(Path::new).unwrap_or(&self.path);
        match self.bytes {
            Some(bytes) => write!(f, "{}, {bytes} bytes", name.display()),
            None => write!(f, "{}, which cannot be read", name.display()),
        }
    }
}

impl fmt::Display for FrontierView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uuid, counter, durable_lsn, state } = self;
        write!(f, "{counter}: durable up to lsn {durable_lsn}, {state} (log {uuid:032x})")
    }
}

impl fmt::Display for StateView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vote, committed, purged, last } = self;
        let mut parts = Vec::new();
        parts.extend(last.map(|id| format!("last {id}")));
        parts.extend(committed.map(|id| format!("committed {id}")));
        parts.extend(purged.map(|id| format!("purged {id}")));
        parts.extend(vote.map(|vote| format!("vote {vote}")));
        if parts.is_empty() { f.write_str("nothing") } else { f.write_str(&parts.join(", ")) }
    }
}

impl fmt::Display for SegmentView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "segment {}", self.file)?;
        match &self.header {
            Stated::Says(header) => {
                writeln!(
                    f,
                    "  header    number {}, base {}, lsn {}, capacity {}, salt {:016x}, log {:032x}",
                    header.seq,
                    header.base,
                    header.start_lsn,
                    header.capacity,
                    header.salt,
                    header.uuid
                )?;
                if let Some(before) = header.predecessor {
                    let (seq, end, chain) = (before.seq, before.end_lsn, before.chain);
                    writeln!(f, "  follows   {seq}, which ends at lsn {end}, chain {chain:08x}")?;
                }
                writeln!(f, "  begins    with {}", header.state)?;
            }
            Stated::Missing => writeln!(f, "  header    could not be read")?,
            Stated::Unreadable(why) => writeln!(f, "  header    UNREADABLE: {why}")?,
        }
        let records = &self.records;
        writeln!(
            f,
            "  holds     {} frames: {} entries, {} votes, {} committed, {} truncations, {} purges",
            self.frames,
            records.entries,
            records.votes,
            records.committed,
            records.truncations,
            records.purges
        )?;
        if let Some((first, last)) = self.entries {
            writeln!(f, "  entries   {first} to {last} were written here")?;
        }
        match self.footer {
            Some((first, count)) if count > 0 => {
                let last = first.saturating_add(count - 1);
                writeln!(f, "  sealed    entries {first} to {last} are alive in it")?;
            }
            Some(_) => writeln!(f, "  sealed    no entry is alive in it")?,
            None => writeln!(f, "  open      no seal")?,
        }
        let synced = self.synced_lsn.map_or("nothing".to_owned(), |lsn| format!("lsn {lsn}"));
        writeln!(
            f,
            "  ends      at {}, {} bytes left; {synced} was durable",
            self.end, self.slack
        )?;
        for damage in &self.damage {
            writeln!(f, "  DAMAGED   {} to {}: {}", damage.from, damage.to, damage.why)?;
        }
        if self.more_damage > 0 {
            writeln!(f, "  DAMAGED   {} more stretches", self.more_damage)?;
        }
        Ok(())
    }
}
