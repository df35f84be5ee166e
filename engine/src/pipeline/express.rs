//! The usual way of a batch: nothing is held and nothing may be from the future, so rows are grouped by tag first and
//! admitted run by run, with the tag's state at hand.
//!
//! It says what [`Pipeline::take`] and [`Pipeline::judge`] say row by row. It may, because progress before a row is the
//! largest time of the rows before it, admitted or not: a late, duplicate or conflicting row is never newer than the last
//! row of its own tag. What is refused is told in the order of the log.

use super::{Pipeline, Work, grown};
use crate::admit::{Row, TagState, Verdict};
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

/// A row among those of its tag. One piece of memory, so that sorting a batch writes one line for a row.
#[derive(Clone, Copy)]
pub(super) struct Sorted {
    ts: i64,
    value: f64,
    /// Place in the batch (32 bits), the class (2), whether a rule of its tag flagged it 4 (1), and how much earlier the row
    /// before it in the batch is, or [`FAR`](Self::FAR): one word, written at once.
    place: u64,
}

impl Sorted {
    const NONE: Sorted = Sorted { ts: 0, value: 0.0, place: 0 };

    /// Too long a time for its bits, or none at all.
    const FAR: u64 = (1 << 29) - 1;

    #[inline]
    fn new(ts: i64, value: f64, row: u32, class: Class, row_before: i64) -> Self {
        let earlier = (ts.wrapping_sub(row_before) as u64).min(Self::FAR);
        Sorted { ts, value, place: u64::from(row) | (class as u64) << 32 | earlier << 35 }
    }

    #[inline]
    fn earlier(&self) -> u64 {
        self.place >> 35
    }

    #[inline]
    fn row(&self) -> usize {
        self.place as u32 as usize
    }

    #[inline]
    fn class(&self) -> u8 {
        (self.place >> 32) as u8 & 3
    }

    #[inline]
    fn failed(&self) -> bool {
        self.place >> 34 & 1 != 0
    }

    fn whole(&self, tag: u32, flat: &Flat) -> Row {
        let seq = flat.seq.get(self.row()).copied().flatten();
        Row { tag, ts: self.ts, value: self.value, class: self.class(), seq, offset: 0, index: 0 }
    }
}

/// Progress around each row of a batch.
struct Progress<'a> {
    /// Before the first row.
    start: i64,
    ts: &'a [i64],
    /// After each row; empty when times never fall, since then a row's own time tells.
    after: &'a [i64],
}

impl Progress<'_> {
    #[inline]
    fn after(&self, row: usize, ts: i64) -> i64 {
        if self.after.is_empty() { ts.max(self.start) } else { self.after[row] }
    }

    #[inline]
    fn before(&self, row: &Sorted) -> i64 {
        // Where times never fall, the row mostly says it itself.
        if self.after.is_empty() && row.earlier() < Sorted::FAR {
            return (row.ts - row.earlier() as i64).max(self.start);
        }
        match row.row().checked_sub(1) {
            None => self.start,
            Some(last) => self.after(last, self.ts[last]),
        }
    }

    /// Reads some rows, and what [`before`](Self::before) will need of them, so that misses of the cache overlap.
    fn touch(&self, rows: &[Sorted]) {
        let before = |row: &Sorted| self.after.get(row.row().saturating_sub(1)).copied().unwrap_or(0);
        let seen = rows.iter().fold(0, |seen, row| seen ^ row.ts ^ before(row));
        std::hint::black_box(seen);
    }
}

