//! The naive twin: order and time of one partition, row by row, in the obvious slow way.
//!
//! Written after the executable reference model of the design's section on order and time. Everything that is due is
//! searched anew after every step, the earliest is done, and so on until nothing is due. No batches, no indices, no
//! state that could be kept smarter. Where the engine has more states than the model (a signal with a single eligible
//! member is `suspect`), the twin follows the engine's vocabulary. One thing the model leaves open is settled here: what
//! a command makes due is done at once, not at the next row.

use std::collections::BTreeMap;

/// How good a sample says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Quality {
    Ok,
    Uncertain,
    Bad,
}

/// One row of a log; tags are numbers, `t0`, `t1`, …
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Row {
    pub(crate) ts: i64,
    pub(crate) tag: usize,
    /// `None` is a null cell, `Some(NaN)` a NaN: both are missing samples in the long layout.
    pub(crate) value: Option<f64>,
    pub(crate) quality: Quality,
    pub(crate) record_ts: Option<i64>,
    pub(crate) offset: i64,
    pub(crate) index: u32,
}

impl Row {
    fn missing(&self) -> bool {
        self.quality == Quality::Bad || self.value.is_none_or(f64::is_nan)
    }

    /// The measured value, if it is not missing.
    pub(crate) fn measured(&self) -> Option<f64> {
        if self.missing() { None } else { self.value }
    }

    /// Same quality class and value; all missing samples are the same, −0 is 0.
    fn same(&self, other: &Row) -> bool {
        match (self.measured(), other.measured()) {
            (None, None) => true,
            (Some(a), Some(b)) => a == b && self.quality == other.quality,
            _ => false,
        }
    }
}

/// What the journal can say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Entry {
    ClockTick(i64),
    Hold(usize),
    Release(usize),
}

/// The rules of one tag: a range with `for` and `keep_firing_for`, and a gap.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct TagRule {
    pub(crate) on_suspect: bool,
    pub(crate) hold_for: i64,
    pub(crate) keep: i64,
    pub(crate) gap: Option<i64>,
}

pub(crate) const SUSPECT: f64 = 5.0;
pub(crate) const FAIL: f64 = 10.0;

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group {
    pub(crate) members: Vec<usize>,
    pub(crate) period: i64,
    /// Ticks at the samples of this tag.
    pub(crate) reference: Option<usize>,
    pub(crate) wait: i64,
    pub(crate) max_skew: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) tags: Vec<TagRule>,
    pub(crate) groups: Vec<Group>,
    pub(crate) max_delay: i64,
    pub(crate) grace: i64,
    pub(crate) max_ahead: i64,
    pub(crate) max_jump: Option<i64>,
}

/// State of a signal, in the engine's words. `Turned` is "just held or released, no tick since".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Unknown,
    Normal,
    Suspect,
    Failed,
    Turned,
}

/// Something that came out, comparable with what the engine says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fact {
    Alert {
        at: i64,
        gap: bool,
        tag: usize,
        firing: bool,
        since: i64,
    },
    Signal {
        at: i64,
        group: usize,
        to: State,
    },
    Command {
        at: i64,
        group: usize,
        hold: bool,
        number: u64,
    },
    /// The value as bits, so that it can be ordered; `n` counts the values of the signal at this time.
    Value {
        at: i64,
        group: usize,
        n: usize,
        bits: Option<u64>,
        voters: usize,
    },
    Future {
        at: i64,
        tag: usize,
        ts: i64,
        bits: Option<u64>,
    },
    Verdict {
        at: i64,
        gap: bool,
        tag: usize,
        flag: u8,
    },
    Late {
        ts: i64,
        tag: usize,
        bits: Option<u64>,
    },
    Conflict {
        ts: i64,
        tag: usize,
        bits: Option<u64>,
        offset: i64,
        index: u32,
    },
}

/// Where every row is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) rows_in: u64,
    pub(crate) processed: u64,
    pub(crate) late: u64,
    pub(crate) dead_letters: u64,
    pub(crate) duplicates: u64,
    pub(crate) held: u64,
    pub(crate) missed_tick: u64,
    pub(crate) future: u64,
}

