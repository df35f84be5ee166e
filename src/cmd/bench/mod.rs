//! `truegauge bench`: how good the detectors are on labelled data, measured through the engine.

use super::CommandError;
use clap::Subcommand;

mod drive;
mod events;
mod labels;
mod nab;
mod nab_score;
mod rate;
mod series;

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Score `auto` on the Numenta Anomaly Benchmark: results for its scorers, and the score itself.
    Nab(nab::Args),
    /// Event recall at equal numbers of false alarms, beside two plain detectors.
    Series(series::Args),
    /// False alarms of `auto` on noise in which nothing happens, beside the stated rate.
    Rate(rate::Args),
}

/// Measures and prints.
///
/// # Errors
/// When data or labels can't be used, or results can't be written.
pub fn run(args: &Args) -> Result<(), CommandError> {
    match &args.what {
        What::Nab(args) => nab::run(args),
        What::Series(args) => series::run(args),
        What::Rate(args) => rate::run(args),
    }
}
