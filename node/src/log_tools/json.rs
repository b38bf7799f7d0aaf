//! What the tools found, as JSON. Uuids, salts and checksums are hexadecimal text, all else are numbers.

use std::path::Path;

use raftmap_log_store::tools::{
    Dumped, DumpedRecord, FileView, FrontierView, HeaderView, Inspection, Outcome, SegmentView,
    StateView, Stated, Verification, What,
};
use raftmap_log_store::{Damage, LogIdParts, RecordCounts, RecoveryInfo, Torn, VoteParts};
use serde_json::{Value, json};

use super::lines::hex;
use crate::raft::describe_payload;

pub(super) fn inspection(found: &Inspection) -> Value {
    json!({
        "dir": path(&found.dir),
        "identity": stated(&found.identity, |identity| json!({
            "node_id": identity.node_id,
            "uuid": uuid(identity.wal_uuid),
        })),
        "frontier": list(&found.frontier, |slot| stated(slot, frontier)),
        "segments": list(&found.segments, segment),
        "notes": found.notes,
        "unfinished": list(&found.temporary, file),
        "quarantine": list(&found.quarantine, file),
        "failed": found.failed,
        "repaired": found.repaired,
        "locked": found.locked,
    })
}

pub(super) fn verification(found: &Verification) -> Value {
    let outcome = match &found.outcome {
        Outcome::Clean => "clean",
        Outcome::Torn(_) => "torn",
        Outcome::Corrupt(_) => "corrupt",
        Outcome::Nothing => "nothing",
        Outcome::Unreadable(_) => "unreadable",
    };
    let mut value = json!({
        "dir": path(&found.dir),
        "outcome": outcome,
        "exit_code": found.outcome.exit_code(),
        "found": found.info.as_ref().map(info),
        "deep": found.deep.map(|deep| json!({
            "bytes": deep.bytes, "frames": deep.frames, "footer_entries": deep.footer_entries,
        })),
        "notes": found.notes,
        "locked": found.locked,
    });
    match &found.outcome {
        Outcome::Torn(found) => value["torn"] = torn(found),
        Outcome::Corrupt(found) => value["damage"] = damage(found),
        Outcome::Unreadable(error) => value["error"] = error.to_string().into(),
        Outcome::Clean | Outcome::Nothing => {}
    }
    value
}

pub(super) fn dumped(dumped: &Dumped<'_>, with_hex: bool) -> Value {
    match dumped {
        Dumped::Damage { segment, from, to, why } => {
            json!({ "damage": { "segment": path(segment), "from": from, "to": to, "why": why } })
        }
        Dumped::Record(found) => record(found, with_hex),
    }
}

fn record(found: &DumpedRecord<'_>, with_hex: bool) -> Value {
    let mut value = json!({
        "segment": path(found.segment),
        "offset": found.offset,
        "lsn": found.lsn,
        "frame_lsn": found.frame_lsn,
        "in_whole_frame": found.in_whole_frame,
        "bytes": found.bytes,
    });
    let (kind, what) = match found.what {
        What::Entry { id: entry, kind, payload } => {
            let mut what = json!({
                "id": id(&entry),
                "kind": kind,
                "payload_bytes": payload.len(),
                "payload": describe_payload(kind, payload),
            });
            if with_hex {
                what["payload_hex"] = hex(payload).into();
            }
            ("entry", what)
        }
        What::Vote(voted) => ("vote", vote(&voted)),
        What::Committed(last) => ("committed", id(&last)),
        What::TruncateAfter(keep) => ("truncate_after", keep.as_ref().map_or(Value::Null, id)),
        What::PurgeUpto(last) => ("purge_upto", id(&last)),
        What::Seal { first, entries } => ("seal", json!({ "first": first, "entries": entries })),
        What::Unreadable { why, claims_index } => {
            ("unreadable", json!({ "why": why, "claims_index": claims_index }))
        }
    };
    value["type"] = kind.into();
    value[kind] = what;
    value
}

