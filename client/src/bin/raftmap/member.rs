//! `raftmap member list|add|promote|remove`

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use raftmap_client::api::{MemberAdd, MemberRole, Members};

use crate::{context::Context, failure::Failure, output::table};

#[derive(Debug, Args)]
pub(crate) struct MemberArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the members
    List,
    /// Add a running node; a voter is first brought up to date
    Add {
        /// An id that was never used before
        id: u64,
        /// Where clients and members reach it, host:port
        addr: String,
        /// Without a vote
        #[arg(long)]
        learner: bool,
        /// Free text for people and placement
        #[arg(long = "label", value_name = "NAME=VALUE", value_parser = parse_label)]
        labels: Vec<(String, String)>,
    },
    /// Give a learner a vote
    Promote {
        /// The learner
        id: u64,
    },
    /// Remove a member; its id is never used again
    Remove {
        /// The member
        id: u64,
    },
}

pub(crate) async fn run(args: MemberArgs, context: &Context) -> Result<(), Failure> {
    let client = &context.client;
    let members = match args.action {
        Action::List => client.members().await?,
        Action::Add { id, addr, learner, labels } => {
            let role = if learner { MemberRole::Learner } else { MemberRole::Voter };
            let labels: BTreeMap<String, String> = labels.into_iter().collect();
            client.add_member(&MemberAdd { id, addr, labels, role }).await?
        }
        Action::Promote { id } => client.set_role(id, MemberRole::Voter).await?,
        Action::Remove { id } => client.remove_member(id).await?,
    };
    context.out.result(&members, || text(&members))
}

fn text(members: &Members) -> String {
    let rows: Vec<Vec<String>> = members
        .members
        .iter()
        .map(|m| {
            let role = match m.role {
                MemberRole::Voter => "voter",
                MemberRole::Learner => "learner",
            };
            let labels: Vec<_> = m.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
            let matched = m.matched_index.map_or_else(|| "-".to_owned(), |index| index.to_string());
            vec![m.id.to_string(), m.addr.clone(), role.to_owned(), matched, labels.join(",")]
        })
        .collect();
    table(&["ID", "ADDRESS", "ROLE", "MATCHED", "LABELS"], &rows)
}

fn parse_label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("not of the form NAME=VALUE".to_owned()),
    }
}
