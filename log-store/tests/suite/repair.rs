//! What a repair keeps, what it says is lost, and that neither it nor a crash in it ever harms the old log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use raftmap_log_store::disk::{Disk, Fault, Op, SimDisk, Survival};
use raftmap_log_store::tools::{
    Lost, Repair, RepairError, RepairMode, RepairPlan, RepairRequest, keeps_identity, plan_repair,
    repair, settle_kept_identity, verify,
};
use raftmap_log_store::{EntryParts, Log, Owner, VoteParts};

use crate::common::*;

const NEW_UUID: u128 = 0xABCD_EF01_2345_6789;

/// A closed log of a few segments with a truncation in it and a vote near its end.
struct Left {
    disk: SimDisk,
    content: Vec<EntryParts>,
}

pub(crate) const VOTE: u64 = 7;

fn left() -> Left {
    let disk = SimDisk::new();
    let (log, mut hands) = worn(&disk);
    let mut commit = |answer| commit(&mut hands, answer);
    commit(append(&log, entries(2, 7..=8)));
    commit(save_vote(&log, vote(VOTE)));
    commit(append(&log, entries(2, 9..=9)));
    let content = read_all(&log);
    hands.close().unwrap();
    assert!(segments(&disk).len() > 2);
    Left { disk: disk.after_power_cut(Survival::Everything), content }
}

impl Left {
    fn copy(&self) -> SimDisk {
        self.disk.after_power_cut(Survival::Everything)
    }

