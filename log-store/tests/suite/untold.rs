//! What a repair says is lost of a log that a power cut ended before FRONTIER told of its end: never less than may be.

use raftmap_log_store::EntryParts;
use raftmap_log_store::disk::{SimDisk, Survival};
use raftmap_log_store::tools::{Lost, Repair, RepairPlan, plan_repair, verify};

use crate::common::*;
use crate::repair::{VOTE, request};
use crate::surgery::{changed, frames};

/// What a power cut leaves of a log with `rolls` segments of acknowledged entries, then a frame with each of `last`
/// and votes between them where there are none. FRONTIER tells of the roll at most.
fn killed(rolls: usize, last: Vec<Vec<EntryParts>>) -> SimDisk {
    let disk = SimDisk::new();
    let (log, mut hands) = by_hand(&disk);
    let mut commit = |answer| commit(&mut hands, answer);
    commit(save_vote(&log, vote(3)));
    let mut next = 1;
    while segments(&disk).len() < rolls {
        commit(append(&log, vec![entry(1, next, 3000)]));
        next += 1;
    }
    for entries in last {
        if entries.is_empty() {
            commit(save_vote(&log, vote(VOTE)));
        } else {
            commit(append(&log, entries));
        }
    }
    disk.after_power_cut(Survival::Everything)
}

fn planned(disk: &SimDisk) -> RepairPlan {
    match plan_repair(&config(), disk, &request()).unwrap() {
        Repair::Planned(plan) => *plan,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_end_that_is_gone_is_open_when_frontier_is_behind_it() {
    let last = |next: u64| (next..next + 30).map(|index| vec![entry(1, index, 40)]).collect();
    let whole = killed(3, Vec::new());
    let next = verify(&config(), &whole, false).info.unwrap().last_index.unwrap() + 1;
    let whole = killed(3, last(next));
    let path = segments(&whole)[2].clone();
    let other = SimDisk::new();
    let log = open(&other);
    wait(append(&log, entries(1, 1..=3))).unwrap();
    log.close().unwrap();
    let foreign = other.files()[&segments(&other)[0]].clone();
    let missing = whole.after_power_cut(Survival::Everything);
    missing.take(&path);
    let damaged = [
        ("missing", missing),
        ("foreign", changed(&whole, &path, |bytes| *bytes = foreign)),
        ("short", changed(&whole, &path, |bytes| bytes.truncate(4096 + 300))),
        ("empty", changed(&whole, &path, Vec::clear)),
    ];
    for (what, disk) in damaged {
        // Where FRONTIER tells of nothing in it, its loss may be no damage to an open: then more is damaged.
        let first = segments(&whole)[1].clone();
        let disk = changed(&disk, &first, |bytes| bytes[4200] ^= 1);
        let plan = planned(&disk);
        assert!(plan.lost.is_some_and(|lost| lost.at_least), "{what}: {plan}");
        assert!(plan.end_is_open && plan.votes_may_be_lost, "{what}: {plan}");
    }
}

#[test]
fn a_last_record_that_does_not_verify_may_have_been_anything() {
    let whole = killed(1, vec![entries(1, 1..=5), vec![entry(1, 6, 40)]]);
    let path = segments(&whole)[0].clone();
    let (frame, len) = *frames(&whole.files()[&path]).last().unwrap();
    for at in (frame + 40 + 8)..(frame + len) {
        let disk = changed(&whole, &path, |bytes| bytes[at] ^= 1);
        if verify(&config(), &disk, false).outcome.exit_code() == 2 {
            let plan = planned(&disk);
            assert_eq!(plan.keeps, Some((1, 5)), "byte {at}: {plan}");
            assert!(plan.end_is_open && plan.votes_may_be_lost, "byte {at}: {plan}");
            assert!(!plan.to_string().contains("LOST      no entry\n"), "byte {at}: {plan}");
        }
    }
}

#[test]
fn a_vote_behind_lost_entries_does_not_tell_of_them() {
    let whole = killed(1, vec![entries(1, 1..=5), entries(1, 6..=7), Vec::new()]);
    let path = segments(&whole)[0].clone();
    let found = frames(&whole.files()[&path]);
    let (frame, len) = found[found.len() - 2];
    for (what, disk) in [
        ("a rotten header", changed(&whole, &path, |bytes| bytes[frame + 10] ^= 1)),
        ("zeros", changed(&whole, &path, |bytes| bytes[frame..frame + len].fill(0))),
    ] {
        let plan = planned(&disk);
        assert_eq!((plan.keeps, plan.vote), (Some((1, 5)), Some(vote(VOTE))), "{what}: {plan}");
        assert!(plan.end_is_open && plan.votes_may_be_lost, "{what}: {plan}");
    }
}

#[test]
fn entries_behind_the_damage_are_told_exactly_without_frontier_s_help() {
    let whole = killed(1, (1..=9).map(|index| vec![entry(1, index, 40)]).collect());
    let path = segments(&whole)[0].clone();
    let (frame, _) = frames(&whole.files()[&path])[4];
    let plan = planned(&changed(&whole, &path, |bytes| bytes[frame + 60] ^= 1));
    assert_eq!(plan.lost, Some(Lost { first: 4, last: 9, at_least: false }), "{plan}");
    assert!(plan.votes_may_be_lost, "the frame may have held one: {plan}");
}
