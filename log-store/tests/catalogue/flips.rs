//! Group C: bits that flip, at rest and under a running log, and fields that are wrong although their
//! checksum is right. Once FRONTIER has told of a byte, every change of it refuses; before, at most the last
//! commit may be taken for an unfinished write, if it has zeros where one would have them, and is reported.

use std::path::PathBuf;
use std::sync::Arc;

use raftmap_log_store::disk::{Disk, SimDisk};
use raftmap_log_store::{Log, LogConfig, LogError};

use crate::bench::{Bench, owner, path};
use crate::cases::Case;
use crate::left::{Last, Left};
use crate::model::{Entry, Expect};
use crate::oracle::{Oracle, Outcome};
use crate::place::Place;
use crate::surgery::{forge_block, forge_frame, forge_header, frames, u32_at};

/// FRONTIER tells of everything or of the beginning, and the last commit has zeros in it or none.
const STATES: [(&str, Last, bool); 3] = [
    ("told", Last::Solid, true),
    ("untold", Last::Solid, false),
    ("untold-hollow", Last::Hollow, false),
];

/// Files by their place in the directory.
const FILES: [&str; 5] = ["segment-1", "segment-2", "segment-3", "IDENTITY", "FRONTIER"];

/// The group.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, last, is_told) in STATES {
        for file in FILES {
            let is_same_everywhere = file != "segment-3" && name != "told";
            cases.push(Case::new("C", format!("{name}-{file}"), move |bench, place| {
                // What FRONTIER tells concerns the last segment alone.
                if bench.is_long() || !is_same_everywhere {
                    flip_every_bit(bench, place, &Left::new(bench, last, is_told), file);
                }
            }));
        }
        cases.push(Case::new("C", format!("{name}-frame-fields"), move |bench, place| {
            forge_frames(bench, place, &Left::new(bench, last, is_told));
        }));
        cases.push(Case::new("C", format!("{name}-record-fields"), move |bench, place| {
            forge_records(bench, place, &Left::new(bench, last, is_told));
        }));
        cases.push(Case::new("C", format!("{name}-header-fields"), move |bench, place| {
            forge_headers(bench, place, &Left::new(bench, last, is_told));
        }));
    }
    cases.push(Case::new("C", "frontier-fields", forge_frontier));
    cases.push(Case::new("C", "seal-of-the-last-segment", flip_last_seal));
    cases.push(Case::new("C", "under-a-running-log", rot_under_a_running_log));
    cases
}

fn file_of(left: &Left, name: &str) -> PathBuf {
    match name.strip_prefix("segment-").and_then(|n| n.parse::<usize>().ok()) {
        Some(number) => left.segments[number - 1].clone(),
        None => path(name),
    }
}

fn oracle(bench: &Bench) -> Oracle<'_> {
    let mut oracle = Oracle::new(bench, bench.config());
    oracle.recovery_every = 0;
    oracle
}

/// Judges an image; a commit that is gone must be reported as torn.
fn judge(
    oracle: &Oracle<'_>,
    bench: &Bench,
    place: &Place,
    left: &Left,
    disk: &SimDisk,
    expect: &Expect,
) {
    if let Outcome::Opened(info) = oracle.judge(place, disk, expect)
        && info.last != left.state.last
        && info.torn.is_none()
    {
        bench.report.violation(place, format!("a commit is gone and not reported: {info}"));
    }
}

fn flip_every_bit(bench: &Bench, place: &Place, left: &Left, file: &str) {
    let oracle = oracle(bench);
    let path = file_of(left, file);
    let bytes = left.bytes(&path);
    for byte in 0..bytes.len() {
        let around = byte.saturating_sub(8)..(byte + 8).min(bytes.len());
        let is_dull = bytes[around].iter().all(|&byte| byte == 0);
        // To find a planted bug a few of them are enough.
        if bench.planted.is_some() && byte % 24 != 0 {
            continue;
        }
        let bits = match (bench.is_long() || !is_dull, byte % 16) {
            (true, _) => 0..8,
            // In the short form one bit stands for many where there is nothing but zeros.
            (false, 0) => byte / 16 % 8..byte / 16 % 8 + 1,
            (false, _) => 0..0,
        };
        for bit in bits {
            let place = place.at(byte * 8 + bit);
            if bench.admits(&place) {
                let disk = left.with(&path, |bytes| bytes[byte] ^= 1 << bit);
                judge(&oracle, bench, &place, left, &disk, &left.after_rot(&path, byte));
            }
        }
    }
}

