//! A rule at run time: parameters per tag, state in the tag's record, verdicts, and the life of its alerts.
//!
//! The boundary that hides the detector's type is (rule, batch): one virtual call judges all runs of a batch.

use crate::alert::{self, LIFE_WORDS, Life, Terms};
use crate::config::catalogue::Row;
use crate::config::plan::Plan;
use crate::config::raw::Severity;
use crate::config::select::matches;
use crate::keyed::{Arena, Store};
use crate::output::{Explanation, FlagCounts, Outputs, Transition, VerdictRow, digest};
use detectors::detect::{Columns, Detector, Stage, TagCommand, Visitor};
use detectors::sample::{Evidence, Flag, Samples, Verdicts};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The samples of one tag in one batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Run {
    pub(crate) tag: u32,
    pub(crate) start: usize,
    pub(crate) len: usize,
}

/// A batch grouped by tag. All slices are of one length; a run is a stretch of them.
pub(crate) struct Batch<'a> {
    pub(crate) runs: &'a [Run],
    pub(crate) ts: &'a [i64],
    pub(crate) value: &'a [f64],
    /// Deadlines before `past[i]` were past for the tag when sample i came in.
    pub(crate) past: &'a [i64],
    pub(crate) names: &'a [std::sync::Arc<str>],
}

/// What rules of the limit stage tell about each sample.
pub(crate) struct Marks<'a> {
    /// Valid, of good quality, and without a flag of 3 or more.
    pub(crate) trusted: &'a mut [bool],
    /// Flagged 4 by one of its tag's rules.
    pub(crate) failed: &'a mut [bool],
}

/// Scratch that all rules share.
#[derive(Default)]
pub(crate) struct Scratch {
    flags: Vec<Flag>,
    evidence: Vec<Evidence>,
}

/// A rule whose detector's type is hidden.
pub(crate) trait Rule: Send {
    /// Learns that a tag exists, given its row of the catalogue; binds parameters if the rule selects it.
    fn register(&mut self, row: &Row<'_>);
    fn stage(&self) -> Stage;
    /// Whether it ever sets a deadline.
    fn timed(&self) -> bool;
    fn judge_batch(
        &mut self,
        batch: &Batch<'_>,
        marks: &mut Marks<'_>,
        store: &mut Store,
        scratch: &mut Scratch,
        out: &mut Outputs,
    );
    /// Reads what judging some runs needs beside the tags' records, so that misses of the cache overlap.
    fn touch(&self, runs: &[Run], store: &mut Store);
    /// The earliest deadline of a tag.
    fn deadline(&self, store: &mut Store, tag: u32) -> Option<i64>;
    /// Does what is due before `before`, in time order.
    fn expire(&mut self, store: &mut Store, tag: u32, name: &str, before: i64, out: &mut Outputs);
    fn rebaseline(&mut self, store: &mut Store, tag: u32);
    fn counts(&self) -> FlagCounts;
    /// How many of its alerts fire.
    fn firing(&self) -> u64;
    fn save(&self) -> Saved;
    /// The same without what grows with the tags.
    fn save_head(&self) -> Saved;
    /// Takes over what a rule of the same name kept; `tags` gives the new number of each old tag, `firing` says how many of
    /// the alerts that it keeps fire.
    fn load(&mut self, saved: &Saved, tags: &[u32], firing: u64);
    /// Digest of all that judges a tag.
    fn digest_for(&self, name: &str) -> Cow<'_, str>;
    /// Takes back the window of a tag that it judged before it was [loaded](Self::load) and judges no longer, by its handle.
    fn give_back(&mut self, handle: u64);
    /// Whether it judges a tag.
    fn binds(&self, tag: u32) -> bool;
    /// Where its part of a record begins, and how many words of it are the detector's (with the window's handle).
    fn place(&self) -> (usize, usize);
    /// How many samples a tag's detector still has to see.
    fn remaining(&self, store: &mut Store, tag: u32) -> Option<u64>;
}

/// What a rule adds to a snapshot beside the tags' records, and what tells whether another rule may take it over.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) id: String,
    /// Digest of all that judges: alerts outlive a restart only under the same one.
    pub(crate) digest: String,
    /// The digests of tags whose alert began, where they differ: parameters from the catalogue.
    pub(crate) digests: Vec<(u32, String)>,
    /// Digest of what shapes the detector's state.
    pub(crate) shape: String,
    pub(crate) severity: String,
    /// Where its part of a record begins.
    pub(crate) offset: usize,
    /// Words of the detector's state and the window's handle.
    pub(crate) state_words: usize,
    /// Whether the state of an alert follows.
    pub(crate) alerts: bool,
    counts: FlagCounts,
    windows: Vec<u64>,
    why: Vec<(u32, Explanation)>,
}

