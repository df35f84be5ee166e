//! The partitions of a running stream: one pipeline each, made when the partition is first seen.

use crate::cmd::CommandError;
use crate::wiring;
use connectors::Polled;
use engine::{Outputs, Pipeline, Plan};
use std::collections::BTreeMap;
use std::sync::Arc;

/// All partitions of a stream. What a call puts out names tags by number, and numbers are those of one pipeline.
pub struct Live {
    plan: Arc<Plan>,
    pipelines: BTreeMap<u32, Pipeline>,
}

impl Live {
    /// No partition seen yet.
    pub fn new(plan: Arc<Plan>) -> Self {
        Live { plan, pipelines: BTreeMap::new() }
    }

    /// Takes what was polled; `out` gets the output of that partition alone.
    ///
    /// # Errors
    /// When the batch lacks a column; nothing was taken then.
    pub fn take(&mut self, polled: &Polled, out: &mut Outputs) -> Result<(), CommandError> {
        if polled.batch.num_rows() == 0 && polled.bad.is_empty() {
            return Ok(());
        }
        let new = || Pipeline::new(self.plan.clone(), polled.partition);
        wiring::push(self.pipelines.entry(polled.partition).or_insert_with(new), polled, out)?;
        Ok(())
    }

    /// End of input: every partition gets the largest progress of all. Numbers of tags in `out` are of no use with
    /// two partitions or more.
    pub fn end(&mut self, out: &mut Outputs) {
        let whole = self.pipelines.values().filter_map(Pipeline::progress).max();
        for pipeline in self.pipelines.values_mut() {
            pipeline.end(whole, out);
        }
    }

    /// The partitions, by number.
    pub fn pipelines(&self) -> &BTreeMap<u32, Pipeline> {
        &self.pipelines
    }
}