impl Pipeline {
    /// Whether a batch can go this way.
    pub(super) fn is_usual(&self, flat: &Flat, spans: &[Span]) -> bool {
        let time = &self.plan.time;
        if time.max_delay > 0
            || !self.held.is_empty()
            || !flat.refused.is_empty()
            || flat.ts.len() > u32::MAX as usize
        {
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
        self.progress = self.progress.max(flat.ts.iter().copied().max());
        self.work.sort_by_tag(flat, self.names.len());
        let after = std::mem::take(&mut self.work.after);
        let after = progress_after(flat, start, after);
        let progress = Progress { start, ts: &flat.ts, after: &after };
        let mut refused = Vec::new();
        let mut first = 0;
        while first < self.work.runs.len() {
            let (mut last, mut rows) = (first, 0);
            while last < self.work.runs.len() && last - first < TILE_TAGS && (rows < TILE_ROWS || rows == 0) {
                rows += self.work.runs[last].len;
                last += 1;
            }
            self.touch(first..last);
            self.admit_tile(first..last, rows, flat, &progress, &mut refused);
            self.judge_tile(first, rows, out);
            first = last;
        }
        self.counters.processed += (n - refused.len()) as u64;
        self.enter_groups(&progress, out);
        self.work.after = after;
        for tag in &self.work.touched {
            self.work.counts[*tag as usize] = 0;
        }
        refused.sort_unstable_by_key(|(row, _)| *row);
        let mut places = Places { spans, at: 0, first: 0 };
        for (i, verdict) in refused {
            let row = places.of(flat, i);
            match verdict {
                Verdict::Late => self.late(&row, out),
                Verdict::Conflict => self.conflict(&row, out),
                Verdict::Duplicate | Verdict::Admit => self.counters.duplicates += 1,
            }
        }
        self.arm_touched();
    }

    /// Reads what the coming tile needs, all tags at a time, so that cache misses wait for memory together.
    fn touch(&mut self, runs: std::ops::Range<usize>) {
        let runs = &self.work.runs[runs];
        if self.names.len() >= MANY_TAGS {
            let seen = runs.iter().fold(0, |seen, run| seen ^ self.tags[run.tag as usize].newest);
            std::hint::black_box(seen);
            self.store.touch(runs.iter().map(|run| run.tag));
        }
        for rule in &self.rules {
            rule.touch(runs, &mut self.store);
        }
    }

    /// Admits some runs and lays their samples out in columns; what is refused is taken out of its run.
    fn admit_tile(
        &mut self,
        runs: std::ops::Range<usize>,
        rows: usize,
        flat: &Flat,
        progress: &Progress<'_>,
        refused: &mut Vec<(usize, Verdict)>,
    ) {
        let (grace, timed, work) = (self.plan.time.grace, self.timed, &mut self.work);
        let by_ts = grown(&mut work.by_ts, rows, 0);
        let by_value = grown(&mut work.by_value, rows, 0.0);
        let by_past = grown(&mut work.by_past, if timed { rows } else { 0 }, 0);
        let trusted = grown(&mut work.trusted, rows, false);
        grown(&mut work.failed, rows, false).fill(false);
        work.tile.clear();
        let (mut begin, mut number) = (0, runs.start);
        for run in &mut work.runs[runs] {
            // From here on the count tells where the run is.
            number += 1;
            work.counts[run.tag as usize] = number as u32;
            let tag = &mut self.tags[run.tag as usize];
            if !tag.admitted {
                self.newcomers.push(run.tag);
            }
            let here = &mut work.sorted[run.start..run.start + run.len];
            let to = begin..begin + run.len;
            let columns = by_ts[to.clone()].iter_mut().zip(&mut by_value[to.clone()]).zip(&mut trusted[to]);
            // No row of its own tag is as new as i64::MIN but the first.
            let (mut rising, mut last) = (true, if tag.admitted { tag.newest } else { i64::MIN });
            for (row, ((ts, value), trusted)) in here.iter().zip(columns) {
                (*ts, *value) = (row.ts, row.value);
                *trusted = (row.class() == Class::Good as u8) & !row.value.is_nan();
                rising &= row.ts > last;
                last = row.ts;
            }
            if rising {
                let newest = here[run.len - 1];
                if timed {
                    for (row, past) in here.iter().zip(&mut by_past[begin..]) {
                        *past = tag.admit(row.ts, progress.before(row), grace);
                    }
                }
                (tag.newest, tag.admitted) = (newest.ts, true);
                tag.heard = progress.after(newest.row(), newest.ts);
                tag.release(&newest.whole(run.tag, flat));
            } else {
                let mut kept = 0;
                for at in 0..here.len() {
                    let row = here[at];
                    match admit_one(tag, &row.whole(run.tag, flat), progress.before(&row), grace) {
                        Ok(past) => {
                            let to = begin + kept;
                            (by_ts[to], by_value[to], trusted[to]) = (row.ts, row.value, trusted[begin + at]);
                            if timed {
                                by_past[to] = past;
                            }
                            here[kept] = row;
                            kept += 1;
                        }
                        Err(verdict) => refused.push((row.row(), verdict)),
                    }
                }
                run.len = kept;
            }
            work.tile.push(Run { tag: run.tag, start: begin, len: run.len });
            begin += run.len;
        }
    }

    /// Lets all rules judge the tile, whose first run is `first` of the batch's.
    fn judge_tile(&mut self, first: usize, rows: usize, out: &mut Outputs) {
        let work = &mut self.work;
        let batch = Batch {
            runs: &work.tile,
            ts: &work.by_ts[..rows],
            value: &work.by_value[..rows],
            past: &work.by_past[..if self.timed { rows } else { 0 }],
            names: &self.names,
        };
        let mut marks = Marks { trusted: &mut work.trusted[..rows], failed: &mut work.failed[..rows] };
        for stage in [Stage::Limit, Stage::Learning] {
            for rule in self.rules.iter_mut().filter(|r| r.stage() == stage) {
                rule.judge_batch(&batch, &mut marks, &mut self.store, &mut work.scratch, out);
            }
        }
        if self.own_qc && work.failed[..rows].contains(&true) {
            for (run, tile) in work.runs[first..].iter().zip(&work.tile) {
                let failed = &work.failed[tile.start..tile.start + tile.len];
                for (row, failed) in work.sorted[run.start..].iter_mut().zip(failed) {
                    row.place |= u64::from(*failed) << 34;
                }
            }
        }
    }

    /// Gives each group its members' rows in the order of the log.
    fn enter_groups(&mut self, progress: &Progress<'_>, out: &mut Outputs) {
        let work = &mut self.work;
        work.groups.clear();
        grown(&mut work.marks, self.groups.len(), 0);
        for run in work.runs.iter().filter(|run| run.len > 0) {
            let Some(memberships) = self.memberships.get(run.tag as usize) else { continue };
            for (g, _) in memberships {
                if work.marks[*g] != work.batch {
                    work.marks[*g] = work.batch;
                    work.groups.push(*g as u32);
                }
            }
        }
        let many = work.groups.len() >= MANY_GROUPS;
        if many {
            // In the order of memory.
            work.groups.sort_unstable();
        }
        for g in &work.groups {
            let group = &mut self.groups[*g as usize];
            let (uncertain_votes, own_qc) = (group.plan.raw.allow_uncertain, group.plan.raw.own_qc);
            // Where in the sorted rows each member is, where its run ends, and whose it is.
            let mut heads = [(0, 0, 0, 0); MAX_MEMBERS];
            let mut open = 0;
            for (m, tag) in group.tags.iter().enumerate() {
                let run = work.counts.get(*tag as usize).copied().unwrap_or(0);
                let Some(run) = (run as usize).checked_sub(1).map(|i| work.runs[i]) else { continue };
                let end = run.start + run.len;
                if run.len > 0 {
                    heads[open] = (work.sorted[run.start].row(), run.start, end, m);
                    open += 1;
                    if many || !progress.after.is_empty() {
                        progress.touch(&work.sorted[run.start..end]);
                    }
                }
            }
            while open > 0 {
                let mut least = 0;
                for head in 1..open {
                    if heads[head].0 < heads[least].0 {
                        least = head;
                    }
                }
                let (_, at, end, m) = heads[least];
                let row = work.sorted[at];
                let after = progress.after(row.row(), row.ts);
                // Where even the progress after the row makes nothing past, the progress before it need not be known.
                let before = if group.nothing_past(after) { after } else { progress.before(&row) };
                let present = row.value.is_finite();
                let fit = (row.class() == Class::Good as u8) | uncertain_votes;
                let usable = present & fit & !(own_qc & row.failed());
                let (ts, value) = (row.ts, row.value);
                let uncertain = present & (row.class() == Class::Uncertain as u8);
                let kind = Kind::Release;
                let entry = Entry { kind, ts, before, after, value, present, usable, uncertain };
                group.enter(m, &entry, out);
                if at + 1 == end {
                    open -= 1;
                    heads[least] = heads[open];
                } else {
                    heads[least].0 = work.sorted[at + 1].row();
                    heads[least].1 += 1;
                }
            }
        }
    }
}

impl Work {
    /// A counting sort over the touched tags.
    fn sort_by_tag(&mut self, flat: &Flat, tags: usize) {
        let counts = grown(&mut self.counts, tags, 0);
        for &tag in &flat.tag {
            let count = &mut counts[tag as usize];
            if *count == 0 {
                self.touched.push(tag);
            }
            *count += 1;
        }
        self.runs.clear();
        let mut start = 0;
        for &tag in &self.touched {
            let count = &mut counts[tag as usize];
            let len = *count as usize;
            self.runs.push(Run { tag, start, len });
            *count = start as u32;
            start += len;
        }
        let sorted = grown(&mut self.sorted, flat.ts.len(), Sorted::NONE);
        let columns = flat.ts.iter().zip(&flat.value).zip(&flat.class);
        // The first row has none before it.
        let mut row_before = i64::MIN;
        for ((&tag, ((&ts, &value), &class)), row) in flat.tag.iter().zip(columns).zip(0u32..) {
            let count = &mut counts[tag as usize];
            sorted[*count as usize] = Sorted::new(ts, value, row, class, row_before);
            row_before = ts;
            *count += 1;
        }
    }
}

/// Tags from which on their state is out of reach of the near caches.
const MANY_TAGS: usize = 4_096;
const MANY_GROUPS: usize = 1_024;

/// Progress after each row; empty when times never fall.
fn progress_after(flat: &Flat, start: i64, mut after: Vec<i64>) -> Vec<i64> {
    after.clear();
    if !flat.ts.windows(2).fold(true, |rising, pair| rising & (pair[0] <= pair[1])) {
        let mut progress = start;
        after.extend(flat.ts.iter().map(|ts| {
            progress = progress.max(*ts);
            progress
        }));
    }
    after
}

/// Admits one row and gives what is past for its tag when it comes in, or says why not.
fn admit_one(tag: &mut TagState, row: &Row, before: i64, grace: i64) -> Result<i64, Verdict> {
    match tag.check(row, &[]) {
        Verdict::Admit => {
            let past = tag.admit(row.ts, before, grace);
            tag.release(row);
            Ok(past)
        }
        verdict => Err(verdict),
    }
}

/// Finds the places of slots in the log; slots come in ascending order.
struct Places<'a> {
    spans: &'a [Span],
    at: usize,
    /// Rows before the span at hand.
    first: usize,
}

impl Places<'_> {
    fn of(&mut self, flat: &Flat, i: usize) -> Row {
        let at = flat.row.get(i).map_or(i, |row| *row as usize);
        while self.at + 1 < self.spans.len() && at - self.first >= self.spans[self.at].rows {
            self.first += self.spans[self.at].rows;
            self.at += 1;
        }
        let row = Sorted::new(flat.ts[i], flat.value[i], i as u32, flat.class[i], 0).whole(flat.tag[i], flat);
        let Some(span) = self.spans.get(self.at) else { return row };
        let index = span.first_index.wrapping_add((at - self.first) as u32);
        Row { offset: span.offset, index, ..row }
    }
}
