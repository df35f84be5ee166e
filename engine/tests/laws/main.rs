//! The laws of order and time, each tried on hundreds of random logs.
//!
//! The engine works in batches, keeps what it can and looks only at what was touched; the naive [`twin`] does the
//! obvious thing row by row. Whatever the log, both say the same. The other laws compare the engine with itself: cut
//! elsewhere, stopped and restored, spread over partitions, live and replayed. A failure prints the smallest log found.

#![allow(clippy::unwrap_used)]

mod examples;
mod logs;
mod restarts;
mod sim;
mod twin;

use engine::{Content, JournalEntry, Outputs, Pipeline, Plan, Source, Span, Transition, What};
use logs::{Case, Codes, Item};
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use twin::{Count, Entry, Fact, Row, State, Twin, bits};

// ---- the laws ---------------------------------------------------------------------------------------------------------

/// Given any log within the bounds, when the engine judges it, then it says what the twin says.
#[test]
fn within_bounds_the_engine_equals_the_twin() {
    law(1_500, logs::bounded, equals_twin);
}

/// Given any log at all with future rows, jumps, clock ticks and commands, then the engine still equals the twin.
#[test]
fn on_wild_logs_the_engine_equals_the_twin() {
    law(2_500, logs::anything, equals_twin);
}

/// Given one log, when it is cut into batches anywhere, then nothing that comes out changes.
#[test]
fn output_does_not_depend_on_batch_cuts() {
    law(
        800,
        |seed| logs::rich(logs::anything(seed)),
        |case| {
            let plan = plan(case);
            let rows = case.log.len();
            let whole = run(&plan, &case.log, &[]);
            let mut r = case.rng();
            for at in [(0..rows).collect(), logs::cuts(&mut r, rows), logs::cuts(&mut r, rows)] {
                let cut = run(&plan, &case.log, &at);
                if let Some(why) = differ(&whole, &cut) {
                    return Some(format!("cuts {at:?}: {why}"));
                }
            }
            None
        },
    );
}

/// Given a partition that is stopped and restored at any row, with whatever it holds, then it goes on as if it had never
/// stopped.
#[test]
fn a_restored_partition_goes_on() {
    law(
        400,
        |seed| logs::rich(logs::anything(seed)),
        |case| {
            let plan = plan(case);
            let mut r = case.rng();
            let cuts = logs::cuts(&mut r, case.log.len());
            let never = run(&plan, &case.log, &cuts);
            for stop in 0..=case.log.len() {
                if case.log.len() > 16 && !r.chance(8.0 / case.log.len() as f64) {
                    continue;
                }
                let mut live = Live::new(&plan);
                live.feed(&case.log[..stop], &cuts, 0);
                live.restart();
                live.feed(&case.log[stop..], &cuts, stop);
                if let Some(why) = differ(&never, &live.end(None)) {
                    return Some(format!("stopped before item {stop}: {why}"));
                }
            }
            None
        },
    );
}

/// Given the same order for each tag and whole components, when rows are spread over partitions and interleaved in
/// another way within the bounds, then events, values, verdicts, late rows and dead letters are the same.
#[test]
fn the_layout_does_not_matter_within_bounds() {
    law(
        1_000,
        |seed| logs::rich(logs::bounded(seed)),
        |case| {
            if !logs::within(&case.cfg, &case.rows())
                || !case.spread.iter().all(|log| logs::within(&case.cfg, log))
            {
                return None;
            }
            let plan = plan(case);
            let mut r = case.rng();
            let spread: Vec<Live> = case
                .spread
                .iter()
                .map(|log| {
                    let items: Vec<Item> = log.iter().copied().map(Item::Row).collect();
                    let mut live = Live::new(&plan);
                    live.feed(&items, &logs::cuts(&mut r, items.len()), 0);
                    live
                })
                .collect();
            let last = case.rows().iter().map(|row| row.ts).max();
            let mut whole = Live::new(&plan);
            whole.feed(&case.log, &[], 0);
            let whole = whole.end(last);
            let mut parts = Said::default();
            for live in spread {
                parts.join(live.end(last));
            }
            if whole.count.missed_tick > 0 {
                return Some(format!("{} missed ticks within the bounds", whole.count.missed_tick));
            }
            differ(&whole.portable(), &parts.portable())
        },
    );
}