impl Saved {
    /// Whether its part lies inside a record of so many words.
    pub(crate) fn fits(&self, stride: usize) -> bool {
        let life = if self.alerts { LIFE_WORDS } else { 0 };
        self.offset.checked_add(self.state_words + life).is_some_and(|end| end <= stride)
    }

    /// The alert of a tag, from its record.
    pub(crate) fn life(&self, record: &[u64]) -> Option<Life> {
        let at = self.offset + self.state_words;
        self.alerts.then(|| bytemuck::pod_read_unaligned(bytemuck::cast_slice(&record[at..at + LIFE_WORDS])))
    }

    /// Digest of all that judged a tag when its alert began.
    pub(crate) fn digest_for(&self, tag: u32) -> &str {
        let own = self.digests.binary_search_by_key(&tag, |(t, _)| *t).ok();
        own.map_or(&self.digest, |at| &self.digests[at].1)
    }

    pub(crate) fn why(&self, tag: u32) -> Option<Explanation> {
        self.why.iter().find(|(t, _)| *t == tag).map(|(_, why)| *why)
    }
}

struct Typed<D: Detector> {
    number: u32,
    id: String,
    digest: String,
    shape: String,
    severity: Severity,
    patterns: Vec<String>,
    raw: D::Raw,
    /// The plan with its catalogue, where parameters come from there.
    columns: Option<Arc<Plan>>,
    /// Whether the detector sets deadlines.
    deadlines: bool,
    terms: Option<Terms>,
    offset: usize,
    state_words: usize,
    window_len: usize,
    /// Position of the tag's parameters in `params`, or `NONE`.
    bound: Vec<u32>,
    params: Vec<D>,
    /// Position of the parameters of tags that have none of their own.
    shared: Option<u32>,
    arena: Arena,
    counts: FlagCounts,
    /// Why the alerts that are pending or firing began.
    why: BTreeMap<u32, Explanation>,
    /// How many alerts fire.
    firing: u64,
}

const NONE: u32 = u32::MAX;

/// Makes the rule at run time; `offset` is where its part of a record begins and moves behind it.
pub(crate) fn make(all: &Arc<Plan>, number: u32, offset: &mut usize) -> Box<dyn Rule> {
    struct Make<'a>(&'a Arc<Plan>, u32, &'a mut usize);
    impl Visitor for Make<'_> {
        type Out = Box<dyn Rule>;
        fn visit<D: Detector>(self, raw: &D::Raw) -> Box<dyn Rule> {
            let Make(all, number, offset) = self;
            let plan = &all.rules[number as usize];
            let state_words = size_of::<D::State>().div_ceil(8);
            let terms = plan.raw.alert.as_ref().map(Terms::new);
            let rule = Typed::<D> {
                number,
                id: plan.raw.id.clone(),
                digest: plan.digest.clone(),
                shape: digest(&["shape", D::KIND, &D::STATE_VERSION.to_string(), &plan.shape]),
                severity: plan.raw.alert.as_ref().map_or(Severity::Info, |a| a.severity),
                patterns: plan.raw.tags.clone(),
                columns: D::needs_columns(raw).then(|| all.clone()),
                deadlines: false,
                raw: raw.clone(),
                terms,
                offset: *offset,
                state_words,
                window_len: 0,
                bound: Vec::new(),
                params: Vec::new(),
                shared: None,
                arena: Arena::new(0),
                counts: FlagCounts::default(),
                why: BTreeMap::new(),
                firing: 0,
            };
            *offset += rule.words();
            Box::new(rule)
        }
    }
    detectors::detect::visit(&all.rules[number as usize].raw.detect, Make(all, number, offset))
}

impl<D: Detector> Typed<D> {
    /// State, window handle, alert.
    fn words(&self) -> usize {
        self.state_words + 1 + if self.terms.is_some() { LIFE_WORDS } else { 0 }
    }

