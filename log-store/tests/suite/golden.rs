//! The bytes of every kind of record and file, field by field. They may never change: a log written today
//! must be readable by every later version. A new version adds a new golden file beside this one.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raftmap_log_store::disk::{SimDisk, Survival};
use raftmap_log_store::{EntryParts, Log, LogIdParts, Owner, VoteParts};

use crate::common::*;

const GOLDEN: &str = include_str!("../golden/version-1.txt");

/// One record of each kind, each in a frame of its own but the last two entries.
fn written() -> SimDisk {
    let disk = SimDisk::new();
    let mut config = config();
    // FRONTIER is written at the end only.
    (config.frontier_interval, config.idle_after) =
        (Duration::from_secs(60), Duration::from_secs(60));
    let owner = Owner { node_id: 7, new_uuid: 0x0F0E_0D0C_0B0A_0908_0706_0504_0302_0100 };
    // By hand: whether the janitor is there in time must not count.
    let (log, mut hands, _) = Log::open_by_hand(config, Arc::new(disk.clone()), owner).unwrap();
    let entry = |index, kind, payload: &'static [u8]| EntryParts {
        id: LogIdParts { term: 3, node: 7, index },
        kind,
        payload: Bytes::from_static(payload),
    };
    let mut commit = |answer| {
        hands.commit();
        wait(answer).unwrap();
    };
    commit(save_vote(&log, VoteParts { term: 3, node: 7, committed: true }));
    commit(append(&log, vec![entry(10, 1, b"payload")]));
    commit(append(&log, vec![entry(11, 2, b""), entry(12, 1, b"12345678")]));
    commit(truncate_after(&log, Some(11)));
    log.save_committed(LogIdParts { term: 3, node: 7, index: 11 }).unwrap();
    commit(append(&log, vec![]));
    log.purge_upto(LogIdParts { term: 3, node: 7, index: 10 }).unwrap();
    hands.close().unwrap();
    disk
}

#[test]
fn the_bytes_are_those_of_version_1() {
    let disk = written();
    let mut text = String::new();
    for (path, bytes) in files(&disk) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.ends_with(".tmp") {
            continue;
        }
        writeln!(text, "# {name}, {} bytes", bytes.len()).unwrap();
        match name.as_str() {
            "IDENTITY" => {
                dump(&mut text, &bytes, 0, IDENTITY);
            }
            "FRONTIER" => {
                dump(&mut text, &bytes, 0, FRONTIER);
                dump(&mut text, &bytes, 4096, FRONTIER);
            }
            _ => dump_segment(&mut text, &bytes),
        }
    }
    assert!(text == GOLDEN, "the bytes have changed:\n{text}");
}

#[test]
fn a_log_of_version_1_is_readable() {
    let log = {
        let disk = written().after_power_cut(Survival::Nothing);
        let owner = Owner { node_id: 7, new_uuid: 1 };
        Log::open(config(), Arc::new(disk), owner).unwrap().0
    };
    assert_eq!(log.uuid(), 0x0F0E_0D0C_0B0A_0908_0706_0504_0302_0100);
    let id = |index| LogIdParts { term: 3, node: 7, index };
    assert_eq!(log.vote(), Some(VoteParts { term: 3, node: 7, committed: true }));
    assert_eq!(log.committed(), Some(id(11)));
    assert_eq!(log.ends().purged, Some(id(10)));
    let entries = read_all(&log);
    assert_eq!(entries, [EntryParts { id: id(11), kind: 2, payload: Bytes::new() }]);
}

type Fields = &'static [(&'static str, usize)];