/// Fields of frame headers. A frame with a successor is bound to it by the chain.
fn forge_frames(bench: &Bench, place: &Place, left: &Left) {
    let oracle = oracle(bench);
    for path in &left.segments {
        let bytes = left.bytes(path);
        for frame in left.frames(path) {
            let is_last = path == left.last() && frame == left.last_frame();
            let lsn = crate::surgery::u64_at(&bytes, frame.start + 8);
            let len = u32_at(&bytes, frame.start + 24);
            let records = u32_at(&bytes, frame.start + 28);
            let mut fields: Vec<(&str, usize, Vec<u8>)> = Vec::new();
            for synced in [0, 8, lsn - 8, lsn, lsn + 1, lsn + 8, u64::MAX] {
                fields.push(("synced-lsn", 16, synced.to_le_bytes().to_vec()));
            }
            for other in [0, 8, lsn - 8, lsn + 8, u64::MAX] {
                fields.push(("lsn", 8, other.to_le_bytes().to_vec()));
            }
            for other in [
                0,
                1,
                4,
                len - 8,
                len + 8,
                len + 4096,
                12_000,
                1 << 30,
                1 << 31,
                u32::MAX,
                u32::MAX - 7,
            ] {
                fields.push(("body-len", 24, other.to_le_bytes().to_vec()));
            }
            for other in [0, records - 1, records + 1, u32::MAX] {
                fields.push(("records", 28, other.to_le_bytes().to_vec()));
            }
            for flip in [1, 1 << 31, u32::MAX] {
                fields.push((
                    "salt",
                    32,
                    (u32_at(&bytes, frame.start + 32) ^ flip).to_le_bytes().to_vec(),
                ));
                fields.push((
                    "chain",
                    36,
                    (u32_at(&bytes, frame.start + 36) ^ flip).to_le_bytes().to_vec(),
                ));
            }
            for (n, (name, at, field)) in fields.into_iter().enumerate() {
                let place = place.at(format!("{name}-{}-{n}", frame.start));
                if !bench.admits(&place) || bytes[frame.start + at..][..field.len()] == field {
                    continue;
                }
                let disk = left.with(path, |bytes| forge_frame(bytes, frame.start, at, &field));
                let expect = match (is_last, left.is_told) {
                    (false, _) => left.refused(),
                    (true, true) => left.whole_or_refused(),
                    (true, false) => left.without_last(),
                };
                judge(&oracle, bench, &place, left, &disk, &expect);
            }
        }
    }
}

/// Fields of records, footers included, with the record's own checksum made right: the chain does not fit.
fn forge_records(bench: &Bench, place: &Place, left: &Left) {
    let oracle = oracle(bench);
    for path in &left.segments {
        let bytes = left.bytes(path);
        for frame in left.frames(path) {
            let is_last = path == left.last() && frame == left.last_frame();
            for record in records(&bytes, &frame) {
                for (name, change) in changes(&bytes[record.clone()]) {
                    let place = place.at(format!("{name}-{}", record.start));
                    // Nothing follows the last frame: what is forged there is believed, but for the ids,
                    // which FRONTIER tells.
                    let is_known = !is_last
                        || (left.is_told
                            && (12..36).contains(&first_change(&change, &bytes[record.clone()])));
                    if !bench.admits(&place) || !is_known || change == bytes[record.clone()] {
                        continue;
                    }
                    let disk =
                        left.with(path, |bytes| bytes[record.clone()].copy_from_slice(&change));
                    let expect = if is_last { left.whole_or_refused() } else { left.refused() };
                    oracle.judge(&place, &disk, &expect);
                }
            }
        }
    }
}

