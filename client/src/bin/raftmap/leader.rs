//! `raftmap leader transfer [ID]`

use clap::{Args, Subcommand};
use raftmap_client::api::LeaderReply;

use crate::{context::Context, failure::Failure};

#[derive(Debug, Args)]
pub(crate) struct LeaderArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Move leadership to a member, or to the best one, and wait until it leads
    Transfer {
        /// The member that shall lead
        id: Option<u64>,
    },
}

pub(crate) async fn run(args: &LeaderArgs, context: &Context) -> Result<(), Failure> {
    let Action::Transfer { id } = args.action;
    let leader = context.client.transfer_leader(id).await?;
    context.out.result(&LeaderReply { leader }, || format!("node {leader} leads"))
}