    fn params(&self, tag: u32) -> Option<&D> {
        let at = *self.bound.get(tag as usize)?;
        (at != NONE).then(|| &self.params[at as usize])
    }

    fn life<'a>(&self, region: &'a mut [u64]) -> Option<&'a mut Life> {
        self.terms
            .is_some()
            .then(|| bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(&mut region[self.state_words + 1..])))
    }

    fn emit(&mut self, tag: u32, name: &str, change: alert::Change, active: bool, out: &mut Outputs) {
        let why = self.why.get(&tag).copied();
        if !active {
            self.why.remove(&tag);
        }
        match change.transition {
            Transition::Firing => self.firing += 1,
            Transition::Resolved => self.firing -= 1,
        }
        let digest = self.digest_for(name);
        let rule = alert::Owner { rule: &self.id, digest: &digest, severity: self.severity.name() };
        out.events.push(alert::event(rule, name, change, why, None));
    }

    /// One flag on its way to the alert; `explain` is asked only when the alert begins.
    #[inline]
    #[expect(clippy::too_many_arguments, reason = "one flag of one tag, all by reference")]
    fn follow(
        &mut self,
        region: &mut [u64],
        tag: u32,
        name: &str,
        flag: Flag,
        ts: i64,
        explain: impl FnOnce() -> Option<Explanation>,
        out: &mut Outputs,
    ) {
        let Some(terms) = self.terms else { return };
        let Some(life) = self.life(region) else { return };
        let was = life.active();
        let change = life.apply(&terms, flag, ts);
        let active = life.active();
        if (active || change.is_some())
            && !was
            && let Some(why) = explain()
        {
            self.why.insert(tag, why);
        }
        match change {
            Some(change) => self.emit(tag, name, change, active, out),
            None if was && !active => {
                self.why.remove(&tag);
            }
            None => {}
        }
    }

    /// Expires every deadline before `before`.
    fn expire_region(&mut self, region: &mut [u64], tag: u32, name: &str, before: i64, out: &mut Outputs) {
        loop {
            let at = self.bound[tag as usize];
            let state: &mut D::State =
                bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(&mut region[..self.state_words]));
            let own = self.params[at as usize].deadline(state).filter(|d| *d < before);
            let alert = self.life(region).and_then(|l| l.deadline()).filter(|d| *d < before);
            match (own, alert) {
                (None, None) => return,
                (Some(d), a) if a.is_none_or(|a| d < a) => {
                    let state: &mut D::State =
                        bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(&mut region[..self.state_words]));
                    let flag = self.params[at as usize].on_deadline(state);
                    self.counts.add(flag, 1);
                    if flag == Flag::Suspect || flag == Flag::Fail || out.all_verdicts {
                        let (rule, score) = (self.number, 1.0);
                        out.verdicts.push(VerdictRow { ts: d, tag, rule, flag, score, value: None });
                    }
                    self.follow(region, tag, name, flag, d, || None, out);
                }
                _ => {
                    let Some(life) = self.life(region) else { return };
                    let change = life.expire();
                    let active = life.active();
                    self.emit(tag, name, change, active, out);
                }
            }
        }
    }

    /// Follows a judged stretch of a run: counts, marks, verdicts, alerts.
    #[expect(clippy::too_many_arguments, reason = "one stretch of one run, all by reference")]
    fn digest_flags(
        &mut self,
        region: &mut [u64],
        run: Run,
        from: usize,
        batch: &Batch<'_>,
        marks: &mut Marks<'_>,
        flags: &[Flag],
        evidence: &[Evidence],
        out: &mut Outputs,
    ) {
        let bytes: &[u8] = bytemuck::cast_slice(flags);
        let many = |flag: Flag| bytes.iter().filter(|b| **b == flag as u8).count();
        let good = many(Flag::Good);
        self.counts.good += good as u64;
        let mut bad = 0;
        if good < flags.len() {
            let (not_evaluated, missing) = (many(Flag::NotEvaluated), many(Flag::Missing));
            self.counts.not_evaluated += not_evaluated as u64;
            self.counts.missing += missing as u64;
            bad = flags.len() - good - not_evaluated - missing;
        }
        let quiet = match self.life(region) {
            Some(life) => life.quiet(),
            None => true,
        };
        // What is neither suspect nor failed changes nothing of an alert that is quiet.
        if bad == 0 && quiet && !out.all_verdicts {
            return;
        }
        let mut next = 0;
        let first = run.start + from;
        for (i, &flag) in flags.iter().enumerate() {
            while next < evidence.len() && (evidence[next].slot as usize) < i {
                next += 1;
            }
            let seen = evidence.get(next).filter(|e| e.slot as usize == i);
            let bad = flag == Flag::Suspect || flag == Flag::Fail;
            if bad {
                self.counts.add(flag, 1);
            }
            if bad && matches!(D::STAGE, Stage::Limit) {
                marks.trusted[first + i] = false;
                marks.failed[first + i] |= flag == Flag::Fail;
            }
            if bad || out.all_verdicts {
                let score = seen.map_or(0.0, |e| e.score);
                out.verdicts.push(VerdictRow {
                    ts: batch.ts[first + i],
                    tag: run.tag,
                    rule: self.number,
                    flag,
                    score,
                    value: Some(batch.value[first + i]).filter(|x| !x.is_nan()),
                });
            }
            let explain = || seen.map(|e| Explanation::new(e.statistic, e.lo, e.hi));
            self.follow(
                region,
                run.tag,
                &batch.names[run.tag as usize],
                flag,
                batch.ts[first + i],
                explain,
                out,
            );
        }
    }
}

