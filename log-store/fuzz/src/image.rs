//! Damaged directories of a log, and what must hold for each of them.
//!
//! Shared by the fuzz targets and by the test suite (`tests/suite/garbage.rs`).

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use raftmap_log_store::disk::{Disk, SimDisk, Survival};
use raftmap_log_store::tools::{
    Dumped, Outcome, Repair, RepairMode, RepairRequest, Wanted, What, dump, inspect, repair, verify,
};
use raftmap_log_store::{EntryParts, Log, LogConfig, LogError, LogIdParts, Owner, VoteParts};

const DIR: &str = "/wal";
/// More records than the images can hold.
const RECORDS_MAX: usize = 1 << 20;

fn config() -> LogConfig {
    LogConfig { segment_bytes_max: 16 << 10, batch_bytes_max: 4 << 10, ..LogConfig::new(DIR) }
}

/// A directory made of the bytes: for each file a byte for its name, two for its length, its content. Blocks
/// that end with a checksum get the right one when their first byte is odd.
pub fn from_bytes(bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new();
    disk.put_dir(Path::new(DIR));
    let mut rest = bytes;
    while let [name, low, high, content @ ..] = rest {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(content.len());
        let (content, behind) = content.split_at(len);
        let mut content = content.to_vec();
        if content.first().is_some_and(|byte| byte % 2 == 1) {
            seal_blocks(&mut content);
        }
        disk.put(&Path::new(DIR).join(file_name(*name)), content);
        rest = behind;
    }
    disk
}

/// A log whose identity is right and whose only segment holds the bytes: as they are behind a right header, or, with
/// an odd first byte, with checksums, positions and salts made right as well.
pub fn one_segment(bytes: &[u8]) -> SimDisk {
    let disk = real_log();
    let path = disk.files().into_keys().find(|path| path.extension().is_some_and(|e| e == "wal"));
    let path = path.expect("a log has a segment");
    let mut segment = disk.files().remove(&path).unwrap_or_default();
    for (slot, byte) in segment.iter_mut().skip(4096).zip(bytes) {
        *slot = *byte;
    }
    if bytes.first().is_some_and(|byte| byte % 2 == 1) {
        seal_blocks(&mut segment);
    }
    disk.put(&path, segment);
    if bytes.get(1).is_some_and(|byte| byte % 2 == 1) {
        for name in ["FRONTIER", "IDENTITY"] {
            let path = Path::new(DIR).join(name);
            let mut file = disk.files().remove(&path).unwrap_or_default();
            for (slot, byte) in file.iter_mut().skip(8).zip(bytes) {
                *slot ^= *byte;
            }
            seal_blocks(&mut file);
            disk.put(&path, file);
        }
    }
    disk
}

/// A small log with every kind of record, left by its process.
pub fn real_log() -> SimDisk {
    static LOG: OnceLock<SimDisk> = OnceLock::new();
    let made = LOG.get_or_init(|| {
        let disk = SimDisk::new();
        let owner = Owner { node_id: 1, new_uuid: 5 };
        let opened = Log::open_by_hand(config(), Arc::new(disk.clone()) as Arc<dyn Disk>, owner);
        let (log, mut hands, _) = opened.expect("an empty disk opens");
        let id = |index| LogIdParts { term: 1, node: 1, index };
        let entry = |index| EntryParts { id: id(index), kind: 1, payload: vec![7; 700].into() };
        let _ = log.save_vote(VoteParts { term: 1, node: 1, committed: true }, drop);
        for index in 1..=30 {
            let _ = log.append(vec![entry(index)], drop);
            hands.commit();
        }
        let _ = log.truncate_after(Some(28), drop);
        let _ = log.save_committed(id(20));
        let _ = log.purge_upto(id(3));
        let _ = log.append(vec![entry(29)], drop);
        while hands.commit() {}
        hands.rest();
        disk.after_power_cut(Survival::Everything)
    });
    made.after_power_cut(Survival::Everything)
}

fn file_name(byte: u8) -> String {
    match byte % 16 {
        0 => "IDENTITY".into(),
        1 => "FRONTIER".into(),
        2 => "FAILED".into(),
        3 => "REPAIRED".into(),
        4 => "spare.tmp".into(),
        5 => "x.wal".into(),
        n => format!("{:016}-{:020}.wal", n - 5, byte / 16),
    }
}

