//! A plan of a repair as text: what is kept, what is lost, what follows from it for the node and its cluster.

use std::fmt;

use crate::tools::evidence::Lost;
use crate::tools::repair::RepairPlan;

impl fmt::Display for RepairPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "log       {} of node {}", self.dir.display(), self.node_id)?;
        match &self.damage {
            Some(damage) => {
                let (file, offset) = (damage.file.display(), damage.offset);
                writeln!(f, "refused   {file} at byte {offset}: {}", damage.reason)?;
            }
            None => writeln!(f, "refused   no, it opens as it is")?,
        }
        match self.keeps {
            Some((first, last)) => write!(f, "keeps     entries {first} to {last}")?,
            None => write!(f, "keeps     no entries")?,
        }
        writeln!(f, ", up to lsn {} in {} segments", self.keeps_lsn, self.segments)?;
        if let Some((path, offset, why)) = &self.ends {
            writeln!(f, "ends      {} at byte {offset}: {why}", path.display())?;
        }
        match self.lost {
            Some(Lost { first, last, at_least: false }) => {
                writeln!(f, "LOST      entries {first} to {last}")?;
            }
            Some(Lost { first, last, at_least: true }) => {
                writeln!(
                    f,
                    "LOST      at least entries {first} to {last}; what followed cannot be told"
                )?;
            }
            None if self.end_is_open => {
                writeln!(f, "LOST      no entry that is known of; what followed cannot be told")?;
            }
            None => writeln!(f, "LOST      no entry")?,
        }
        if let Some(first) = self.outdated_from {
            writeln!(f, "OUTDATED  kept entries from {first} on had been replaced or dropped")?;
        }
        match (self.votes_may_be_lost, self.vote) {
            (true, Some(vote)) => writeln!(f, "VOTE      {vote} is kept; a later one may be lost")?,
            (true, None) => writeln!(f, "VOTE      none is known of; one may be lost")?,
            (false, Some(vote)) => writeln!(f, "vote      {vote}, none is lost")?,
            (false, None) => writeln!(f, "vote      there was none")?,
        }
        for note in &self.notes {
            writeln!(f, "note      {note}")?;
        }
        writeln!(f, "backup    the old log is kept as {}", self.backup.display())?;
        if self.new_uuid == self.old_uuid {
            writeln!(f, "identity  log {:032x} is KEPT", self.old_uuid)?;
            f.write_str(KEPT)
        } else {
            let (old, new) = (self.old_uuid, self.new_uuid);
            match new {
                0 => writeln!(f, "identity  log {old:032x} gets a new uuid")?,
                _ => writeln!(f, "identity  log {old:032x} becomes {new:032x}")?,
            }
            f.write_str(ANEW)
        }
    }
}

const KEPT: &str = "\
This node goes on as the same voter, although it may have forgotten what it acknowledged. Right only if it
is a cluster of itself. With other voters it can elect a leader that lacks committed writes: data are lost
without a sign of it.
";

const ANEW: &str = "\
This node may have forgotten what it acknowledged and whom it voted for. It must not vote again under its
id: its store and its peers refuse the new log. In a cluster: remove this member, empty its directories,
join it under a new id; the repaired log is for reading. Only a cluster of this node alone may go on: then
it is the old log that is repaired, with --keep-identity.
";
