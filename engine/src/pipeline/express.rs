//! The usual way of a batch: nothing is held and nothing may be from the future, so rows are grouped by tag first and
//! admitted run by run, with the tag's state at hand.
//!
//! It says what [`Pipeline::take`] and [`Pipeline::judge`] say row by row. It may, because progress before a row is the
//! largest time of the rows before it, admitted or not: a late, duplicate or conflicting row is never newer than the last
//! row of its own tag. What is refused is told in the order of the log.

use super::{Pipeline, grown};
use crate::admit::{Row, Verdict};
use crate::columns::Flat;
use crate::config::plan::Class;
use crate::group::{Entry, Kind};
use crate::intake::Span;
use crate::output::Outputs;
use crate::rule::{Batch, Marks, Run};
use detectors::detect::Stage;
use detectors::vote::MAX_MEMBERS;

/// Rows, and tags, that go through all rules together: few enough that samples and state stay in the nearest caches.
const TILE_ROWS: usize = 4_096;
const TILE_TAGS: usize = 512;

impl Pipeline {
    /// Whether a batch can go this way.
    pub(super) fn is_usual(&self, flat: &Flat, spans: &[Span]) -> bool {
        let time = &self.plan.time;
        if time.max_delay > 0 || !flat.refused.is_empty() || flat.ts.len() > u32::MAX as usize {
            return false;
        }
        if time.max_jump.is_some() && spans.iter().any(|s| s.record_ts.is_none()) {
            return false;
        }
        let newest = |ts: &[i64]| ts.iter().copied().max().unwrap_or(i64::MIN);
        let in_reach = |span: &Span, newest: i64| {
            span.record_ts.is_none_or(|record| newest <= record.saturating_add(time.max_ahead))
        };
        if spans.iter().all(|s| s.record_ts.is_none()) {
            return true;
        }
        let all = newest(&flat.ts);
        if spans.iter().all(|span| in_reach(span, all)) {
            return true;
        }
        // Slots of a wide batch are not rows: there every span is held to the newest of all.
        let mut rest = &flat.ts[..];
        flat.row.is_empty()
            && spans.iter().enumerate().all(|(i, span)| {
                let rows = if i + 1 == spans.len() { rest.len() } else { span.rows.min(rest.len()) };
                let here = &rest[..rows];
                rest = &rest[rows..];
                in_reach(span, newest(here))
            })
    }

    /// Admits and judges a batch.
    pub(super) fn express(&mut self, flat: &Flat, spans: &[Span], out: &mut Outputs) {
        let n = flat.ts.len();
        self.counters.rows_in += n as u64;
        let start = self.progress().unwrap_or(i64::MIN);
        self.group_by_tag(flat, start);
        self.progress = self.progress.max(flat.ts.iter().copied().max());
        let mut refused = Vec::new();
        let mut first = 0;
        while first < self.work.runs.len() {
            let (mut last, mut rows) = (first, 0);
            while last < self.work.runs.len() && last - first < TILE_TAGS && rows < TILE_ROWS {
                rows += self.work.runs[last].len;
                last += 1;
            }
            self.admit_runs(first..last, flat, start, &mut refused);
            self.judge_runs(first..last, n, out);
            first = last;
        }
        self.counters.processed += (n - refused.len()) as u64;
        self.enter_groups(flat, start, out);
        for tag in &self.work.touched {
            self.work.counts[*tag as usize] = 0;
        }
        refused.sort_unstable_by_key(|(row, _)| *row);
        for (i, verdict) in refused {
            let row = placed(flat, i as usize, spans);
            match verdict {
                Verdict::Late => self.late(&row, out),
                Verdict::Conflict => self.conflict(&row, out),
                Verdict::Duplicate | Verdict::Admit => self.counters.duplicates += 1,
            }
        }
        self.arm_touched();
    }

