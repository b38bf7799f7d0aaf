//! `raftmap-node log repair`: shows what can be saved, and does it only when told that the loss is accepted.

use std::io::Write;
use std::path::PathBuf;

use clap::{Arg, ArgMatches, Command, value_parser};
use raftmap_log_store::LogConfig;
use raftmap_log_store::disk::RealDisk;
use raftmap_log_store::tools::{
    Repair, RepairMode, RepairPlan, RepairRequest, plan_repair, repair,
};
use serde_json::{Value, json};

use super::json::{damage, id, path, uuid, vote};
use super::{flag, seen};
use crate::config::Config;

pub(super) fn command() -> Command {
    Command::new("repair")
        .about("Shows what of a damaged log can be saved, and writes it as a new log when the loss is accepted")
        .arg(
            Arg::new("truncate-at")
                .long("truncate-at")
                .value_name("LSN")
                .value_parser(value_parser!(u64))
                .conflicts_with("rebuild-frontier")
                .help("keep nothing behind this position [default: the longest part that verifies]"),
        )
        .arg(flag("rebuild-frontier", "keep everything, when nothing but FRONTIER is damaged"))
        .arg(
            Arg::new("backup")
                .long("backup")
                .value_name("DIR")
                .value_parser(value_parser!(PathBuf))
                .help("where the old log is kept, beside it [default: its name with .backup-N]"),
        )
        .arg(flag("keep-identity", "go on as the same voter; only for a cluster of this node alone"))
        .arg(flag("dry-run", "only show what would be done, as without --i-accept-data-loss"))
        .arg(
            flag("i-accept-data-loss", "do it: what is shown as lost is lost")
                .conflicts_with("dry-run"),
        )
}

/// Exit codes: 0 done, or nothing to do; 1 shown only, or only an earlier repair was brought to its end.
pub(super) fn run(
    matches: &ArgMatches,
    config: &Config,
    given_id: Option<u64>,
    out: &mut dyn Write,
) -> anyhow::Result<u8> {
    let mode = match matches.get_one::<u64>("truncate-at") {
        Some(&lsn) => RepairMode::TruncateAt(lsn),
        None if matches.get_flag("rebuild-frontier") => RepairMode::RebuildFrontier,
        None => RepairMode::Longest,
    };
    // The log changes places with the new one: that is done to the directory itself, not to a link to it.
    let dir = |dir: &PathBuf| std::fs::canonicalize(dir).unwrap_or_else(|_| dir.clone());
    let backup = matches.get_one::<PathBuf>("backup").map(|backup| {
        let name = backup.file_name().unwrap_or_default();
        match backup.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            Some(parent) => dir(&parent.to_owned()).join(name),
            None => dir(&PathBuf::from(".")).join(name),
        }
    });
    let request = RepairRequest {
        mode,
        node_id: given_id,
        new_uuid: rand::random::<u128>().max(1),
        keep_identity: matches.get_flag("keep-identity"),
        backup,
    };
    let log = LogConfig::new(dir(&config.log_dir));
    let is_accepted = matches.get_flag("i-accept-data-loss");
    let done = if is_accepted {
        repair(&log, &RealDisk, &request)?
    } else {
        plan_repair(&log, &RealDisk, &request)?
    };
    if matches.get_flag("json") {
        seen(writeln!(out, "{:#}", to_json(&done)))?;
    } else {
        seen(write_text(out, &done, &request))?;
    }
    Ok(u8::from(match done {
        Repair::NotNeeded | Repair::Done(_) => false,
        Repair::Planned(_) | Repair::ToFinish { .. } => true,
        // What was asked for now is not what was done.
        Repair::Finished { .. } => request.mode != RepairMode::Longest,
    }))
}