/// Given a live run with clock ticks and commands that crashes once, then the restarted run, and the replay of log and
/// journal, give what the live run gave.
#[test]
fn live_with_a_journal_equals_crash_and_replay() {
    law(
        800,
        |seed| logs::rich(logs::anything(seed)),
        |case| {
            let plan = plan(case);
            let mut r = case.rng();
            let saved_at = r.below(case.log.len() + 1);
            let (mut live, cuts) = (Live::new(&plan), logs::cuts(&mut r, case.log.len()));
            live.feed(&case.log[..saved_at], &cuts, 0);
            let mut crashed = live.saved();
            live.feed(&case.log[saved_at..], &cuts, saved_at);
            // Exactly the journal entries with higher numbers are applied again, the rows from the saved position on. A
            // position lies between rows: entries of the same place may be on either side of it.
            let rows_read = case.log[..saved_at].iter().filter(|i| matches!(i, Item::Row(_))).count();
            let (mut seen, mut rest) = (0, Vec::new());
            for item in &case.log {
                match item {
                    Item::Row(_) => {
                        seen += 1;
                        if seen > rows_read {
                            rest.push(*item);
                        }
                    }
                    Item::Entry(number, _) if *number > crashed.pipeline.applied() => rest.push(*item),
                    Item::Entry(..) => {}
                }
            }
            crashed.feed(&rest, &logs::cuts(&mut r, rest.len()), 0);
            let live = live.end(None);
            differ(&live, &crashed.end(None))
                .map(|why| format!("saved before item {saved_at}: {why}"))
                .or_else(|| differ(&live, &run(&plan, &case.log, &[])).map(|why| format!("replay: {why}")))
        },
    );
}

/// Given a live run whose clock ticks are honest (nothing older than T − grace comes later) and no command, then it
/// equals the replay without a journal.
#[test]
fn honest_clock_ticks_change_nothing() {
    law(
        800,
        |seed| logs::rich(logs::bounded(seed)),
        |case| {
            let plan = plan(case);
            let mut r = case.rng();
            let rows = case.rows();
            let last = rows.iter().map(|row| row.ts).max()?;
            if !logs::within(&case.cfg, &rows) {
                return None;
            }
            let (mut ticked, mut entries) = (Vec::new(), 0);
            for at in 0..=rows.len() {
                while r.chance(0.2) {
                    let oldest = rows[at..].iter().map(|row| row.ts + case.cfg.grace).min();
                    let time = oldest.map_or(last, |t| t.min(last));
                    entries += 1;
                    ticked.push(Item::Entry(entries, Entry::ClockTick(time)));
                }
                ticked.extend(rows.get(at).copied().map(Item::Row));
            }
            let cuts = logs::cuts(&mut r, ticked.len());
            differ(&run(&plan, &case.log, &[]).portable(), &run(&plan, &ticked, &cuts).portable())
        },
    );
}

