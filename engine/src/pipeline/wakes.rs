//! What progress alone makes due: rows that were held, timers, ticks. A heap of wake-ups tells when to look.

use super::Pipeline;
use crate::output::Outputs;
use std::cmp::Reverse;

/// Wake-ups that may be there beside two for each tag and group.
const WAKES_SLACK: usize = 1_024;

impl Pipeline {
    /// Notes when progress alone would do something to the tags and groups of this batch.
    pub(super) fn arm(&mut self) {
        let grace = self.plan.time.grace;
        if self.timed || !self.work.holding.is_empty() || !self.held.is_empty() {
            let touched = std::mem::take(&mut self.work.touched);
            for &tag in &touched {
                self.arm_tag(tag, grace);
            }
            for tag in std::mem::take(&mut self.work.holding) {
                self.arm_tag(tag, grace);
            }
            self.work.touched = touched;
        }
        for g in 0..self.groups.len() {
            if let Some(wake) = self.groups[g].take_wake() {
                self.wakes.push(Reverse((wake, 1, g as u32)));
            }
        }
    }

    /// The same, when only tags and groups of this batch can have changed.
    pub(super) fn arm_touched(&mut self) {
        if self.timed {
            let grace = self.plan.time.grace;
            let runs = std::mem::take(&mut self.work.runs);
            for run in runs.iter().filter(|run| run.len > 0) {
                self.arm_tag(run.tag, grace);
            }
            self.work.runs = runs;
        }
        for g in &self.work.groups {
            if let Some(wake) = self.groups[*g as usize].take_wake() {
                self.wakes.push(Reverse((wake, 1, *g)));
            }
        }
    }

    pub(super) fn arm_tag(&mut self, tag: u32, grace: i64) {
        let timers = if self.timed {
            self.rules.iter().filter(|r| r.timed()).filter_map(|r| r.deadline(&mut self.store, tag)).min()
        } else {
            None
        };
        let waiting = self.held.get(&tag).and_then(|w| w.first()).map(|(h, _)| h.ts);
        let Some(at) = timers.into_iter().chain(waiting).min() else { return };
        let state = &mut self.tags[tag as usize];
        let wake = at.max(state.heard).saturating_add(grace);
        if wake < state.wake {
            state.wake = wake;
            self.wakes.push(Reverse((wake, 0, tag)));
        }
    }

    /// Drops wake-ups that were overtaken by sooner ones, when there are many: a tag and a group have one that counts.
    fn sweep(&mut self) {
        if self.wakes.len() <= 2 * (self.names.len() + self.groups.len()) + WAKES_SLACK {
            return;
        }
        let tags = self.tags.iter().enumerate().filter(|(_, tag)| tag.wake != i64::MAX);
        let mut wakes: Vec<_> = tags.map(|(i, tag)| Reverse((tag.wake, 0, i as u32))).collect();
        let groups = self.groups.iter().enumerate();
        wakes.extend(groups.filter_map(|(g, group)| Some(Reverse((group.noted()?, 1, g as u32)))));
        self.wakes = wakes.into();
    }

    /// Does what progress alone makes due: rows first, then timers, then ticks.
    pub(super) fn settle(&mut self, out: &mut Outputs) {
        self.sweep();
        loop {
            let Some(p) = self.progress() else { return };
            let (mut tags, mut groups) = (Vec::new(), Vec::new());
            while let Some(Reverse((wake, kind, i))) = self.wakes.peek().copied() {
                if wake >= p {
                    break;
                }
                self.wakes.pop();
                if kind == 0 {
                    // One that was overtaken by a sooner one says nothing.
                    if self.tags[i as usize].wake == wake {
                        self.tags[i as usize].wake = i64::MAX;
                        tags.push(i);
                    }
                } else if self.groups[i as usize].noted() == Some(wake) {
                    groups.push(i as usize);
                }
            }
            if tags.is_empty() && groups.is_empty() {
                return;
            }
            tags.sort_unstable();
            tags.dedup();
            self.settle_at(p, &tags, &groups, out);
        }
    }