#[derive(Debug, Clone, Default)]
struct Tag {
    /// Largest ts admitted.
    newest: Option<i64>,
    /// Last released row.
    last: Option<Row>,
    /// Progress when it was last heard.
    heard: Option<i64>,
    gap_at: Option<i64>,
    gap_since: Option<i64>,
    since: i64,
    fire_at: Option<i64>,
    clear_at: Option<i64>,
    firing: bool,
    /// The last future row.
    future: Option<Row>,
    /// Last stamp of the range and of the gap alert.
    stamp: [Option<i64>; 2],
}

#[derive(Debug, Clone)]
struct Signal {
    closed: Option<i64>,
    state: State,
    held: bool,
    /// Per member: (ts, value, usable), in release order.
    seen: Vec<Vec<(i64, f64, bool)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    Clear,
    Fire,
    Gap,
}

/// What can be due; ordered by time, then kind (rows, timers, ticks), then number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Row(u64),
    Timer(usize, Timer),
    Tick(usize),
}

/// One partition.
#[derive(Debug, Clone)]
pub(crate) struct Twin {
    cfg: Config,
    /// Largest ts admitted.
    pub(crate) largest: Option<i64>,
    clock: Option<i64>,
    tags: Vec<Tag>,
    groups: Vec<Signal>,
    held: Vec<(u64, Row)>,
    jumpers: Vec<Row>,
    arrivals: u64,
    ended: bool,
    count: Count,
    pub(crate) facts: Vec<Fact>,
}

impl Twin {
    pub(crate) fn new(cfg: &Config) -> Self {
        let signal = |g: &Group| Signal {
            closed: None,
            state: State::Unknown,
            held: false,
            seen: vec![Vec::new(); g.members.len()],
        };
        Twin {
            cfg: cfg.clone(),
            largest: None,
            clock: None,
            tags: vec![Tag::default(); cfg.tags.len()],
            groups: cfg.groups.iter().map(signal).collect(),
            held: Vec::new(),
            jumpers: Vec::new(),
            arrivals: 0,
            ended: false,
            count: Count::default(),
            facts: Vec::new(),
        }
    }

    // -- the only ways in

    pub(crate) fn row(&mut self, row: Row) {
        self.count.rows_in += 1;
        if let Some(record_ts) = row.record_ts {
            if row.ts > record_ts + self.cfg.max_ahead {
                self.future(row);
            } else {
                self.admit(row);
            }
            return;
        }
        let Some(max_jump) = self.cfg.max_jump else { return self.admit(row) };
        if self.largest.is_some_and(|p| row.ts <= p + max_jump) {
            for wrong in std::mem::take(&mut self.jumpers) {
                self.future(wrong);
            }
            return self.admit(row);
        }
        self.jumpers.push(row);
        if self.jumpers.len() == 3 {
            let times: Vec<i64> = self.jumpers.iter().map(|j| j.ts).collect();
            if times.iter().max().unwrap() - times.iter().min().unwrap() > max_jump {
                let wrong = self.jumpers.remove(0);
                self.future(wrong);
            } else {
                for row in std::mem::take(&mut self.jumpers) {
                    self.admit(row);
                }
            }
        }
    }

    pub(crate) fn entry(&mut self, number: u64, entry: Entry) {
        let (group, hold) = match entry {
            Entry::ClockTick(time) => {
                self.clock = self.clock.max(Some(time));
                return self.settle();
            }
            Entry::Hold(group) => (group, true),
            Entry::Release(group) => (group, false),
        };
        let signal = &mut self.groups[group];
        if signal.held != hold {
            signal.held = hold;
            signal.state = if signal.closed.is_some() { State::Turned } else { State::Unknown };
            let (at, signal_closed) = (signal.closed.unwrap_or(0), signal.closed.is_some());
            self.facts.push(Fact::Command { at, group, hold, number });
            if hold && signal_closed {
                self.serve(at, group, None, 0);
            }
            self.settle();
        }
    }

