//! One partition: rows and journal entries in, verdicts, events and served values out.
//!
//! No I/O, no clock, no threads. Output depends on the rows and their order, never on where a batch ends.

use crate::admit::{Row, TagState, Verdict};
use crate::alert::{self, LIFE_WORDS, Owner};
use crate::columns::{BatchError, Codes, Flat, UNKNOWN};
use crate::config::plan::{Class, Plan};
use crate::group::{self, Entry, Group, Kind};
use crate::intake::{Content, JournalEntry, Span};
use crate::keyed::Store;
use crate::limits::{FUTURE_TAGS, JUMPERS};
use crate::output::{Counters, DeadRow, Event, FlagCounts, LateRow, Outputs, State, What};
use crate::rule::{self, Batch, Marks, Rule, Run, Scratch};
use arrow_array::RecordBatch;
use arrow_buffer::ScalarBuffer;
use detectors::detect::Stage;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

mod express;

/// Wake-ups that may be there beside two for each tag and group.
const WAKES_SLACK: usize = 1_024;

/// One partition of the stream.
pub struct Pipeline {
    plan: Arc<Plan>,
    partition: u32,
    names: Vec<Arc<str>>,
    ids: HashMap<Arc<str>, u32, foldhash::fast::FixedState>,
    tags: Vec<TagState>,
    /// Values that stand for "no measurement", by tag; ends with the last tag that has any.
    sentinels: Vec<Box<[f64]>>,
    /// Groups of each member: (group, member). Members are the first tags, so this is as long as there are members.
    memberships: Vec<Vec<(usize, usize)>>,
    rules: Vec<Box<dyn Rule>>,
    groups: Vec<Group>,
    store: Store,
    /// Rows inside `max_delay`, by tag, in time order; with their arrival.
    held: BTreeMap<u32, Vec<(Row, u64)>>,
    /// Deadlines before this were past when a row that still waits came in, by tag; empty between calls.
    past: BTreeMap<u32, i64>,
    jumpers: Vec<Row>,
    /// Tags first admitted since somebody asked.
    newcomers: Vec<u32>,
    /// The last future row of each tag, bounded by [`FUTURE_TAGS`].
    futures: BTreeMap<u32, Future>,
    progress: Option<i64>,
    clock: Option<i64>,
    arrivals: u64,
    applied: u64,
    ended: bool,
    counters: Counters,
    /// Limits that were reached, one bit each.
    reached: u8,
    /// When progress alone does something: (wake, 0, tag) or (wake, 1, group).
    wakes: BinaryHeap<Reverse<(i64, u8, u32)>>,
    timed: bool,
    /// Whether any group looks at what its members' rules say.
    own_qc: bool,
    work: Work,
}

/// Bits of the limits that were reached.
const REACHED_TAGS: u8 = 1;
const REACHED_HELD: u8 = 2;

/// A future row: its time, quality class and value.
type Future = (i64, u8, u64);

/// A row that its tag's rules are about to judge.
#[derive(Clone, Copy)]
struct Released {
    ts: i64,
    value: f64,
    /// Deadlines before this are past for the tag when the row comes in.
    past: i64,
    tag: u32,
    class: Class,
}

/// Rows on their way through one call.
#[derive(Default)]
struct Work {
    flat: Flat,
    codes: Codes,
    batch: u32,
    /// Rows in the order of release.
    released: Vec<Released>,
    entries: Vec<(u32, u32, Entry)>,
    touched: Vec<u32>,
    /// Tags of which a row began to wait.
    holding: Vec<u32>,
    /// The same rows, by tag.
    runs: Vec<Run>,
    at: Vec<u32>,
    by_ts: Vec<i64>,
    by_value: Vec<f64>,
    by_past: Vec<i64>,
    trusted: Vec<bool>,
    failed: Vec<bool>,
    scratch: Scratch,
    /// Rows of each tag in the batch at hand, then where its run is; zero between batches.
    counts: Vec<u32>,
    /// The rows by tag, and the runs of the part of them that is being judged.
    sorted: Vec<express::Sorted>,
    tile: Vec<Run>,
    /// Progress after each row, in the order of the log.
    after: Vec<i64>,
    /// Groups that have rows in the batch at hand, and in which batch each was last seen.
    groups: Vec<u32>,
    marks: Vec<u32>,
}

