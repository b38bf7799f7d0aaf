//! Who speaks to whom: carried by every message between nodes, checked before anything else is read.
//!
//! ```text
//!   raftmap-peer: <cluster id>-<from node>-<to node>-<log uuid of from>-<log uuid of to>      lower-case hex, fixed width
//! ```
//!
//! What this keeps out ([`admit`] is the whole decision):
//! - a message for another node, when an address was reused or written down wrongly;
//! - a message of another cluster, when two are mixed up;
//! - a node whose directory was emptied: it comes with a log that the membership does not record, has
//!   forgotten its votes and entries, and must not be counted again under its old id. Both sides notice: it is
//!   not heard, and it does not listen to messages that are meant for the log it lost.

use http::HeaderValue;

/// The header that carries the identity.
pub(crate) const PEER_HEADER: &str = "raftmap-peer";

/// What a node says of itself with every message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The node's id in the membership.
    pub node_id: u64,
    /// The cluster's id; 0 as long as the node does not belong to one.
    pub cluster_id: u128,
    /// The uuid of the node's log: another one means another directory.
    pub log_uuid: u128,
}

/// The identity part of one message: the sender, and whom it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Envelope {
    pub(crate) from: NodeIdentity,
    pub(crate) to: u64,
    /// The log that the membership records for the receiver; 0 if none is.
    pub(crate) to_log: u128,
}

impl Envelope {
    pub(crate) fn header(&self) -> HeaderValue {
        let NodeIdentity { node_id, cluster_id, log_uuid } = self.from;
        let Envelope { to, to_log, .. } = self;
        let text =
            format!("{cluster_id:032x}-{node_id:016x}-{to:016x}-{log_uuid:032x}-{to_log:032x}");
        HeaderValue::from_str(&text).expect("hex digits and dashes are a header value")
    }

    pub(crate) fn parse(value: &HeaderValue) -> Option<Envelope> {
        let mut parts = value.to_str().ok()?.split('-');
        let cluster_id = wide(parts.next()?)?;
        let node_id = narrow(parts.next()?)?;
        let to = narrow(parts.next()?)?;
        let log_uuid = wide(parts.next()?)?;
        let to_log = wide(parts.next()?)?;
        let complete = parts.next().is_none();
        complete.then_some(Envelope {
            from: NodeIdentity { node_id, cluster_id, log_uuid },
            to,
            to_log,
        })
    }
}

fn wide(hex: &str) -> Option<u128> {
    (hex.len() == 32).then(|| u128::from_str_radix(hex, 16).ok())?
}

fn narrow(hex: &str) -> Option<u64> {
    (hex.len() == 16).then(|| u64::from_str_radix(hex, 16).ok())?
}

/// Why a message is refused before it is read. Nothing was done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum Stranger {
    #[error("no readable identity on the message")]
    Nameless,
    #[error("the message is for node {meant}, this is node {here}")]
    WrongNode { meant: u64, here: u64 },
    #[error("the message is of cluster {theirs:032x}, this node belongs to {ours:032x}")]
    WrongCluster { theirs: u128, ours: u128 },
    #[error(
        "node {node} comes with log {found:032x} but the membership records {recorded:032x}: its directory \
         was emptied or replaced; remove the member and join it again under a new id"
    )]
    WrongLog { node: u64, found: u128, recorded: u128 },
    #[error(
        "the message is for the log {meant:032x}, this node has another log ({here:032x}): its directory was \
         emptied or replaced; remove the member and join it again under a new id"
    )]
    LostLog { meant: u128, here: u128 },
    #[error("node {node} belongs to no cluster and is no member of this one")]
    NoMember { node: u64 },
}

impl Stranger {
    /// The label of the metric.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Stranger::Nameless => "nameless",
            Stranger::WrongNode { .. } => "wrong_node",
            Stranger::WrongCluster { .. } => "wrong_cluster",
            Stranger::WrongLog { .. } => "wrong_log",
            Stranger::LostLog { .. } => "lost_log",
            Stranger::NoMember { .. } => "no_member",
        }
    }
}

