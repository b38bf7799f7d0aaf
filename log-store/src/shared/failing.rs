//! How a log ends that meets an error: the first one is final, and everyone is told it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use super::Shared;
use crate::error::{Failure, LogError};
use crate::planted::Planted;
use crate::queue::Op;

impl Shared {
    /// The log has failed. The first failure stays, everyone who waits and everyone who comes is told it.
    pub(crate) fn fail(&self, error: LogError) {
        self.fail_commit(error, &mut VecDeque::new());
    }

    /// The same, with the ops that the writer was committing. Everyone is told before the mark is written:
    /// a disk that fails may take long over it.
    pub(crate) fn fail_commit(&self, error: LogError, ops: &mut VecDeque<Op>) {
        let mut inner = self.lock();
        if let Some(first) = &inner.failed {
            let first = Err(Arc::clone(first));
            drop(inner);
            return complete(ops, &first);
        }
        let failure = Arc::new(failure(error, inner.durable_lsn));
        if self.config.has(Planted::GoOnAfterError) {
            drop(inner);
            return complete(ops, &Err(failure));
        }
        if self.config.has(Planted::LoseCallback)
            && let Some(op) = ops.pop_front()
        {
            std::mem::forget(op);
        }
        inner.failed = Some(Arc::clone(&failure));
        let mut waiting = inner.drain();
        let wakers = std::mem::take(&mut inner.room_wakers);
        self.meters.failed.set(1.0);
        self.wake_writer(inner);
        let told = Err(Arc::clone(&failure));
        complete(&mut waiting, &told);
        complete(ops, &told);
        wakers.into_iter().for_each(Waker::wake);
        tracing::error!(%failure, "the log has failed; it takes nothing any more");
        crate::files::mark_failed(&*self.disk, &self.config.dir, &failure.to_string());
    }
}

/// Tells everyone who waits, the newest first: for a watermark the older ones are then nothing new.
pub(crate) fn complete(ops: &mut VecDeque<Op>, result: &Result<(), Arc<Failure>>) {
    for op in ops.iter_mut().rev() {
        op.complete(result.clone().map_err(LogError::Failed));
    }
}

fn failure(error: LogError, durable_lsn: u64) -> Failure {
    match error {
        LogError::Io { op, path, source } => {
            Failure { op, path, durable_lsn, kind: source.kind(), message: source.to_string() }
        }
        other => Failure {
            op: "write the log in",
            path: std::path::PathBuf::new(),
            durable_lsn,
            kind: std::io::ErrorKind::Other,
            message: other.to_string(),
        },
    }
}
