//! What judging gives, into the files of a run in their canonical order, in bounded memory.

use super::Alerts;
use super::sorted::{Row, SortLimits, Sorted};
use super::tables::{SignalTable, VerdictTable, ranks};
use crate::cmd::CommandError;
use connectors::sink::jsonl::JsonlWriter;
use detectors::sample::Flag;
use engine::{Event, Outputs, Plan, ServedValue, Source, State, VerdictRow};
use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `verdicts.parquet`, sorted by time, tag and rule; `signals.parquet`, by time, signal and number; `alerts.jsonl`, by time and
/// id.
pub struct InOrder {
    plan: Arc<Plan>,
    dir: PathBuf,
    verdicts: Sorted<VerdictRow>,
    verdict_order: VerdictOrder,
    values: Sorted<ServedValue>,
    signal_order: Vec<u32>,
    events: Sorted<Line>,
    alerts: Alerts,
}

impl InOrder {
    /// For a run into this directory.
    #[must_use]
    pub fn new(dir: &Path, plan: &Arc<Plan>, limits: SortLimits) -> Self {
        InOrder {
            plan: plan.clone(),
            dir: dir.into(),
            verdicts: Sorted::new(dir.join("verdicts.parquet"), limits),
            verdict_order: VerdictOrder { tags: Vec::new(), rules: ranks(&rules(plan)) },
            values: Sorted::new(dir.join("signals.parquet"), limits),
            signal_order: ranks(&groups(plan)),
            events: Sorted::new(dir.join("alerts.jsonl"), limits),
            alerts: Alerts::default(),
        }
    }

    /// Takes verdicts, served values and events. `tags` are all names by number; more may come, but none changes.
    ///
    /// # Errors
    /// When rows that no longer fit in memory can't be written.
    pub fn take(&mut self, out: &mut Outputs, tags: &[String]) -> Result<(), CommandError> {
        for verdict in out.verdicts.drain(..) {
            if self.verdicts.push(verdict) {
                self.verdict_order.know(tags);
                self.verdicts.spill(&self.verdict_order)?;
            }
        }
        for value in out.values.drain(..) {
            if self.values.push(value) {
                self.values.spill(&self.signal_order)?;
            }
        }
        self.alerts.add(&out.events);
        for event in out.events.drain(..) {
            if self.events.push(Line::new(event)?) {
                self.events.spill(&())?;
            }
        }
        Ok(())
    }

    /// Writes the files. Tells how many alerts there were.
    ///
    /// # Errors
    /// When one can't be written.
    pub fn finish(mut self, tags: &[String]) -> Result<Alerts, CommandError> {
        let path = |name: &str| self.dir.join(name);
        self.verdict_order.know(tags);
        let rules = rules(&self.plan);
        let mut table = VerdictTable::create(&path("verdicts.parquet"), tags, &rules)?;
        self.verdicts.finish(&self.verdict_order, |verdict| table.push(verdict))?;
        table.finish()?;
        let (kinds, groups) = (self.plan.fallback_kinds(), groups(&self.plan));
        let mut table = SignalTable::create(&path("signals.parquet"), &kinds, &groups)?;
        self.values.finish(&self.signal_order, |value| table.push(value))?;
        table.finish()?;
        let mut lines = JsonlWriter::create(&path("alerts.jsonl"))?;
        self.events.finish(&(), |line| Ok(lines.write_line(&line.json)?))?;
        lines.finish()?;
        Ok(self.alerts)
    }
}

/// Ids of rules, then groups.
fn rules(plan: &Plan) -> Vec<&str> {
    plan.rules.iter().map(|r| r.raw.id.as_str()).chain(groups(plan)).collect()
}

fn groups(plan: &Plan) -> Vec<&str> {
    plan.groups.iter().map(|g| g.raw.id.as_str()).collect()
}

/// The place of each tag and of each rule among all by name.
pub(super) struct VerdictOrder {
    tags: Vec<u32>,
    rules: Vec<u32>,
}

impl VerdictOrder {
    /// Names that come later change numbers, but never which of two known ones is first.
    fn know(&mut self, tags: &[String]) {
        if tags.len() != self.tags.len() {
            self.tags = ranks(tags);
        }
    }
}

impl Row for VerdictRow {
    type Order = VerdictOrder;

