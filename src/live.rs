//! The partitions of a log: one pipeline each, made when the partition is first seen, and one numbering of all tags.

use crate::cmd::CommandError;
use crate::wiring;
use connectors::Polled;
use engine::journal::{Record, Script};
use engine::{Outputs, Pipeline, Plan};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// All partitions of a log. Verdicts that come out name tags by numbers that all partitions share.
pub struct Live {
    plan: Arc<Plan>,
    lanes: BTreeMap<u32, Lane>,
    scripts: BTreeMap<u32, Vec<Record>>,
    names: Vec<String>,
    ids: HashMap<String, u32>,
}

struct Lane {
    pipeline: Pipeline,
    script: Script,
    /// Shared number of each tag of the pipeline.
    tags: Vec<u32>,
}

impl Live {
    /// No partition seen yet.
    pub fn new(plan: Arc<Plan>) -> Self {
        let (names, ids) = (Vec::new(), HashMap::new());
        Live { plan, lanes: BTreeMap::new(), scripts: BTreeMap::new(), names, ids }
    }

    /// Gives a partition its journal, before its first row.
    pub fn script(&mut self, partition: u32, journal: Vec<Record>) {
        self.scripts.insert(partition, journal);
    }

    /// Lets a partition go on from a state.
    ///
    /// # Errors
    /// When it is none.
    pub fn start(&mut self, partition: u32, state: &[u8], out: &mut Outputs) -> Result<(), CommandError> {
        let pipeline = Pipeline::restore(self.plan.clone(), partition, state, out)?;
        self.add(partition, pipeline);
        Ok(())
    }

    /// Takes what was polled.
    ///
    /// # Errors
    /// When the batch lacks a column; nothing was taken then.
    pub fn take(&mut self, polled: &Polled, out: &mut Outputs) -> Result<(), CommandError> {
        if polled.batch.num_rows() == 0 && polled.bad.is_empty() {
            return Ok(());
        }
        if !self.lanes.contains_key(&polled.partition) {
            self.add(polled.partition, Pipeline::new(self.plan.clone(), polled.partition));
        }
        let first = out.verdicts.len();
        if let Some(lane) = self.lanes.get_mut(&polled.partition) {
            wiring::push(&mut lane.pipeline, &mut lane.script, polled, out)?;
        }
        self.renumber(polled.partition, first, out);
        Ok(())
    }

    /// End of input: what is left of the journals, then every partition gets the largest progress of all.
    pub fn end(&mut self, out: &mut Outputs) {
        if self.lanes.is_empty() {
            // An input without a row is an empty partition, whose rules ran 0 times.
            self.add(0, Pipeline::new(self.plan.clone(), 0));
        }
        let numbers: Vec<u32> = self.lanes.keys().copied().collect();
        for number in &numbers {
            let first = out.verdicts.len();
            if let Some(lane) = self.lanes.get_mut(number) {
                lane.script.apply_all(&mut lane.pipeline, out);
            }
            self.renumber(*number, first, out);
        }
        let whole = self.pipelines().filter_map(Pipeline::progress).max();
        for number in numbers {
            let first = out.verdicts.len();
            if let Some(lane) = self.lanes.get_mut(&number) {
                lane.pipeline.end(whole, out);
            }
            self.renumber(number, first, out);
        }
        engine::tell_idle_rules(self.pipelines(), out);
    }

    /// The partitions, by number.
    pub fn pipelines(&self) -> impl Iterator<Item = &Pipeline> {
        self.lanes.values().map(|lane| &lane.pipeline)
    }

    /// One partition.
    pub fn pipeline(&self, partition: u32) -> Option<&Pipeline> {
        self.lanes.get(&partition).map(|lane| &lane.pipeline)
    }

    /// Names of the tags by their shared numbers.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    fn add(&mut self, partition: u32, pipeline: Pipeline) {
        let journal = self.scripts.remove(&partition).unwrap_or_default();
        let script = Script::new(journal, pipeline.applied());
        self.lanes.insert(partition, Lane { pipeline, script, tags: Vec::new() });
    }

    fn renumber(&mut self, partition: u32, first: usize, out: &mut Outputs) {
        let Some(lane) = self.lanes.get_mut(&partition) else { return };
        for verdict in &mut out.verdicts[first..] {
            while lane.tags.len() <= verdict.tag as usize {
                let name = lane.pipeline.tag_name(lane.tags.len() as u32);
                let id = self.ids.get(name).copied().unwrap_or_else(|| {
                    let id = self.names.len() as u32;
                    self.names.push(name.to_string());
                    self.ids.insert(name.to_string(), id);
                    id
                });
                lane.tags.push(id);
            }
            verdict.tag = lane.tags[verdict.tag as usize];
        }
    }
}
