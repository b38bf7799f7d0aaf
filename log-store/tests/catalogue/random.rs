//! Group R: random crashes. A seed gives a list of wishes; played on a log they become appends, votes,
//! truncations, purges, kills, power cuts and disk errors, and every picture of the film is cut again.
//!
//! A wish means something on any log, so one that is taken out leaves a list that can still be played: a
//! violation is shown with the shortest list that was found to show it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use raftmap_log_store::LogConfig;
use raftmap_log_store::disk::{Fault, Op, Survival};

use crate::bench::{Bench, Form};
use crate::cases::Case;
use crate::cut::{Thoroughness, survivals};
use crate::model::Model;
use crate::oracle::Oracle;
use crate::place::Place;
use crate::run::{Film, Run, Step};

/// Seeds of the short form.
const SEEDS_SHORT: u64 = 300;
/// Distinct images of crashes that the long form does not end before; bits that flip and files that are
/// exchanged are not among them.
const CRASHES_LONG: u64 = 1_000_000;
/// Tries to make a list shorter.
const SHRINKS_MAX: usize = 400;

/// The group.
pub(crate) fn cases(bench: &Bench) -> Vec<Case> {
    if let Some(seed) = bench.only.case().and_then(|case| case.strip_prefix("seed-")?.parse().ok())
    {
        return vec![case(seed)];
    }
    match bench.form {
        Form::Short => (bench.seed..bench.seed + SEEDS_SHORT).map(case).collect(),
        Form::Long => {
            let next = std::sync::Arc::new(AtomicU64::new(bench.seed));
            let search = |n: u64| {
                let next = std::sync::Arc::clone(&next);
                Case::new("R", format!("search-{n}"), move |bench, _| {
                    while bench.report.distinct_crashes() < CRASHES_LONG && !bench.is_over() {
                        let seed = next.fetch_add(1, Relaxed);
                        play(bench, &Place::of("R", format!("seed-{seed}")), seed);
                    }
                })
            };
            (1..=bench.threads).map(search).collect()
        }
    }
}

fn case(seed: u64) -> Case {
    Case::new("R", format!("seed-{seed}"), move |bench, place| play(bench, place, seed))
}

fn play(bench: &Bench, place: &Place, seed: u64) {
    let mut dice = Dice(seed);
    let config = config(bench, &mut dice);
    // Every other disk is a bad one.
    let kinds = if seed.is_multiple_of(2) { 115 } else { 99 };
    let wishes: Vec<Wish> = (0..12 + dice.below(50)).map(|_| Wish::new(&mut dice, kinds)).collect();
    let before = bench.report.violations_of(place);
    let film = filmed(&config, &wishes).0;
    judge(bench, &config, place, &film);
    if bench.report.violations_of(place) > before && !bench.ends_at_first {
        let shortest = shortest(bench, &config, wishes);
        let steps = filmed(&config, &shortest).1;
        bench.report.violation(place, format!("the shortest list of steps: {steps:?}"));
    }
}

fn judge(bench: &Bench, config: &LogConfig, place: &Place, film: &Film) {
    let mut oracle = Oracle::new(bench, config.clone());
    oracle.recovery_every *= 4;
    film.trouble.iter().for_each(|what| bench.report.violation(place, what.clone()));
    let thoroughness = if bench.is_long() {
        Thoroughness::Subsets { of: 4, coins: 10 }
    } else {
        Thoroughness::Few
    };
    for (number, scene) in film.scenes.iter().enumerate() {
        let place = place.at(format!("op-{number}")).before(&scene.what);
        if !bench.admits(&place) {
            continue;
        }
        oracle.judge_killed(&place, scene);
        for survival in survivals(scene.disk.unsure(), thoroughness) {
            let place = place.after(survival);
            if bench.admits(&place) {
                oracle.judge(&place, &scene.disk.after_power_cut(survival), &scene.expect);
            }
        }
    }
}

/// Settings in which little is kept in memory, or much.
fn config(bench: &Bench, dice: &mut Dice) -> LogConfig {
    LogConfig {
        segment_bytes_max: *dice.one_of(&[16 << 10, 16 << 10, 20 << 10, 40 << 10]),
        cache_bytes_max: *dice.one_of(&[0, 3000, 1 << 20]),
        index_bytes_max: *dice.one_of(&[0, 1 << 20]),
        files_max: *dice.one_of(&[1, 2, 64]),
        ..bench.config()
    }
}

