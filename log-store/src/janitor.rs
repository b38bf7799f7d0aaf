//! The thread for everything that nobody waits for: the spare segment, FRONTIER, removing purged segments,
//! shortening sealed ones. Its desk is where the writer leaves the work.
//!
//! Each of these changes only what is already decided and durable, so it may be done late, or not at all.
//! An error is as final as the writer's, but for the spare: without one the writer makes the file itself.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::disk::DiskFile;
use crate::error::LogError;
use crate::frontier::{Frontier, FrontierFile};
use crate::located::Removable;
use crate::shared::Shared;

/// While so many segments would fit a disk is roomy: a spare is made, segments have their usual length.
pub(crate) const ROOMY_SEGMENTS: u64 = 2;

/// Where work is left for the janitor.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    papers: Mutex<Papers>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Papers {
    spare: Spare,
    /// Only the newest counts.
    frontier: Option<Frontier>,
    /// At most one per segment.
    tasks: VecDeque<Task>,
    closing: bool,
}

impl Papers {
    fn take(&mut self) -> Option<Work> {
        if matches!(self.spare, Spare::Wanted) && !self.closing {
            self.spare = Spare::Making;
            return Some(Work::Spare);
        }
        let frontier = self.frontier.take().map(Work::Frontier);
        frontier.or_else(|| self.tasks.pop_front().map(Work::Task))
    }
}

#[derive(Debug, Default)]
enum Spare {
    /// Not needed, or it could not be made.
    #[default]
    None,
    Wanted,
    Making,
    Ready(PathBuf, Arc<dyn DiskFile>),
}

/// One piece of work.
#[derive(Debug)]
pub(crate) enum Task {
    /// The file has a successor that says where it ends.
    Shorten { path: PathBuf, len: u64 },
    /// A durable purge covers it.
    Unlink(Removable),
}

enum Work {
    Spare,
    Frontier(Frontier),
    Task(Task),
}

impl Desk {
    pub(crate) fn hand_over(&self, tasks: impl IntoIterator<Item = Task>) {
        let mut tasks = tasks.into_iter().peekable();
        if tasks.peek().is_some() {
            self.lock().tasks.extend(tasks);
            self.changed.notify_all();
        }
    }

    pub(crate) fn write_frontier(&self, frontier: Frontier) {
        self.lock().frontier = Some(frontier);
        self.changed.notify_all();
    }

    pub(crate) fn want_spare(&self) {
        let mut papers = self.lock();
        if matches!(papers.spare, Spare::None) {
            papers.spare = Spare::Wanted;
            self.changed.notify_all();
        }
    }

    /// The spare file; waits when it is being made right now.
    pub(crate) fn take_spare(&self) -> Option<(PathBuf, Arc<dyn DiskFile>)> {
        let mut papers = self.lock();
        while matches!(papers.spare, Spare::Making) {
            papers = self.changed.wait(papers).expect("the janitor does not panic at its desk");
        }
        match std::mem::take(&mut papers.spare) {
            Spare::Ready(path, file) => Some((path, file)),
            Spare::None | Spare::Wanted | Spare::Making => None,
        }
    }

    /// Nothing more will come; what is here is still done.
    pub(crate) fn close(&self) {
        self.lock().closing = true;
        self.changed.notify_all();
    }

    /// Waits for work; none when the desk is closed and empty.
    fn next(&self) -> Option<Work> {
        let mut papers = self.lock();
        loop {
            let work = papers.take();
            if work.is_some() || papers.closing {
                return work;
            }
            papers = self.changed.wait(papers).expect("nobody panics at the desk");
        }
    }

    fn put_spare(&self, spare: Option<(PathBuf, Arc<dyn DiskFile>)>) {
        let mut papers = self.lock();
        papers.spare = match spare {
            Some((path, file)) => Spare::Ready(path, file),
            None => Spare::None,
        };
        drop(papers);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Papers> {
        self.papers.lock().expect("nobody panics at the desk")
    }
}

/// The janitor's thread.
#[derive(Debug)]
pub(crate) struct Janitor {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    frontier: FrontierFile,
    /// By an error of its own. One of the writer does not end it: what is on the desk is decided and durable.
    has_failed: bool,
}

impl Janitor {
    pub(crate) fn new(shared: Arc<Shared>, desk: Arc<Desk>, frontier: FrontierFile) -> Self {
        Self { shared, desk, frontier, has_failed: false }
    }

    /// Runs until the desk is closed and empty, or the disk fails.
    pub(crate) fn run(mut self) {
        while let Some(work) = self.desk.next() {
            if !self.work(work) {
                return;
            }
        }
    }

    /// Does one piece of work without waiting for any; false when there is none, or one has failed.
    pub(crate) fn turn(&mut self) -> bool {
        if self.has_failed {
            return false;
        }
        let Some(work) = self.desk.lock().take() else { return false };
        self.has_failed = !self.work(work);
        !self.has_failed
    }

    /// Whether the log still works.
    fn work(&mut self, work: Work) -> bool {
        let done = match work {
            Work::Spare => {
                self.make_spare();
                Ok(())
            }
            Work::Frontier(frontier) => self.frontier.write(frontier),
            Work::Task(task) => self.do_task(task),
        };
        match done {
            Ok(()) => true,
            Err(error) => {
                self.shared.fail(error);
                false
            }
        }
    }

    /// Not of the last bytes: on a disk that is nearly full the next segment is made when it is needed, and
    /// as short as it must be.
    fn make_spare(&self) {
        let config = &self.shared.config;
        let free = self.shared.disk.free_bytes(&config.dir).unwrap_or(u64::MAX);
        if free < ROOMY_SEGMENTS * config.segment_bytes_max {
            tracing::debug!(free, "no spare segment is made of the disk's last bytes");
            return self.desk.put_spare(None);
        }
        let path = config.dir.join("spare.tmp");
        let made = self.shared.disk.create(&path).and_then(|file| {
            file.allocate(config.segment_bytes_max)?;
            file.sync_all()?;
            Ok(file)
        });
        if let Err(error) = &made {
            tracing::warn!(%error, path = %path.display(), "no spare segment could be made");
            // On a full disk the half of it would only be in the way.
            let _ = self.shared.disk.remove(&path);
        }
        self.desk.put_spare(made.ok().map(|file| (path, file)));
    }

    fn do_task(&self, task: Task) -> Result<(), LogError> {
        let dir = &self.shared.config.dir;
        match task {
            Task::Shorten { path, len } => self.shorten(&path, len),
            Task::Unlink(segment) => {
                tracing::debug!(segment = segment.seq, "a purged segment is removed");
                crate::files::unlink(&*self.shared.disk, dir, &segment.path)
            }
        }
    }

    /// Gives the unused end of a segment back. One that is purged by now has given everything back.
    fn shorten(&self, path: &Path, len: u64) -> Result<(), LogError> {
        let file = match self.shared.disk.open(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            opened => opened.map_err(LogError::io("open", path))?,
        };
        file.set_len(len).map_err(LogError::io("shorten", path))?;
        file.sync_all().map_err(LogError::io("sync", path))
    }
}
