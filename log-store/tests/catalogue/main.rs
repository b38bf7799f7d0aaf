//! The catalogue: everything that can happen to a log, and what it does then. One program of its own, not a
//! list of tests, because its cases share what they have seen: it counts *distinct* images of crashes.
//!
//! ```text
//!   cargo test -p raftmap-log-store --test catalogue                           as in CI
//!   cargo test -p raftmap-log-store --test catalogue -- --group A              one group
//!   cargo test -p raftmap-log-store --test catalogue -- --only A/append-1/op-7 one place
//!   cargo test --release -p raftmap-log-store --test catalogue -- --long       1,000,000 crashes and more
//! ```
//! It ends with a table by group, and not well if a single promise was broken.
#![cfg(test)]

mod api;
mod at_once;
mod bench;
mod cases;
mod checks;
mod crashes;
mod cut;
mod ends;
mod faults;
mod files;
mod flips;
mod forged;
mod forms;
mod ledger;
mod left;
mod model;
mod oracle;
mod place;
mod planted;
mod random;
mod real_disk;
mod report;
mod run;
mod scenarios;
#[path = "../surgery/mod.rs"]
mod surgery;
mod torn;

use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use raftmap_log_store::Planted;

use bench::{Bench, Form};
use cases::Case;
use place::Only;

/// What the command line asks for.
struct Args {
    bench: Bench,
    lists: bool,
}

fn args() -> Result<Args, String> {
    let mut args = Args { bench: Bench::new(Form::Short), lists: false };
    args.bench.threads = std::thread::available_parallelism().map_or(2, |n| n.get() as u64);
    let mut given = std::env::args().skip(1);
    while let Some(arg) = given.next() {
        let mut value = || given.next().ok_or_else(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--long" => args.bench.form = Form::Long,
            "--only" | "--group" => args.bench.only = Only::new(&value()?),
            "--seed" => {
                let seed = value()?;
                args.bench.seed = seed.parse().map_err(|e| format!("seed {seed}: {e}"))?;
            }
            "--planted" => {
                let name = value()?;
                let bug = Planted::ALL.iter().find(|bug| format!("{bug:?}") == name);
                args.bench.planted = Some(*bug.ok_or(format!("no bug is called {name}"))?);
            }
            "--list" => args.lists = true,
            // What `cargo test` hands to every test of a workspace.
            "--test-threads" | "--format" | "--color" | "-Z" | "--skip" => drop(value()?),
            _ if arg.starts_with('-') => {}
            // A name to look for among tests: none here has one.
            _ => args.bench.only = Only::of_another_test(),
        }
    }
    Ok(args)
}

fn main() -> ExitCode {
    let args = match args() {
        Ok(args) => args,
        Err(problem) => {
            eprintln!("{problem}");
            return ExitCode::FAILURE;
        }
    };
    let cases = cases::all(&args.bench);
    if args.lists {
        cases.iter().for_each(|case| println!("{}", case.place));
        return ExitCode::SUCCESS;
    }
    run(&args.bench, &cases)
}

fn run(bench: &Bench, cases: &[Case]) -> ExitCode {
    let began = Instant::now();
    std::thread::scope(|scope| {
        let (ended, end) = std::sync::mpsc::channel::<()>();
        if bench.is_long() {
            scope.spawn(move || progress(bench, began, &end));
        }
        cases::run(bench, cases);
        drop(ended);
    });
    for violation in bench.report.shown() {
        println!("\nVIOLATION at {}\n  {}", violation.place, violation.what);
        println!(
            "  cargo test -p raftmap-log-store --test catalogue -- --only {}{}",
            violation.place,
            if bench.is_long() { " --long" } else { "" }
        );
    }
    let total = bench.report.total();
    println!("\n{}", bench.report);
    println!("in {:.1} s on {} threads", began.elapsed().as_secs_f64(), bench.threads);
    println!("{} passed, {} failed", total.cases - total.failed, total.failed);
    if total.cases == 0 && !bench.only.is_of_another_test() {
        eprintln!("there is no such case: --list shows them all");
        return ExitCode::FAILURE;
    }
    if total.violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A line every ten seconds, until the run ends.
fn progress(bench: &Bench, began: Instant, end: &Receiver<()>) {
    while end.recv_timeout(Duration::from_secs(10)) == Err(RecvTimeoutError::Timeout) {
        let total = bench.report.total();
        println!(
            "{:>5} s: {} cases, {} images, {} distinct ones of crashes, {} violations",
            began.elapsed().as_secs(),
            total.cases,
            total.images,
            bench.report.distinct_crashes(),
            total.violations
        );
    }
}
