//! The general way of a batch: row by row through admission, held inside `max_delay` where it must be, then judged by tag.
//!
//! A batch that holds nothing back goes the [`express`](super::express) way to the same end.

use super::{Pipeline, Work};
use crate::admit::{Row, Verdict};
use crate::columns::{Flat, UNKNOWN};
use crate::config::plan::Class;
use crate::group::{Entry, Kind};
use crate::intake::Span;
use crate::limits::{FUTURE_TAGS, JUMPERS};
use crate::output::{DeadRow, Event, LateRow, Outputs, What};
use crate::rule::{Batch, Marks, Run};
use detectors::detect::Stage;

/// Bits of the limits that were reached.
const REACHED_TAGS: u8 = 1;

const REACHED_HELD: u8 = 2;

/// A row that its tag's rules are about to judge.
#[derive(Clone, Copy)]
pub(super) struct Released {
    ts: i64,
    value: f64,
    /// Deadlines before this are past for the tag when the row comes in.
    past: i64,
    tag: u32,
    class: Class,
}

impl Pipeline {
    /// Admission, row by row.
    pub(super) fn take(&mut self, flat: &Flat, spans: &[Span], out: &mut Outputs) {
        let mut spans = spans.iter().copied();
        let mut span =
            spans.next().unwrap_or(Span { rows: usize::MAX, offset: 0, first_index: 0, record_ts: None });
        let (mut span_start, wide) = (0usize, !flat.row.is_empty());
        let mut refused = flat.refused.iter().peekable();
        for i in 0..flat.ts.len() {
            let at = if wide { flat.row[i] as usize } else { i };
            while at - span_start >= span.rows {
                span_start += span.rows;
                span = spans.next().unwrap_or(Span { rows: usize::MAX, ..span });
            }
            self.counters.rows_in += 1;
            let row = Row {
                tag: flat.tag[i],
                ts: flat.ts[i],
                value: flat.value[i],
                class: flat.class[i] as u8,
                seq: flat.seq.get(i).copied().flatten(),
                offset: span.offset,
                index: span.first_index.wrapping_add((at - span_start) as u32),
            };
            if row.tag == UNKNOWN {
                let name = refused.next_if(|(slot, _)| *slot as usize == i).map_or("", |(_, name)| name);
                self.refuse(&row, name, out);
                continue;
            }
            match (span.record_ts, self.plan.time.max_jump) {
                (Some(record), _) => {
                    if row.ts > record.saturating_add(self.plan.time.max_ahead) {
                        self.future(&row, out);
                    } else {
                        self.admit(&row, out);
                    }
                }
                (None, None) => self.admit(&row, out),
                (None, Some(jump)) => self.jump(row, jump, out),
            }
        }
    }

    fn refuse(&mut self, row: &Row, name: &str, out: &mut Outputs) {
        self.counters.dead_letters += 1;
        let long = name.len() > self.plan.limits.tag_bytes as usize;
        let (code, reason) = if long {
            (
                "tag_name",
                format!(
                    "the tag's name has {} bytes, the limit is {}",
                    name.len(),
                    self.plan.limits.tag_bytes
                ),
            )
        } else if self.ids.contains_key(name) {
            // A known tag: what was refused is the row.
            let reason = "it has a quality, and no `[quality] scheme` says what its codes mean";
            ("no_quality_scheme", reason.into())
        } else {
            let message =
                format!("a partition holds {} tags: rows of further tags are refused", self.names.len());
            self.limit_reached(REACHED_TAGS, row.ts, "limit_tags", "limits.tags", message, out);
            ("tag_limit", format!("the partition holds {} tags, the limit", self.names.len()))
        };
        let tag = name.chars().take(256).collect();
        out.dead.push(DeadRow {
            code,
            reason,
            tag,
            ts: row.ts,
            value: row.value(),
            offset: row.offset,
            index: row.index,
        });
    }

    /// Tells once that a limit was reached.
    fn limit_reached(
        &mut self,
        limit: u8,
        at: i64,
        code: &str,
        subject: &str,
        message: String,
        out: &mut Outputs,
    ) {
        if self.reached & limit == 0 {
            self.reached |= limit;
            out.events.push(Event::operational(at, code, subject, message));
        }
    }

    /// Rows without record timestamps: one out of reach waits for two more that agree with it.
    fn jump(&mut self, row: Row, jump: i64, out: &mut Outputs) {
        if self.progress.is_some_and(|p| row.ts <= p.saturating_add(jump)) {
            for jumper in std::mem::take(&mut self.jumpers) {
                self.future(&jumper, out);
            }
            return self.admit(&row, out);
        }
        self.jumpers.push(row);
        if self.jumpers.len() == JUMPERS {
            let (lo, hi) =
                self.jumpers.iter().fold((i64::MAX, i64::MIN), |(lo, hi), r| (lo.min(r.ts), hi.max(r.ts)));
            if hi.saturating_sub(lo) > jump {
                let first = self.jumpers.remove(0);
                return self.future(&first, out);
            }
            for jumper in std::mem::take(&mut self.jumpers) {
                self.admit(&jumper, out);
            }
        }
    }