/// Given any rows after row n, whatever they are, then all that came out of the first n rows stays.
#[test]
fn later_rows_change_nothing_that_was_said() {
    law(
        800,
        |seed| logs::rich(logs::anything(seed)),
        |case| {
            let plan = plan(case);
            let mut r = case.rng();
            let n = r.below(case.log.len() + 1);
            let mut rows: Vec<Row> = case.rows();
            r.shuffle(&mut rows);
            let mut garbage: Vec<Row> = rows.into_iter().take(8).collect();
            for row in &mut garbage {
                row.ts += r.int(-40, 200);
                row.value = r.pick(&[Some(1e6), None, Some(0.0), Some(f64::INFINITY)]);
                row.record_ts = r.pick(&[None, row.record_ts]);
                (row.offset, row.index) = (row.offset + 1_000_000, 0);
            }
            garbage.sort_by_key(|row| row.offset);
            let mut before = Live::new(&plan);
            before.feed(&case.log[..n], &logs::cuts(&mut r, n), 0);
            let before = before.said();
            let mut after = Live::new(&plan);
            let mut items = case.log[..n].to_vec();
            items.extend(garbage.into_iter().map(Item::Row));
            after.feed(&items, &[], 0);
            let gone = only(&before, &after.said());
            (!gone.is_empty()).then(|| format!("after item {n} these were taken back: {gone:#?}"))
        },
    );
}

/// Given any log, after every row each row is accounted for, and all that the twin has said by then was said; at the end
/// nothing is held.
#[test]
fn at_every_row_all_is_accounted_for() {
    law(800, logs::anything, |case| {
        let (plan, mut twin) = (plan(case), Twin::new(&case.cfg));
        let mut live = Live::new(&plan);
        for (at, item) in case.log.iter().enumerate() {
            live.feed(std::slice::from_ref(item), &[], 0);
            feed_twin(&mut twin, item);
            let counters = live.pipeline.counters();
            if !counters.balanced() {
                return Some(format!("after item {at}: {counters:?}"));
            }
            if (live.count(), live.pipeline.progress()) != (twin.count(), twin.progress()) {
                let (ours, theirs) = (live.count(), twin.count());
                let (p, q) = (live.pipeline.progress(), twin.progress());
                return Some(format!("after item {at}: engine {ours:?} {p:?}, twin {theirs:?} {q:?}"));
            }
            let (ours, theirs) = (twin::bag(live.facts()), twin::bag(twin.facts.iter().copied()));
            if ours != theirs {
                return Some(format!("after item {at}:\n{}", apart(&ours, &theirs)));
            }
        }
        let (late, dead) = (live.out.late.len() as u64, live.out.dead.len() as u64);
        let end = live.end(None).count;
        (end.held > 0 || end.late != late || end.dead_letters != dead).then(|| format!("at the end: {end:?}"))
    });
}

/// Given any log, then ids and keys are unique and no stamp of a target goes back.
#[test]
fn ids_are_unique_and_stamps_never_go_back() {
    law(
        800,
        |seed| logs::rich(logs::anything(seed)),
        |case| {
            let plan = plan(case);
            let mut live = Live::new(&plan);
            live.feed(&case.log, &logs::cuts(&mut case.rng(), case.log.len()), 0);
            live.pipeline.end(None, &mut live.out);
            let (mut ids, mut keys, mut stamps) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
            for event in &live.out.events {
                let target = match &event.what {
                    What::Alert { rule, target, .. } => format!("{rule} {target}"),
                    // A command before the first tick of its signal has no time of its own.
                    What::Signal { signal, command: Some(_), .. } if event.at == 0 => {
                        format!("{signal} before time")
                    }
                    What::Signal { signal, .. } => signal.clone(),
                    // The same future row twice is the same event.
                    _ => continue,
                };
                if let Some(first) = ids.insert(&event.id, event) {
                    return Some(format!("one id for two events: {first:?} {event:?}"));
                }
                if let Some(last) = stamps.insert(target, event.at)
                    && event.at < last
                {
                    return Some(format!("stamp steps back from {last}: {event:?}"));
                }
            }
            for value in &live.out.values {
                if let Some(first) = keys.insert((value.group, value.ts, value.n), value) {
                    return Some(format!("one key for two values: {first:?} {value:?}"));
                }
            }
            None
        },
    );
}

