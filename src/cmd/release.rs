//! `truegauge release`: puts a held signal of a running stream back into service.

use super::CommandError;
use crate::control::Target;
use engine::control::Command;

/// Arguments of `release`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The signal.
    signal: String,
    #[command(flatten)]
    target: Target,
}

/// Asks the stream, and waits until it has been done.
///
/// # Errors
/// When the stream can't be reached, or refuses.
pub fn run(args: &Args) -> Result<(), CommandError> {
    args.target.ask(&Command::Release { signal: args.signal.clone() })
}
