//! What progress alone makes due: rows that were held, timers, ticks. A heap of wake-ups tells when to look.

use super::Pipeline;
use crate::output::Outputs;
use std::cmp::Reverse;

/// Wake-ups that may be there beside two for each tag and group.
const WAKES_SLACK: usize = 1_024;

impl Pipeline {
    /// Notes when progress alone would do something to the tags and groups of this batch.
    pub(super) fn arm(&mut self, _out: &mut Outputs) {
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
