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

/// All groups, and every image that was seen.
#[derive(Debug, Default)]
pub(crate) struct Report {
    groups: Mutex<BTreeMap<&'static str, Group>>,
    seen: [Mutex<HashSet<u128>>; SHARDS],
    distinct: AtomicU64,
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
    /// Of these, those whose names and bytes nobody had seen before.
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
    /// Counts an image by its fingerprint; whether it is a new one.
    pub(crate) fn image(&self, group: &'static str, fingerprint: u128) -> bool {
        let shard = usize::try_from(fingerprint % 16).expect("below 16");
        let is_new = self.seen[shard].lock().expect("no panic here").insert(fingerprint);
        self.distinct.fetch_add(u64::from(is_new), Relaxed);
        self.count(group, |group| {
            group.images += 1;
            group.distinct += u64::from(is_new);
        });
        is_new
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

    /// Images that differ in a name or a byte, so far.
    pub(crate) fn distinct(&self) -> u64 {
        self.distinct.load(Relaxed)
    }

    /// All groups together.
    pub(crate) fn total(&self) -> Group {
        let groups = self.groups.lock().expect("no panic here");
        groups.values().fold(Group::default(), |a, b| Group {
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
        let total = self.total();
        for (name, g) in groups.iter().map(|(name, g)| (*name, g)).chain([("all", &total)]) {
            write!(f, "{name:<8}")?;
            for n in [g.cases, g.images, g.distinct, g.opened, g.cut, g.refused, g.violations] {
                write!(f, "{n:>11}")?;
            }
            writeln!(f, "{:>11.1}", g.took.as_secs_f64())?;
        }
        Ok(())
    }
}