fn segment(found: &SegmentView) -> Value {
    json!({
        "file": file(&found.file),
        "header": stated(&found.header, header),
        "end": found.end,
        "slack": found.slack,
        "frames": found.frames,
        "records": counts(&found.records),
        "entries": found.entries.map(|(first, last)| json!({ "first": first, "last": last })),
        "footer": found.footer.map(|(first, count)| json!({ "first": first, "entries": count })),
        "synced_lsn": found.synced_lsn,
        "damage": list(&found.damage, |one| json!({
            "from": one.from, "to": one.to, "why": one.why,
        })),
        "more_damage": found.more_damage,
    })
}

fn header(header: &HeaderView) -> Value {
    json!({
        "uuid": uuid(header.uuid),
        "seq": header.seq,
        "base": header.base,
        "start_lsn": header.start_lsn,
        "salt": format!("{:016x}", header.salt),
        "capacity": header.capacity,
        "predecessor": header.predecessor.map(|before| json!({
            "seq": before.seq, "end_lsn": before.end_lsn, "chain": format!("{:08x}", before.chain),
        })),
        "state": state(&header.state),
    })
}

fn frontier(slot: &FrontierView) -> Value {
    json!({
        "uuid": uuid(slot.uuid),
        "counter": slot.counter,
        "durable_lsn": slot.durable_lsn,
        "state": state(&slot.state),
    })
}

fn state(state: &StateView) -> Value {
    json!({
        "vote": state.vote.as_ref().map(vote),
        "committed": state.committed.as_ref().map(id),
        "purged": state.purged.as_ref().map(id),
        "last": state.last.as_ref().map(id),
    })
}

fn info(info: &RecoveryInfo) -> Value {
    json!({
        "segments": info.segments,
        "records": counts(&info.records),
        "first_index": info.first_index,
        "last_index": info.last_index,
        "last": info.last.as_ref().map(id),
        "purged": info.purged.as_ref().map(id),
        "committed": info.committed.as_ref().map(id),
        "vote": info.vote.as_ref().map(vote),
        "end_lsn": info.end_lsn,
        "frontier_lsn": info.frontier_lsn,
        "clean_shutdown": info.clean_shutdown,
        "after_failure": info.after_failure,
        "purged_segments_left": info.leftovers,
        "verified_bytes": info.verified_bytes,
        "seconds": info.took.as_secs_f64(),
    })
}

fn torn(torn: &Torn) -> Value {
    json!({
        "segment": path(&torn.segment),
        "offset": torn.offset,
        "bytes": torn.bytes,
        "reason": torn.reason,
    })
}

pub(super) fn damage(damage: &Damage) -> Value {
    json!({
        "cause": damage.cause.name(),
        "file": path(&damage.file),
        "offset": damage.offset,
        "first_index": damage.first_index,
        "last_index": damage.last_index,
        "reason": damage.reason,
        "advice": damage.cause.advice(),
    })
}

fn counts(counts: &RecordCounts) -> Value {
    json!({
        "entries": counts.entries,
        "votes": counts.votes,
        "committed": counts.committed,
        "truncations": counts.truncations,
        "purges": counts.purges,
        "seals": counts.seals,
    })
}

fn file(file: &FileView) -> Value {
    json!({ "path": path(&file.path), "bytes": file.bytes })
}

pub(super) fn id(id: &LogIdParts) -> Value {
    json!({ "term": id.term, "node": id.node, "index": id.index })
}

pub(super) fn vote(vote: &VoteParts) -> Value {
    json!({ "term": vote.term, "node": vote.node, "committed": vote.committed })
}

fn stated<T>(stated: &Stated<T>, says: impl FnOnce(&T) -> Value) -> Value {
    match stated {
        Stated::Says(what) => says(what),
        Stated::Missing => Value::Null,
        Stated::Unreadable(why) => json!({ "unreadable": why }),
    }
}

fn list<T>(items: &[T], value: impl Fn(&T) -> Value) -> Value {
    items.iter().map(value).collect()
}

pub(super) fn uuid(uuid: u128) -> String {
    format!("{uuid:032x}")
}

pub(super) fn path(path: &Path) -> String {
    path.display().to_string()
}