/// Where the records of a frame are, padding included.
fn records(bytes: &[u8], frame: &std::ops::Range<usize>) -> Vec<std::ops::Range<usize>> {
    let mut records = Vec::new();
    let mut at = frame.start + 40;
    while at < frame.end {
        let len =
            usize::try_from(u32_at(bytes, at + 4)).expect("it fits memory").next_multiple_of(8);
        records.push(at..at + len);
        at += len;
    }
    records
}

/// A record, changed in one field each.
fn changes(record: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut changes = Vec::new();
    let mut change = |name: String, at: usize, field: &[u8]| {
        let mut record = record.to_vec();
        record[at..at + field.len()].copy_from_slice(field);
        let crc = crc32c::crc32c(&record[4..]);
        record[..4].copy_from_slice(&crc.to_le_bytes());
        changes.push((name, record));
    };
    for kind in [0, 1, 2, 3, 4, 5, 6, 7, 255] {
        change(format!("type-{kind}"), 8, &[kind]);
    }
    change("codec".to_owned(), 9, &[1]);
    change("kind".to_owned(), 10, &[9]);
    change("zero".to_owned(), 11, &[1]);
    let len = u32_at(record, 4);
    for other in [0, 1, 11, 12, len - 1, len + 1, len + 8, 1 << 31, u32::MAX] {
        change(format!("len-{other}"), 4, &other.to_le_bytes());
    }
    let used = usize::try_from(len).expect("it fits memory");
    for padding in used..record.len() {
        change(format!("padding-{}", padding - used), padding, &[1]);
    }
    // Every number of the body, or every byte of a footer.
    for at in (12..used.saturating_sub(1)).step_by(4) {
        change(format!("body-{at}"), at, &[record[at].wrapping_add(1)]);
    }
    changes
}

/// The first byte behind the checksum that differs.
fn first_change(a: &[u8], b: &[u8]) -> usize {
    (4..a.len()).find(|&at| a[at] != b[at]).unwrap_or(a.len())
}

/// Fields of segment headers, with the block's checksum made right.
fn forge_headers(bench: &Bench, place: &Place, left: &Left) {
    let oracle = oracle(bench);
    for (number, path) in left.segments.iter().enumerate() {
        let bytes = left.bytes(path);
        let fields = [(8, 192), (4000, 4008)];
        for at in fields.into_iter().flat_map(|(from, to)| from..to) {
            for delta in [1, 0x80, 0xFF_u8] {
                let place = place.at(format!("{}-{at}-{delta}", number + 1));
                if bench.admits(&place) {
                    let field = [bytes[at].wrapping_add(delta)];
                    let disk = left.with(path, |bytes| forge_header(bytes, at, &field));
                    oracle.judge(&place, &disk, &left.whole_or_refused());
                }
            }
        }
    }
}

/// FRONTIER with a right checksum: ahead of the log it refuses, behind it the log is whole.
fn forge_frontier(bench: &Bench, place: &Place) {
    let left = Left::new(bench, Last::Solid, true);
    let oracle = oracle(bench);
    let path = path("FRONTIER");
    let bytes = left.bytes(&path);
    let newest = if crate::surgery::u64_at(&bytes, 32) > crate::surgery::u64_at(&bytes, 4096 + 32) {
        0
    } else {
        4096
    };
    let durable = crate::surgery::u64_at(&bytes, newest + 40);
    for ahead in [1, 2, 8, 40, 512, 4096, 1 << 20, u64::MAX - durable] {
        let place = place.at(format!("ahead-{ahead}"));
        let field = (durable + ahead).to_le_bytes();
        let disk = left.with(&path, |b| forge_block(&mut b[newest..newest + 512], 40, &field));
        oracle.judge(&place, &disk, &left.refused());
    }
    for slot in [0, 4096] {
        for at in (8..144).chain([200, 507]) {
            let place = place.at(format!("slot-{slot}-{at}"));
            if bench.admits(&place) {
                let field = [bytes[slot + at] ^ 0x55];
                let disk = left.with(&path, |b| forge_block(&mut b[slot..slot + 512], at, &field));
                oracle.judge(&place, &disk, &left.whole_or_refused());
            }
        }
    }
    for at in 0..512 {
        let place = place.at(format!("both-{at}"));
        if bench.admits(&place) {
            let disk = left.with(&path, |b| {
                b[at] ^= 0x10;
                b[4096 + at] ^= 0x10;
            });
            oracle.judge(&place, &disk, &left.refused());
        }
    }
    let disk = left.with(&path, |b| b.fill(0));
    oracle.judge(&place.at("zero"), &disk, &left.refused());
    for len in [0, 1, 511, 512, 4096, 4607, 4608, 8191] {
        let disk = left.with(&path, |b| b.truncate(len));
        // As long as the newest slot, or the other one, is there.
        oracle.judge(&place.at(format!("cut-{len}")), &disk, &left.whole_or_refused());
    }
}