/// Given any log, when its missing samples are written as a sentinel value, then nothing that comes out changes.
#[test]
fn a_sentinel_equals_a_missing_sample() {
    law(
        400,
        |seed| logs::rich(logs::anything(seed)),
        |case| {
            let mut text = logs::to_toml(&case.cfg, case.rich);
            let missing = run(&Arc::new(Plan::parse(&text, None).unwrap()), &case.log, &[]);
            text.push_str("[[sentinel]]\ntags = [\"t*\"]\nvalues = [1e30, -999.0]\n");
            let log: Vec<Item> = case
                .log
                .iter()
                .map(|item| match item {
                    Item::Row(row) if row.value.is_none_or(f64::is_nan) => {
                        Item::Row(Row { value: Some(-999.0), ..*row })
                    }
                    item => *item,
                })
                .collect();
            let written = run(&Arc::new(Plan::parse(&text, None).unwrap()), &log, &[]);
            // Ids differ: what makes samples missing is part of the digest.
            let plain =
                |said: Said| Said { lines: said.lines.iter().map(|l| without_ids(l)).collect(), ..said };
            let sorted = |mut said: Said| {
                said.lines.sort();
                said
            };
            differ(&sorted(plain(missing)), &sorted(plain(written)))
        },
    );
}

/// A line without what is a digest.
fn without_ids(line: &str) -> String {
    line.split(',').filter(|part| !part.contains("\"id\":") && !part.contains("\"alert\":\"")).collect()
}

/// Given the same samples as a wide table and as long rows, then what comes out is the same.
#[test]
fn a_wide_table_equals_long_rows() {
    law(
        400,
        |seed| logs::rich(logs::grid(seed)),
        |case| {
            let (plan, rows) = (plan(case), case.rows());
            let mut live = Live::new(&plan);
            let mut r = case.rng();
            let lines: Vec<&[Row]> = rows.chunk_by(|a, b| a.offset == b.offset).collect();
            for some in lines.chunks(r.int(1, 12) as usize) {
                let batch = logs::wide_batch(&some.concat(), case.cfg.tags.len());
                live.pipeline.push_rows(&batch, &[], &mut live.out).unwrap();
            }
            differ(&run(&plan, &case.log, &[]).portable(), &live.end(None).portable())
        },
    );
}

/// Given the random logs, then what the laws are about does happen in them: else a law that holds says nothing.
#[test]
fn the_logs_reach_every_corner() {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut see = |what: String, n: u64| *seen.entry(what).or_default() += n as usize;
    for case in (0..600).filter_map(|seed| logs::rich(logs::anything(seed))) {
        let mut live = Live::new(&plan(&case));
        live.feed(&case.log, &[], 0);
        let held = live.count().held;
        live.pipeline.end(None, &mut live.out);
        let c = Count { held, ..live.count() };
        for event in &live.out.events {
            see(
                match &event.what {
                    What::Alert { rule, .. } => format!("alert {}", rule.split('-').next().unwrap()),
                    What::Signal { to, .. } => format!("to {to}"),
                    What::Member { to, .. } => format!("member {to}"),
                    What::Future { .. } => "future".into(),
                    What::Operational { code, .. } => code.clone(),
                },
                1,
            );
        }
        live.out.values.iter().for_each(|v| see(format!("{:?}", v.source), 1));
        see("late".into(), c.late);
        see("conflict".into(), c.dead_letters);
        see("duplicate".into(), c.duplicates);
        see("held at the end of the log".into(), c.held);
        see("missed tick".into(), c.missed_tick);
    }
    let wanted = [
        "alert range",
        "alert gap",
        "alert rate",
        "alert ewma",
        "alert zscore",
        "alert g0",
        "to normal",
        "to suspect",
        "to degraded",
        "to recovering",
        "to failed",
        "to held",
        "to unknown",
        "member excluded",
        "member probation",
        "member active",
        "future",
        "Voted",
        "Measured",
        "Model(0)",
        "Hold(1)",
        "None",
        "late",
        "conflict",
        "duplicate",
        "held at the end of the log",
        "missed tick",
    ];
    let rare: Vec<_> = wanted.iter().filter(|w| seen.get(**w).is_none_or(|n| *n < 5)).collect();
    assert!(rare.is_empty(), "too rare: {rare:?} in {seen:#?}");
}

