//! `truegauge simulate`: a plant with labelled faults, its catalogue and a configuration, ready to replay.

use super::CommandError;
use datasets::{DEMO_SCRIPT_TICKS, DEMO_TAGS, demo_plant};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// Arguments of `simulate`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory that gets data.csv, labels.csv, tags.csv and plant.toml; made if it is not there.
    #[arg(short, long)]
    out: PathBuf,
    /// Rounds of ten minutes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The same seed gives the same bytes.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Simulates and writes.
///
/// # Errors
/// When the directory can't be written.
pub fn run(args: &Args) -> Result<(), CommandError> {
    std::fs::create_dir_all(&args.out)
        .map_err(|source| CommandError::Io { path: args.out.clone(), source })?;
    let plant = demo_plant(args.seed);
    let mut labels = String::from("start,end,tag,fault\n");
    for label in plant.labels(u64::from(args.rounds)) {
        let (start, end, tag, fault) = (label.start_ns, label.end_ns, label.tag, label.fault.name());
        push(&mut labels, format_args!("{start},{end},{tag},{fault}\n"));
    }
    let end = datasets::EPOCH_NS + i64::from(args.rounds) * DEMO_SCRIPT_TICKS as i64 * 1_000_000_000;
    let (mut data, mut rows) = (String::from("ts,tag,value,quality\n"), 0u64);
    for row in plant.take_while(|row| row.ts_ns < end) {
        let value = if row.value.is_nan() { String::new() } else { row.value.to_string() };
        push(&mut data, format_args!("{},{},{value},{}\n", row.ts_ns, row.tag, row.quality));
        rows += 1;
    }
    let mut tags = String::from("tag,unit,fail_lo,fail_hi,suspect_lo,suspect_hi,suspect_per_s\n");
    for tag in &DEMO_TAGS {
        let ([a, b], [c, d]) = (tag.fail, tag.suspect);
        push(&mut tags, format_args!("{},{},{a},{b},{c},{d},{}\n", tag.name, tag.unit, tag.suspect_per_s));
    }
    for (name, text) in [("data.csv", &data), ("labels.csv", &labels), ("tags.csv", &tags)] {
        write(&args.out.join(name), text)?;
    }
    write(&args.out.join("plant.toml"), include_str!("plant.toml"))?;
    let dir = args.out.display();
    println!("{rows} rows of {} tags written to {dir}; now:", DEMO_TAGS.len());
    println!("  truegauge replay {dir} -c {dir}/plant.toml --out out");
    Ok(())
}

fn push(text: &mut String, line: std::fmt::Arguments<'_>) {
    text.write_fmt(line).expect("a string takes everything");
}

fn write(path: &Path, text: &str) -> Result<(), CommandError> {
    std::fs::write(path, text).map_err(|source| CommandError::Io { path: path.into(), source })
}