/// Changes a real log as the script says: seven bytes for each change.
pub fn mutate(disk: &SimDisk, script: &[u8]) {
    for step in script.chunks_exact(7) {
        let files: Vec<(PathBuf, Vec<u8>)> = disk.files().into_iter().collect();
        let pick = |byte: u8| files.get(usize::from(byte) % files.len().max(1));
        let [what, file, a, b, c, d, e] = *step else { return };
        let Some((path, bytes)) = pick(file) else { return };
        let mut bytes = bytes.clone();
        let at = |hi: u8, lo: u8| usize::from(u16::from_le_bytes([lo, hi]));
        let len = bytes.len().max(1);
        let (from, to) = (at(a, b) % len, at(c, d) % len);
        match what % 10 {
            0 => bytes.iter_mut().skip(from).take(1).for_each(|byte| *byte ^= 1 << (e % 8)),
            1 => bytes.iter_mut().skip(from).take(usize::from(e)).for_each(|byte| *byte = 0),
            2 => bytes.truncate(from),
            3 => bytes.resize(len + from, e),
            4 => swap_blocks(&mut bytes, from / 8 * 8, to / 8 * 8, usize::from(e) * 8),
            5 => bytes.iter_mut().skip(from).take(8).for_each(|byte| *byte = e),
            6 => {
                // A whole number somewhere, and the checksums made right.
                let number = u64::from_le_bytes([a, b, c, d, e, a, b, c]) >> (e % 64);
                let from = from / 4 * 4;
                for (slot, byte) in bytes.iter_mut().skip(from).zip(number.to_le_bytes()) {
                    *slot = byte;
                }
                seal_blocks(&mut bytes);
            }
            7 => {
                disk.take(path);
                continue;
            }
            8 => {
                // The content of another file.
                let Some((_, other)) = pick(a) else { continue };
                bytes.clone_from(other);
            }
            _ => {
                disk.put(&Path::new(DIR).join(file_name(a)), bytes);
                continue;
            }
        }
        disk.put(path, bytes);
    }
}

fn swap_blocks(bytes: &mut [u8], a: usize, b: usize, len: usize) {
    for i in 0..len {
        if a + i < bytes.len() && b + i < bytes.len() {
            bytes.swap(a + i, b + i);
        }
    }
}

/// Makes what can be a header, a slot, an identity, a frame or a record verify again.
fn seal_blocks(bytes: &mut [u8]) {
    for (at, len) in [(0, 128), (0, 512), (4096, 512), (0, 4096)] {
        let magic: &[u8] = match len {
            128 => b"RAFTMIDT",
            512 => b"RAFTMFRT",
            _ => b"RAFTMWAL",
        };
        if let Some(block) = bytes.get_mut(at..at + len)
            && block.starts_with(magic)
        {
            let (content, crc) = block.split_at_mut(len - 4);
            crc.copy_from_slice(&crc32c::crc32c(content).to_le_bytes());
        }
    }
    let mut at = 4096;
    while at + 52 <= bytes.len() {
        if bytes[at..].starts_with(b"RFRM") {
            let claimed = bytes.get(at + 44..at + 48).and_then(|four| four.try_into().ok());
            let claimed = claimed.map_or(0, u32::from_le_bytes);
            let claimed = usize::try_from(claimed).unwrap_or(usize::MAX);
            let record_end = claimed.saturating_add(at + 40).min(bytes.len());
            let padded = (at + 40 + (record_end - at - 40).next_multiple_of(8)).min(bytes.len());
            if padded > at + 44 {
                let crc = crc32c::crc32c(&bytes[at + 44..padded]);
                bytes[at + 40..at + 44].copy_from_slice(&crc.to_le_bytes());
            }
            let crc = crc32c::crc32c(&bytes[at + 8..at + 40]);
            bytes[at + 4..at + 8].copy_from_slice(&crc.to_le_bytes());
        }
        at += 8;
    }
}