    fn with(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> SimDisk {
        let disk = self.copy();
        let mut bytes = disk.files()[path].clone();
        change(&mut bytes);
        disk.put(path, bytes);
        disk
    }

    /// Repairs the disk and checks that the new log opens cleanly with what the plan says, and that the plan says
    /// exactly what is lost.
    fn repaired(&self, what: &str, disk: &SimDisk, request: &RepairRequest) -> RepairPlan {
        let before = log_files(disk, DIR);
        let planned = plan_repair(&config(), disk, request).unwrap();
        let Repair::Planned(planned) = planned else { panic!("{what}: {planned:?}") };
        assert_eq!(log_files(disk, DIR), before, "{what}: a plan changed something");
        let done = repair(&config(), disk, request).unwrap_or_else(|e| panic!("{what}: {e}"));
        let Repair::Done(plan) = done else { panic!("{what}: {done:?}") };
        assert_eq!(plan, planned, "{what}");
        let backup = plan.backup.to_str().unwrap();
        assert_eq!(log_files(disk, backup), before, "{what}: the old log is not as it was");
        assert_eq!(verify(&config(), disk, true).outcome.exit_code(), 0, "{what}");
        let (log, info) = open_with(disk, config()).unwrap();
        assert_eq!(info.torn, None);
        assert_eq!(log.uuid(), plan.new_uuid);
        assert_eq!(log.vote(), plan.vote, "{what}");
        let kept = read_all(&log);
        let ends = kept.first().zip(kept.last()).map(|(a, b)| (a.id.index, b.id.index));
        assert_eq!(plan.keeps, ends, "{what}");
        self.check_lost(what, &plan, &kept);
        *plan
    }

    /// The first entry of the log that the new one does not have, up to the last: that is lost.
    fn check_lost(&self, what: &str, plan: &RepairPlan, kept: &[EntryParts]) {
        let differs = |entry: &&EntryParts| {
            !kept.iter().any(|kept| kept.id.index == entry.id.index && *kept == **entry)
        };
        let first = self.content.iter().find(differs).map(|entry| entry.id.index);
        let last = self.content.last().unwrap().id.index;
        let lost = plan.lost.map(|Lost { first, last, .. }| {
            // Entries of a log may begin anywhere: where nothing is left of its beginning, it is not known where.
            let is_guess = plan.keeps.is_none() && first == 0;
            (if is_guess { self.content[0].id.index } else { first }, last)
        });
        assert_eq!(lost, first.map(|first| (first, last)), "{what}: {plan}");
        let outdated = kept.iter().find(|kept| !self.content.contains(kept));
        assert_eq!(plan.outdated_from, outdated.map(|entry| entry.id.index), "{what}: {plan}");
    }
}

pub(crate) fn request() -> RepairRequest {
    RepairRequest {
        mode: RepairMode::Longest,
        node_id: None,
        new_uuid: NEW_UUID,
        keep_identity: false,
        backup: None,
    }
}

/// The files of a log below `dir` by name, without the lock.
fn log_files(disk: &SimDisk, dir: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let relative = |path: PathBuf| path.strip_prefix(dir).ok().map(Path::to_owned);
    let files = disk.files().into_iter().filter_map(|(path, bytes)| Some((relative(path)?, bytes)));
    files.filter(|(path, _)| path != Path::new("LOCK")).collect()
}

#[test]
fn what_verifies_is_kept_and_what_is_lost_is_said_exactly() {
    let left = left();
    for path in segments(&left.disk) {
        let used = left.disk.files()[&path].iter().rposition(|&byte| byte != 0).unwrap() + 1;
        for byte in (0..used).step_by(37) {
            if (200..4090).contains(&byte) {
                continue;
            }
            let what = format!("{} byte {byte}", path.display());
            let disk = left.with(&path, |bytes| bytes[byte] ^= 0x10);
            let plan = left.repaired(&what, &disk, &request());
            assert!(plan.lost.is_none_or(|lost| !lost.at_least), "{what}: FRONTIER tells: {plan}");
            assert!(!plan.votes_may_be_lost, "{what}: FRONTIER tells: {plan}");
            assert_eq!(plan.vote, Some(vote(VOTE)), "{what}: no vote that is known is dropped");
        }
    }
}

#[test]
fn sectors_and_ends_that_are_gone_are_told_as_lost() {
    let left = left();
    for path in segments(&left.disk) {
        let len = left.disk.files()[&path].len();
        for from in (0..len).step_by(512) {
            for (what, to) in [("zeroed", from + 512), ("zeroed up to the end", len)] {
                let what = format!("{} {what} from {from}", path.display());
                let disk = left.with(&path, |bytes| bytes[from..to.min(len)].fill(0));
                if verify(&config(), &disk, false).outcome.exit_code() == 2 {
                    left.repaired(&what, &disk, &request());
                }
            }
            let disk = left.with(&path, |bytes| bytes.truncate(from));
            left.repaired(&format!("{} cut to {from}", path.display()), &disk, &request());
        }
        let disk = left.copy();
        disk.take(&path);
        left.repaired(&format!("{} missing", path.display()), &disk, &request());
    }
}

#[test]
fn a_log_that_opens_is_left_alone() {
    let left = left();
    let disk = left.copy();
    let before = disk.files();
    assert_eq!(plan_repair(&config(), &disk, &request()).unwrap(), Repair::NotNeeded);
    assert_eq!(disk.files(), before);
    assert_eq!(repair(&config(), &disk, &request()).unwrap(), Repair::NotNeeded);
    assert_eq!(log_files(&disk, DIR), log_files(&left.disk, DIR));
}

#[test]
fn a_truncation_keeps_whole_frames_and_never_more_than_verifies() {
    let left = left();
    let end = verify(&config(), &left.disk, false).info.unwrap().end_lsn;
    for lsn in (FIRST_LSN..=end).step_by(1013) {
        let request = truncate_at(lsn);
        let plan = left.repaired(&format!("at {lsn}"), &left.copy(), &request);
        assert!(plan.keeps_lsn <= lsn && !plan.votes_may_be_lost, "{plan}");
    }
    let refused = repair(&config(), &left.copy(), &truncate_at(end + 1));
    assert!(matches!(refused, Err(RepairError::Refused(_))), "{refused:?}");
}

/// Where the first frame of a new log lies.
const FIRST_LSN: u64 = 4096;

fn truncate_at(lsn: u64) -> RepairRequest {
    RepairRequest { mode: RepairMode::TruncateAt(lsn), ..request() }
}

#[test]
fn a_truncation_before_the_log_s_first_frame_is_refused() {
    let left = left();
    for lsn in [0, 9, FIRST_LSN - 1] {
        let disk = left.copy();
        let refused = repair(&config(), &disk, &truncate_at(lsn));
        assert!(matches!(refused, Err(RepairError::Refused(_))), "{lsn}: {refused:?}");
        assert_eq!(log_files(&disk, DIR), log_files(&left.disk, DIR), "{lsn}");
    }
}

#[test]
fn a_truncation_is_not_done_twice() {
    let left = left();
    let disk = left.copy();
    let request = truncate_at(9000);
    let plan = left.repaired("once", &disk, &request);
    assert!(plan.keeps.is_some());
    let once = log_files(&disk, DIR);
    let refused = repair(&config(), &disk, &request);
    assert!(matches!(refused, Err(RepairError::Refused(_))), "{refused:?}");
    assert_eq!(log_files(&disk, DIR), once);
}

#[test]
fn frontier_is_rebuilt_when_nothing_else_is_damaged() {
    let left = left();
    let rebuild = RepairRequest { mode: RepairMode::RebuildFrontier, ..request() };
    let refused = repair(&config(), &left.copy(), &rebuild);
    assert!(matches!(refused, Err(RepairError::Refused(_))), "FRONTIER is good: {refused:?}");

    let disk = left.copy();
    disk.take(&path("FRONTIER"));
    let plan = left.repaired("no FRONTIER", &disk, &rebuild);
    assert_eq!(plan.lost, None);
    assert!(plan.end_is_open && plan.votes_may_be_lost, "nothing tells where it ended: {plan}");

    let last = segments(&left.disk)[1].clone();
    let disk = left.with(&last, |bytes| bytes[4200] ^= 1);
    disk.take(&path("FRONTIER"));
    let refused = repair(&config(), &disk, &rebuild);
    assert!(matches!(refused, Err(RepairError::Refused(_))), "more is damaged: {refused:?}");
    let plan = left.repaired("no FRONTIER, and more", &disk, &request());
    assert!(plan.lost.unwrap().at_least);
}

#[test]
fn without_identity_the_node_has_to_be_named() {
    let left = left();
    for change in [|bytes: &mut Vec<u8>| bytes[20] ^= 1, Vec::clear] {
        let disk = left.with(&path("IDENTITY"), change);
        let refused = repair(&config(), &disk, &request());
        assert!(matches!(refused, Err(RepairError::Refused(_))), "{refused:?}");
        let named = RepairRequest { node_id: Some(1), ..request() };
        let plan = left.repaired("no IDENTITY", &disk, &named);
        assert_eq!((plan.lost, plan.node_id), (None, 1));
    }
    let other = RepairRequest { node_id: Some(2), mode: RepairMode::TruncateAt(5000), ..request() };
    assert!(matches!(repair(&config(), &left.copy(), &other), Err(RepairError::Refused(_))));
}

#[test]
fn positions_are_not_used_twice_so_a_kept_identity_fits_what_the_store_has_seen() {
    let left = left();
    let old_end = verify(&config(), &left.disk, false).info.unwrap().end_lsn;
    let first = segments(&left.disk)[0].clone();
    let disk = left.with(&first, |bytes| bytes[4200] ^= 1);
    let keep = RepairRequest { keep_identity: true, ..request() };
    let plan = left.repaired("identity kept", &disk, &keep);
    assert_eq!(plan.new_uuid, plan.old_uuid);
    let end = verify(&config(), &disk, false).info.unwrap().end_lsn;
    assert!(end > old_end);
    let again = damaged_again(&disk);
    let Ok(Repair::Done(plan)) = repair(&config(), &again, &keep) else { panic!("not done") };
    assert!(plan.backup.ends_with("wal.backup-2"));
    assert!(verify(&config(), &again, true).info.unwrap().end_lsn > end);
}

/// The repaired log is damaged in its turn: its first frame again.
fn damaged_again(disk: &SimDisk) -> SimDisk {
    let disk = disk.after_power_cut(Survival::Everything);
    let first = segments(&disk).into_iter().find(|path| path.starts_with(DIR)).unwrap();
    let mut bytes = disk.files()[&first].clone();
    bytes[4110] ^= 1;
    disk.put(&first, bytes);
    disk
}

#[test]
fn a_repaired_log_goes_on() {
    let left = left();
    let second = segments(&left.disk)[1].clone();
    let disk = left.with(&second, |bytes| bytes[4200] ^= 1);
    let plan = left.repaired("damaged", &disk, &request());
    let next = plan.keeps.unwrap().1 + 1;
    let log = open(&disk);
    wait(append(&log, entries(9, next..=next + 20))).unwrap();
    log.close().unwrap();
    let log = open(&disk);
    assert_eq!(ids(&log).len(), usize::try_from(next + 20).unwrap());
    assert_eq!(log.vote(), Some(VoteParts { term: VOTE, node: 1, committed: false }));
}

#[test]
fn a_log_that_a_process_has_open_is_not_repaired() {
    let left = left();
    let disk = left.with(&segments(&left.disk)[0].clone(), |bytes| bytes[4200] ^= 1);
    let _lock = disk.lock(&path("LOCK"), "pid 7").unwrap();
    assert!(matches!(plan_repair(&config(), &disk, &request()), Err(RepairError::Open { .. })));
    assert!(matches!(repair(&config(), &disk, &request()), Err(RepairError::Open { .. })));
}

#[test]
fn a_backup_must_be_a_new_name_beside_the_log() {
    let left = left();
    let damaged = || left.with(&segments(&left.disk)[0].clone(), |bytes| bytes[4200] ^= 1);
    for taken in ["/elsewhere/old", DIR] {
        let request = RepairRequest { backup: Some(taken.into()), ..request() };
        let refused = repair(&config(), &damaged(), &request);
        assert!(matches!(refused, Err(RepairError::Refused(_))), "{taken}: {refused:?}");
    }
    let named = RepairRequest { backup: Some("/old".into()), ..request() };
    assert_eq!(left.repaired("named", &damaged(), &named).backup, Path::new("/old"));
}

#[test]
fn a_crash_at_any_step_leaves_the_old_log_or_the_new_one_and_the_next_repair_goes_on() {
    let left = left();
    let second = segments(&left.disk)[1].clone();
    let damaged = left.with(&second, |bytes| bytes[4200] ^= 1);
    let old = log_files(&damaged, DIR);
    let whole = damaged.after_power_cut(Survival::Everything);
    let before = whole.steps();
    repair(&config(), &whole, &request()).unwrap();
    let new = log_files(&whole, DIR);
    let steps = whole.steps() - before;
    assert!(steps > 20, "{steps}");
    let survivals =
        [Survival::Nothing, Survival::Everything].into_iter().chain((0..12).map(Survival::Coins));
    for survival in survivals {
        for step in 0..steps {
            let disk = damaged.after_power_cut(Survival::Everything);
            disk.power_off_at(disk.steps() + step);
            repair(&config(), &disk, &request()).unwrap_err();
            let after = disk.after_power_cut(survival);
            let what = format!("{survival:?} at step {step}");
            let found = log_files(&after, DIR);
            assert!(found == old || found == new, "{what}: neither the old log nor the new one");
            let is_new = found == new;
            for _ in 0..2 {
                match repair(&config(), &after, &request()) {
                    Ok(Repair::Done(_)) => assert!(!is_new, "{what}"),
                    Ok(Repair::Finished { .. } | Repair::NotNeeded) => assert!(is_new, "{what}"),
                    other => panic!("{what}: {other:?}"),
                }
                if is_new {
                    continue;
                }
                break;
            }
            let mut found = log_files(&after, DIR);
            if after.list(Path::new("/wal.aside-1")).is_ok() {
                // Built to its end before the crash: kept, and said in the mark.
                let mark = Path::new("REPAIRED").to_owned();
                found.insert(mark.clone(), new[&mark].clone());
            }
            assert!(found == new, "{what}: not the new log");
            let backup = log_files(&after, "/wal.backup-1");
            assert_eq!(backup, old, "{what}: the old log is not kept");
            assert!(after.list(Path::new("/wal.repair.tmp")).is_err(), "{what}: something is left");
        }
    }
}

#[test]
fn a_whole_log_in_the_way_of_a_repair_is_never_removed() {
    let left = left();
    let second = segments(&left.disk)[1].clone();
    let disk = left.with(&second, |bytes| bytes[4200] ^= 1);
    // As after a crash behind the exchange, and then the mark of the new log is lost.
    let old = log_files(&left.disk, DIR);
    disk.create_dir(Path::new("/wal.repair.tmp")).unwrap();
    for (name, bytes) in &old {
        disk.put(&Path::new("/wal.repair.tmp").join(name), bytes.clone());
    }
    disk.put(Path::new("/wal.repair.tmp/REPAIRED"), b"generation 1\n".to_vec());
    let plan = left.repaired("a log in the way", &disk, &request());
    assert!(plan.notes.iter().any(|note| note.contains("/wal.aside-1")), "{plan}");
    let mut aside = log_files(&disk, "/wal.aside-1");
    aside.remove(Path::new("REPAIRED"));
    assert_eq!(aside, old);
}

#[test]
fn the_mark_tells_that_an_identity_was_kept_until_that_is_settled() {
    let left = left();
    let damaged = || left.with(&segments(&left.disk)[1].clone(), |bytes| bytes[4200] ^= 1);
    let dir = Path::new(DIR);
    let disk = damaged();
    assert!(!keeps_identity(&disk, dir).unwrap(), "there is no mark");
    left.repaired("a new identity", &disk, &request());
    assert!(!keeps_identity(&disk, dir).unwrap());

    let disk = damaged();
    let keep = RepairRequest { keep_identity: true, ..request() };
    left.repaired("identity kept", &disk, &keep);
    assert!(keeps_identity(&disk, dir).unwrap());
    settle_kept_identity(&disk, dir).unwrap();
    assert!(!keeps_identity(&disk.after_power_cut(Survival::Nothing), dir).unwrap());
    open(&disk).close().unwrap();
    let again = damaged_again(&disk);
    let Ok(Repair::Done(_)) = repair(&config(), &again, &keep) else { panic!("not done") };
    assert!(keeps_identity(&again, dir).unwrap(), "another repair, another look");
}

#[test]
fn a_full_disk_leaves_the_old_log_and_the_next_repair_begins_anew() {
    let left = left();
    let second = segments(&left.disk)[1].clone();
    let damaged = left.with(&second, |bytes| bytes[4200] ^= 1);
    let old = log_files(&damaged, DIR);
    let full = Fault::Error(std::io::ErrorKind::StorageFull);
    for op in
        [Op::CreateDir, Op::Create, Op::Write, Op::Allocate, Op::SyncAll, Op::SyncDir, Op::Rename]
    {
        for nth in 1.. {
            let disk = damaged.after_power_cut(Survival::Everything);
            disk.inject(op, nth, 1, full);
            if repair(&config(), &disk, &request()).is_ok() {
                assert!(nth > 1, "{op:?} is never called");
                break;
            }
            let is_old = log_files(&disk, DIR) == old;
            match repair(&config(), &disk, &request()).unwrap() {
                Repair::Done(_) => assert!(is_old, "{op:?} {nth}"),
                Repair::Finished { .. } | Repair::NotNeeded => assert!(!is_old, "{op:?} {nth}"),
                other => panic!("{op:?} {nth}: {other:?}"),
            }
            assert_eq!(verify(&config(), &disk, true).outcome.exit_code(), 0, "{op:?} {nth}");
        }
    }
}

#[test]
fn the_report_says_what_is_lost_and_what_it_means() {
    let left = left();
    let second = segments(&left.disk)[1].clone();
    let disk = left.with(&second, |bytes| bytes[4200] ^= 1);
    let plan = left.repaired("damaged", &disk, &request());
    let Lost { first, last, .. } = plan.lost.unwrap();
    let text = plan.to_string();
    for part in [format!("LOST      entries {first} to {last}"), "remove this member".to_owned()] {
        assert!(text.contains(&part), "{part} in {text}");
    }
    let kept = RepairPlan { new_uuid: plan.old_uuid, ..plan };
    assert!(kept.to_string().contains("cluster of itself"));
    let owner = Owner { node_id: 1, new_uuid: 3 };
    assert!(Log::open(config(), Arc::new(disk), owner).is_ok());
}