// ---- how a law is tried ---------------------------------------------------------------------------------------------------

/// Tries a law on `seeds` cases; a multiple of that with `LAW_SEEDS=N` in the environment. Fails with the smallest log.
fn law(seeds: u64, make: fn(u64) -> Option<Case>, check: impl Fn(&Case) -> Option<String>) {
    let more = std::env::var("LAW_SEEDS").ok().and_then(|n| n.parse::<u64>().ok()).unwrap_or(1);
    let fails = |case: &Case| {
        std::panic::catch_unwind(AssertUnwindSafe(|| check(case))).unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_string()));
            Some(format!("panicked: {}", text.unwrap_or_default()))
        })
    };
    let (mut tried, mut failed): (u64, Vec<Case>) = (0, Vec::new());
    for seed in 0..seeds * more {
        let Some(case) = make(seed) else { continue };
        tried += 1;
        if fails(&case).is_some() {
            failed.push(case);
        }
    }
    assert!(tried >= 300 * more, "only {tried} of {seeds} seeds give a log: the generator is too narrow");
    failed.sort_by_key(|case| case.log.len());
    let count = failed.len();
    let smallest = failed
        .into_iter()
        .take(12)
        .map(|case| logs::shrink(case, fails))
        .min_by_key(|(case, _)| case.log.len());
    if let Some((case, why)) = smallest {
        panic!("{count} of {tried} logs fail; the smallest:\n{}{why}", logs::show(&case));
    }
}

fn plan(case: &Case) -> Arc<Plan> {
    Arc::new(Plan::parse(&logs::to_toml(&case.cfg, case.rich), None).unwrap())
}

/// A partition at work and all it said.
struct Live {
    plan: Arc<Plan>,
    pipeline: Pipeline,
    out: Outputs,
}

/// All that came out, in canonical order, and where the rows are.
#[derive(Debug, Default, PartialEq)]
struct Said {
    lines: Vec<String>,
    count: Count,
}

impl Live {
    fn new(plan: &Arc<Plan>) -> Self {
        Live { plan: plan.clone(), pipeline: Pipeline::new(plan.clone(), 0), out: Outputs::default() }
    }

    /// Rows go in as batches that end before each of `cuts` (counted in items from `first`) and before journal entries.
    fn feed(&mut self, items: &[Item], cuts: &[usize], first: usize) {
        let mut rows: Vec<Row> = Vec::new();
        for (at, item) in items.iter().enumerate() {
            if cuts.binary_search(&(at + first)).is_ok() || matches!(item, Item::Entry(..)) {
                self.push(&mut rows);
            }
            match item {
                Item::Row(row) => rows.push(*row),
                Item::Entry(number, entry) => self.apply(*number, *entry),
            }
        }
        self.push(&mut rows);
    }

    fn push(&mut self, rows: &mut Vec<Row>) {
        if rows.is_empty() {
            return;
        }
        let codes = if rows.len().is_multiple_of(2) { Codes::Words } else { Codes::Numbers };
        let spans: Vec<Span> = logs::records(rows)
            .into_iter()
            .map(|(rows, offset, first_index, record_ts)| Span { rows, offset, first_index, record_ts })
            .collect();
        self.pipeline.push_rows(&logs::batch(rows, codes), &spans, &mut self.out).unwrap();
        rows.clear();
    }

    fn apply(&mut self, number: u64, entry: Entry) {
        let content = match entry {
            Entry::ClockTick(time) => Content::ClockTick { time },
            Entry::Hold(group) => Content::Hold { signal: format!("g{group}") },
            Entry::Release(group) => Content::Release { signal: format!("g{group}") },
        };
        self.pipeline.apply(&JournalEntry { number, content }, &mut self.out);
    }

