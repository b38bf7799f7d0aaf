//! Progress of long work, on a terminal only: a script's stderr stays for what went wrong.

use std::{
    io::{self, IsTerminal as _},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a bar looks at its counter.
const TICK: Duration = Duration::from_millis(100);

/// A bar that follows a counter until it is dropped.
pub(crate) struct Progress {
    bar: ProgressBar,
    follower: Option<std::thread::JoinHandle<()>>,
}

impl Progress {
    /// A bar over `total`, or a spinner if that is not known, with `what` before it.
    pub(crate) fn new(what: &'static str, total: Option<u64>) -> Progress {
        let bar = match total {
            _ if !io::stderr().is_terminal() => ProgressBar::hidden(),
            Some(total) => ProgressBar::new(total)
                .with_style(style("{prefix} {wide_bar} {human_pos}/{human_len}  {per_sec}  {eta}")),
            None => ProgressBar::new_spinner()
                .with_style(style("{prefix} {spinner} {human_pos}  {per_sec}")),
        };
        Progress { bar: bar.with_prefix(what), follower: None }
    }

    /// The bar shows `counter` by itself from now on.
    pub(crate) fn follow(mut self, counter: &Arc<AtomicU64>) -> Progress {
        if !self.bar.is_hidden() {
            let (bar, counter) = (self.bar.clone(), Arc::clone(counter));
            self.follower = Some(std::thread::spawn(move || {
                while !bar.is_finished() {
                    bar.set_position(counter.load(Ordering::Relaxed));
                    std::thread::park_timeout(TICK);
                }
            }));
        }
        self
    }

    pub(crate) fn add(&self, n: u64) {
        self.bar.inc(n);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
        if let Some(follower) = self.follower.take() {
            follower.thread().unpark();
            // It only draws: if it panicked there is nothing to add.
            let _drawn = follower.join();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file are valid")
}
