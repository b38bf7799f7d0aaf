//! The adapter to openraft: the type config, the membership's bytes, the state machine's trait.
//!
//! ```text
//!   openraft's worker task          the apply thread
//!   apply(stream) ── group, group ──► evaluate, commit, publish, answer
//!   try_create_snapshot_builder  ──► the published View: nothing is applied meanwhile
//!   build_snapshot (own task)    ──► a checkpoint; no file is written
//!   get_current_snapshot         ──► a checkpoint, and the View (or a fresh file) as the snapshot
//!   install_snapshot             ──► flips CURRENT to a generation that was prepared before
//! ```
//! This is the only file that names openraft. Its worker calls everything here one after another,
//! except `build_snapshot`, so the published View is always exactly what was applied.
//!
//! openraft takes the id of a built or current snapshot as the floor below which it may purge the
//! log. That is why both sync the store before they name an id.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{FutureExt, Stream, StreamExt};
use openraft::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::entry::RaftEntry;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use tokio::sync::oneshot;

use crate::codec::{Decoder, Encode, length};
use crate::command::Command;
use crate::error::{Malformed, StoreError};
use crate::install::{self, PreparedGeneration};
use crate::machine::{Entry, GROUP_BYTES_MAX, GROUP_ENTRIES_MAX, Job, Payload};
use crate::reply::Reply;
use crate::snapshot::{FrozenView, SnapshotMetaParts};
use crate::store::Shared;
use crate::types::{LogId, Member};
use crate::view::View;

openraft::declare_raft_types!(
    /// The types that Raft replicates here. The leader id (`leader_id_adv`) is fixed for ever: log
    /// and wire carry (term, node, index).
    pub TypeConfig:
        D = Command,
        R = Reply,
        NodeId = u64,
        Node = Member,
        AsyncRuntime = openraft_rt_tokio::TokioRuntime,
);

/// A membership of this type config.
pub type Membership = openraft::Membership<u64, Member>;

const MEMBERSHIP_FORMAT: u8 = 1;

/// The membership as bytes, for the log, the wire and the store: format u8, the voter sets, then each
/// node with its address, peer address, labels and log uuid.
#[must_use]
pub fn encode_membership(membership: &Membership) -> Bytes {
    let mut to = vec![MEMBERSHIP_FORMAT];
    let configs = membership.get_joint_config();
    to.put_varint(length(configs.len()));
    for config in configs {
        to.put_varint(length(config.len()));
        for id in config {
            to.put_varint(*id);
        }
    }
    let nodes: BTreeMap<_, _> = membership.nodes().collect();
    to.put_varint(length(nodes.len()));
    for (id, member) in nodes {
        to.put_varint(*id);
        put_member(&mut to, member);
    }
    to.into()
}

fn put_member(to: &mut Vec<u8>, member: &Member) {
    to.put_string(member.addr.as_bytes());
    to.put_flag(member.peer_addr.is_some());
    if let Some(addr) = &member.peer_addr {
        to.put_string(addr.as_bytes());
    }
    to.put_varint(length(member.labels.len()));
    for (label, word) in &member.labels {
        to.put_string(label.as_bytes());
        to.put_string(word.as_bytes());
    }
    to.extend_from_slice(&member.log_uuid.to_le_bytes());
}

/// Reads what [`encode_membership`] wrote.
///
/// # Errors
/// `InvalidData` for anything else.
pub fn decode_membership(bytes: &[u8]) -> io::Result<Membership> {
    let bytes = Bytes::copy_from_slice(bytes);
    let (configs, nodes) = membership_parts(&bytes)
        .map_err(|malformed| io::Error::new(io::ErrorKind::InvalidData, malformed))?;
    Membership::new(configs, nodes)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))
}

type MembershipParts = (Vec<BTreeSet<u64>>, BTreeMap<u64, Member>);

fn membership_parts(bytes: &Bytes) -> Result<MembershipParts, Malformed> {
    let mut from = Decoder::new(bytes, "membership");
    if from.u8()? != MEMBERSHIP_FORMAT {
        return from.malformed();
    }
    let configs = from.list(|from| Ok(from.list(Decoder::varint)?.into_iter().collect()))?;
    let nodes = from.list(|from| Ok((from.varint()?, member(from)?)))?.into_iter().collect();
    from.end()?;
    Ok((configs, nodes))
}

fn member(from: &mut Decoder<'_>) -> Result<Member, Malformed> {
    Ok(Member {
        addr: from.text()?,
        peer_addr: if from.flag()? { Some(from.text()?) } else { None },
        labels: from.list(|from| Ok((from.text()?, from.text()?)))?.into_iter().collect(),
        log_uuid: from.u128()?,
    })
}

