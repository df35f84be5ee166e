//! `truegauge rebaseline`: lets a rule of a running stream forget what it learned of a tag.

use super::CommandError;
use crate::control::Target;
use engine::control::Command;

/// Arguments of `rebaseline`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The rule.
    rule: String,
    /// The tag.
    tag: String,
    #[command(flatten)]
    target: Target,
}

/// Asks the stream, and waits until it has been done.
///
/// # Errors
/// When the stream can't be reached, or refuses.
pub fn run(args: &Args) -> Result<(), CommandError> {
    args.target.ask(&Command::Rebaseline { rule: args.rule.clone(), tag: args.tag.clone() })
}