/// The first `n` items of a vector that only ever grows.
fn grown<T: Clone>(items: &mut Vec<T>, n: usize, fill: T) -> &mut [T] {
    if items.len() < n {
        items.resize(n, fill);
    }
    &mut items[..n]
}

/// Why a snapshot can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreError {
    /// The bytes are not a snapshot of this version.
    #[error("the snapshot can't be read: {reason}")]
    Unreadable {
        /// What the decoder says.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Snapshot {
    names: Vec<String>,
    tags: Vec<TagState>,
    stride: usize,
    words: Vec<u64>,
    rules: Vec<rule::Saved>,
    groups: Vec<group::Saved>,
    held: Vec<(u32, Vec<(Row, u64)>)>,
    jumpers: Vec<Row>,
    futures: Vec<(u32, Future)>,
    progress: Option<i64>,
    clock: Option<i64>,
    arrivals: u64,
    applied: u64,
    counters: Counters,
    reached: u8,
}

/// Tells that no row came to a rule in any of the partitions, by the end of the input.
pub fn tell_idle_rules<'a>(pipelines: impl Iterator<Item = &'a Pipeline>, out: &mut Outputs) {
    let mut idle: Option<BTreeSet<&str>> = None;
    let mut at = None;
    for pipeline in pipelines {
        let here: BTreeSet<&str> = pipeline.idle_rules().collect();
        idle = Some(idle.map_or(here.clone(), |all| all.intersection(&here).copied().collect()));
        at = at.max(pipeline.progress());
    }
    let events = idle.into_iter().flatten().map(|rule| Event::ran_0_times(rule, at.unwrap_or(0)));
    out.events.extend(events);
}

impl Pipeline {
    /// An empty partition.
    pub fn new(plan: Arc<Plan>, partition: u32) -> Self {
        let mut offset = 0;
        let rules: Vec<_> =
            plan.rules.iter().enumerate().map(|(i, r)| rule::make(r, i as u32, &mut offset)).collect();
        let first = plan.rules.len() as u32;
        let groups =
            plan.groups.iter().enumerate().map(|(i, g)| Group::new(g, i as u32, first + i as u32)).collect();
        let mut pipeline = Pipeline {
            partition,
            names: Vec::new(),
            ids: HashMap::default(),
            tags: Vec::new(),
            sentinels: Vec::new(),
            memberships: Vec::new(),
            rules,
            groups,
            store: Store::new(offset),
            held: BTreeMap::new(),
            past: BTreeMap::new(),
            jumpers: Vec::new(),
            newcomers: Vec::new(),
            futures: BTreeMap::new(),
            progress: None,
            clock: None,
            arrivals: 0,
            applied: 0,
            ended: false,
            counters: Counters::default(),
            reached: 0,
            wakes: BinaryHeap::new(),
            timed: false,
            own_qc: plan.groups.iter().any(|g| g.raw.own_qc),
            work: Work::default(),
            plan,
        };
        // Members are known by name, so that a group's verdicts have a target even for a member that never reports.
        let plan = pipeline.plan.clone();
        for (g, group) in plan.groups.iter().enumerate() {
            for (m, name) in group.raw.members.iter().enumerate() {
                let tag = pipeline.register(name);
                pipeline.groups[g].tags[m] = tag;
                pipeline.tags[tag as usize].grouped = true;
                pipeline.memberships.resize_with(pipeline.names.len(), Vec::new);
                pipeline.memberships[tag as usize].push((g, m));
            }
        }
        pipeline
    }

