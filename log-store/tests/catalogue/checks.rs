//! What must be true of a log that has just been opened, beside its content.

use std::path::Path;

use raftmap_log_store::disk::SimDisk;
use raftmap_log_store::tools::{Outcome, verify};
use raftmap_log_store::{Log, LogConfig, LogError, LogIdParts, RecoveryInfo, examine};

use crate::bench::{DIR, fingerprint, segments};
use crate::model::Model;

/// The state of an open log; or what in it contradicts itself.
pub(crate) fn found(log: &Log, info: &RecoveryInfo) -> Result<Model, String> {
    let model = Model::of(log)?;
    let first = model.entries.first().map(|entry| entry.index);
    if (info.last, info.purged, info.vote, info.first_index)
        != (model.last, model.purged, model.vote, first)
    {
        return Err(format!("reports {info}, but holds {}", model.brief()));
    }
    let committed = log.committed();
    let is_there = |id: LogIdParts| {
        model.purged.is_some_and(|purged| id.index <= purged.index)
            || model.entries.iter().any(|e| (e.term, e.index) == (id.term, id.index))
    };
    if committed.is_some_and(|id| !is_there(id)) {
        return Err(format!("committed {committed:?} is not in {}", model.brief()));
    }
    let mut ends: Vec<(u64, u64)> = Vec::new();
    for entry in &model.entries {
        match ends.last_mut() {
            Some((term, index)) if *term == entry.term => *index = entry.index,
            _ => ends.push((entry.term, entry.index)),
        }
    }
    let told: Vec<_> = log.leader_ends(0..u64::MAX).iter().map(|id| (id.term, id.index)).collect();
    if told != ends {
        return Err(format!("the leaders end at {told:?}, not at {ends:?}"));
    }
    Ok(model)
}

/// What `examine` and `verify` say of a log before it is opened.
#[derive(Debug)]
pub(crate) struct Said {
    examined: Result<RecoveryInfo, LogError>,
    verified: Outcome,
}

impl Said {
    /// They look, and change nothing.
    pub(crate) fn of(config: &LogConfig, disk: &SimDisk, print: u128) -> Result<Self, String> {
        // Of every few images `verify` reads all bytes again.
        let is_deep = (print >> 32).is_multiple_of(8);
        let examined = examine(config, disk, Some(1));
        let verified = verify(config, disk, is_deep).outcome;
        if fingerprint(disk) != print {
            return Err("examine or verify changed the disk".to_owned());
        }
        Ok(Self { examined, verified })
    }

    /// The open has then done so.
    pub(crate) fn was_opened(self, opened: &RecoveryInfo) -> Result<(), String> {
        let is_same = match &self.verified {
            Outcome::Clean => !opened.created && opened.torn.is_none(),
            Outcome::Torn(said) => opened.torn.as_ref().is_some_and(|torn| {
                (&torn.segment, torn.offset, torn.bytes) == (&said.segment, said.offset, said.bytes)
            }),
            // There is no directory yet.
            Outcome::Nothing | Outcome::Unreadable(LogError::Io { .. }) => opened.created,
            Outcome::Corrupt(_) | Outcome::Unreadable(_) => false,
        };
        if !is_same {
            return Err(format!("opened: {opened}, but verify says: {:?}", self.verified));
        }
        match self.examined {
            Ok(said) => agrees(opened, &said),
            Err(LogError::Io { .. }) if opened.created => Ok(()),
            Err(error) => Err(format!("opened, but examine refuses: {error}")),
        }
    }

    /// The open has refused, for the same reason.
    pub(crate) fn was_refused(&self, error: &LogError) -> Result<(), String> {
        let is_said = |said: &LogError| said.to_string() == error.to_string();
        let is_same = match (&self.verified, error) {
            (Outcome::Corrupt(said), LogError::Corrupt(damage)) => said == damage,
            (Outcome::Unreadable(said), _) => is_said(said),
            // It is not told whose the log should be.
            (_, LogError::WrongOwner { .. }) => true,
            _ => false,
        };
        if !is_same {
            return Err(format!("refused: {error}; but verify says {:?}", self.verified));
        }
        match &self.examined {
            Err(said) if is_said(said) => Ok(()),
            other => Err(format!("refused: {error}; but examine says {other:?}")),
        }
    }
}

fn agrees(opened: &RecoveryInfo, said: &RecoveryInfo) -> Result<(), String> {
    let facts = |info: &RecoveryInfo| {
        let torn = info.torn.as_ref().map(|t| (t.segment.clone(), t.offset, t.bytes));
        let ends = (info.first_index, info.last, info.purged, info.committed, info.vote);
        (info.created, info.segments, info.records, ends, torn, info.leftovers)
    };
    if facts(opened) != facts(said) {
        return Err(format!("opened: {opened}, but examine says: {said}"));
    }
    Ok(())
}

/// What was cut is in quarantine, perhaps in the copy that an open made which crashed while zeroing it.
pub(crate) fn is_kept(
    info: &RecoveryInfo,
    before: &SimDisk,
    after: &SimDisk,
) -> Result<(), String> {
    let Some(torn) = &info.torn else { return Ok(()) };
    let usize = |n: u64| usize::try_from(n).expect("it fits memory");
    let (from, len) = (usize(torn.offset), usize(torn.bytes));
    let (before, after) = (before.contents(), after.contents());
    let was = before.get(&torn.segment).and_then(|bytes| bytes.get(from..from + len));
    let kept = torn.quarantine.as_ref().and_then(|path| after.get(path));
    let is_kept = was.zip(kept).is_some_and(|(was, kept)| {
        kept.len() >= was.len()
            && was.iter().zip(kept.iter()).all(|(was, kept)| *was == 0 || was == kept)
    });
    if !is_kept {
        return Err(format!("what was cut is not in quarantine: {info}"));
    }
    Ok(())
}

/// An open leaves nothing behind the end of the log, and nothing unfinished.
pub(crate) fn is_tidy(info: &RecoveryInfo, disk: &SimDisk) -> Result<(), String> {
    let contents = disk.contents();
    let is_ours = |path: &Path| path.parent() == Some(Path::new(DIR));
    let ends_in = |path: &Path, end: &str| path.extension().is_some_and(|ext| ext == end);
    // What lies beside a log that was just created is no concern of it.
    for path in contents.keys().filter(|path| is_ours(path) && !info.created) {
        if ends_in(path, "tmp") || path.ends_with("FAILED") {
            return Err(format!("{} is still there after an open", path.display()));
        }
    }
    let Some((path, bytes)) = segments(disk).pop() else { return Ok(()) };
    let start_lsn = u64::from_le_bytes(bytes[48..56].try_into().expect("8 bytes"));
    let end = usize::try_from(info.end_lsn - start_lsn).expect("it fits memory");
    if bytes[end..].iter().any(|byte| *byte != 0) {
        return Err(format!("{} is not zero behind its end {end}", path.display()));
    }
    Ok(())
}
