//! `truegauge check`: is the configuration able to run, and what would it select?

use super::CommandError;
use crate::config;
use crate::run_dir::counted;
use crate::wiring::DeadCodes;
use connectors::Source;
use connectors::source::file::FileSource;
use engine::config::select::matches;
use engine::journal::Script;
use engine::{Outputs, Pipeline, Plan};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The configuration file.
    #[arg(short, long)]
    config: PathBuf,
    /// Data to look for tags in.
    #[arg(long, num_args = 1..)]
    data: Vec<PathBuf>,
}

/// Checks and reports.
///
/// # Errors
/// When the configuration can't run, or the data can't be read.
pub fn run(args: &Args) -> Result<(), CommandError> {
    let loaded = config::load(&args.config)?;
    let (rules, groups) = (loaded.plan.rules.len(), loaded.plan.groups.len());
    let rules = counted(rules as u64, "rule", "rules");
    let groups = counted(groups as u64, "group", "groups");
    println!("{}: {rules}, {groups}, digest {}", args.config.display(), loaded.plan.digest);
    if args.data.is_empty() {
        let known = loaded.plan.catalogue.iter().flat_map(|c| c.tags());
        warn(&loaded.plan, known);
        return Ok(());
    }
    let plan = Arc::new(loaded.plan);
    let mut pipeline = Pipeline::new(plan.clone(), 0);
    let mut source = FileSource::open(&args.data, &loaded.file.source.files, 65_536)?;
    let (mut out, mut codes) = (Outputs::default(), DeadCodes::default());
    while let Some(polled) = source.poll(Duration::MAX)? {
        crate::wiring::push(&mut pipeline, &mut Script::default(), &polled, &mut out)?;
        codes.add_all(&polled, &out.dead, source.row_is_record());
        out = Outputs::default();
    }
    let tags: Vec<&str> = (0..pipeline.tag_count() as u32).map(|t| pipeline.tag_name(t)).collect();
    warn(&plan, tags.iter().copied());
    let counters = pipeline.counters();
    println!(
        "data: {}, {}, {}",
        counted(counters.rows_in, "row", "rows"),
        counted(tags.len() as u64, "tag", "tags"),
        counted(counters.dead_letters, "dead letter", "dead letters")
    );
    print!("{codes}");
    let flags = pipeline.flags();
    for rule in &plan.rules {
        let selected = tags.iter().filter(|t| rule.raw.tags.iter().any(|p| matches(p, t))).count();
        let f = flags[&rule.raw.id];
        let judged = f.good + f.suspect + f.fail;
        let note = if judged == 0 { "  <- ran 0 times" } else { "" };
        println!(
            "  rule {}: {}, {} judged, {} suspect, {} fail{note}",
            rule.raw.id,
            counted(selected as u64, "tag", "tags"),
            counted(judged, "sample", "samples"),
            f.suspect,
            f.fail
        );
    }
    for group in &plan.groups {
        let f = flags[&group.raw.id];
        let note = if f.good + f.suspect == 0 { "  <- never voted" } else { "" };
        println!(
            "  group {}: {} compared, {}{note}",
            group.raw.id,
            counted(f.good + f.suspect, "vote", "votes"),
            counted(f.suspect, "miscompare", "miscompares")
        );
        for member in group.raw.members.iter().filter(|m| !pipeline.has_heard(m)) {
            println!("    member {member}: no row came  <- misspelt?");
        }
    }
    Ok(())
}

/// Says what can run but is hardly meant.
fn warn<'a>(plan: &Plan, tags: impl Iterator<Item = &'a str> + Clone) {
    for (rule, tag) in plan.gaps_inside_heartbeats(tags) {
        println!(
            "warning: rule {rule}: `max` is shorter than the heartbeat of {tag}, which reports by exception; \
             its silence will be taken for a fault"
        );
    }
}