    fn compare(&self, other: &Self, by: &VerdictOrder) -> Ordering {
        let key = |v: &VerdictRow| (v.ts, by.tags[v.tag as usize], by.rules[v.rule as usize], v.flag);
        let value = |v: &VerdictRow| v.value.unwrap_or(f64::NAN);
        let scores = || self.score.total_cmp(&other.score);
        key(self).cmp(&key(other)).then_with(scores).then_with(|| value(self).total_cmp(&value(other)))
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.ts.to_le_bytes());
        to.extend(self.tag.to_le_bytes());
        to.extend(self.rule.to_le_bytes());
        to.extend([self.flag as u8, u8::from(self.value.is_some())]);
        to.extend(self.score.to_le_bytes());
        to.extend(self.value.unwrap_or_default().to_le_bytes());
    }

    fn read(from: &[u8]) -> Option<(Self, usize)> {
        let mut words = Words(from.get(..34)?);
        let row = VerdictRow {
            ts: i64::from_le_bytes(words.take()),
            tag: u32::from_le_bytes(words.take()),
            rule: u32::from_le_bytes(words.take()),
            flag: Flag::from_number(words.take::<1>()[0]).expect("a flag was written"),
            value: (words.take::<1>()[0] == 1).then_some(0.0),
            score: f64::from_le_bytes(words.take()),
        };
        let value = f64::from_le_bytes(words.take());
        Some((VerdictRow { value: row.value.map(|_| value), ..row }, 34))
    }
}

impl Row for ServedValue {
    type Order = Vec<u32>;

    fn compare(&self, other: &Self, by: &Vec<u32>) -> Ordering {
        let key = |v: &ServedValue| (v.ts, by[v.group as usize], v.n);
        key(self).cmp(&key(other))
    }

    fn bytes(&self) -> usize {
        size_of::<Self>()
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.ts.to_le_bytes());
        for word in [self.group, self.n, self.status] {
            to.extend(word.to_le_bytes());
        }
        for number in [self.value, self.lo, self.hi, self.coverage] {
            to.extend(number.to_le_bytes());
        }
        to.extend(self.horizon_ns.to_le_bytes());
        let source = match self.source {
            Source::Voted => [0, 0],
            Source::Measured => [1, 0],
            Source::Model(i) => [2, i],
            Source::Hold(i) => [3, i],
            Source::None => [4, 0],
        };
        to.extend(source);
        to.push(self.state as u8);
    }

    fn read(from: &[u8]) -> Option<(Self, usize)> {
        let mut words = Words(from.get(..63)?);
        let row = ServedValue {
            ts: i64::from_le_bytes(words.take()),
            group: u32::from_le_bytes(words.take()),
            n: u32::from_le_bytes(words.take()),
            status: u32::from_le_bytes(words.take()),
            value: f64::from_le_bytes(words.take()),
            lo: f64::from_le_bytes(words.take()),
            hi: f64::from_le_bytes(words.take()),
            coverage: f64::from_le_bytes(words.take()),
            horizon_ns: i64::from_le_bytes(words.take()),
            source: match words.take() {
                [0, _] => Source::Voted,
                [1, _] => Source::Measured,
                [2, i] => Source::Model(i),
                [3, i] => Source::Hold(i),
                [_, _] => Source::None,
            },
            state: State::ALL[usize::from(words.take::<1>()[0])],
        };
        Some((row, 63))
    }
}

/// An event as it is written.
struct Line {
    at: i64,
    id: Vec<u8>,
    json: Vec<u8>,
}

impl Line {
    fn new(event: Event) -> Result<Self, CommandError> {
        let json = serde_json::to_vec(&event)?;
        Ok(Line { at: event.at, id: event.id.into_bytes(), json })
    }
}

impl Row for Line {
    type Order = ();

    fn compare(&self, other: &Self, (): &()) -> Ordering {
        (self.at, &self.id).cmp(&(other.at, &other.id))
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.id.len() + self.json.len()
    }

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.at.to_le_bytes());
        to.extend((self.id.len() as u64).to_le_bytes());
        to.extend((self.json.len() as u64).to_le_bytes());
        to.extend(&self.id);
        to.extend(&self.json);
    }

    fn read(from: &[u8]) -> Option<(Self, usize)> {
        let mut words = Words(from.get(..24)?);
        let at = i64::from_le_bytes(words.take());
        let mut len = || u64::from_le_bytes(words.take()) as usize;
        let (id, json) = (len(), len());
        let body = from.get(24..24 + id + json)?;
        Some((Line { at, id: body[..id].into(), json: body[id..].into() }, 24 + id + json))
    }
}