    /// What a restart from the snapshot of this moment finds; what was said until now was said.
    fn saved(&self) -> Live {
        let (plan, bytes) = (self.plan.clone(), self.pipeline.snapshot());
        let mut out = Outputs::default();
        let pipeline = Pipeline::restore(plan, self.pipeline.partition(), &bytes, &mut out).unwrap();
        assert!(out.events.is_empty(), "an unchanged configuration resolves nothing");
        out.events.clone_from(&self.out.events);
        out.values.clone_from(&self.out.values);
        out.verdicts.clone_from(&self.out.verdicts);
        out.late.clone_from(&self.out.late);
        out.dead.clone_from(&self.out.dead);
        Live { plan: self.plan.clone(), pipeline, out }
    }

    fn restart(&mut self) {
        *self = self.saved();
    }

    fn count(&self) -> Count {
        let c = self.pipeline.counters();
        Count {
            rows_in: c.rows_in,
            processed: c.processed,
            late: c.late,
            dead_letters: c.dead_letters,
            duplicates: c.duplicates,
            held: c.held,
            missed_tick: c.missed_tick,
            future: c.future,
        }
    }

    fn end(mut self, whole: Option<i64>) -> Said {
        self.pipeline.end(whole, &mut self.out);
        self.said()
    }

    fn said(&self) -> Said {
        let mut lines: Vec<String> = Vec::new();
        lines.extend(self.out.events.iter().map(|e| serde_json::to_string(e).unwrap()));
        lines.extend(self.out.values.iter().map(|v| format!("{v:?}")));
        lines.extend(self.out.late.iter().map(|l| format!("{l:?}")));
        for v in &self.out.verdicts {
            let (tag, rule) = (self.pipeline.tag_name(v.tag), v.rule);
            let (flag, score, value) = (v.flag, v.score, v.value);
            lines.push(format!(
                "verdict {tag} rule {rule} ts {} {flag:?} score {score} value {value:?}",
                v.ts
            ));
        }
        for d in &self.out.dead {
            let value = d.value;
            lines.push(format!(
                "dead {} {} {} {value:?} at offset {} {}",
                d.code, d.tag, d.ts, d.offset, d.index
            ));
        }
        lines.sort();
        Said { lines, count: self.count() }
    }

    /// What was said, in the twin's words.
    fn facts(&self) -> Vec<Fact> {
        let tag = |name: &str| name[1..].parse::<usize>().unwrap();
        let mut facts = Vec::new();
        for e in &self.out.events {
            let at = e.at;
            facts.push(match &e.what {
                What::Alert { rule, target, transition, since, .. } => Fact::Alert {
                    at,
                    gap: rule.starts_with("gap"),
                    tag: tag(target),
                    firing: *transition == Transition::Firing,
                    since: *since,
                },
                What::Signal { signal, to, command: Some(number), .. } => {
                    Fact::Command { at, group: tag(signal), hold: to == "held", number: *number }
                }
                What::Signal { signal, to, command: None, .. } => {
                    let to = match to.as_str() {
                        "normal" => State::Normal,
                        "suspect" => State::Suspect,
                        "failed" => State::Failed,
                        _ => State::Unknown,
                    };
                    Fact::Signal { at, group: tag(signal), to }
                }
                What::Future { tag: name, ts, value } => {
                    Fact::Future { at, tag: tag(name), ts: *ts, bits: bits(*value) }
                }
                What::Member { .. } | What::Operational { .. } => {
                    panic!("nothing of the kind happens here: {e:?}")
                }
            });
        }
        for v in &self.out.values {
            let voters = match v.source {
                Source::Voted => 2,
                Source::Measured => 1,
                _ => 0,
            };
            let bits = bits((!v.value.is_nan()).then_some(v.value));
            facts.push(Fact::Value { at: v.ts, group: v.group as usize, n: v.n as usize, bits, voters });
        }
        for v in &self.out.verdicts {
            let gap = self.plan.rules.get(v.rule as usize).unwrap().raw.id.starts_with("gap");
            facts.push(Fact::Verdict {
                at: v.ts,
                gap,
                tag: tag(self.pipeline.tag_name(v.tag)),
                flag: v.flag as u8,
            });
        }
        for l in &self.out.late {
            facts.push(Fact::Late { ts: l.ts, tag: tag(&l.tag), bits: bits(l.value) });
        }
        for d in &self.out.dead {
            assert_eq!(d.code, "conflict");
            let bits = bits(d.value);
            facts.push(Fact::Conflict { ts: d.ts, tag: tag(&d.tag), bits, offset: d.offset, index: d.index });
        }
        facts
    }
}