impl<D: Detector> Rule for Typed<D> {
    fn register(&mut self, row: &Row<'_>) {
        if !self.patterns.iter().any(|p| matches(p, row.tag)) {
            self.bound.push(NONE);
            return;
        }
        let own = self.columns.is_some() || row.heartbeat_ns().is_some();
        if let Some(shared) = self.shared.filter(|_| !own) {
            self.bound.push(shared);
            return;
        }
        // Whatever the catalogue holds was bound once at the check; a tag outside it is not judged by this rule.
        match D::bind(&self.raw, row) {
            Ok(params) => {
                self.deadlines |= params.longest_step_ns().is_some();
                self.params.push(params);
            }
            Err(_) => {
                self.bound.push(NONE);
                return;
            }
        }
        if self.params.len() == 1 {
            self.window_len = self.params[0].window_len();
            self.arena = Arena::new(self.window_len);
        }
        let at = self.params.len() as u32 - 1;
        self.shared = self.shared.or((!own).then_some(at));
        self.bound.push(at);
    }

    fn stage(&self) -> Stage {
        D::STAGE
    }

    fn timed(&self) -> bool {
        self.deadlines || self.terms.is_some_and(|t| t.timed())
    }

    fn judge_batch(
        &mut self,
        batch: &Batch<'_>,
        marks: &mut Marks<'_>,
        store: &mut Store,
        scratch: &mut Scratch,
        out: &mut Outputs,
    ) {
        let (timed, explain_from) = (self.timed(), if out.all_verdicts { Flag::Good } else { Flag::Suspect });
        let (offset, words, state_words) = (self.offset, self.words(), self.state_words);
        for &run in batch.runs {
            let at = self.bound[run.tag as usize];
            if at == NONE {
                continue;
            }
            let region = store.region(run.tag, offset, words);
            let mut from = 0;
            while from < run.len {
                // A rule with deadlines goes sample by sample: what is due comes before the sample that finds it due.
                let len = if timed { 1 } else { run.len - from };
                let here = run.start + from..run.start + from + len;
                if timed {
                    let before = batch.past[here.start].max(batch.ts[here.start]);
                    self.expire_region(region, run.tag, &batch.names[run.tag as usize], before, out);
                }
                let samples = Samples {
                    ts: &batch.ts[here.clone()],
                    value: &batch.value[here.clone()],
                    trusted: &marks.trusted[here],
                };
                // Every flag is set by the detector.
                if scratch.flags.len() < len {
                    scratch.flags.resize(len, Flag::NotEvaluated);
                }
                scratch.evidence.clear();
                let flags = &mut scratch.flags[..len];
                let (state, rest) = region.split_at_mut(state_words);
                let state: &mut D::State = bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(state));
                let needed = self.params[at as usize].window_needed(state, len);
                let window = match self.window_len {
                    0 => &mut [][..],
                    _ => self.arena.window(&mut rest[0], needed),
                };
                let mut verdicts = Verdicts { flags, evidence: &mut scratch.evidence, explain_from };
                self.params[at as usize].judge(state, window, samples, &mut verdicts);
                self.digest_flags(
                    region,
                    run,
                    from,
                    batch,
                    marks,
                    &scratch.flags[..len],
                    &scratch.evidence,
                    out,
                );
                from += len;
            }
        }
    }

    fn touch(&self, runs: &[Run], store: &mut Store) {
        let several = self.params.len() > 1;
        for run in runs {
            let at = self.bound[run.tag as usize];
            if at == NONE {
                continue;
            }
            if several {
                std::hint::black_box(self.params[at as usize].clone());
            }
            if self.window_len > 0 {
                let (state, rest) =
                    store.region(run.tag, self.offset, self.words()).split_at_mut(self.state_words);
                let state: &mut D::State = bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(state));
                let at = self.params[at as usize].next_in_window(state);
                std::hint::black_box(self.arena.touch(rest[0], at, run.len));
            }
        }
    }

    fn deadline(&self, store: &mut Store, tag: u32) -> Option<i64> {
        let params = self.params(tag)?;
        let region = store.region(tag, self.offset, self.words());
        let state: &mut D::State =
            bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(&mut region[..self.state_words]));
        let own = params.deadline(state);
        let alert = self.life(region).and_then(|l| l.deadline());
        own.into_iter().chain(alert).min()
    }

    fn expire(&mut self, store: &mut Store, tag: u32, name: &str, before: i64, out: &mut Outputs) {
        if self.params(tag).is_some() {
            let region = store.region(tag, self.offset, self.words());
            self.expire_region(region, tag, name, before, out);
        }
    }

    fn rebaseline(&mut self, store: &mut Store, tag: u32) {
        let Some(at) = self.bound.get(tag as usize).copied().filter(|at| *at != NONE) else { return };
        let words = self.words();
        let (state, rest) = store.region(tag, self.offset, words).split_at_mut(self.state_words);
        let state: &mut D::State = bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(state));
        let window = if self.window_len == 0 { &mut [][..] } else { self.arena.window(&mut rest[0], 0) };
        self.params[at as usize].command(state, window, TagCommand::Rebaseline);
    }

    fn counts(&self) -> FlagCounts {
        self.counts
    }

    fn firing(&self) -> u64 {
        self.firing
    }

    fn save(&self) -> Saved {
        let why = self.why.iter().map(|(t, w)| (*t, *w)).collect();
        Saved { windows: self.arena.bits(), why, ..self.save_head() }
    }

    fn save_head(&self) -> Saved {
        Saved {
            id: self.id.clone(),
            digest: self.digest.clone(),
            digests: Vec::new(),
            shape: self.shape.clone(),
            severity: self.severity.name().into(),
            offset: self.offset,
            state_words: self.state_words + 1,
            alerts: self.terms.is_some(),
            counts: self.counts,
            windows: Vec::new(),
            why: Vec::new(),
        }
    }

    fn load(&mut self, saved: &Saved, tags: &[u32], firing: u64) {
        if saved.shape == self.shape {
            self.arena.fill(&saved.windows);
        }
        if saved.digest == self.digest {
            (self.counts, self.firing) = (saved.counts, firing);
            self.why = saved.why.iter().map(|(t, w)| (tags[*t as usize], *w)).collect();
        }
    }

    fn digest_for(&self, name: &str) -> Cow<'_, str> {
        let of = |plan: &Arc<Plan>| Cow::Owned(plan.digest_for(self.number as usize, name));
        self.columns.as_ref().map_or(Cow::Borrowed(&self.digest), of)
    }

    fn give_back(&mut self, handle: u64) {
        self.arena.give_back(handle);
    }

    fn binds(&self, tag: u32) -> bool {
        self.params(tag).is_some()
    }

    fn place(&self) -> (usize, usize) {
        (self.offset, self.state_words + 1)
    }

    fn remaining(&self, store: &mut Store, tag: u32) -> Option<u64> {
        let params = self.params(tag)?;
        let region = store.region(tag, self.offset, self.state_words);
        let state: &mut D::State = bytemuck::from_bytes_mut(bytemuck::cast_slice_mut(region));
        params.remaining(state)
    }
}
