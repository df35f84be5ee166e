//! What the loop counts, and what a server shows of it.

use super::{Clock, Driver, Inlet, Outlet, Store};
use crate::metrics::{Metric, Reading, Readout, SignalReading};
use crate::pipeline::Pipeline;
use std::collections::BTreeMap;

/// What the loop itself counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tallies {
    /// Alerts that fired.
    pub fired: u64,
    /// Alerts that ended.
    pub resolved: u64,
    /// Checkpoints published.
    pub checkpoints: u64,
    /// Checkpoints that could not be.
    pub failures: u64,
    /// Bytes of the last checkpoint of all partitions that changed.
    pub checkpoint_bytes: u64,
    /// Journal entries written.
    pub journaled: u64,
    /// Events that went to the spill.
    pub spilled: u64,
    /// Outputs given up.
    pub given_up: u64,
}

/// Gathers readings so that those of one metric stand together.
#[derive(Default)]
struct Readings {
    by_metric: BTreeMap<Metric, Vec<Reading>>,
    signals: Vec<SignalReading>,
}

impl Readings {
    fn add(&mut self, metric: Metric, labels: Vec<(&'static str, String)>, value: f64) {
        self.by_metric.entry(metric).or_default().push(Reading { metric, labels, value });
    }

    fn partition(&mut self, name: &str, pipeline: &Pipeline, next: i64, tags_limit: u32) {
        let of = |more: &[(&'static str, &str)]| {
            let mut labels = vec![("partition", name.to_string())];
            labels.extend(more.iter().map(|(k, v)| (*k, (*v).to_string())));
            labels
        };
        let c = pipeline.counters();
        let fates = [
            ("in", c.rows_in),
            ("processed", c.processed),
            ("late", c.late),
            ("dead_letter", c.dead_letters),
            ("duplicate", c.duplicates),
            ("shed", c.shed),
        ];
        for (fate, n) in fates {
            self.add(Metric::Rows, of(&[("fate", fate)]), n as f64);
        }
        let (switches, recoveries) = pipeline.switches();
        let numbers = [
            (Metric::RowsHeld, c.held),
            (Metric::MissedTick, c.missed_tick),
            (Metric::FutureRows, c.future),
            (Metric::EarlyReleases, c.early),
            (Metric::ForgottenSamples, c.forgotten),
            (Metric::Tags, pipeline.tag_count() as u64),
            (Metric::TagsLimit, u64::from(tags_limit)),
            (Metric::Switches, switches),
            (Metric::Recoveries, recoveries),
        ];
        for (metric, n) in numbers {
            self.add(metric, of(&[]), n as f64);
        }
        if let Some(progress) = pipeline.progress() {
            self.add(Metric::Progress, of(&[]), progress as f64 / 1e9);
        }
        self.add(Metric::NextOffset, of(&[]), next as f64);
        for (rule, f) in pipeline.flags() {
            let flags = [
                ("good", f.good),
                ("not_evaluated", f.not_evaluated),
                ("suspect", f.suspect),
                ("fail", f.fail),
                ("missing", f.missing),
            ];
            for (flag, n) in flags {
                self.add(Metric::Verdicts, of(&[("rule", &rule), ("flag", flag)]), n as f64);
            }
        }
        for (rule, severity, n) in pipeline.alerts_firing() {
            self.add(Metric::AlertsFiring, of(&[("rule", rule), ("severity", severity)]), n as f64);
        }
        for (i, (signal, state)) in pipeline.signals().into_iter().enumerate() {
            if pipeline.hears(i) {
                self.add(Metric::SignalState, of(&[("signal", &signal), ("state", state.name())]), 1.0);
                self.signals.push(SignalReading {
                    signal,
                    partition: pipeline.partition(),
                    state: state.name(),
                });
            }
        }
    }

    fn finish(self) -> Readout {
        Readout { readings: self.by_metric.into_values().flatten().collect(), signals: self.signals }
    }
}

impl<I: Inlet, O: Outlet, S: Store, C: Clock> Driver<I, O, S, C> {
    /// What the loop counted.
    pub fn tallies(&self) -> Tallies {
        self.tallies
    }

    /// What a server shows.
    pub fn readout(&self) -> Readout {
        let mut all = Readings::default();
        for p in self.partitions.values() {
            all.partition(&p.name, &p.pipeline, p.next.offset, self.plan.limits.tags);
        }
        let t = &self.tallies;
        let none = Vec::new;
        all.add(Metric::Alerts, vec![("transition", "firing".into())], t.fired as f64);
        all.add(Metric::Alerts, vec![("transition", "resolved".into())], t.resolved as f64);
        all.add(Metric::BuildInfo, vec![("version", env!("CARGO_PKG_VERSION").into())], 1.0);
        let numbers = [
            (Metric::EventsPending, self.events.len() as u64),
            (Metric::EventsPendingLimit, self.settings.pending_events as u64),
            (Metric::EventsSpilled, t.spilled),
            (Metric::BulkPending, self.bulk.len() as u64),
            (Metric::BulkPendingLimit, self.settings.pending_bulk as u64),
            (Metric::GivenUp, t.given_up),
            (Metric::Checkpoints, t.checkpoints),
            (Metric::CheckpointFailures, t.failures),
            (Metric::CheckpointBytes, t.checkpoint_bytes),
            (Metric::JournalEntries, t.journaled),
        ];
        for (metric, value) in numbers {
            all.add(metric, none(), value as f64);
        }
        all.finish()
    }
}
