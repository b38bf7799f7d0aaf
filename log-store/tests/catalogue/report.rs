//! What was looked at and what was found, by group. Threads share it.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::place::Place;

/// Violations that are kept to be shown; further ones are only counted.
const SHOWN_MAX: usize = 20;
/// The set of images is split by their lowest bits, so that threads rarely wait for each other.
const SHARDS: usize = 16;

/// Which crashes leave; what the other groups look at is damage that no crash leaves.
const CRASHES: [&str; 4] = ["A", "B", "E", "R"];

/// All groups, and every image that was seen.
#[derive(Debug, Default)]
pub(crate) struct Report {
    groups: Mutex<BTreeMap<&'static str, Group>>,
    /// Of crashes, and of damage: an image counts once in each.
    seen: [[Mutex<HashSet<u128>>; SHARDS]; 2],
    distinct_crashes: AtomicU64,
    violations: AtomicU64,
    shown: Mutex<Vec<Violation>>,
    /// Violations by group and case.
    failed: Mutex<BTreeMap<String, u64>>,
}

/// The counters of one group.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Group {
    pub(crate) cases: u64,
    pub(crate) failed: u64,
    /// Disks that were opened, each after another crash or damage.
    pub(crate) images: u64,
    /// Of these, those whose names and bytes no case of the same kind (crash, damage) had seen before.
    pub(crate) distinct: u64,
    pub(crate) opened: u64,
    /// Of the opened ones, those that ended with an unfinished write.
    pub(crate) cut: u64,
    pub(crate) refused: u64,
    pub(crate) violations: u64,
    pub(crate) took: Duration,
}

/// A promise that was broken, and where.
#[derive(Debug, Clone)]
pub(crate) struct Violation {
    pub(crate) place: String,
    pub(crate) what: String,
}

impl Report {
    /// Counts an image by its fingerprint.
    pub(crate) fn image(&self, group: &'static str, fingerprint: u128) {
        let shard = usize::try_from(fingerprint % 16).expect("below 16");
        let is_crash = CRASHES.contains(&group);
        let seen = &self.seen[usize::from(is_crash)][shard];
        let is_new = seen.lock().expect("no panic here").insert(fingerprint);
        self.distinct_crashes.fetch_add(u64::from(is_new && is_crash), Relaxed);
        self.count(group, |group| {
            group.images += 1;
            group.distinct += u64::from(is_new);
        });
    }

    /// Changes the counters of a group.
    pub(crate) fn count(&self, group: &'static str, change: impl FnOnce(&mut Group)) {
        change(self.groups.lock().expect("no panic here").entry(group).or_default());
    }

    /// Notes a broken promise.
    pub(crate) fn violation(&self, place: &Place, what: impl Into<String>) {
        self.violations.fetch_add(1, Relaxed);
        let mut failed = self.failed.lock().expect("no panic here");
        let of_case = failed.entry(place.case()).or_default();
        *of_case += 1;
        let is_first = *of_case == 1;
        drop(failed);
        self.count(place.group(), |group| {
            group.violations += 1;
            group.failed += u64::from(is_first);
        });
        let mut shown = self.shown.lock().expect("no panic here");
        if shown.len() < SHOWN_MAX {
            let (at, what) = (place.to_string(), what.into());
            let before = place.what();
            let what = if before.is_empty() { what } else { format!("before {before}: {what}") };
            shown.push(Violation { place: at, what });
        }
    }

    /// Those of the case of this place.
    pub(crate) fn violations_of(&self, place: &Place) -> u64 {
        self.failed.lock().expect("no panic here").get(&place.case()).copied().unwrap_or(0)
    }

    pub(crate) fn violations(&self) -> u64 {
        self.violations.load(Relaxed)
    }

    /// The first ones.
    pub(crate) fn shown(&self) -> Vec<Violation> {
        self.shown.lock().expect("no panic here").clone()
    }

    /// Images of crashes that differ in a name or a byte, so far.
    pub(crate) fn distinct_crashes(&self) -> u64 {
        self.distinct_crashes.load(Relaxed)
    }

    /// All groups together.
    pub(crate) fn total(&self) -> Group {
        self.sum(|_| true)
    }

    fn sum(&self, counts: impl Fn(&str) -> bool) -> Group {
        let groups = self.groups.lock().expect("no panic here");
        let counted = groups.iter().filter(|(name, _)| counts(name)).map(|(_, group)| group);
        counted.fold(Group::default(), |a, b| Group {
            cases: a.cases + b.cases,
            failed: a.failed + b.failed,
            images: a.images + b.images,
            distinct: a.distinct + b.distinct,
            opened: a.opened + b.opened,
            cut: a.cut + b.cut,
            refused: a.refused + b.refused,
            violations: a.violations + b.violations,
            took: a.took + b.took,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns =
            ["cases", "images", "distinct", "opened", "cut", "refused", "violations", "seconds"];
        write!(f, "{:<8}", "group")?;
        columns.iter().try_for_each(|column| write!(f, "{column:>11}"))?;
        writeln!(f)?;
        let groups = self.groups.lock().expect("no panic here").clone();
        let sums = [
            ("crashes", self.sum(|name| CRASHES.contains(&name))),
            ("others", self.sum(|name| !CRASHES.contains(&name))),
            ("all", self.total()),
        ];
        for (name, g) in groups.into_iter().chain(sums) {
            write!(f, "{name:<8}")?;
            for n in [g.cases, g.images, g.distinct, g.opened, g.cut, g.refused, g.violations] {
                write!(f, "{n:>11}")?;
            }
            writeln!(f, "{:>11.1}", g.took.as_secs_f64())?;
        }
        Ok(())
    }
}