/// openraft's log id as ours.
#[must_use]
pub fn log_id_from_raft(id: &LogIdOf<TypeConfig>) -> LogId {
    LogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

/// Our log id as openraft's.
#[must_use]
pub fn log_id_to_raft(id: LogId) -> LogIdOf<TypeConfig> {
    let leader_id = openraft::vote::leader_id_adv::LeaderId { term: id.term, node_id: id.node };
    openraft::LogId { leader_id, index: id.index }
}

/// The label of a snapshot as openraft's.
///
/// # Errors
/// `InvalidData` when the membership in it does not decode.
pub fn snapshot_meta(parts: &SnapshotMetaParts) -> io::Result<SnapshotMetaOf<TypeConfig>> {
    Ok(SnapshotMetaOf::<TypeConfig> {
        last_log_id: parts.applied.map(log_id_to_raft),
        last_membership: stored_membership(parts)?,
    })
}

fn stored_membership(parts: &SnapshotMetaParts) -> io::Result<StoredMembershipOf<TypeConfig>> {
    if parts.membership.is_empty() {
        return Ok(StoredMembershipOf::<TypeConfig>::default());
    }
    let membership = decode_membership(&parts.membership)?;
    Ok(StoredMembershipOf::<TypeConfig>::new(parts.membership_log.map(log_id_to_raft), membership))
}

/// What openraft carries as a snapshot.
#[derive(Debug)]
pub enum SnapshotData {
    /// On the sending side: a frozen state that is not written anywhere yet.
    Frozen(FrozenView),
    /// On the receiving side: a synced generation that only waits to be named.
    Prepared(PreparedGeneration),
}

/// The state machine that openraft drives. One per store; [`crate::store::open`] makes it.
#[derive(Debug)]
pub struct StateMachine {
    shared: Arc<Shared>,
}

impl StateMachine {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Hands a group to the apply thread; the receiver gets the outcome after it was answered.
    fn submit(&self, batch: Batch) -> oneshot::Receiver<Result<(), StoreError>> {
        let Batch { entries, responders, .. } = batch;
        let (done, outcome) = oneshot::channel();
        let answer = Box::new(move |replies: Result<Vec<Reply>, StoreError>| {
            let answered = replies.map(|replies| {
                for (responder, reply) in responders.into_iter().zip(replies) {
                    if let Some(responder) = responder {
                        responder.send(reply);
                    }
                }
            });
            // Nobody waits when openraft is shutting down.
            let _ = done.send(answered);
        });
        self.shared.submit(Job::Apply { entries, done: answer });
        outcome
    }
}

/// A dropped sender means that the apply thread is gone.
async fn outcome<T>(receiver: oneshot::Receiver<Result<T, StoreError>>) -> io::Result<T> {
    receiver.await.unwrap_or(Err(StoreError::Closed)).map_err(io::Error::other)
}

/// Entries that are applied together, with those who wait for them.
#[derive(Default)]
struct Batch {
    entries: Vec<Entry>,
    responders: Vec<Option<ApplyResponder<TypeConfig>>>,
    bytes: usize,
}

impl Batch {
    /// Waits for one entry, then takes what is ready, up to the bounds of a group.
    async fn collect<S>(stream: &mut S) -> io::Result<Self>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin,
    {
        let mut batch = Self::default();
        let mut next = stream.next().await;
        while let Some(item) = next {
            batch.push(item?);
            if batch.entries.len() >= GROUP_ENTRIES_MAX || batch.bytes >= GROUP_BYTES_MAX {
                break;
            }
            next = stream.next().now_or_never().flatten();
        }
        Ok(batch)
    }

    fn push(&mut self, (entry, responder): EntryResponder<TypeConfig>) {
        let id = log_id_from_raft(&entry.log_id());
        let payload = match entry.payload {
            EntryPayload::Blank => Payload::Blank,
            EntryPayload::Normal(command) => {
                self.bytes += command.as_bytes().len();
                Payload::Command(command)
            }
            EntryPayload::Membership(membership) => {
                Payload::Membership(encode_membership(&membership))
            }
        };
        self.entries.push(Entry { id, payload, wanted: responder.is_some() });
        self.responders.push(responder);
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = CheckpointBuilder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<TypeConfig>>, StoredMembershipOf<TypeConfig>), io::Error> {
        let parts = SnapshotMetaParts::of(self.shared.view().meta());
        Ok((parts.applied.map(log_id_to_raft), stored_membership(&parts)?))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        // While one group is applied the next one is read from the log; never more than these two.
        let mut applying = None;
        loop {
            let batch = Batch::collect(&mut entries).await?;
            if batch.entries.is_empty() {
                break;
            }
            let submitted = self.submit(batch);
            if let Some(before) = applying.replace(submitted) {
                outcome(before).await?;
            }
        }
        match applying {
            Some(last) => outcome(last).await,
            None => Ok(()),
        }
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<CheckpointBuilder> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> CheckpointBuilder {
        CheckpointBuilder { shared: Arc::clone(&self.shared), view: self.shared.view() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let prepared = match snapshot {
            SnapshotData::Prepared(prepared) => prepared,
            SnapshotData::Frozen(frozen) => {
                let shared = Arc::clone(&self.shared);
                blocking(move || install::prepare_from(&shared, frozen)).await?
            }
        };
        if snapshot_meta(&prepared.meta_parts())? != *meta {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("snapshot is labelled {meta}, but holds {}", prepared.id()),
            ));
        }
        let (done, installed) = oneshot::channel();
        let done = Box::new(move |result| {
            let _ = done.send(result);
        });
        self.shared.submit(Job::Install { prepared, done });
        outcome(installed).await
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, SnapshotData>>, io::Error> {
        let view = self.shared.view();
        if view.applied().is_none() {
            return Ok(None);
        }
        checkpoint(&self.shared).await?;
        let frozen = FrozenView::newest(&self.shared, view);
        let meta = snapshot_meta(&frozen.meta_parts())?;
        Ok(Some(SnapshotOf::<TypeConfig, _> { meta, snapshot: SnapshotData::Frozen(frozen) }))
    }
}

/// What openraft calls building a snapshot: making the state of one moment durable.
pub struct CheckpointBuilder {
    shared: Arc<Shared>,
    view: Arc<View>,
}

impl RaftSnapshotBuilder<TypeConfig> for CheckpointBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        // Covers at least the View that was taken before it.
        checkpoint(&self.shared).await?;
        let frozen = FrozenView::of(&self.shared, Arc::clone(&self.view));
        let meta = snapshot_meta(&frozen.meta_parts())?;
        Ok(SnapshotOf::<TypeConfig, _> { meta, snapshot: SnapshotData::Frozen(frozen) })
    }
}

