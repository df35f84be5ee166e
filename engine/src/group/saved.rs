//! A group in a snapshot, and what of it outlives a change of its configuration.

use super::Group;
use crate::alert::{self, Life};
use crate::output::{Outputs, State};
use serde::{Deserialize, Serialize};

/// A group in a snapshot; another configuration can tell whether it may take it over, and what to end if not.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) id: String,
    pub(crate) digest: String,
    severity: String,
    life: [u64; 4],
    closed: Option<i64>,
    held: bool,
    split: bool,
    memory: Vec<u8>,
}

impl Saved {
    /// Ends the alert of a group that is no more, or is another one.
    pub(crate) fn abandon(&self, reason: &str, out: &mut Outputs) {
        let mut life: Life = bytemuck::cast(self.life);
        if let Some(change) = life.abandon(self.closed.unwrap_or(0)) {
            let owner = alert::Owner { rule: &self.id, digest: &self.digest, severity: &self.severity };
            out.events.push(alert::event(owner, &self.id, change, None, Some(reason)));
        }
    }
}

impl Group {
    /// Takes over from a group of the same name what no configuration may undo: what a person held stays held, and what is
    /// split stays failed.
    pub(crate) fn carry(&mut self, old: &Saved) {
        (self.memory.held_by_command, self.memory.split) = (old.held, old.split);
        self.memory.closed = old.closed.filter(|_| old.held || old.split);
        match (old.held, old.split) {
            (true, _) => self.memory.state = State::Held,
            (false, true) => self.memory.state = State::Failed,
            (false, false) => {}
        }
        self.next = None;
    }

    pub(crate) fn save(&self) -> Result<Saved, postcard::Error> {
        Ok(Saved {
            id: self.plan.raw.id.clone(),
            digest: self.plan.digest.clone(),
            severity: self.plan.raw.alert.as_ref().map_or("info", |a| a.severity.name()).into(),
            life: self.memory.life,
            closed: self.memory.closed,
            held: self.memory.held_by_command,
            split: self.memory.split,
            memory: postcard::to_stdvec(&self.memory)?,
        })
    }

    pub(crate) fn load(&mut self, saved: &Saved) -> Result<(), postcard::Error> {
        self.memory = postcard::from_bytes(&saved.memory)?;
        self.next = None;
        Ok(())
    }
}