    /// End of input; `whole` is the largest ts of all partitions.
    pub(crate) fn end(&mut self, whole: Option<i64>) {
        for wrong in std::mem::take(&mut self.jumpers) {
            self.future(wrong);
        }
        self.clock = self.clock.max(whole);
        self.ended = true;
        self.settle();
    }

    pub(crate) fn count(&self) -> Count {
        Count { held: (self.held.len() + self.jumpers.len()) as u64, ..self.count }
    }

    // -- admission

    fn future(&mut self, row: Row) {
        self.count.processed += 1;
        self.count.future += 1;
        let last = self.tags[row.tag].future.replace(row);
        if last.is_none_or(|last| last.ts != row.ts || !last.same(&row)) {
            self.facts.push(Fact::Future {
                at: row.ts,
                tag: row.tag,
                ts: row.ts,
                bits: bits(row.measured()),
            });
        }
    }

    fn admit(&mut self, row: Row) {
        let last = self.tags[row.tag].last;
        if let Some(last) = last
            && row.ts < last.ts
        {
            self.count.late += 1;
            let bits = bits(row.measured());
            self.facts.push(Fact::Late { ts: row.ts, tag: row.tag, bits });
            return;
        }
        let mut known: Vec<Row> = self.held.iter().map(|(_, h)| *h).collect();
        known.extend(last);
        known.retain(|k| (k.tag, k.ts) == (row.tag, row.ts));
        if known.iter().any(|k| k.same(&row)) {
            self.count.duplicates += 1;
            return;
        }
        if !known.is_empty() {
            self.count.dead_letters += 1;
            let bits = bits(row.measured());
            let Row { ts, tag, offset, index, .. } = row;
            self.facts.push(Fact::Conflict { ts, tag, bits, offset, index });
            return;
        }
        self.largest = self.largest.max(Some(row.ts));
        let progress = self.progress();
        let tag = &mut self.tags[row.tag];
        tag.newest = tag.newest.max(Some(row.ts));
        tag.heard = progress;
        self.arrivals += 1;
        self.held.push((self.arrivals, row));
        self.settle();
    }

    // -- progress

    pub(crate) fn progress(&self) -> Option<i64> {
        self.largest.max(self.clock)
    }

    /// Whether time `x` is past for these tags.
    fn past(&self, x: i64, tags: &[usize]) -> bool {
        let Some(progress) = self.progress() else { return false };
        if self.ended {
            return progress > x;
        }
        let heard = tags.iter().filter_map(|t| self.tags[*t].heard).max();
        progress > heard.map_or(x, |h| h.max(x)) + self.cfg.grace
    }

    fn row_is_due(&self, row: &Row) -> bool {
        self.ended
            || self.tags[row.tag].newest.is_some_and(|n| n >= row.ts + self.cfg.max_delay)
            || self.past(row.ts, &[row.tag])
    }

    /// Does everything that is due, in time order; at one time rows, then timers, then ticks.
    fn settle(&mut self) {
        loop {
            let mut due: Vec<(i64, Due)> = Vec::new();
            due.extend(
                self.held.iter().filter(|(_, r)| self.row_is_due(r)).map(|(n, r)| (r.ts, Due::Row(*n))),
            );
            for tag in 0..self.tags.len() {
                let timers = self.timers(tag).into_iter().filter(|(d, _)| self.past(*d, &[tag]));
                due.extend(timers.map(|(d, what)| (d, Due::Timer(tag, what))));
            }
            for group in 0..self.groups.len() {
                due.extend(
                    self.next_tick(group)
                        .filter(|k| self.tick_is_due(*k, group))
                        .map(|k| (k, Due::Tick(group))),
                );
            }
            match due.into_iter().min() {
                None => return,
                Some((_, Due::Row(n))) => self.release(n),
                Some((_, Due::Timer(tag, what))) => self.fire(tag, what),
                Some((k, Due::Tick(group))) => self.tick(k, group),
            }
        }
    }