/// Whether `here` listens to this message. `recorded` is the log uuid that the membership known here has
/// for the sender: `None` if it is no member as far as this node knows, 0 if none was recorded.
///
/// | cluster ids | sender is a member here | |
/// |---|---|---|
/// | both known, different | | refused |
/// | both known, equal; or this node has none yet | no | heard: the membership that names it may still be on its way |
/// | only the sender has none | no | refused |
/// | any but different | yes, with this log (or none recorded) | heard: the id travels in the log, so one side learns it first |
/// | | yes, with another log | refused |
pub(crate) fn admit(
    here: NodeIdentity,
    envelope: Envelope,
    recorded: Option<u128>,
) -> Result<(), Stranger> {
    let Envelope { from, to, to_log } = envelope;
    if to != here.node_id {
        return Err(Stranger::WrongNode { meant: to, here: here.node_id });
    }
    let both_known = from.cluster_id != 0 && here.cluster_id != 0;
    if both_known && from.cluster_id != here.cluster_id {
        return Err(Stranger::WrongCluster { theirs: from.cluster_id, ours: here.cluster_id });
    }
    if to_log != 0 && to_log != here.log_uuid {
        return Err(Stranger::LostLog { meant: to_log, here: here.log_uuid });
    }
    match recorded {
        Some(recorded) if recorded != 0 && recorded != from.log_uuid => {
            Err(Stranger::WrongLog { node: from.node_id, found: from.log_uuid, recorded })
        }
        Some(_) => Ok(()),
        None if from.cluster_id == 0 && here.cluster_id != 0 => {
            Err(Stranger::NoMember { node: from.node_id })
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLUSTER: u128 = 7 << 100;
    const LOG: u128 = 9 << 90;

    fn node(node_id: u64, cluster_id: u128, log_uuid: u128) -> NodeIdentity {
        NodeIdentity { node_id, cluster_id, log_uuid }
    }

    fn heard(
        cluster: u128,
        log: u128,
        recorded: Option<u128>,
        here_cluster: u128,
    ) -> Result<(), Stranger> {
        admit(
            node(1, here_cluster, 5),
            Envelope { from: node(2, cluster, log), to: 1, to_log: 5 },
            recorded,
        )
    }

    #[test]
    fn an_envelope_survives_its_header() {
        let envelope = Envelope { from: node(u64::MAX, CLUSTER, LOG), to: 3, to_log: LOG + 3 };
        assert_eq!(Envelope::parse(&envelope.header()), Some(envelope));
        for bad in [
            "",
            "1-2-3-4",
            "x",
            "00000000000000000000000000000000-0000000000000001-0000000000000002",
        ] {
            assert_eq!(Envelope::parse(&HeaderValue::from_static(bad)), None, "{bad:?}");
        }
    }

    #[test]
    fn a_message_for_another_node_is_refused() {
        let envelope = Envelope { from: node(2, CLUSTER, LOG), to: 3, to_log: 0 };
        let refused = admit(node(1, CLUSTER, 5), envelope, Some(LOG));
        assert_eq!(refused, Err(Stranger::WrongNode { meant: 3, here: 1 }));
    }

    #[test]
    fn a_message_of_another_cluster_is_refused() {
        let refused = heard(CLUSTER, LOG, Some(LOG), CLUSTER + 1);
        assert_eq!(refused, Err(Stranger::WrongCluster { theirs: CLUSTER, ours: CLUSTER + 1 }));
    }

    #[test]
    fn an_emptied_directory_under_a_known_id_is_refused() {
        let expected = Err(Stranger::WrongLog { node: 2, found: LOG + 1, recorded: LOG });
        assert_eq!(heard(CLUSTER, LOG + 1, Some(LOG), CLUSTER), expected);
        assert_eq!(heard(0, LOG + 1, Some(LOG), CLUSTER), expected);
        assert_eq!(heard(0, LOG + 1, Some(LOG), 0), expected);
    }

    #[test]
    fn a_message_for_the_log_that_was_lost_is_refused() {
        let envelope = Envelope { from: node(2, CLUSTER, LOG), to: 1, to_log: 4 };
        let refused = Err(Stranger::LostLog { meant: 4, here: 5 });
        assert_eq!(
            admit(node(1, 0, 5), envelope, None),
            refused,
            "also by a node that knows nobody"
        );
        assert_eq!(admit(node(1, CLUSTER, 5), envelope, Some(LOG)), refused);
    }

    #[test]
    fn the_cluster_id_may_be_known_to_one_side_first() {
        assert_eq!(heard(CLUSTER, LOG, Some(LOG), 0), Ok(()));
        assert_eq!(heard(0, LOG, Some(LOG), CLUSTER), Ok(()));
        assert_eq!(heard(CLUSTER, LOG, None, 0), Ok(()), "a leader calls a node that joins");
        assert_eq!(
            heard(CLUSTER, LOG, None, CLUSTER),
            Ok(()),
            "a member this node has not heard of yet"
        );
        assert_eq!(heard(CLUSTER, LOG, Some(0), CLUSTER), Ok(()), "no log was recorded for it");
        assert_eq!(heard(0, LOG, None, CLUSTER), Err(Stranger::NoMember { node: 2 }));
    }
}