    /// A row from the future touches no progress and no state; one that repeats the tag's last one says nothing new.
    pub(super) fn future(&mut self, row: &Row, out: &mut Outputs) {
        self.counters.processed += 1;
        self.counters.future += 1;
        let (class, bits) = row.same_as();
        let known = (self.futures.len() < FUTURE_TAGS || self.futures.contains_key(&row.tag))
            .then(|| self.futures.insert(row.tag, (row.ts, class, bits)))
            .flatten();
        if known == Some((row.ts, class, bits)) {
            return;
        }
        let tag = self.names[row.tag as usize].to_string();
        let key = ["future", &tag, &row.ts.to_string(), &format!("{class} {bits}")];
        out.events.push(Event::new(
            row.ts,
            &key,
            What::Future { tag: tag.clone(), ts: row.ts, value: row.value() },
        ));
    }

    #[inline]
    fn admit(&mut self, row: &Row, out: &mut Outputs) {
        // Rows may be held still from a configuration that delayed them.
        let delayed = self.plan.time.max_delay > 0 || !self.held.is_empty();
        if delayed {
            self.release_past(row.tag);
        }
        let held = if delayed { self.held.get(&row.tag).map_or(&[][..], Vec::as_slice) } else { &[] };
        match self.tags[row.tag as usize].check(row, held) {
            Verdict::Admit => {}
            Verdict::Late => return self.late(row, out),
            Verdict::Duplicate => {
                self.counters.duplicates += 1;
                return;
            }
            Verdict::Conflict => return self.conflict(row, out),
        }
        let before = self.progress().unwrap_or(i64::MIN);
        self.progress = self.progress.max(Some(row.ts));
        let after = before.max(row.ts);
        let tag = &mut self.tags[row.tag as usize];
        if !tag.admitted {
            self.newcomers.push(row.tag);
        }
        let past = tag.admit(row.ts, before, self.plan.time.grace);
        if !delayed {
            return self.release(row, Kind::Release, before, after, past);
        }
        let newest = tag.newest;
        if past > i64::MIN {
            self.past.insert(row.tag, past);
        }
        self.arrivals += 1;
        let arrival = self.arrivals;
        self.work.holding.push(row.tag);
        let waiting = self.held.entry(row.tag).or_default();
        let at = waiting.partition_point(|(h, _)| h.ts <= row.ts);
        waiting.insert(at, (*row, arrival));
        self.enter(row, Kind::Hold, before, after, 0);
        let due = self.held.get(&row.tag).map_or(0, |w| {
            w.partition_point(|(h, _)| newest >= h.ts.saturating_add(self.plan.time.max_delay))
        });
        // Beyond the limit the oldest are released early.
        let held = self.held.get(&row.tag).map_or(0, Vec::len);
        let early = (held - due).saturating_sub(self.plan.limits.held_rows as usize);
        if early > 0 {
            self.counters.early += early as u64;
            let name = &self.names[row.tag as usize];
            let message =
                format!("{name} holds {} rows inside max_delay: the oldest are released early", held - due);
            self.limit_reached(REACHED_HELD, row.ts, "limit_held_rows", "limits.held_rows", message, out);
        }
        self.release_held(row.tag, due + early, Kind::ReleaseHeld, before, after);
    }

    pub(super) fn late(&mut self, row: &Row, out: &mut Outputs) {
        self.counters.late += 1;
        let tag = self.names[row.tag as usize].to_string();
        out.late.push(LateRow { tag, ts: row.ts, value: row.value() });
    }

    pub(super) fn conflict(&mut self, row: &Row, out: &mut Outputs) {
        self.counters.dead_letters += 1;
        let tag = self.names[row.tag as usize].to_string();
        let reason = "another value with the same tag and time came before".into();
        let (value, offset, index) = (row.value(), row.offset, row.index);
        out.dead.push(DeadRow { code: "conflict", reason, tag, ts: row.ts, value, offset, index });
    }

    /// Whether time `x` is past for a tag that was last heard at `heard`.
    fn passed(&self, x: i64, heard: i64) -> bool {
        let Some(p) = self.progress() else { return false };
        if self.ended { p > x } else { p > x.max(heard).saturating_add(self.plan.time.grace) }
    }

    /// Releases rows of a tag and of its groups' other members whose time is past.
    fn release_past(&mut self, tag: u32) {
        let Some(before) = self.progress() else { return };
        let mut tags = vec![tag];
        if let Some(memberships) = self.memberships.get(tag as usize) {
            tags.extend(memberships.iter().flat_map(|(g, _)| self.groups[*g].tags.iter().copied()));
            tags.sort_unstable();
            tags.dedup();
        }
        self.release_past_of(&tags, before);
    }

    pub(super) fn release_past_of(&mut self, tags: &[u32], before: i64) {
        let mut due: Vec<(i64, u64, u32)> = Vec::new();
        for &tag in tags {
            let heard = self.tags[tag as usize].heard;
            if let Some(waiting) = self.held.get(&tag) {
                // In time order, so the first that is not past ends it.
                due.extend(
                    waiting
                        .iter()
                        .take_while(|(h, _)| self.ended || self.passed(h.ts, heard))
                        .map(|(h, a)| (h.ts, *a, tag)),
                );
            }
        }
        due.sort_unstable();
        for (_, _, tag) in due {
            self.release_held(tag, 1, Kind::Past, before, before);
        }
    }