/// The film of these wishes, and what they became.
fn filmed(config: &LogConfig, wishes: &[Wish]) -> (Film, Vec<Step>) {
    let mut run = Run::new(config.clone());
    let mut term = 1;
    let mut steps = Vec::with_capacity(wishes.len());
    for wish in wishes {
        if let Some(step) = wish.on(run.model(), &mut term) {
            run.step(step);
            steps.push(step);
        }
    }
    (run.film(), steps)
}

/// Takes wishes out as long as something is still wrong.
fn shortest(bench: &Bench, config: &LogConfig, mut wishes: Vec<Wish>) -> Vec<Wish> {
    let deadline = Instant::now() + std::time::Duration::from_secs(60);
    let is_wrong = |wishes: &[Wish]| {
        let quiet = Bench {
            planted: bench.planted,
            ends_at_first: true,
            deadline: Some(deadline),
            ..Bench::new(bench.form)
        };
        judge(&quiet, config, &Place::of("R", "shorter"), &filmed(config, wishes).0);
        quiet.report.violations() > 0
    };
    let mut tries = 0;
    let mut at = wishes.len();
    while at > 0 && tries < SHRINKS_MAX && Instant::now() < deadline {
        at -= 1;
        tries += 1;
        let mut fewer = wishes.clone();
        fewer.remove(at);
        if is_wrong(&fewer) {
            wishes = fewer;
        }
    }
    wishes
}

/// What to do next, in a form that fits any log.
#[derive(Debug, Clone, Copy)]
struct Wish {
    kind: u64,
    a: u64,
    b: u64,
}

impl Wish {
    fn new(dice: &mut Dice, kinds: u64) -> Self {
        Self { kind: dice.below(kinds), a: dice.next(), b: dice.next() }
    }

    /// The step on a log that holds this.
    fn on(self, model: &Model, term: &mut u64) -> Option<Step> {
        let Self { kind, a, b } = self;
        let last = model.last.map_or(0, |last| last.term);
        *term = (*term).max(last).max(model.vote.map_or(0, |vote| vote.term));
        let entry = |n: u64| {
            let count = u64::try_from(model.entries.len()).expect("few");
            let at = usize::try_from(n.checked_rem(count)?).expect("few");
            model.entries.get(at).copied()
        };
        Some(match kind {
            0..30 => {
                let first = model.next();
                Step::Append(*term, first, first + a % 5, len(b))
            }
            30..36 => {
                *term += 1;
                Step::Vote(*term)
            }
            36..40 => Step::Vote(*term),
            40..46 => entry(a).map(|e| Step::Committed(e.term, e.index))?,
            46..51 => {
                let keep = entry(a).map(|e| e.index - 1);
                *term += 1;
                // Up to the purge frontier is all that can go.
                Step::Truncate(keep.filter(|&keep| keep > 0 || model.purged.is_some()))
            }
            51..57 => entry(a).map(|e| Step::Purge(e.term, e.index))?,
            57..58 => Step::Purge(*term, model.next() + a % 20),
            58..74 => Step::Commit,
            74..78 => Step::Rest,
            78..85 => Step::Tidy,
            85..89 => Step::Settle,
            89..91 => Step::Close,
            91..94 => Step::Kill,
            94..97 => Step::Cut(Survival::Coins(a)),
            97..99 => Step::Heal,
            _ => Step::Fault(op(a), 1 + b % 3, 1 + (b >> 8) % 3, fault(b >> 16)),
        })
    }
}

fn len(n: u64) -> usize {
    let n = usize::try_from(n % (1 << 32)).expect("32 bits");
    match n % 16 {
        0 => 0,
        1..9 => n / 16 % 300,
        9..15 => n / 16 % 3500,
        _ => 3500 + n / 16 % 17_000,
    }
}

fn op(n: u64) -> Op {
    let ops = [
        Op::Write,
        Op::Write,
        Op::SyncData,
        Op::SyncData,
        Op::SyncData,
        Op::SyncAll,
        Op::SyncAll,
        Op::SyncAll,
        Op::SyncDir,
        Op::Create,
        Op::Rename,
        Op::Remove,
        Op::SetLen,
        Op::Allocate,
        Op::Read,
    ];
    ops[usize::try_from(n % 15).expect("below 15")]
}

fn fault(n: u64) -> Fault {
    match n % 5 {
        0 => Fault::Error(std::io::ErrorKind::StorageFull),
        1 => Fault::Dropped(std::io::ErrorKind::Other),
        2 => Fault::Short(usize::try_from(1 + n % 600).expect("small")),
        3 => Fault::Error(std::io::ErrorKind::Interrupted),
        _ => Fault::Error(std::io::ErrorKind::Other),
    }
}

/// splitmix64.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        let count = u64::try_from(choices.len()).expect("few");
        &choices[usize::try_from(self.below(count)).expect("few")]
    }
}
