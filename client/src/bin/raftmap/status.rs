//! `raftmap status`: every node that is given or known, asked directly.

use std::collections::BTreeSet;

use futures_util::future::join_all;
use raftmap_client::{
    Error,
    api::{NodeRole, Status, cluster::DiskStatus},
};
use serde::Serialize;

use crate::{context::Context, failure::Failure, output::table};

/// One address and what was heard from it.
struct Heard {
    addr: String,
    status: Result<Status, Error>,
}

/// The same for programs.
#[derive(Serialize)]
struct HeardJson<'a> {
    addr: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    // Whichever node answers names the members; then each speaks for itself.
    context.client.status().await?;
    let addrs: BTreeSet<String> = context.client.known_endpoints().into_iter().collect();
    let asked = addrs.into_iter().map(|addr| async {
        let status = context.client.status_of(&addr, context.timeout).await;
        Heard { addr, status }
    });
    let mut heard = join_all(asked).await;
    heard.sort_by_key(|h| h.status.as_ref().map_or(u64::MAX, |s| s.node_id));
    let value: Vec<HeardJson<'_>> = heard.iter().map(Heard::json).collect();
    context.out.result(&value, || text(&heard))
}

impl Heard {
    fn json(&self) -> HeardJson<'_> {
        let error = self.status.as_ref().err().map(ToString::to_string);
        HeardJson { addr: &self.addr, status: self.status.as_ref().ok(), error }
    }

    fn row(&self) -> Vec<String> {
        let Ok(status) = &self.status else {
            return ["-", &self.addr, "no answer"].map(str::to_owned).to_vec();
        };
        let numbers = [
            status.term,
            status.log.last_index,
            status.log.committed_index,
            status.log.applied_index,
            status.store.revision,
            status.store.keys,
        ];
        let mut row =
            vec![status.node_id.to_string(), self.addr.clone(), role(status.role).to_owned()];
        row.extend(numbers.map(|n| n.to_string()));
        row
    }
}

fn text(heard: &[Heard]) -> String {
    let rows: Vec<Vec<String>> = heard.iter().map(Heard::row).collect();
    let heading =
        ["ID", "ADDRESS", "ROLE", "TERM", "LAST", "COMMITTED", "APPLIED", "REVISION", "KEYS"];
    let mut text = table(&heading, &rows);
    for status in heard.iter().filter_map(|heard| heard.status.as_ref().ok()) {
        if let Some(disk) = status.disk.filter(|disk| disk.low) {
            let DiskStatus { free_bytes, reserve_bytes, .. } = disk;
            text.push_str(&format!(
                "\nThe disk of node {} is nearly full: {free_bytes} bytes are free, {reserve_bytes} are its reserve.",
                status.node_id
            ));
        }
    }
    text
}

fn role(role: NodeRole) -> &'static str {
    match role {
        NodeRole::Leader => "leader",
        NodeRole::Follower => "follower",
        NodeRole::Learner => "learner",
        NodeRole::Candidate => "candidate",
        NodeRole::Shutdown => "shutdown",
        NodeRole::Unknown => "unknown",
    }
}