/// No tool panics or changes anything; `verify` says what an open says; what a repair makes is clean.
pub fn check(disk: &SimDisk) {
    let before = disk.files();
    let found = inspect(disk, Path::new(DIR)).expect("a directory can be listed");
    assert!(!found.to_string().is_empty());
    let mut records = 0;
    dump(disk, Path::new(DIR), &Wanted { all_kinds: true, ..Wanted::default() }, &mut |dumped| {
        records += 1;
        if let Dumped::Record(record) = dumped
            && let What::Entry { payload, .. } = record.what
        {
            assert!(u64::try_from(payload.len()).is_ok_and(|len| len <= record.bytes));
        }
        ControlFlow::Continue(())
    })
    .expect("a directory can be listed");
    assert!(records < RECORDS_MAX, "a dump without an end");
    let says = verify(&config(), disk, true);
    assert!(!says.to_string().is_empty());
    assert_eq!(disk.files(), before, "looking changed something");
    agrees(disk, &says.outcome, says.info.map(|info| (info.first_index, info.last_index)));
    save(disk, &before);
}

/// The verdict of an open on a copy.
fn agrees(disk: &SimDisk, says: &Outcome, entries: Option<(Option<u64>, Option<u64>)>) {
    let copy = disk.after_power_cut(Survival::Everything);
    let before = log_files(&copy.files());
    // Whoever the log says that it belongs to.
    let owner = |node_id| Owner { node_id, new_uuid: 77 };
    let open = |node_id| {
        Log::open_by_hand(config(), Arc::new(copy.clone()) as Arc<dyn Disk>, owner(node_id))
    };
    let opened = match open(1) {
        Err(LogError::WrongOwner { found, .. }) => open(found),
        opened => opened,
    };
    match (says, opened) {
        (Outcome::Nothing, Ok((_, _, info))) => assert!(info.created),
        (Outcome::Clean, Ok((log, _, info))) => {
            assert!(info.torn.is_none() && !info.created);
            let read = log.read(0..u64::MAX, usize::MAX).expect("what was verified can be read");
            let ends = (read.first().map(|e| e.id.index), read.last().map(|e| e.id.index));
            assert_eq!(Some(ends), entries, "verify and an open find other entries");
        }
        (Outcome::Torn(_), Ok((_, _, info))) => assert!(info.torn.is_some()),
        (Outcome::Corrupt(_), Err(LogError::Corrupt(_)))
        | (Outcome::Unreadable(_), Err(LogError::TooNew { .. } | LogError::Io { .. })) => {
            assert_eq!(log_files(&copy.files()), before, "a refusal changed something");
        }
        (says, opened) => {
            panic!("verify says {says:?}, an open {:?}", opened.map(|(.., info)| info))
        }
    }
}

/// What a repair makes is clean, and the old log is kept as it was.
fn save(disk: &SimDisk, before: &BTreeMap<PathBuf, Vec<u8>>) {
    let copy = disk.after_power_cut(Survival::Everything);
    let request = RepairRequest {
        mode: RepairMode::Longest,
        node_id: None,
        new_uuid: 0xFEED,
        keep_identity: false,
        backup: None,
    };
    let done = match repair(&config(), &copy, &request) {
        // Nothing tells whose log it is.
        Err(_) => repair(&config(), &copy, &RepairRequest { node_id: Some(1), ..request }),
        done => done,
    };
    match done {
        Ok(Repair::Done(plan)) => {
            let says = verify(&config(), &copy, true);
            assert_eq!(says.outcome.exit_code(), 0, "{says}");
            let kept = copy.files();
            for (path, bytes) in before.iter().filter(|(path, _)| !path.ends_with("LOCK")) {
                let name = path.file_name().expect("a file has a name");
                assert_eq!(kept.get(&plan.backup.join(name)), Some(bytes), "the old log changed");
            }
        }
        Ok(_) | Err(_) => {
            assert_eq!(
                log_files(&copy.files()),
                log_files(before),
                "nothing done, and yet changed"
            );
        }
    }
}

fn log_files(files: &BTreeMap<PathBuf, Vec<u8>>) -> BTreeMap<PathBuf, Vec<u8>> {
    let is_log = |path: &PathBuf| path.parent() == Some(Path::new(DIR)) && !path.ends_with("LOCK");
    files.iter().filter(|(path, _)| is_log(path)).map(|(p, b)| (p.clone(), b.clone())).collect()
}