/// Bytes whose number is known, taken from the front.
struct Words<'b>(&'b [u8]);

impl Words<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (word, rest) = self.0.split_first_chunk().expect("as many as were asked for");
        self.0 = rest;
        *word
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::What;

    /// Two rules, a signal and another, all of whose names sort against the order they stand in.
    const CONFIG: &str = r#"
[[rule]]
id = "z"
tags = ["*"]
detect.range = { fail = [0.0, 1.0] }

[[rule]]
id = "a"
tags = ["*"]
detect.gap = { max = "5s" }

[[group]]
id = "y"
members = ["b.1", "b.2"]
tick = { period = "1s" }
max_skew = "1s"
vote.mid_value = { tolerance = { abs = 1.0 }, miscompare = "to_voted" }

[[group]]
id = "b"
members = ["a.1", "a.2"]
tick = { period = "1s" }
max_skew = "1s"
vote.mid_value = { tolerance = { abs = 1.0 }, miscompare = "to_voted" }
"#;

    fn out(turn: u64, next: &mut impl FnMut(u64) -> u64) -> Outputs {
        let mut out = Outputs::default();
        let ts = |next: &mut dyn FnMut(u64) -> u64| (turn * 40 + next(100)) as i64;
        for _ in 0..30 {
            out.verdicts.push(VerdictRow {
                ts: ts(next),
                // A turn knows more names than the one before.
                tag: next(turn + 1) as u32,
                rule: next(4) as u32,
                flag: Flag::ALL[next(5) as usize],
                score: next(3) as f64 / 3.0,
                value: (next(2) == 0).then(|| -(next(9) as f64)),
            });
        }
        for _ in 0..20 {
            let number = |n: u64| if n == 0 { f64::NAN } else { n as f64 / 7.0 };
            let i = next(3) as u8;
            let sources = [Source::Voted, Source::Measured, Source::Model(0), Source::Hold(i), Source::None];
            out.values.push(ServedValue {
                group: next(2) as u32,
                ts: ts(next),
                n: next(3) as u32,
                value: number(next(4)),
                lo: number(next(4)),
                hi: number(next(4)),
                coverage: number(next(4)),
                source: sources[next(5) as usize],
                status: next(1 << 32) as u32,
                state: State::ALL[next(7) as usize],
                horizon_ns: next(1 << 40) as i64,
            });
        }
        for _ in 0..10 {
            let tag = "ü".repeat(next(40) as usize);
            let what = What::Future { tag, ts: -1, value: Some(next(1 << 50) as f64 / 3.0) };
            out.events.push(Event { id: format!("{:x}", next(1 << 20)), at: ts(next), what });
        }
        out
    }

    /// Given outputs of many turns, out of order and with names that are found on the way, then the files of a run are equal to the
    /// byte whether nothing or everything fits in memory, and nothing else is in the directory.
    #[test]
    fn files_do_not_depend_on_what_fits_in_memory() {
        let refuse = |_: &Path| unreachable!("no catalogue is named");
        let plan = crate::config::assemble(CONFIG, Path::new("c.toml"), refuse).expect("it can run").plan;
        let plan = Arc::new(plan);
        let bounds = [
            SortLimits::default(),
            SortLimits { buffer_bytes: 1_000, stretches: 4, read_bytes: 100 },
            SortLimits { buffer_bytes: 1, stretches: 2, read_bytes: 1 },
        ];
        let files = ["verdicts.parquet", "signals.parquet", "alerts.jsonl"];
        let mut first: Option<Vec<Vec<u8>>> = None;
        for limits in bounds {
            let dir = tempfile::tempdir().expect("a directory");
            let mut state = 1_u64;
            let mut next = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % below.max(1)
            };
            let mut sorter = InOrder::new(dir.path(), &plan, limits);
            let mut tags = Vec::new();
            for turn in 0..20 {
                tags.push(format!("tag{:02}", (turn * 7) % 20));
                sorter.take(&mut out(turn, &mut next), &tags).expect("taken");
            }
            sorter.finish(&tags).expect("written");
            let names = std::fs::read_dir(dir.path()).expect("listed").count();
            assert_eq!(names, files.len(), "{limits:?}");
            let bytes: Vec<Vec<u8>> =
                files.iter().map(|file| std::fs::read(dir.path().join(file)).expect("there")).collect();
            match &first {
                None => first = Some(bytes),
                Some(first) => assert!(*first == bytes, "{limits:?}"),
            }
        }
    }
}