    /// A counting sort over the touched tags; `newest` gets the progress after each row.
    fn group_by_tag(&mut self, flat: &Flat, start: i64) {
        let (n, work) = (flat.ts.len(), &mut self.work);
        grown(&mut work.counts, self.names.len(), 0);
        let counts = &mut work.counts[..];
        for &tag in &flat.tag {
            let count = &mut counts[tag as usize];
            if *count == 0 {
                work.touched.push(tag);
            }
            *count += 1;
        }
        work.runs.clear();
        let mut first = 0usize;
        for &tag in &work.touched {
            let count = &mut counts[tag as usize];
            let len = *count as usize;
            work.runs.push(Run { tag, start: first, len });
            *count = first as u32;
            first += len;
        }
        let by_ts = grown(&mut work.by_ts, n, 0);
        let by_value = grown(&mut work.by_value, n, 0.0);
        let by_row = grown(&mut work.at, n, 0);
        let newest = grown(&mut work.newest, n, 0);
        let mut progress = start;
        let rows = flat.tag.iter().zip(&flat.ts).zip(&flat.value).zip(newest).enumerate();
        for (i, (((&tag, &ts), &value), newest)) in rows {
            let count = &mut counts[tag as usize];
            let to = *count as usize;
            *count += 1;
            by_ts[to] = ts;
            by_value[to] = value;
            by_row[to] = i as u32;
            progress = progress.max(ts);
            *newest = progress;
        }
        let uncertain = flat.class.iter().fold(false, |any, class| any | (*class == Class::Uncertain));
        work.uncertain = uncertain;
        grown(&mut work.by_past, if self.timed { n } else { 0 }, 0);
        grown(&mut work.failed, n, false).fill(false);
        let trusted = grown(&mut work.trusted, n, false);
        if uncertain {
            for (trusted, row) in trusted.iter_mut().zip(&work.at) {
                *trusted = flat.class[*row as usize] == Class::Good;
            }
            for (trusted, value) in trusted.iter_mut().zip(&work.by_value) {
                *trusted &= !value.is_nan();
            }
        } else {
            for (trusted, value) in trusted.iter_mut().zip(&work.by_value) {
                *trusted = !value.is_nan();
            }
        }
    }

    /// Admits some runs; what is refused is taken out of its run.
    fn admit_runs(
        &mut self,
        runs: std::ops::Range<usize>,
        flat: &Flat,
        start: i64,
        refused: &mut Vec<(u32, Verdict)>,
    ) {
        let (grace, timed, work) = (self.plan.time.grace, self.timed, &mut self.work);
        for (i, run) in work.runs[runs.clone()].iter_mut().enumerate() {
            // From here on the count tells where the run is.
            work.counts[run.tag as usize] = (runs.start + i + 1) as u32;
            let (from, len) = (run.start, run.len);
            let tag = &mut self.tags[run.tag as usize];
            let ts = &work.by_ts[from..from + len];
            let rising = ts.windows(2).fold(true, |all, pair| all & (pair[0] < pair[1]));
            if !(rising & (!tag.admitted | (ts[0] > tag.newest))) {
                let mut to = from;
                for at in from..from + len {
                    let i = work.at[at] as usize;
                    let row = bare(flat, i);
                    let verdict = tag.check(&row, &[]);
                    if verdict != Verdict::Admit {
                        refused.push((i as u32, verdict));
                        continue;
                    }
                    let before = if i == 0 { start } else { work.newest[i - 1] };
                    let past = tag.admit(row.ts, before, grace);
                    tag.release(&row);
                    if timed {
                        work.by_past[to] = past;
                    }
                    (work.by_ts[to], work.by_value[to]) = (row.ts, row.value);
                    (work.at[to], work.trusted[to]) = (i as u32, work.trusted[at]);
                    to += 1;
                }
                run.len = to - from;
                continue;
            }
            if timed {
                for at in from..from + len {
                    let i = work.at[at] as usize;
                    let before = if i == 0 { start } else { work.newest[i - 1] };
                    work.by_past[at] = tag.admit(work.by_ts[at], before, grace);
                }
            }
            let last = work.at[from + len - 1] as usize;
            tag.newest = ts[len - 1];
            tag.admitted = true;
            tag.heard = work.newest[last];
            tag.release(&bare(flat, last));
        }
    }

