//! `raftmap snapshot`

use raftmap_client::api::SnapshotReply;

use crate::{context::Context, failure::Failure};

pub(crate) async fn run(context: &Context) -> Result<(), Failure> {
    let applied_index = context.client.snapshot().await?;
    let reply = SnapshotReply { applied_index };
    context.out.result(&reply, || format!("snapshot at log index {applied_index}"))
}
