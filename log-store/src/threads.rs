//! The two threads of a log, and how they end.
//!
//! The directory stays locked until the last of them has ended. A thread that panics fails the log: nobody
//! is left waiting for it.

use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use crate::disk::DiskLock;
use crate::error::LogError;
use crate::janitor::{Desk, Janitor, Task};
use crate::recovery::Recovered;
use crate::shared::Shared;
use crate::types::Owner;
use crate::writer::Writer;

/// The two threads and the lock of the directory.
#[derive(Debug)]
pub(crate) struct Threads {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    running: Mutex<Option<Running>>,
}

#[derive(Debug)]
struct Running {
    writer: JoinHandle<()>,
    janitor: JoinHandle<()>,
}

impl Threads {
    pub(crate) fn start(
        shared: &Arc<Shared>,
        mut recovered: Recovered,
        owner: Owner,
    ) -> Result<Self, LogError> {
        let (desk, writer, janitor) = staff(shared, &mut recovered, owner);
        // The directory stays locked until the last of the two has ended.
        let lock: Arc<dyn DiskLock> = recovered.lock.into();
        let janitor = spawn("wal-janitor", shared, &lock, move || janitor.run())?;
        let writer = spawn("wal-writer", shared, &lock, move || writer.run());
        if writer.is_err() {
            desk.close();
        }
        let running = Running { writer: writer?, janitor };
        let shared = Arc::clone(shared);
        Ok(Self { shared, desk, running: Mutex::new(Some(running)) })
    }

    pub(crate) fn stop(&self, shared: &Shared) {
        let mut running = self.running.lock().expect("nobody panics while stopping");
        let Some(threads) = running.take() else { return };
        shared.close();
        // The last handle may go in a completion, on the writer's own thread: it ends by itself.
        if threads.writer.thread().id() == thread::current().id() {
            return;
        }
        // A panic was already turned into a failure of the log.
        let _ = threads.writer.join();
        // The writer closes the desk when it ends, unless it panicked.
        self.desk.close();
        let _ = threads.janitor.join();
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        let shared = Arc::clone(&self.shared);
        self.stop(&shared);
    }
}

/// The two that work the log, and the desk between them.
pub(crate) fn staff(
    shared: &Arc<Shared>,
    recovered: &mut Recovered,
    owner: Owner,
) -> (Arc<Desk>, Writer, Janitor) {
    let desk = Arc::new(Desk::default());
    let longer = std::mem::take(&mut recovered.longer).into_iter();
    desk.hand_over(longer.map(|(path, len)| Task::Shorten { path, len }));
    let writer = Writer::new(Arc::clone(shared), Arc::clone(&desk), recovered, owner.new_uuid);
    // The first commit finds its segment made, while there is room for it.
    desk.want_spare();
    let frontier = recovered.frontier.take().expect("a recovery hands FRONTIER over");
    let janitor = Janitor::new(Arc::clone(shared), Arc::clone(&desk), frontier);
    (desk, writer, janitor)
}

fn spawn(
    name: &'static str,
    shared: &Arc<Shared>,
    lock: &Arc<dyn DiskLock>,
    run: impl FnOnce() + Send + 'static,
) -> Result<JoinHandle<()>, LogError> {
    let guard = PanicGuard { name, shared: Arc::clone(shared) };
    let lock = Arc::clone(lock);
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _guard = guard;
        run();
        drop(lock);
    });
    spawned.map_err(LogError::io("start a thread for", &shared.config.dir))
}

/// A thread that panics must not leave anyone waiting for it.
struct PanicGuard {
    name: &'static str,
    shared: Arc<Shared>,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            let source = std::io::Error::other("the thread panicked");
            let path = std::path::PathBuf::from(self.name);
            self.shared.fail(LogError::Io { op: "run", path, source });
        }
    }
}
