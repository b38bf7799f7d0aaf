//! A read: wait until this node's state is new enough, then read one View.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use raftmap_state_machine::{Item, ListQuery, Page, Tier, View};
use tokio::time::{Instant, timeout_at};

use super::read_index::RoundError;
use super::{Service, ServiceError};

/// How long a read waits before it joins another round after one without a leader.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// How new the state must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consistency {
    /// It contains every write that was answered before the read began.
    Linearizable,
    /// This node's state at once, at most this old.
    Stale {
        /// The age above which the read is refused; `None`: any.
        max_staleness: Option<Duration>,
    },
}

/// What a read asks of the state before it looks at it.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions {
    /// How new the state must be.
    pub consistency: Consistency,
    /// The revision that it must have reached.
    pub min_revision: Option<u64>,
    /// How long the caller waits.
    pub timeout: Duration,
}

/// A state to read from.
pub struct ReadPoint {
    /// The frozen state.
    pub view: Arc<View>,
    /// Its age, for a stale read: the time since it had applied all that a leader then reported
    /// committed. `None` for a linearizable read and where it never had.
    pub staleness: Option<Duration>,
}

impl Service {
    /// Waits until this node's state answers to `options`.
    ///
    /// # Errors
    /// [`ServiceError::NoLeader`], [`ServiceError::TooStale`], or [`ServiceError::Timeout`] when
    /// the state was not there in time.
    pub async fn read(&self, options: &ReadOptions) -> Result<ReadPoint, ServiceError> {
        self.admit()?;
        let deadline = Instant::now() + options.timeout;
        let staleness = match options.consistency {
            Consistency::Linearizable => {
                let index = self.read_index(deadline).await?;
                self.wait_applied(index, deadline).await?;
                None
            }
            Consistency::Stale { .. } => self.staleness(),
        };
        if let Some(revision) = options.min_revision {
            self.wait_revision(revision, deadline).await?;
        }
        if let Consistency::Stale { max_staleness: Some(max) } = options.consistency {
            // Looked at after the wait: waiting makes the state newer, not older.
            if self.staleness().is_none_or(|age| age > max) {
                return Err(ServiceError::TooStale);
            }
        }
        Ok(ReadPoint { view: self.0.store.view(), staleness })
    }

    /// One key as of `view`: at once when it is hot, else on a thread that may block.
    pub async fn get(
        &self,
        view: &Arc<View>,
        key: &Bytes,
    ) -> Result<(Option<Item>, Tier), ServiceError> {
        if let Some(item) = view.get_hot(key) {
            return Ok((item, Tier::Hot));
        }
        let (view, key) = (view.clone(), key.clone());
        blocking(move || Ok(view.get(&key)?)).await
    }

    /// One key as of an earlier revision.
    pub async fn get_at(
        &self,
        view: &Arc<View>,
        key: &Bytes,
        revision: u64,
    ) -> Result<Option<Item>, ServiceError> {
        let (view, key) = (view.clone(), key.clone());
        blocking(move || Ok(view.get_at(&key, revision)?)).await
    }

    /// One page of a list.
    pub async fn list(&self, view: Arc<View>, query: ListQuery) -> Result<Page, ServiceError> {
        blocking(move || Ok(view.list(&query)?)).await
    }

    /// The index that a read that begins now must see; one more round when the leader changed.
    pub(crate) async fn read_index(&self, deadline: Instant) -> Result<u64, ServiceError> {
        loop {
            match timeout_at(deadline, self.0.reads.join()).await {
                Ok(Ok(index)) => return Ok(index),
                Ok(Err(RoundError::NoLeader)) => {
                    if Instant::now() + RETRY_PAUSE >= deadline {
                        return Err(ServiceError::NoLeader);
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                    self.admit()?;
                }
                Ok(Err(stopped)) => return Err(stopped.into()),
                Err(_elapsed) => return Err(ServiceError::NoLeader),
            }
        }
    }

    async fn wait_applied(&self, index: u64, deadline: Instant) -> Result<(), ServiceError> {
        let applied = |view: &View| view.applied().is_some_and(|id| id.index >= index);
        self.wait_view(applied, deadline).await
    }

    async fn wait_revision(&self, revision: u64, deadline: Instant) -> Result<(), ServiceError> {
        self.wait_view(|view| view.revision() >= revision, deadline).await
    }

    async fn wait_view(
        &self,
        holds: impl Fn(&View) -> bool,
        deadline: Instant,
    ) -> Result<(), ServiceError> {
        if holds(&self.0.store.view()) {
            return Ok(());
        }
        let mut applied = self.0.store.applied();
        loop {
            applied.borrow_and_update();
            if holds(&self.0.store.view()) {
                return Ok(());
            }
            match timeout_at(deadline, applied.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_closed)) => return Err(ServiceError::ShuttingDown),
                Err(_elapsed) => return Err(ServiceError::Timeout),
            }
        }
    }

    /// The age of this node's state. A leader's is that of its quorum's last word, or, where its
    /// apply lags behind its commits, of the last moment at which it did not.
    pub(crate) fn staleness(&self) -> Option<Duration> {
        let applied = self.applied_index();
        let Some(silence) = self.quorum_silence() else { return self.0.freshness.age(applied) };
        let committed = {
            use openraft::async_runtime::WatchReceiver;
            self.0.raft.metrics().borrow_watched().local_committed.map_or(0, |id| id.index)
        };
        self.0.freshness.heard(committed, applied);
        self.0.freshness.age(applied).map(|age| age.max(silence))
    }

    /// The last applied log index; 0 before the first.
    pub fn applied_index(&self) -> u64 {
        self.0.store.view().applied().map_or(0, |id| id.index)
    }
}

/// Runs a read that may wait for the disk where waiting hurts nobody.
async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, ServiceError> + Send + 'static,
) -> Result<T, ServiceError> {
    tokio::task::spawn_blocking(read)
        .await
        .unwrap_or_else(|panic| Err(ServiceError::Internal(panic.to_string())))
}