    fn register(&mut self, name: &str) -> u32 {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = self.names.len() as u32;
        let shared: Arc<str> = name.into();
        self.names.push(shared.clone());
        self.ids.insert(shared, id);
        self.tags.push(TagState::default());
        self.store.grow(self.names.len());
        let sentinels = self.plan.sentinels_of(name);
        if !sentinels.is_empty() {
            self.sentinels.resize(id as usize, Box::default());
            self.sentinels.push(sentinels.into());
        }
        for rule in &mut self.rules {
            rule.register(&self.plan, name);
        }
        self.timed = self.rules.iter().any(|r| r.timed());
        id
    }

    /// The name of a tag.
    pub fn tag_name(&self, tag: u32) -> &str {
        &self.names[tag as usize]
    }

    /// How many tags were seen or declared.
    pub fn tag_count(&self) -> usize {
        self.names.len()
    }

    /// The partition's number.
    pub fn partition(&self) -> u32 {
        self.partition
    }

    /// Progress: the largest time admitted, or of a clock tick.
    pub fn progress(&self) -> Option<i64> {
        self.progress.max(self.clock)
    }

    /// Number of the last journal entry applied.
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// Where every row is.
    pub fn counters(&self) -> Counters {
        let held = self.held.values().map(Vec::len).sum::<usize>() + self.jumpers.len();
        let missed = self.groups.iter().map(Group::missed).sum();
        let forgotten = self.groups.iter().map(Group::forgotten).sum();
        Counters { held: held as u64, missed_tick: missed, forgotten, ..self.counters }
    }

    /// Rules to which no row came. With a catalogue a rule that selects nothing is refused at the start.
    pub fn idle_rules(&self) -> impl Iterator<Item = &str> {
        let rules = self.plan.rules.iter().zip(&self.rules);
        rules.filter(|(_, r)| r.counts() == FlagCounts::default()).map(|(p, _)| p.raw.id.as_str())
    }

    /// Verdicts by rule id; a group counts as a rule.
    pub fn flags(&self) -> BTreeMap<String, FlagCounts> {
        let rules = self.plan.rules.iter().zip(&self.rules).map(|(p, r)| (p.raw.id.clone(), r.counts()));
        rules.chain(self.groups.iter().map(|g| (g.plan.raw.id.clone(), g.counts()))).collect()
    }

    /// Alerts that fire now: rule or group, severity, how many. Those that have no alert are left out.
    pub fn alerts_firing(&self) -> Vec<(&str, &'static str, u64)> {
        let rules = self.plan.rules.iter().zip(&self.rules);
        let rules = rules.map(|(p, r)| (&p.raw.id, p.raw.alert.as_ref(), r.firing()));
        let groups = self.groups.iter().map(|g| (&g.plan.raw.id, g.plan.raw.alert.as_ref(), g.firing()));
        rules
            .chain(groups)
            .filter_map(|(id, alert, n)| Some((id.as_str(), alert?.severity.name(), n)))
            .collect()
    }

