//! Group C: fields that are wrong although their checksum is right, as a bug or an enemy would leave them. What
//! holds frames together beyond their own checksums (chain, position, salt, the state at every segment's
//! start, FRONTIER) refuses them.

use crate::bench::{Bench, path};
use crate::cases::Case;
use crate::flips::{STATES, judge, oracle};
use crate::left::{Last, Left, records};
use crate::place::Place;
use crate::surgery::{forge_block, forge_frame, forge_header, u32_at, u64_at};

/// Forges one kind of field wherever it is.
type Forgery = fn(&Bench, &Place, &Left);

/// The rest of the group.
pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    let kinds: [(&str, Forgery); 3] =
        [("frame", forge_frames), ("record", forge_records), ("header", forge_headers)];
    for (name, last, is_told) in STATES {
        for (kind, run) in kinds {
            cases.push(Case::new("C", format!("{name}-{kind}-fields"), move |bench, place| {
                run(bench, place, &Left::new(bench, last, is_told));
            }));
        }
    }
    cases.push(Case::new("C", "frontier-fields", forge_frontier));
    cases
}

/// Fields of frame headers. A frame with a successor is bound to it by the chain.
fn forge_frames(bench: &Bench, place: &Place, left: &Left) {
    let oracle = oracle(bench);
    for path in &left.segments {
        let bytes = left.bytes(path);
        for frame in left.frames(path) {
            let is_last = path == left.last() && frame == left.last_frame();
            let lsn = u64_at(&bytes, frame.start + 8);
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
    let newest = if u64_at(&bytes, 32) > u64_at(&bytes, 4096 + 32) { 0 } else { 4096 };
    let durable = u64_at(&bytes, newest + 40);
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
