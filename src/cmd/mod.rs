//! The list of subcommands: one file and one entry each.

use crate::config::FileError;
use crate::wiring::PortError;
use clap::{Parser, Subcommand};

pub mod bench;
pub mod check;
pub mod demo;
pub mod hold;
pub mod rebaseline;
pub mod release;
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
    /// Judge a stream: Kafka in, Kafka or standard output out; a restart goes on where it stopped.
    Run(run::Args),
    /// Check a configuration, and what it would select in data.
    Check(check::Args),
    /// Take a signal of a running stream out of service, until `release`.
    Hold(hold::Args),
    /// Put a held signal of a running stream back into service.
    Release(release::Args),
    /// Let a rule of a running stream forget what it learned of a tag.
    Rebaseline(rebaseline::Args),
    /// Write a simulated plant with labelled faults, and a configuration for it.
    Simulate(simulate::Args),
    /// Measure the detectors on labelled data.
    Bench(bench::Args),
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
    /// A state can't be used: exit code 1.
    #[error(transparent)]
    Checkpoint(#[from] engine::checkpoint::CheckpointError),
    /// A state can't be used: exit code 1.
    #[error(transparent)]
    Restore(#[from] engine::RestoreError),
    /// A journal can't be used: exit code 1.
    #[error("{}: {source}", path.display())]
    Journal {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong.
        source: engine::journal::JournalError,
    },
    /// The state directory can't be used: exit code 1.
    #[error(transparent)]
    Store(#[from] connectors::store::StoreError),
    /// The stream can't go on: exit code 1.
    #[error(transparent)]
    Stream(Box<StreamError>),
    /// The listeners of a stream can't be opened: exit code 1.
    #[error(transparent)]
    Server(#[from] server::ServerError),
    /// A running stream can't be reached, or refused: exit code 1.
    #[error(transparent)]
    Client(#[from] server::client::ClientError),
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

/// Why the loop of a stream ended.
pub type StreamError = engine::driver::DriverError<PortError, PortError, PortError>;

impl From<StreamError> for CommandError {
    fn from(error: StreamError) -> Self {
        CommandError::Stream(Box::new(error))
    }
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
        Command::Hold(args) => hold::run(&args),
        Command::Release(args) => release::run(&args),
        Command::Rebaseline(args) => rebaseline::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Schema => schema::run(),
    }
}
