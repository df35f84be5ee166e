//! What the commands to a running stream share: where it listens, how it is asked, and how its answer is told.

use crate::cmd::CommandError;
use crate::config;
use engine::control::{Accepted, Command};
use serde::Serialize;
use std::fmt::Write;
use std::path::PathBuf;

/// Where the stream listens, and how the answer is printed.
#[derive(Debug, clap::Args)]
pub struct Target {
    #[command(flatten)]
    place: Place,
    /// Print one JSON object on standard output.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct Place {
    /// The control socket of the stream.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// The configuration file that the stream was started with; its `[server] control` names the socket.
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The answer as one JSON object: what was asked, and the entries that it became.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    command: &'a Command,
    #[serde(flatten)]
    accepted: &'a Accepted,
}

impl Target {
    /// Sends a command to the stream and prints what became of it.
    ///
    /// # Errors
    /// When no socket is configured, nobody is there, or the stream refuses.
    pub fn ask(&self, command: &Command) -> Result<(), CommandError> {
        let accepted = server::client::send(&self.place.socket()?, command)?;
        if self.json {
            println!("{}", serde_json::to_string(&Told { command, accepted: &accepted })?);
        } else {
            println!("{}", told(command, &accepted));
        }
        Ok(())
    }
}

impl Place {
    fn socket(&self) -> Result<PathBuf, CommandError> {
        let file = match (&self.socket, &self.config) {
            (Some(socket), _) => return Ok(socket.clone()),
            (None, Some(file)) => file,
            (None, None) => return Err(CommandError::Usage("--socket or --config is needed".into())),
        };
        config::load(file)?.server.control.ok_or_else(|| {
            let message = "it names no socket: add `control = \"control.sock\"` to [server], or use --socket";
            CommandError::Usage(format!("{}: {message}", file.display()))
        })
    }
}

/// `boiler1.pressure held (entry 3 of partition 0)`
fn told(command: &Command, accepted: &Accepted) -> String {
    let mut text = match command {
        Command::Hold { signal } => format!("{signal} held"),
        Command::Release { signal } => format!("{signal} released"),
        Command::Rebaseline { rule, tag } => format!("{rule} of {tag} rebaselined"),
    };
    for (i, entry) in accepted.entries.iter().enumerate() {
        let before = if i == 0 { " (" } else { ", " };
        // Writing to a string can't fail.
        let _ = write!(text, "{before}entry {} of partition {}", entry.number, entry.partition);
    }
    if !accepted.entries.is_empty() {
        text.push(')');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::control::EntryRef;

    #[test]
    fn the_answer_names_every_entry() {
        let entries = vec![EntryRef { partition: 0, number: 3 }, EntryRef { partition: 2, number: 1 }];
        let (drift, accepted) =
            (Command::Rebaseline { rule: "drift".into(), tag: "pump1.flow".into() }, Accepted { entries });
        let wanted = "drift of pump1.flow rebaselined (entry 3 of partition 0, entry 1 of partition 2)";
        assert_eq!(told(&drift, &accepted), wanted);
        let json = serde_json::to_string(&Told { command: &drift, accepted: &accepted }).expect("JSON");
        let wanted = r#"{"command":"rebaseline","rule":"drift","tag":"pump1.flow","entries":[{"partition":0,"number":3},{"partition":2,"number":1}]}"#;
        assert_eq!(json, wanted);
    }
}