    // -- rows and timers of one tag

    fn timers(&self, tag: usize) -> Vec<(i64, Timer)> {
        let t = &self.tags[tag];
        let armed = [(t.clear_at, Timer::Clear), (t.fire_at, Timer::Fire), (t.gap_at, Timer::Gap)];
        let mut timers: Vec<_> = armed.into_iter().filter_map(|(d, what)| Some((d?, what))).collect();
        timers.sort();
        timers
    }

    fn fire(&mut self, tag: usize, what: Timer) {
        let t = &mut self.tags[tag];
        match what {
            Timer::Gap => {
                let d = t.gap_at.take().unwrap();
                t.gap_since = Some(d);
                self.facts.push(Fact::Verdict { at: d, gap: true, tag, flag: 4 });
                self.alert(tag, true, true, d, d);
            }
            Timer::Fire => {
                let d = t.fire_at.take().unwrap();
                t.firing = true;
                let since = t.since;
                self.alert(tag, false, true, since, d);
            }
            Timer::Clear => {
                let d = t.clear_at.take().unwrap();
                t.firing = false;
                let since = t.since;
                self.alert(tag, false, false, since, d);
            }
        }
    }

    fn release(&mut self, number: u64) {
        let at = self.held.iter().position(|(n, _)| *n == number).unwrap();
        let (_, row) = self.held.remove(at);
        let (tag, ts, rule) = (row.tag, row.ts, self.cfg.tags[row.tag]);
        self.count.processed += 1;
        while let Some((_, what)) = self.timers(tag).into_iter().find(|(d, _)| *d < ts) {
            self.fire(tag, what);
        }
        self.tags[tag].last = Some(row);
        let flag = match row.measured() {
            None => 9,
            Some(x) if x.abs() > FAIL => 4,
            Some(x) if x.abs() > SUSPECT => 3,
            Some(_) => 1,
        };
        if flag == 3 || flag == 4 {
            self.facts.push(Fact::Verdict { at: ts, gap: false, tag, flag });
        }
        if flag != 9
            && let Some(gap) = rule.gap
        {
            if let Some(since) = self.tags[tag].gap_since.take() {
                self.alert(tag, true, false, since, ts);
            }
            self.tags[tag].gap_at = Some(ts + gap);
        }
        let t = &mut self.tags[tag];
        if flag == 4 || flag == 3 && rule.on_suspect {
            t.clear_at = None;
            if !t.firing && t.fire_at.is_none() {
                (t.since, t.fire_at) = (ts, Some(ts + rule.hold_for));
                if rule.hold_for == 0 {
                    self.fire(tag, Timer::Fire);
                }
            }
        } else if flag != 9 {
            t.fire_at = None;
            if t.firing && t.clear_at.is_none() {
                t.clear_at = Some(ts + rule.keep);
                if rule.keep == 0 {
                    self.fire(tag, Timer::Clear);
                }
            }
        }
        for (group, signal) in self.cfg.groups.iter().zip(&mut self.groups) {
            if let Some(member) = group.members.iter().position(|m| *m == tag) {
                if signal.closed.is_some_and(|c| ts <= c) {
                    self.count.missed_tick += 1;
                }
                let usable = (flag == 1 || flag == 3) && row.quality == Quality::Ok;
                signal.seen[member].push((ts, row.value.unwrap_or(f64::NAN), usable));
            }
        }
    }

    // -- ticks of one group

    fn next_tick(&self, group: usize) -> Option<i64> {
        let (g, s) = (&self.cfg.groups[group], &self.groups[group]);
        let low = if matches!(s.state, State::Unknown | State::Failed) && !s.held {
            // Nothing is usable: only a new sample can make a tick matter.
            s.seen.iter().flatten().map(|x| x.0).filter(|ts| s.closed.is_none_or(|c| *ts > c)).min()?
        } else {
            s.closed? + 1
        };
        let base = if g.reference.is_some() { s.closed.unwrap_or(0) } else { 0 };
        let steps = -((base - low).div_euclid(g.period));
        let mut k = base + steps * g.period;
        if let Some(reference) = g.reference {
            let member = g.members.iter().position(|m| *m == reference).unwrap();
            k = s.seen[member].iter().map(|x| x.0).filter(|ts| *ts >= low).fold(k, i64::min);
        }
        Some(k)
    }