    /// Switches to a fallback, and recoveries, of all signals.
    pub fn switches(&self) -> (u64, u64) {
        self.groups.iter().map(Group::tallies).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    /// State of each signal, in the order of the configuration.
    pub fn signals(&self) -> Vec<(String, State)> {
        self.groups.iter().map(|g| (g.plan.raw.id.clone(), g.state())).collect()
    }

    /// Kinds of a signal's fallback models, in order.
    pub fn fallback_kinds(&self, group: u32) -> &[&'static str] {
        self.groups[group as usize].kinds()
    }

    /// Whether a member of a group was ever heard here.
    pub fn hears(&self, group: usize) -> bool {
        self.groups[group].hears()
    }

    /// Whether a group failed because its members come from two partitions.
    pub fn is_split(&self, group: usize) -> bool {
        self.groups[group].is_split()
    }

    /// Whether rows of a tag were ever admitted here.
    pub fn has_heard(&self, tag: &str) -> bool {
        self.ids.get(tag).is_some_and(|id| self.tags[*id as usize].admitted)
    }

    /// The tags of which rows were admitted.
    pub fn heard_tags(&self) -> Vec<String> {
        let heard = self.names.iter().zip(&self.tags).filter(|(_, tag)| tag.admitted);
        heard.map(|(name, _)| name.to_string()).collect()
    }

    /// The tags of which rows were admitted for the first time since the last call.
    pub fn take_newcomers(&mut self) -> Vec<String> {
        self.newcomers.drain(..).map(|tag| self.names[tag as usize].to_string()).collect()
    }

    /// Samples that a rule still has to see of a tag before it judges, while it is warming up.
    pub fn warming(&mut self, rule: usize, tag: u32) -> Option<u64> {
        self.rules[rule].remaining(&mut self.store, tag)
    }

    /// Counts a record that could not be decoded; the caller keeps it.
    pub fn dead_letter(&mut self, rows: u64) {
        self.counters.rows_in += rows;
        self.counters.dead_letters += rows;
    }

    /// Takes rows in the order of the log. `spans` say where they came from and cover the batch, or are empty.
    ///
    /// # Errors
    /// When the batch has not the columns that it must have; nothing was taken then.
    pub fn push_rows(
        &mut self,
        batch: &RecordBatch,
        spans: &[Span],
        out: &mut Outputs,
    ) -> Result<(), BatchError> {
        let mut flat = std::mem::take(&mut self.work.flat);
        let mut codes = std::mem::take(&mut self.work.codes);
        let plan = self.plan.clone();
        let read = flat.read(batch, &plan, &mut codes, |name| self.intern(name));
        if read.is_ok() {
            if !self.sentinels.is_empty() {
                flat.silence(&self.sentinels);
            }
            self.begin();
            let whole = [Span { rows: batch.num_rows(), offset: 0, first_index: 0, record_ts: None }];
            let spans = if spans.is_empty() { &whole[..] } else { spans };
            if self.is_usual(&flat, spans) {
                self.express(&flat, spans, out);
            } else {
                self.take(&flat, spans, out);
                self.judge(out);
            }
            self.settle(out);
        }
        // The batch's memory goes back before the next one is decoded.
        flat.ts = ScalarBuffer::default();
        self.work.flat = flat;
        self.work.codes = codes;
        read
    }

    fn intern(&mut self, name: &str) -> u32 {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let limits = &self.plan.limits;
        if self.names.len() >= limits.tags as usize || name.len() > limits.tag_bytes as usize {
            return UNKNOWN;
        }
        self.register(name)
    }

    fn begin(&mut self) {
        let work = &mut self.work;
        work.batch = work.batch.wrapping_add(1);
        work.released.clear();
        work.entries.clear();
        work.touched.clear();
    }

    /// Admission, row by row.
    fn take(&mut self, flat: &Flat, spans: &[Span], out: &mut Outputs) {
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
    fn future(&mut self, row: &Row, out: &mut Outputs) {
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
            self.release_past(row.tag, out);
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

    fn late(&mut self, row: &Row, out: &mut Outputs) {
        self.counters.late += 1;
        let tag = self.names[row.tag as usize].to_string();
        out.late.push(LateRow { tag, ts: row.ts, value: row.value() });
    }

    fn conflict(&mut self, row: &Row, out: &mut Outputs) {
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
    fn release_past(&mut self, tag: u32, out: &mut Outputs) {
        let _ = out;
        let Some(before) = self.progress() else { return };
        let mut tags = vec![tag];
        if let Some(memberships) = self.memberships.get(tag as usize) {
            tags.extend(memberships.iter().flat_map(|(g, _)| self.groups[*g].tags.iter().copied()));
            tags.sort_unstable();
            tags.dedup();
        }
        self.release_past_of(&tags, before);
    }

    fn release_past_of(&mut self, tags: &[u32], before: i64) {
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
    fn judge(&mut self, out: &mut Outputs) {
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
        self.arm(out);
    }

    /// Notes when progress alone would do something to the tags and groups of this batch.
    fn arm(&mut self, _out: &mut Outputs) {
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
    fn arm_touched(&mut self) {
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

    fn arm_tag(&mut self, tag: u32, grace: i64) {
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
    fn settle(&mut self, out: &mut Outputs) {
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

    fn settle_at(&mut self, p: i64, tags: &[u32], groups: &[usize], out: &mut Outputs) {
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

    /// Applies a journal entry at its place.
    pub fn apply(&mut self, entry: &JournalEntry, out: &mut Outputs) {
        self.applied = entry.number;
        match &entry.content {
            Content::ClockTick { time } => {
                self.clock = self.clock.max(Some(*time));
                self.settle(out);
            }
            Content::Hold { signal } | Content::Release { signal } => {
                let on = matches!(entry.content, Content::Hold { .. });
                if let Some(g) = self.groups.iter().position(|g| g.plan.raw.id == *signal) {
                    self.groups[g].hold(on, entry.number, out);
                    if let Some(wake) = self.groups[g].take_wake() {
                        self.wakes.push(Reverse((wake, 1, g as u32)));
                    }
                    self.settle(out);
                }
            }
            Content::Split { signal } => {
                if let Some(g) = self.groups.iter().position(|g| g.plan.raw.id == *signal) {
                    self.groups[g].split(entry.number, out);
                }
            }
            Content::Rebaseline { rule, tag } => {
                let rule = self.plan.rules.iter().position(|r| r.raw.id == *rule);
                if let (Some(rule), Some(&tag)) = (rule, self.ids.get(tag.as_str())) {
                    self.rules[rule].rebaseline(&mut self.store, tag);
                }
            }
        }
    }

    /// End of input; `whole` is the largest time of all partitions. Releases what is held, fires what is due, closes
    /// ticks up to the first at or after progress; alerts stay as they are.
    pub fn end(&mut self, whole: Option<i64>, out: &mut Outputs) {
        for jumper in std::mem::take(&mut self.jumpers) {
            self.future(&jumper, out);
        }
        self.clock = self.clock.max(whole);
        self.ended = true;
        self.wakes.clear();
        let Some(p) = self.progress() else { return };
        let tags: Vec<u32> = (0..self.names.len() as u32).collect();
        let groups: Vec<usize> = (0..self.groups.len()).collect();
        self.settle_at(p, &tags, &groups, out);
        self.wakes.clear();
    }

    /// Everything that is needed to go on as if never stopped. Flushes nothing.
    ///
    /// # Panics
    /// Never: plain data always encodes.
    pub fn snapshot(&self) -> Vec<u8> {
        let snapshot = Snapshot {
            names: self.names.iter().map(|n| n.to_string()).collect(),
            tags: self.tags.clone(),
            stride: self.store.stride(),
            words: self.store.words(self.names.len()),
            rules: self.rules.iter().map(|r| r.save()).collect(),
            groups: self.groups.iter().map(|g| g.save().expect("plain data always encodes")).collect(),
            held: self.held.iter().map(|(t, w)| (*t, w.clone())).collect(),
            jumpers: self.jumpers.clone(),
            futures: self.futures.iter().map(|(t, f)| (*t, *f)).collect(),
            progress: self.progress,
            clock: self.clock,
            arrivals: self.arrivals,
            applied: self.applied,
            counters: self.counters,
            reached: self.reached,
        };
        postcard::to_stdvec(&snapshot).expect("plain data always encodes")
    }

    /// Goes on from a snapshot. Rules and groups are found by name: one that judges as before goes on as if never
    /// stopped; a rule whose detector is the same keeps what it learned; alerts of a rule or group that changed or is
    /// gone are resolved into `out`, with the reason.
    ///
    /// # Errors
    /// When the bytes are no snapshot.
    pub fn restore(
        plan: Arc<Plan>,
        partition: u32,
        bytes: &[u8],
        out: &mut Outputs,
    ) -> Result<Self, RestoreError> {
        let unreadable = |e: postcard::Error| RestoreError::Unreadable { reason: e.to_string() };
        let saved: Snapshot = postcard::from_bytes(bytes).map_err(unreadable)?;
        let whole = saved.tags.len() == saved.names.len()
            && saved.words.len() == saved.names.len() * saved.stride
            && saved.rules.iter().all(|r| r.fits(saved.stride));
        if !whole {
            return Err(RestoreError::Unreadable { reason: "its parts don't fit together".into() });
        }
        let mut pipeline = Pipeline::new(plan, partition);
        let tags: Vec<u32> = saved.names.iter().map(|name| pipeline.register(name)).collect();
        for (&tag, state) in tags.iter().zip(&saved.tags) {
            let here = &mut pipeline.tags[tag as usize];
            *here = TagState { grouped: here.grouped, wake: i64::MAX, batch: 0, ..*state };
        }
        pipeline.restore_rules(&saved, &tags, out);
        for old in &saved.groups {
            match pipeline.groups.iter_mut().find(|g| g.plan.raw.id == old.id) {
                Some(group) if group.plan.digest == old.digest => group.load(old).map_err(unreadable)?,
                Some(group) => {
                    old.abandon("rule changed", out);
                    group.carry(old);
                }
                None => old.abandon("rule removed", out),
            }
        }
        let renamed = |row: &Row| Row { tag: tags[row.tag as usize], ..*row };
        for (tag, waiting) in &saved.held {
            let waiting = waiting.iter().map(|(row, arrival)| (renamed(row), *arrival)).collect();
            pipeline.held.insert(tags[*tag as usize], waiting);
        }
        pipeline.jumpers = saved.jumpers.iter().map(renamed).collect();
        pipeline.futures = saved.futures.iter().map(|(tag, f)| (tags[*tag as usize], *f)).collect();
        (pipeline.progress, pipeline.clock) = (saved.progress, saved.clock);
        (pipeline.arrivals, pipeline.applied) = (saved.arrivals, saved.applied);
        (pipeline.counters, pipeline.reached) = (saved.counters, saved.reached);
        let grace = pipeline.plan.time.grace;
        for tag in 0..pipeline.names.len() as u32 {
            pipeline.arm_tag(tag, grace);
        }
        for g in 0..pipeline.groups.len() {
            pipeline.groups[g].woken();
            if let Some(wake) = pipeline.groups[g].take_wake() {
                pipeline.wakes.push(Reverse((wake, 1, g as u32)));
            }
        }
        Ok(pipeline)
    }

    fn restore_rules(&mut self, saved: &Snapshot, tags: &[u32], out: &mut Outputs) {
        let records = || tags.iter().zip(saved.words.chunks_exact(saved.stride));
        for old in &saved.rules {
            let at = self.plan.rules.iter().position(|r| r.raw.id == old.id);
            let (shape, same) = at.map_or((false, false), |at| {
                let now = self.rules[at].save_head();
                (now.shape == old.shape, now.digest == old.digest)
            });
            if let Some(at) = at.filter(|_| shape) {
                let (offset, words) = self.rules[at].place();
                let words = if same && old.alerts { words + LIFE_WORDS } else { words };
                let mut firing = 0;
                // A tag that the rule no longer selects leaves nothing behind: later it begins anew.
                for (&tag, record) in records().filter(|(tag, _)| self.rules[at].binds(**tag)) {
                    let to = self.store.region(tag, offset, words);
                    to.copy_from_slice(&record[old.offset..old.offset + words]);
                    firing += u64::from(old.life(record).is_some_and(|life| life.firing()));
                }
                self.rules[at].load(old, tags, firing);
            }
            if shape && same {
                continue;
            }
            let reason = if at.is_some() { "rule changed" } else { "rule removed" };
            for (i, (&tag, record)) in records().enumerate() {
                let Some(change) = old.life(record).and_then(|mut life| life.abandon(saved.tags[i].last))
                else {
                    continue;
                };
                let owner = Owner { rule: &old.id, digest: &old.digest, severity: &old.severity };
                let why = old.why(i as u32);
                out.events.push(alert::event(owner, &self.names[tag as usize], change, why, Some(reason)));
            }
        }
    }
}
