//! openraft's own conformance suite, unchanged, on the pair that a node runs: the log and the store,
//! each on a real disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use raftmap_log_store::disk::RealDisk;
use raftmap_log_store::raft::LogStore;
use raftmap_log_store::{Log, LogConfig, Owner};
use raftmap_node::raft::Codec;
use raftmap_state_machine::{LocalIdentity, StateMachine, Store, StoreConfig, TypeConfig};
use tempfile::TempDir;

type NodeLog = LogStore<TypeConfig, Codec>;

/// Makes an empty pair for each of the suite's tests.
#[derive(Default)]
struct Pairs {
    made: AtomicU64,
}

/// Keeps what a pair lies in until its test is over.
struct Guard {
    _store: Store,
    _dir: TempDir,
}

impl StoreBuilder<TypeConfig, NodeLog, StateMachine, Guard> for Pairs {
    async fn build(&self) -> Result<(Guard, NodeLog, StateMachine), StorageError<TypeConfig>> {
        let uuid = 1 + u128::from(self.made.fetch_add(1, Ordering::Relaxed));
        let dir = tempfile::tempdir().expect("a temporary directory");
        let owner = Owner { node_id: 1, new_uuid: uuid };
        let config = LogConfig::new(dir.path().join("log"));
        let (log, _) = Log::open(config, Arc::new(RealDisk), owner).expect("a log");

        let mut config = StoreConfig::new(dir.path().join("store"));
        config.hot_bytes_max = 1 << 20;
        config.memtable_bytes_max = 1 << 20;
        let identity = LocalIdentity { node_id: 1, wal_uuid: log.uuid() };
        let (machine, store) = raftmap_state_machine::open(config, identity).expect("a store");
        Ok((Guard { _store: store, _dir: dir }, LogStore::new(log), machine))
    }
}

#[test]
fn the_pair_keeps_the_contract_of_openraft() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(Suite::test_all(Pairs::default())).expect("every test of the suite");
}
