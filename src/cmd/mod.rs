//! The list of subcommands: one file and one entry each.

use crate::config::FileError;
use clap::{Parser, Subcommand};

pub mod check;
pub mod demo;
pub mod replay;
pub mod run;
pub mod schema;
pub mod simulate;

/// Streaming anomaly detection, voting and marked substitution for sensor telemetry.
#[derive(Debug, Parser)]
#[command(name = "truegauge", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// See it work: an in-process Kafka, a simulated plant with faults, the real engine.
    Demo(demo::Args),
    /// Judge recorded data: files in, a run directory out.
    Replay(replay::Args),
    /// Judge a stream: Kafka in, Kafka or standard output out; a restart begins at `from`, state is not kept yet.
    Run(run::Args),
    /// Check a configuration, and what it would select in data.
    Check(check::Args),
    /// Write a simulated plant with labelled faults, and a configuration for it.
    Simulate(simulate::Args),
    /// Print the JSON Schema of the configuration file.
    Schema,
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The configuration can't be used: exit code 2.
    #[error(transparent)]
    Config(#[from] FileError),
    /// Input can't be read: exit code 1.
    #[error(transparent)]
    Source(#[from] connectors::SourceError),
    /// Output can't be written: exit code 1.
    #[error(transparent)]
    Sink(#[from] connectors::SinkError),
    /// The data lack what the configuration needs: exit code 1.
    #[error(transparent)]
    Batch(#[from] engine::BatchError),
    /// The file system refused: exit code 1.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Output could not be encoded: exit code 1.
    #[error("can't encode the output: {0}")]
    Encode(#[from] serde_json::Error),
    /// The command can't be used so: exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Rows went missing, which must never happen: exit code 1.
    #[error("accounting does not balance: {0:?}; please report this")]
    Unbalanced(Box<engine::Counters>),
}

impl CommandError {
    /// The exit code: 1 failed, 2 wrong usage or configuration.
    pub fn code(&self) -> u8 {
        match self {
            CommandError::Config(_) | CommandError::Usage(_) => 2,
            _ => 1,
        }
    }
}

/// Runs a command.
///
/// # Errors
/// [`CommandError`], whose code is the exit code.
pub fn run(cli: Cli) -> Result<(), CommandError> {
    match cli.command {
        Command::Demo(args) => demo::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Schema => schema::run(),
    }
}