/// A log that was closed: its last segment ends with a seal, and FRONTIER says where.
fn flip_last_seal(bench: &Bench, place: &Place) {
    let oracle = oracle(bench);
    let left = Left::new(bench, Last::Solid, true);
    let config = LogConfig { planted: None, ..bench.config() };
    let (log, hands, _) =
        Log::open_by_hand(config, Arc::new(left.disk.clone()), owner(77)).expect("it opens");
    drop(log);
    hands.close().expect("it closes");
    let bytes = left.bytes(left.last());
    let (at, len) = *frames(&bytes).last().expect("there is the seal");
    for bit in at * 8..(at + len) * 8 {
        let place = place.at(bit);
        if bench.admits(&place) {
            let disk = left.with(left.last(), |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            oracle.judge(&place, &disk, &left.refused());
        }
    }
}

/// A byte that rots while the log runs: an entry that is in memory is served, one that must be read is an
/// error of that entry, never short and never wrong; when the disk heals, it is back.
fn rot_under_a_running_log(bench: &Bench, place: &Place) {
    for (name, cache_bytes_max) in [("cached", 1 << 20), ("from-disk", 0)] {
        let disk = SimDisk::new();
        let config = LogConfig { cache_bytes_max, ..bench.config() };
        let opened = Log::open_by_hand(config, Arc::new(disk.clone()), owner(1));
        let (log, mut hands, _) = opened.expect("a new log");
        let all: Vec<_> = (1..=5).map(|index| Entry { term: 1, index, len: 50 }.parts()).collect();
        log.append(all.clone(), |_| {}).expect("it is taken");
        hands.commit();
        let segment =
            disk.contents().into_keys().find(|p| p.extension().is_some_and(|e| e == "wal"));
        let segment = segment.expect("a segment");
        let bytes = disk.contents()[&segment].to_vec();
        let (at, len) = frames(&bytes)[0];
        let records = records(&bytes, &(at..at + len));
        let file = disk.open(&segment).expect("it opens");
        for (index, record) in (1..).zip(&records) {
            for byte in record.clone() {
                let place = place.at(name).at(byte);
                let offset = u64::try_from(byte).expect("a small number");
                file.write_at(&[bytes[byte] ^ 4], offset).expect("it is written");
                let whole = log.read(0..10, usize::MAX);
                let one = log.read(index..index + 1, usize::MAX);
                file.write_at(&[bytes[byte]], offset).expect("it is written");
                let healed = log.read(0..10, usize::MAX);
                let is_right = match (cache_bytes_max, whole, one) {
                    (0, Err(LogError::Corrupt(a)), Err(LogError::Corrupt(b))) => {
                        a == b && (a.first_index, a.last_index) == (Some(index), Some(index))
                    }
                    (0, ..) => false,
                    (_, whole, one) => {
                        whole.is_ok_and(|read| read == all) && one.is_ok_and(|read| read.len() == 1)
                    }
                };
                if !is_right || healed.ok().as_ref() != Some(&all) {
                    bench.report.violation(&place, "a rotten entry is not an error of that entry");
                }
            }
        }
    }
}