    /// Lets all rules judge some runs.
    fn judge_runs(&mut self, runs: std::ops::Range<usize>, n: usize, out: &mut Outputs) {
        let work = &mut self.work;
        let batch = Batch {
            runs: &work.runs[runs],
            ts: &work.by_ts[..n],
            value: &work.by_value[..n],
            past: &work.by_past[..if self.timed { n } else { 0 }],
            names: &self.names,
        };
        let mut marks = Marks { trusted: &mut work.trusted[..n], failed: &mut work.failed[..n] };
        for stage in [Stage::Limit, Stage::Learning] {
            for rule in self.rules.iter_mut().filter(|r| r.stage() == stage) {
                rule.judge_batch(&batch, &mut marks, &mut self.store, &mut work.scratch, out);
            }
        }
    }

    /// Gives each group its members' rows in the order of the log.
    fn enter_groups(&mut self, flat: &Flat, start: i64, out: &mut Outputs) {
        let (n, work) = (flat.ts.len(), &mut self.work);
        work.groups.clear();
        grown(&mut work.marks, self.groups.len(), 0);
        for run in &work.runs {
            let Some(memberships) = self.memberships.get(run.tag as usize) else { continue };
            for (g, _) in memberships {
                if work.marks[*g] != work.batch && run.len > 0 {
                    work.marks[*g] = work.batch;
                    work.groups.push(*g as u32);
                }
            }
        }
        let (ts, value, newest) = (&work.by_ts[..n], &work.by_value[..n], &work.newest[..n]);
        let (at, failed) = (&work.at[..n], &work.failed[..n]);
        for g in &work.groups {
            let group = &mut self.groups[*g as usize];
            let (uncertain_votes, own_qc) = (group.plan.raw.allow_uncertain, group.plan.raw.own_qc);
            // Next row, where it is in its run, where the run ends, whose it is.
            let mut heads = [(u32::MAX, 0u32, 0u32, 0u32); MAX_MEMBERS];
            let mut open = 0;
            for (m, tag) in group.tags.iter().enumerate() {
                let run = work.counts.get(*tag as usize).copied().unwrap_or(0);
                let Some(run) = (run as usize).checked_sub(1).map(|i| work.runs[i]) else { continue };
                if run.len > 0 {
                    heads[open] = (at[run.start], run.start as u32, (run.start + run.len) as u32, m as u32);
                    open += 1;
                }
            }
            while open > 0 {
                let mut least = 0;
                for head in 1..open {
                    if heads[head].0 < heads[least].0 {
                        least = head;
                    }
                }
                let (row, slot, end, m) = heads[least];
                let (row, slot) = (row as usize, slot as usize);
                let present = value[slot].is_finite();
                let good = !work.uncertain || flat.class[row] == Class::Good;
                let entry = Entry {
                    kind: Kind::Release,
                    ts: ts[slot],
                    before: if row == 0 { start } else { newest[row - 1] },
                    after: newest[row],
                    value: value[slot],
                    present,
                    usable: present & (good | uncertain_votes) & !(own_qc & failed[slot]),
                };
                group.enter(m as usize, &entry, out);
                if slot as u32 + 1 == end {
                    open -= 1;
                    heads[least] = heads[open];
                } else {
                    heads[least].0 = at[slot + 1];
                    heads[least].1 += 1;
                }
            }
        }
    }
}

/// A row as admission sees it, without its place in the log.
fn bare(flat: &Flat, i: usize) -> Row {
    Row {
        tag: flat.tag[i],
        ts: flat.ts[i],
        value: flat.value[i],
        class: flat.class[i] as u8,
        seq: flat.seq.get(i).copied(),
        offset: 0,
        index: 0,
    }
}

/// The row of a slot, with its place in the log.
fn placed(flat: &Flat, i: usize, spans: &[Span]) -> Row {
    let at = flat.row.get(i).map_or(i, |row| *row as usize);
    let mut first = 0;
    for (k, span) in spans.iter().enumerate() {
        if at - first < span.rows || k + 1 == spans.len() {
            let index = span.first_index.wrapping_add((at - first) as u32);
            return Row { offset: span.offset, index, ..bare(flat, i) };
        }
        first += span.rows;
    }
    bare(flat, i)
}
