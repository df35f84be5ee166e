//! One partition: rows and journal entries in, verdicts, events and served values out.
//!
//! No I/O, no clock, no threads. Output depends on the rows and their order, never on where a batch ends.
//!
//! [`Pipeline::push_rows`] sends a batch one of two ways that say the same: `row_by_row.rs`, or `express.rs` when nothing can
//! be held back. Then `wakes.rs` does what progress alone made due. `snapshot.rs` saves and restores.

mod express;
mod row_by_row;
mod snapshot;
mod wakes;

pub use snapshot::RestoreError;

use crate::admit::{Row, TagState};
use crate::columns::{BatchError, Codes, Flat, UNKNOWN};
use crate::config::plan::Plan;
use crate::group::{Entry, Group};
use crate::intake::{Content, JournalEntry, Span};
use crate::keyed::Store;
use crate::output::{Counters, Event, FlagCounts, Outputs, State};
use crate::rule::{self, Rule, Run, Scratch};
use arrow_array::RecordBatch;
use arrow_buffer::ScalarBuffer;
use row_by_row::Released;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::sync::Arc;

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
    /// The last future row of each tag, bounded by [`FUTURE_TAGS`](crate::limits::FUTURE_TAGS).
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

/// A future row: its time, quality class and value.
type Future = (i64, u8, u64);

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
        let rules: Vec<_> = (0..plan.rules.len()).map(|i| rule::make(&plan, i as u32, &mut offset)).collect();
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
        let row = self.plan.row(name);
        let sentinels = self.plan.sentinels_of(&row);
        if !sentinels.is_empty() {
            self.sentinels.resize(id as usize, Box::default());
            self.sentinels.push(sentinels.into());
        }
        for rule in &mut self.rules {
            rule.register(&row);
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
}
