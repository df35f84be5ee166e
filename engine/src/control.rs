//! Commands to a running stream, as plain data: with `metrics.rs` the only face that a server sees.
//!
//! Absent: sockets, identity, permission. A command is checked against the configuration, becomes an entry of the
//! journal, and is answered when it has been applied.

use serde::{Deserialize, Serialize};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::time::Duration;

/// What a person asks of the stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Command {
    /// Take a signal out of service.
    Hold {
        /// The signal.
        signal: String,
    },
    /// Put it back.
    Release {
        /// The signal.
        signal: String,
    },
    /// Forget what a rule learned of a tag.
    Rebaseline {
        /// The rule.
        rule: String,
        /// The tag.
        tag: String,
    },
}

/// A command that was written to the journal and applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The entries it became: one for each partition that it concerns.
    pub entries: Vec<EntryRef>,
}

/// An entry of a partition's journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryRef {
    /// The partition.
    pub partition: u32,
    /// Its number there.
    pub number: u64,
}

/// Why a command was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The configuration has no such thing.
    #[error("no {what} `{name}`{}", nearest.as_ref().map_or(String::new(), |n| format!("; did you mean `{n}`?")))]
    Unknown {
        /// `signal`, `rule`, `tag`.
        what: &'static str,
        /// The name.
        name: String,
        /// The nearest known name.
        nearest: Option<String>,
    },
    /// No partition is there yet, or none that knows the tag.
    #[error("no partition has it yet; try again when rows have come")]
    Nowhere,
    /// The journal can't be written, so nothing was applied.
    #[error("the journal can't be written: {reason}")]
    Journal {
        /// What the store said.
        reason: String,
    },
    /// The stream did not answer in time. The command may still be applied: look at the signal.
    #[error("no answer within {0:?}; it may still be applied")]
    NoAnswer(Duration),
    /// The stream has ended.
    #[error("the stream has ended")]
    Ended,
}

/// A command on its way to the driver, and where the answer goes.
#[derive(Debug)]
pub struct Request {
    /// What is asked.
    pub command: Command,
    answer: SyncSender<Result<Accepted, Refusal>>,
}

impl Request {
    /// Answers; who asked may be gone.
    pub fn answer(self, answer: Result<Accepted, Refusal>) {
        let _ = self.answer.send(answer);
    }
}

/// Where commands are handed in.
#[derive(Debug, Clone)]
pub struct Desk(Sender<Request>);

/// Where the driver takes them.
#[derive(Debug)]
pub struct Tray(Receiver<Request>);

/// A desk and its tray.
pub fn desk() -> (Desk, Tray) {
    let (send, receive) = channel();
    (Desk(send), Tray(receive))
}

impl Desk {
    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// [`Refusal`], when the command was not applied or no answer came.
    pub fn ask(&self, command: Command, wait: Duration) -> Result<Accepted, Refusal> {
        let (answer, receive) = sync_channel(1);
        self.0.send(Request { command, answer }).map_err(|_| Refusal::Ended)?;
        receive.recv_timeout(wait).unwrap_or_else(|error| match error {
            RecvTimeoutError::Timeout => Err(Refusal::NoAnswer(wait)),
            RecvTimeoutError::Disconnected => Err(Refusal::Ended),
        })
    }
}

impl Tray {
    /// The next request, if there is one.
    pub fn take(&self) -> Option<Request> {
        self.0.try_recv().ok()
    }
}