async fn checkpoint(shared: &Arc<Shared>) -> io::Result<()> {
    let shared = Arc::clone(shared);
    blocking(move || shared.checkpoint().map(|_| ())).await
}

async fn blocking<T, E>(work: impl FnOnce() -> Result<T, E> + Send + 'static) -> io::Result<T>
where
    T: Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?.map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Membership {
        let member = |n: u64| Member {
            addr: format!("127.0.0.1:{n}"),
            peer_addr: (n == 2).then(|| "10.0.0.2:7".to_owned()),
            labels: BTreeMap::from([("zone".to_owned(), "a".to_owned())]),
            log_uuid: u128::from(n) << 100,
        };
        let nodes: BTreeMap<u64, Member> = (1..=4).map(|n| (n, member(n))).collect();
        Membership::new(vec![BTreeSet::from([1, 2, 3]), BTreeSet::from([2, 3])], nodes).unwrap()
    }

    #[test]
    fn a_membership_survives_its_bytes() {
        let bytes = encode_membership(&sample());
        assert_eq!(decode_membership(&bytes).unwrap(), sample());
    }

    #[test]
    fn a_cut_or_longer_membership_is_refused() {
        let bytes = encode_membership(&sample());
        for len in 0..bytes.len() {
            assert!(decode_membership(&bytes[..len]).is_err(), "{len} bytes");
        }
        assert!(decode_membership(&[&bytes[..], &[0]].concat()).is_err());
    }

    #[test]
    fn a_membership_has_these_bytes() {
        let member = Member { addr: "a:1".to_owned(), log_uuid: 5, ..Member::default() };
        let nodes = BTreeMap::from([(1, member)]);
        let membership = Membership::new(vec![BTreeSet::from([1])], nodes).unwrap();
        let mut expected = b"\x01\x01\x01\x01\x01\x01\x03a:1\x00\x00\x05".to_vec();
        expected.extend_from_slice(&[0; 15]);
        assert_eq!(encode_membership(&membership), expected);
    }

    #[test]
    fn a_log_id_survives_the_conversion() {
        let id = LogId { term: 4, node: 2, index: 99 };
        assert_eq!(log_id_from_raft(&log_id_to_raft(id)), id);
    }
}
