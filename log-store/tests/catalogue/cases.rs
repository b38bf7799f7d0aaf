//! The cases of all groups, and how they are run: on as many threads as there are cores.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use raftmap_log_store::Planted;

use crate::bench::{Bench, Form};
use crate::place::Place;
use crate::report::Violation;

type Run = Box<dyn Fn(&Bench, &Place) + Send + Sync>;

/// One case.
pub(crate) struct Case {
    pub(crate) place: Place,
    run: Run,
}

impl Case {
    /// A case of a group under its name. It reports what is wrong; should it panic, that is wrong too.
    pub(crate) fn new(
        group: &'static str,
        name: impl std::fmt::Display,
        run: impl Fn(&Bench, &Place) + Send + Sync + 'static,
    ) -> Self {
        Self { place: Place::of(group, name), run: Box::new(run) }
    }

    fn run(&self, bench: &Bench) {
        let began = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| (self.run)(bench, &self.place)));
        if let Err(panic) = ended {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            bench.report.violation(&self.place, format!("panicked: {text}"));
        }
        bench.report.count(self.place.group(), |group| {
            group.cases += 1;
            group.took += began.elapsed();
        });
    }
}

/// All cases, in the order of the groups, and the walk over the planted bugs.
pub(crate) fn all(bench: &Bench) -> Vec<Case> {
    let mut cases = of_good_logs(bench);
    cases.extend(crate::planted::cases());
    cases
}

/// All cases, in the order of the groups.
pub(crate) fn of_good_logs(bench: &Bench) -> Vec<Case> {
    let groups = [
        crate::crashes::cases(),
        crate::torn::cases(),
        crate::flips::cases(),
        crate::forged::cases(),
        crate::files::cases(),
        crate::forms::cases(),
        crate::real_disk::cases(),
        crate::faults::cases(),
        crate::api::cases(),
        crate::at_once::cases(),
        crate::random::cases(bench),
    ];
    groups.into_iter().flatten().collect()
}

/// Runs those that the bench asks for.
pub(crate) fn run(bench: &Bench, cases: &[Case]) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..bench.threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Relaxed)) {
                    if bench.admits(&case.place) {
                        case.run(bench);
                    }
                }
            });
        }
    });
}

/// What a short run of these cases says about a log with this bug: the first violation, and after how
/// many images it was found.
pub(crate) fn run_short(
    planted: Option<Planted>,
    cases: &[Case],
    deadline: Instant,
) -> (Option<Violation>, u64) {
    let bench =
        Bench { planted, ends_at_first: true, deadline: Some(deadline), ..Bench::new(Form::Short) };
    run(&bench, cases);
    (bench.report.shown().into_iter().next(), bench.report.total().images)
}