impl Said {
    /// Without what is a partition's own: where a dead letter lay.
    fn portable(mut self) -> Said {
        for line in &mut self.lines {
            let own = line.find(" at offset ");
            line.truncate(own.unwrap_or(line.len()));
        }
        self.lines.sort();
        self
    }

    /// Adds what another partition said.
    fn join(&mut self, other: Said) {
        self.lines.extend(other.lines);
        self.lines.sort();
        let (a, b) = (&mut self.count, other.count);
        a.rows_in += b.rows_in;
        a.processed += b.processed;
        a.late += b.late;
        a.dead_letters += b.dead_letters;
        a.duplicates += b.duplicates;
        a.held += b.held;
        a.missed_tick += b.missed_tick;
        a.future += b.future;
    }
}

fn run(plan: &Arc<Plan>, items: &[Item], cuts: &[usize]) -> Said {
    let mut live = Live::new(plan);
    live.feed(items, cuts, 0);
    live.end(None)
}

fn feed_twin(twin: &mut Twin, item: &Item) {
    match item {
        Item::Row(row) => twin.row(*row),
        Item::Entry(number, entry) => twin.entry(*number, *entry),
    }
}

/// What `x` said and `y` did not, each line as often as it is missing.
fn only(x: &Said, y: &Said) -> Vec<String> {
    let mut left = y.lines.clone();
    let mut only = Vec::new();
    for line in &x.lines {
        match left.iter().position(|l| l == line) {
            Some(at) => drop(left.swap_remove(at)),
            None => only.push(line.clone()),
        }
    }
    only
}

/// What only one of two runs said.
fn differ(a: &Said, b: &Said) -> Option<String> {
    if a == b {
        return None;
    }
    Some(format!("only A: {:#?}\nonly B: {:#?}\nA {:?}\nB {:?}", only(a, b), only(b, a), a.count, b.count))
}

fn equals_twin(case: &Case) -> Option<String> {
    let plan = plan(case);
    let mut r = case.rng();
    let whole = r.pick(&[None, Some(case.rows().iter().map(|row| row.ts).max().unwrap_or(0) + 7)]);
    let (mut live, mut twin) = (Live::new(&plan), Twin::new(&case.cfg));
    live.feed(&case.log, &logs::cuts(&mut r, case.log.len()), 0);
    case.log.iter().for_each(|item| feed_twin(&mut twin, item));
    live.pipeline.end(whole, &mut live.out);
    twin.end(whole);
    let (ours, theirs) = (twin::bag(live.facts()), twin::bag(twin.facts.iter().copied()));
    if ours == theirs && live.count() == twin.count() {
        return None;
    }
    Some(format!("{}engine {:?}\ntwin   {:?}", apart(&ours, &theirs), live.count(), twin.count()))
}

/// What only the engine or only the twin said.
fn apart(ours: &BTreeMap<Fact, usize>, theirs: &BTreeMap<Fact, usize>) -> String {
    let only = |x: &BTreeMap<Fact, usize>, y: &BTreeMap<Fact, usize>| -> Vec<String> {
        let more = x.iter().filter(|(f, n)| y.get(f).copied().unwrap_or(0) < **n);
        more.map(|(f, n)| format!("{n} × {f:?}")).collect()
    };
    format!("only the engine: {:#?}\nonly the twin: {:#?}\n", only(ours, theirs), only(theirs, ours))
}