    /// Releases the first `count` waiting rows of a tag.
    fn release_held(&mut self, tag: u32, count: usize, kind: Kind, before: i64, after: i64) {
        for _ in 0..count {
            let Some(waiting) = self.held.get_mut(&tag) else { return };
            let (row, _) = waiting.remove(0);
            if waiting.is_empty() {
                self.held.remove(&tag);
            }
            let past = self.past.remove(&tag).unwrap_or(i64::MIN);
            self.release(&row, kind, before, after, past);
        }
    }

    #[inline]
    fn release(&mut self, row: &Row, kind: Kind, before: i64, after: i64, past: i64) {
        self.counters.processed += 1;
        let tag = &mut self.tags[row.tag as usize];
        tag.release(row);
        if tag.batch != self.work.batch {
            tag.batch = self.work.batch;
            tag.count = 0;
            self.work.touched.push(row.tag);
        }
        tag.count += 1;
        let grouped = tag.grouped;
        let slot = self.work.released.len() as u32;
        let class = if row.class == Class::Good as u8 { Class::Good } else { Class::Uncertain };
        self.work.released.push(Released { ts: row.ts, value: row.value, past, tag: row.tag, class });
        if grouped {
            self.enter(row, kind, before, after, slot);
        }
    }

    fn enter(&mut self, row: &Row, kind: Kind, before: i64, after: i64, slot: u32) {
        if self.tags[row.tag as usize].grouped {
            let entry = Entry {
                kind,
                ts: row.ts,
                before,
                after,
                value: row.value,
                present: row.value.is_finite(),
                usable: false,
                uncertain: false,
            };
            self.work.entries.push((row.tag, slot, entry));
        }
    }

    /// Groups the released rows by tag and lets rules and groups judge them.
    pub(super) fn judge(&mut self, out: &mut Outputs) {
        let work = &mut self.work;
        let n = work.released.len();
        work.runs.clear();
        let mut start = 0usize;
        for &tag in &work.touched {
            let state = &mut self.tags[tag as usize];
            let len = state.count as usize;
            work.runs.push(Run { tag, start, len });
            state.count = start as u32;
            start += len;
        }
        for column in [&mut work.by_ts, &mut work.by_past] {
            column.resize(n, 0);
        }
        work.by_value.resize(n, 0.0);
        work.trusted.resize(n, false);
        work.failed.clear();
        work.failed.resize(n, false);
        work.at.resize(n, 0);
        let Work { released, at, by_ts, by_value, by_past, trusted, .. } = work;
        let (by_ts, by_value, by_past) = (&mut by_ts[..n], &mut by_value[..n], &mut by_past[..n]);
        let (trusted, at, tags) = (&mut trusted[..n], &mut at[..n], &mut self.tags[..]);
        // Only rules with deadlines ask what is past.
        let timed = self.timed;
        for (&Released { ts, value, past, tag, class }, at) in released.iter().zip(at) {
            let state = &mut tags[tag as usize];
            let to = state.count as usize;
            state.count += 1;
            *at = to as u32;
            by_ts[to] = ts;
            by_value[to] = value;
            if timed {
                by_past[to] = past;
            }
            trusted[to] = class == Class::Good && !value.is_nan();
        }
        let work = &mut self.work;
        let batch = Batch {
            runs: &work.runs,
            ts: &work.by_ts[..n],
            value: &work.by_value[..n],
            past: &work.by_past[..n],
            names: &self.names,
        };
        let mut marks = Marks { trusted: &mut work.trusted[..n], failed: &mut work.failed[..n] };
        for stage in [Stage::Limit, Stage::Learning] {
            for rule in self.rules.iter_mut().filter(|r| r.stage() == stage) {
                rule.judge_batch(&batch, &mut marks, &mut self.store, &mut work.scratch, out);
            }
        }
        for (tag, slot, mut entry) in work.entries.drain(..) {
            let at = if entry.kind == Kind::Hold { None } else { Some(work.at[slot as usize] as usize) };
            let good = at.is_some() && entry.present && work.released[slot as usize].class == Class::Good;
            let uncertain = at.is_some() && entry.present && !good;
            let failed = at.is_some_and(|at| work.failed[at]);
            entry.uncertain = uncertain;
            for &(g, m) in &self.memberships[tag as usize] {
                let raw = &self.groups[g].plan.raw;
                entry.usable = (good || uncertain && raw.allow_uncertain) && !(raw.own_qc && failed);
                self.groups[g].enter(m, &entry, out);
            }
        }
        // Rows that still wait came in when these deadlines were past.
        for (tag, before) in std::mem::take(&mut self.past) {
            let name = self.names[tag as usize].clone();
            for rule in self.rules.iter_mut().filter(|r| r.timed()) {
                rule.expire(&mut self.store, tag, &name, before, out);
            }
        }
        self.arm();
    }
}