    fn tick_is_due(&self, k: i64, group: usize) -> bool {
        let (g, s) = (&self.cfg.groups[group], &self.groups[group]);
        let last: Vec<Option<i64>> = g.members.iter().map(|m| self.tags[*m].last.map(|r| r.ts)).collect();
        if last.iter().all(|ts| ts.is_some_and(|ts| ts >= k)) {
            return true;
        }
        let holds = self.held.iter().any(|(_, r)| g.members.contains(&r.tag) && r.ts <= k);
        if last.iter().flatten().any(|ts| *ts > k + g.wait) && !holds {
            return true;
        }
        self.past(k, &g.members) || self.ended && s.closed < self.progress()
    }

    fn tick(&mut self, k: i64, group: usize) {
        let (g, s) = (&self.cfg.groups[group], &mut self.groups[group]);
        s.closed = Some(k);
        let mut panel = Vec::new();
        for seen in &mut s.seen {
            let newest = newest_at(seen, k);
            panel.extend(newest.filter(|x| k - x.0 <= g.max_skew));
            seen.retain(|x| x.0 > k);
            seen.splice(0..0, newest);
        }
        if s.held {
            return;
        }
        let mut votes: Vec<f64> = panel.iter().filter(|x| x.2).map(|x| x.1).collect();
        votes.sort_by(f64::total_cmp);
        let state = match votes.len() {
            0 => State::Failed,
            1 => State::Suspect,
            _ => State::Normal,
        };
        if votes.is_empty() && (s.state == State::Failed || s.state == State::Unknown && panel.is_empty()) {
            return;
        }
        if s.state != state {
            self.facts.push(Fact::Signal { at: k, group, to: state });
        }
        s.state = state;
        let n = votes.len();
        let middle = if n == 0 { None } else { Some((votes[(n - 1) / 2] + votes[n / 2]) / 2.0) };
        self.serve(k, group, middle, n.min(2));
    }

    /// Every tick that is not silent writes a value, and so does a hold; without a value when there is none.
    fn serve(&mut self, at: i64, group: usize, value: Option<f64>, voters: usize) {
        let here = |f: &&Fact| matches!(f, Fact::Value { at: a, group: g, .. } if (*a, *g) == (at, group));
        let n = self.facts.iter().filter(here).count();
        self.facts.push(Fact::Value { at, group, n, bits: bits(value), voters });
    }

    // -- events

    fn alert(&mut self, tag: usize, gap: bool, firing: bool, since: i64, at: i64) {
        let stamp = &mut self.tags[tag].stamp[usize::from(gap)];
        *stamp = (*stamp).max(Some(at));
        let at = stamp.unwrap();
        self.facts.push(Fact::Alert { at, gap, tag, firing, since });
    }
}

/// The first sample with the largest ts at or before `k`.
fn newest_at(seen: &[(i64, f64, bool)], k: i64) -> Option<(i64, f64, bool)> {
    let ts = seen.iter().map(|x| x.0).filter(|ts| *ts <= k).max()?;
    seen.iter().copied().find(|x| x.0 == ts)
}

/// A value as bits, with one zero.
pub(crate) fn bits(value: Option<f64>) -> Option<u64> {
    value.map(|x| (x + 0.0).to_bits())
}

/// Facts as a bag: how often each came out.
pub(crate) fn bag(facts: impl IntoIterator<Item = Fact>) -> BTreeMap<Fact, usize> {
    let mut bag = BTreeMap::new();
    for fact in facts {
        *bag.entry(fact).or_insert(0) += 1;
    }
    bag
}