const IDENTITY: Fields = &[
    ("magic", 8),
    ("version", 4),
    ("zero", 4),
    ("uuid", 16),
    ("node", 8),
    ("zeros", 84),
    ("crc", 4),
];
const STATE: Fields = &[
    ("state: flags", 8),
    ("  vote term", 8),
    ("  vote node", 8),
    ("  committed", 24),
    ("  purged", 24),
    ("  last", 24),
];
const FRONTIER: Fields = &[
    ("magic", 8),
    ("version", 4),
    ("zero", 4),
    ("uuid", 16),
    ("counter", 8),
    ("durable lsn", 8),
    ("state: flags", 8),
    ("  vote term", 8),
    ("  vote node", 8),
    ("  committed", 24),
    ("  purged", 24),
    ("  last", 24),
    ("zeros", 364),
    ("crc", 4),
];
const HEADER: Fields = &[
    ("magic", 8),
    ("version", 4),
    ("flags", 4),
    ("uuid", 16),
    ("seq", 8),
    ("base", 8),
    ("start lsn", 8),
    ("salt", 8),
    ("capacity", 8),
    ("before: seq", 8),
    ("  end lsn", 8),
    ("  chain", 4),
    ("zero", 4),
];
const FRAME: Fields = &[
    ("FRAME magic", 4),
    ("  crc", 4),
    ("  lsn", 8),
    ("  synced lsn", 8),
    ("  body bytes", 4),
    ("  records", 4),
    ("  salt", 4),
    ("  chain", 4),
];
const RECORD: Fields = &[
    ("  RECORD crc", 4),
    ("    bytes", 4),
    ("    type", 1),
    ("    codec", 1),
    ("    kind", 1),
    ("    zero", 1),
];

fn dump_segment(text: &mut String, bytes: &[u8]) {
    let at = dump(text, bytes, 0, HEADER);
    let at = dump(text, bytes, at, STATE);
    let at = dump(text, bytes, at, &[("zeros", 4092 - 192), ("crc", 4)]);
    let number = |at: usize| {
        usize::try_from(u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())).unwrap()
    };
    let mut at = at;
    while bytes[at..].starts_with(b"RFRM") {
        let frame_end = at + 40 + number(at + 24);
        at = dump(text, bytes, at, FRAME);
        while at < frame_end {
            let end = at + number(at + 4);
            at = dump(text, bytes, at, RECORD);
            row(text, at, "    body", &bytes[at..end]);
            let padded = end.next_multiple_of(8);
            row(text, end, "    padding", &bytes[end..padded]);
            at = padded;
        }
    }
    row(text, at, "zeros", &bytes[at..]);
}

fn dump(text: &mut String, bytes: &[u8], mut at: usize, fields: Fields) -> usize {
    for (name, len) in fields {
        row(text, at, name, &bytes[at..at + len]);
        at += len;
    }
    at
}

fn row(text: &mut String, at: usize, name: &str, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    write!(text, "{at:>5} {name:<16}").unwrap();
    if bytes.len() > 24 && bytes.iter().all(|byte| *byte == 0) {
        writeln!(text, " {} times 00", bytes.len()).unwrap();
        return;
    }
    let chunks = bytes.chunks(8).map(|c| c.iter().map(|b| format!("{b:02x}")).collect::<String>());
    writeln!(text, " {}", chunks.collect::<Vec<_>>().join(" ")).unwrap();
}

/// The examples of the document are rows of the golden file, and there is one of every kind.
#[test]
fn the_examples_of_the_document_are_the_golden_bytes() {
    let document = include_str!("../../../docs/log-format.md");
    let (_, examples) = document.split_once("## 7. Examples").expect("the document has examples");
    let mut shown = Vec::new();
    let mut file = "";
    for line in examples.lines() {
        if let Some(name) = line.strip_prefix("# ") {
            file = name;
        } else if line.get(..5).is_some_and(|at| at.trim().parse::<u64>().is_ok()) {
            let row = line.split_once("   ; ").map_or(line, |(row, _)| row);
            assert!(golden_rows(file).any(|golden| golden == row), "{file}: {line}");
            shown.push((file, row));
        }
    }
    let has =
        |what: &str, file: &str| shown.iter().any(|(f, row)| *f == file && row.contains(what));
    for record_type in 1..=6 {
        assert!(
            has(&format!("    type         {record_type:02x}"), SEGMENT),
            "no example of a record of type {record_type}"
        );
    }
    assert!(has("uuid", "IDENTITY") && has("durable lsn", "FRONTIER") && has("salt", SEGMENT));
    let frames = golden_rows(SEGMENT).filter(|row| row.contains("FRAME") || row.contains("RECORD"));
    assert!(frames.into_iter().all(|row| shown.contains(&(SEGMENT, row))), "a frame is not shown");
}

const SEGMENT: &str = "0000000000000001-00000000000000000000.wal";

/// The rows of one file in the golden file.
fn golden_rows(file: &str) -> impl Iterator<Item = &'static str> {
    let of_file = |line: &&str| !line.starts_with("# ");
    let head = format!("# {file}, ");
    let rows = GOLDEN.lines().skip_while(move |line| !line.starts_with(&head)).skip(1);
    rows.take_while(of_file)
}