fn write_text(out: &mut dyn Write, done: &Repair, request: &RepairRequest) -> std::io::Result<()> {
    match done {
        Repair::NotNeeded => writeln!(out, "the log opens as it is: there is nothing to repair"),
        Repair::ToFinish { old } => writeln!(
            out,
            "an earlier repair is done but for its last step: the log is the new one, the old one lies in {}. \
             Run it again with --i-accept-data-loss to put that away",
            old.display()
        ),
        Repair::Finished { backup } => writeln!(
            out,
            "the last step of an earlier repair is done: the old log is kept in {}{}",
            backup.display(),
            match request.mode {
                RepairMode::Longest => "",
                _ =>
                    ". Nothing else was: look at what the log holds now before anything more is asked for",
            }
        ),
        Repair::Planned(plan) => {
            let hidden = RepairPlan { new_uuid: shown_uuid(plan), ..(**plan).clone() };
            writeln!(out, "{hidden}\nNothing was done. --i-accept-data-loss does it.")
        }
        Repair::Done(plan) => {
            writeln!(out, "{plan}\nDone.")?;
            write_way_back(out, plan, request)
        }
    }
}

/// The repaired log opens, so it is not repaired again: with the old identity only the old log can be.
fn write_way_back(
    out: &mut dyn Write,
    plan: &RepairPlan,
    request: &RepairRequest,
) -> std::io::Result<()> {
    if plan.new_uuid == plan.old_uuid {
        return Ok(());
    }
    let (dir, backup) = (plan.dir.display(), plan.backup.display());
    let mode = match request.mode {
        RepairMode::Longest => String::new(),
        RepairMode::TruncateAt(lsn) => format!(" --truncate-at {lsn}"),
        RepairMode::RebuildFrontier => " --rebuild-frontier".to_owned(),
    };
    let id = plan.node_id;
    writeln!(
        out,
        "Only if this node is a cluster of itself, and is to go on with this log:\n  \
         mv '{dir}' '{dir}.new-identity'\n  \
         mv '{backup}' '{dir}'\n  \
         raftmap-node log repair --id {id} --log-dir '{dir}'{mode} --keep-identity --i-accept-data-loss"
    )
}

/// A plan names no uuid that will not be: the next run draws another.
fn shown_uuid(plan: &RepairPlan) -> u128 {
    if plan.new_uuid == plan.old_uuid { plan.old_uuid } else { 0 }
}

fn to_json(done: &Repair) -> Value {
    match done {
        Repair::NotNeeded => json!({ "done": "nothing_to_do" }),
        Repair::ToFinish { old } => json!({ "done": "to_finish", "old": path(old) }),
        Repair::Finished { backup } => json!({ "done": "finished", "backup": path(backup) }),
        Repair::Planned(plan) => plan_json("planned", plan),
        Repair::Done(plan) => plan_json("repaired", plan),
    }
}

fn plan_json(done: &str, plan: &RepairPlan) -> Value {
    json!({
        "done": done,
        "dir": path(&plan.dir),
        "node_id": plan.node_id,
        "damage": plan.damage.as_ref().map(damage),
        "ends": plan.ends.as_ref().map(|(file, offset, why)| json!({
            "file": path(file), "offset": offset, "reason": why,
        })),
        "keeps": plan.keeps.map(|(first, last)| json!({ "first_index": first, "last_index": last })),
        "keeps_lsn": plan.keeps_lsn,
        "segments": plan.segments,
        "lost": plan.lost.map(|lost| json!({
            "first_index": lost.first, "last_index": lost.last, "at_least": lost.at_least,
        })),
        "outdated_from": plan.outdated_from,
        "end_is_open": plan.end_is_open,
        "votes_may_be_lost": plan.votes_may_be_lost,
        "vote": plan.vote.as_ref().map(vote),
        "purged": plan.purged.as_ref().map(id),
        "committed": plan.committed.as_ref().map(id),
        "old_uuid": uuid(plan.old_uuid),
        "keeps_identity": plan.old_uuid == plan.new_uuid,
        "new_uuid": (done == "repaired").then(|| uuid(plan.new_uuid)),
        "backup": path(&plan.backup),
        "notes": plan.notes,
    })
}