    pub(super) fn settle_at(&mut self, p: i64, tags: &[u32], groups: &[usize], out: &mut Outputs) {
        let grace = self.plan.time.grace;
        if !self.held.is_empty() {
            let mut all: Vec<u32> = tags.to_vec();
            let mates = groups.iter().flat_map(|g| self.groups[*g].tags.iter().copied());
            let more = tags
                .iter()
                .filter_map(|t| self.memberships.get(*t as usize))
                .flatten()
                .flat_map(|(g, _)| self.groups[*g].tags.iter().copied());
            all.extend(mates.chain(more).collect::<Vec<_>>());
            all.sort_unstable();
            all.dedup();
            self.begin();
            self.release_past_of(&all, p);
            self.judge(out);
        }
        for &tag in tags {
            let heard = self.tags[tag as usize].heard;
            if self.ended || p > heard.saturating_add(grace) {
                let before = if self.ended { p } else { p.saturating_sub(grace) };
                let name = self.names[tag as usize].clone();
                for rule in self.rules.iter_mut().filter(|r| r.timed()) {
                    rule.expire(&mut self.store, tag, &name, before, out);
                }
            }
            if !self.ended {
                self.arm_tag(tag, grace);
            }
        }
        for &g in groups {
            self.groups[g].woken();
            self.groups[g].close_past(p, i64::MAX, self.ended, out);
            if let Some(wake) = self.groups[g].take_wake() {
                self.wakes.push(Reverse((wake, 1, g as u32)));
            }
        }
    }

    /// Time beyond which progress alone would do something; a clock tick up to it changes nothing.
    pub fn next_wake(&self) -> Option<i64> {
        self.wakes.peek().map(|Reverse((wake, ..))| *wake)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::plan::Plan;
    use crate::output::{Transition, What};
    use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
    use std::collections::BTreeMap;
    use std::sync::Arc;

    const TEXT: &str = r#"
[time]
grace = "10ns"
[[rule]]
id = "range"
tags = ["t*"]
detect.range = { fail = [0.0, 10.0] }
alert = { on = "fail", for = "20ns" }
[[rule]]
id = "gap"
tags = ["t*"]
detect.gap = { max = "100us" }
alert = { on = "fail" }
[[group]]
id = "p"
members = ["t0", "t1", "t2"]
tick = { period = "100ns" }
max_skew = "2us"
vote.mid_value = { tolerance = { abs = 0.5 } }
alert = { on = "fail", for = "100us" }
"#;

    fn batch(ts: i64, tags: &[String], value: f64) -> RecordBatch {
        let times = TimestampNanosecondArray::from_iter_values(tags.iter().map(|_| ts)).with_timezone("UTC");
        let columns: [(&str, ArrayRef); 3] = [
            ("ts", Arc::new(times)),
            ("tag", Arc::new(StringArray::from_iter_values(tags))),
            ("value", Arc::new(Float64Array::from_iter_values(tags.iter().map(|_| value)))),
        ];
        RecordBatch::try_from_iter(columns).expect("one length")
    }

    /// Given many tags whose deadlines come and go, so that wake-ups are overtaken by sooner ones, then the heap stays in proportion to
    /// the tags; and when all fall silent at once, each of them and their group tells it, once.
    #[test]
    fn overtaken_wakes_are_swept_and_none_is_missed() {
        let plan = Arc::new(Plan::parse(TEXT, None).expect("a configuration"));
        let (mut pipeline, mut out) = (Pipeline::new(plan, 0), Outputs::default());
        let tags: Vec<String> = (0..1_500).map(|t| format!("t{t}")).collect();
        let clock = ["x".to_string()];
        for round in 0..40 {
            let ts = round * 1_000;
            for (ts, tags, value) in [(ts, &tags[..], 99.0), (ts + 100, &clock, 1.0), (ts + 200, &tags, 1.0)]
            {
                pipeline.push_rows(&batch(ts, tags, value), &[], &mut out).expect("a canonical batch");
                let most = 4 * pipeline.names.len() + WAKES_SLACK;
                assert!(pipeline.wakes.len() <= most, "{} in round {round}", pipeline.wakes.len());
            }
        }
        out.events.clear();
        pipeline.push_rows(&batch(1_000_000, &clock, 1.0), &[], &mut out).expect("a canonical batch");
        let mut fired: BTreeMap<(String, String), Vec<i64>> = BTreeMap::new();
        for event in out.events {
            if let What::Alert { rule, target, transition: Transition::Firing, .. } = event.what {
                fired.entry((rule, target)).or_default().push(event.at);
            }
        }
        assert_eq!(fired.remove(&("p".into(), "p".into())).map(|at| at.len()), Some(1));
        assert_eq!(fired.len(), tags.len());
        let last = 39_200;
        assert!(fired.iter().all(|((rule, _), at)| rule == "gap" && *at == [last + 100_000]), "{fired:?}");
    }
}
