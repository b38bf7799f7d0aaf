//! Group C: bits that flip, at rest and under a running log. Once FRONTIER has told of a byte, every change
//! of it refuses; before, at most the last commit may be taken for an unfinished write, if it has zeros where
//! one would have them, and is reported.

use std::path::PathBuf;
use std::sync::Arc;

use raftmap_log_store::disk::{Disk, SimDisk, Survival};
use raftmap_log_store::{Log, LogConfig, LogError};

use crate::bench::{Bench, owner, path};
use crate::cases::Case;
use crate::left::{Last, Left, records};
use crate::model::{Entry, Expect, Expected};
use crate::oracle::{Oracle, Outcome};
use crate::place::Place;
use crate::run::{Run, Step};
use crate::surgery::{changed, frames};

/// FRONTIER tells of everything or of the beginning, and the last commit has zeros in it or none.
pub(crate) const STATES: [(&str, Last, bool); 3] = [
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
    }
    cases.push(Case::new("C", "seal-of-the-last-segment", flip_last_seal));
    cases.push(Case::new("C", "zeros-over-frames", zeros_over_frames));
    cases.push(Case::new("C", "under-a-running-log", rot_under_a_running_log));
    cases
}

fn file_of(left: &Left, name: &str) -> PathBuf {
    match name.strip_prefix("segment-").and_then(|n| n.parse::<usize>().ok()) {
        Some(number) => left.segments[number - 1].clone(),
        None => path(name),
    }
}

pub(crate) fn oracle(bench: &Bench) -> Oracle<'_> {
    let mut oracle = Oracle::new(bench, bench.config());
    oracle.recovery_every = 0;
    oracle
}

/// Judges an image; a commit that is gone must be reported as torn.
pub(crate) fn judge(
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

/// Whole sectors of acknowledged frames are zero, as if they had never arrived; FRONTIER tells of none of
/// them, but every frame behind them does.
fn zeros_over_frames(bench: &Bench, place: &Place) {
    let mut run = Run::new(LogConfig { planted: None, ..bench.config() });
    let mut states = vec![run.model().clone()];
    for _ in 0..14 {
        run.step(Step::More(1, 250));
        run.step(Step::Commit);
        states.push(run.model().clone());
    }
    let disk = run.disk().after_power_cut(Survival::Everything);
    let segment = segment_of(&disk);
    let bytes = disk.contents()[&segment].to_vec();
    let frames = frames(&bytes);
    let last = frames.last().copied().expect("there are frames");
    let oracle = oracle(bench);
    for from in (4096..last.0 + last.1).step_by(512) {
        for to in (from + 512..=(last.0 + last.1).next_multiple_of(512)).step_by(512) {
            let place = place.at(format!("{from}-{to}"));
            if !bench.admits(&place) {
                continue;
            }
            let image = changed(&disk, &segment, |bytes| bytes[from..to].fill(0));
            let after = image.contents()[&segment].to_vec();
            let is_left = |&(at, len): &(usize, usize)| bytes[at..at + len] == after[at..at + len];
            let left = frames.iter().take_while(|frame| is_left(frame)).count();
            let expect = Expect::exactly(states[left].clone());
            // As soon as a whole frame is behind them that frame tells.
            let verdict = match left {
                _ if left == frames.len() => Expected::Opens,
                _ if to <= last.0 => Expected::Refuses,
                _ => Expected::Either,
            };
            oracle.judge(&place, &image, &expect.but(verdict));
        }
    }
}

/// The only segment there is.
fn segment_of(disk: &SimDisk) -> PathBuf {
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|ext| ext == "wal");
    disk.contents().into_keys().find(is_segment).expect("a segment")
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
        let segment = segment_of(&disk);
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
