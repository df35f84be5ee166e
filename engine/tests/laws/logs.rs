//! Random configurations and logs, their text and batches, and the search for the smallest log that fails.

use crate::twin::{Config, Entry, FAIL, Group, Quality, Row, SUSPECT, TagRule};
use arrow_array::{
    ArrayRef, DictionaryArray, Float64Array, Int32Array, RecordBatch, StringArray, TimestampNanosecondArray,
    UInt32Array,
};
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;

// ---- numbers ----------------------------------------------------------------------------------------------------------

/// SplitMix64: small, the same everywhere.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Rng(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below 1, at least 0.
    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// `lo..=hi`.
    pub(crate) fn int(&mut self, lo: i64, hi: i64) -> i64 {
        lo + (self.next() % (hi - lo + 1) as u64) as i64
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, self.below(i + 1));
        }
    }
}

// ---- configurations ---------------------------------------------------------------------------------------------------

/// A configuration and its components: the tags that must share a partition.
pub(crate) fn random_config(r: &mut Rng) -> (Config, Vec<Vec<usize>>) {
    let (mut tags, mut groups, mut parts) = (Vec::new(), Vec::new(), Vec::new());
    let max_delay = r.pick(&[0, 0, 1, 3, 6]);
    for _ in 0..r.int(1, 4) {
        let members: Vec<usize> = (0..r.pick(&[1, 1, 2, 3, 3, 4])).map(|i| tags.len() + i).collect();
        for _ in &members {
            tags.push(TagRule {
                on_suspect: r.chance(0.2),
                hold_for: r.pick(&[0, 0, 2, 6]),
                keep: r.pick(&[0, 0, 3]),
                gap: r.pick(&[None, Some(4), Some(9)]),
            });
        }
        for i in 0..if members.len() > 1 { r.pick(&[0, 1, 1, 2]) } else { 0 } {
            let members = if members.len() > 2 { members[i..].to_vec() } else { members.clone() };
            let reference = r.pick(&[None, None, members.last().copied()]);
            let (period, wait, max_skew) = (r.int(1, 6), max_delay + r.int(0, 6), r.int(0, 9));
            groups.push(Group { members, period, reference, wait, max_skew });
        }
        parts.push(members);
    }
    let widest = groups.iter().map(|g: &Group| g.wait).max().unwrap_or(max_delay);
    let grace = widest + r.pick(&[0, 0, 2, 5, 12]);
    (Config { tags, groups, max_delay, grace, max_ahead: 60, max_jump: None }, parts)
}

/// The configuration as a user would write it. `rich` adds what the twin does not know: rules that learn, voters that
/// disagree, exclusion, fallbacks, alerts on signals.
pub(crate) fn to_toml(cfg: &Config, rich: bool) -> String {
    let mut text = format!(
        "[time]\nmax_delay = \"{}ns\"\ngrace = \"{}ns\"\nmax_ahead = \"{}ns\"\n",
        cfg.max_delay, cfg.grace, cfg.max_ahead
    );
    let mut put = |line: String| writeln!(text, "{line}").unwrap();
    if let Some(max_jump) = cfg.max_jump {
        put(format!("max_jump = \"{max_jump}ns\""));
    }
    put("[quality]\nscheme = { good = [\"ok\", 0], uncertain = [\"uncertain\", 1], bad = [\"bad\", 2] }"
        .into());
    // Tags with the same parameters share a rule.
    let (mut ranges, mut gaps) = (BTreeMap::new(), BTreeMap::new());
    for (tag, rule) in cfg.tags.iter().enumerate() {
        let names: &mut Vec<String> = ranges.entry((rule.on_suspect, rule.hold_for, rule.keep)).or_default();
        names.push(format!("t{tag}"));
        if let Some(gap) = rule.gap {
            let names: &mut Vec<String> = gaps.entry(gap).or_default();
            names.push(format!("t{tag}"));
        }
    }
    for ((on_suspect, hold_for, keep), tags) in ranges {
        let on = if on_suspect { "suspect" } else { "fail" };
        put(format!("[[rule]]\nid = \"range-{on}-{hold_for}-{keep}\"\ntags = {tags:?}"));
        put(format!(
            "detect.range = {{ fail = [-{FAIL:?}, {FAIL:?}], suspect = [-{SUSPECT:?}, {SUSPECT:?}] }}"
        ));
        put(format!("alert = {{ on = \"{on}\", for = \"{hold_for}ns\", keep_firing_for = \"{keep}ns\" }}"));
    }
    for (gap, tags) in gaps {
        put(format!("[[rule]]\nid = \"gap-{gap}\"\ntags = {tags:?}"));
        put(format!("detect.gap = {{ max = \"{gap}ns\" }}\nalert = {{ on = \"fail\" }}"));
    }
    for (i, g) in cfg.groups.iter().enumerate() {
        let members: Vec<String> = g.members.iter().map(|m| format!("t{m}")).collect();
        let member = g.reference.map_or(String::new(), |m| format!(", member = \"t{m}\""));
        put(format!("[[group]]\nid = \"g{i}\"\nmembers = {members:?}"));
        put(format!("tick = {{ period = \"{}ns\"{member} }}", g.period));
        put(format!("wait = \"{}ns\"\nmax_skew = \"{}ns\"", g.wait, g.max_skew));
        if rich {
            let text = RICH_GROUP.replace("SIGNALS", if i % 2 == 0 { "every" } else { "changes" });
            let text = text.replace("EXCLUDE", if i % 3 == 0 { "\"never\"" } else { RICH_EXCLUDE });
            put(text.replace("MIN", if i % 4 < 2 { "2" } else { "1" }));
        } else {
            put("exclude = \"never\"\nsignals = \"every\"".into());
            put("vote.mid_value = { tolerance = { abs = 1e9 }, min = 1 }".into());
        }
    }
    if rich {
        text.push_str(RICH_RULES);
    }
    text
}

const RICH_GROUP: &str = r#"signals = "SIGNALS"
confirm = 2
exclude = EXCLUDE
vote.mid_value = { tolerance = { abs = 8.0 }, min = MIN }
alert = { on = "suspect", for = "2ns", keep_firing_for = "3ns" }
fallback = [
    { ar = { order = 1, min_training = 2, max_horizon = "12ns", coverage = 0.5 } },
    { hold = { min_training = 1, max_horizon = "60ns", coverage = 0.5 } },
]
"#;

const RICH_EXCLUDE: &str =
    "{ up = 2, missing_up = 1, down = 1, trip = 3, cap = 6, probation_fail = 3, probation_ticks = 3 }";

const RICH_RULES: &str = r#"
[[rule]]
id = "rate"
tags = ["*"]
detect.rate = { suspect_per_s = 2e9, fail_per_s = 6e9, max_gap = "20ns" }
alert = { on = "suspect", for = "2ns" }
[[rule]]
id = "ewma"
tags = ["t?"]
detect.ewma = { alpha = 0.3, suspect = 1.5, fail = 3.0, warm_up = 3, freeze = "trusted" }
alert = { on = "fail", keep_firing_for = "4ns" }
[[rule]]
id = "zscore-samples"
tags = ["t0", "t2", "t3"]
detect.zscore = { window = 5, suspect = 1.5, fail = 3.0, min_samples = 3 }
alert = { on = "suspect" }
[[rule]]
id = "zscore-time"
tags = ["*"]
detect.zscore = { window = "15ns", suspect = 1.5, min_samples = 2, max_samples = 4, freeze = "never" }
"#;

// ---- logs -------------------------------------------------------------------------------------------------------------

/// Rows of one tag in arrival order: disorder within `max_delay`, then duplicates, conflicts and strays.
pub(crate) fn random_tag(r: &mut Rng, cfg: &Config, tag: usize, n: usize) -> Vec<Row> {
    let (mut ts, mut rows) = (r.int(0, 12), Vec::new());
    for _ in 0..n {
        let small = r.int(-4, 4) as f64;
        let odd = r.pick(&[Some(7.0), Some(12.0), Some(-12.0), None, Some(f64::NAN)]);
        let value = if r.chance(0.5) { Some(small) } else { r.pick(&[Some(small), Some(-0.0), odd, odd]) };
        let quality = match r.below(10) {
            0 => Quality::Uncertain,
            1 => Quality::Bad,
            _ => Quality::Ok,
        };
        let row = Row { ts, tag, value, quality, record_ts: None, offset: 0, index: 0 };
        rows.push((ts as f64 + r.unit() * cfg.max_delay as f64, row));
        let far = r.int(8, 60);
        ts += r.pick(&[1, 1, 2, 3, 3, 5, far]);
    }
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
    for _ in 0..r.pick(&[0, 0, 1, 2]) {
        let i = r.below(rows.len());
        let row = match r.below(3) {
            0 => rows[i],
            1 => Row { value: Some(r.int(-12, 12) as f64), ..rows[i] },
            _ => Row { ts: rows[i].ts - r.int(1, 9), ..rows[i] },
        };
        let at = r.int(i as i64 + 1, rows.len().min(i + 5) as i64) as usize;
        rows.insert(at, row);
    }
    rows
}

/// Late by its own tag's `max_delay`: so in every layout.
fn lost(cfg: &Config, own: &[i64], row: &Row) -> bool {
    own.iter().any(|y| *y > row.ts && *y <= own.iter().max().unwrap() - cfg.max_delay)
}

/// Whether a log keeps the bounds within which the layout promise holds.
///
/// `shut` is what progress has closed for a tag or a group while it was silent; no later row of it may be older.
pub(crate) fn within(cfg: &Config, log: &[Row]) -> bool {
    let mut ends: Vec<Vec<usize>> = (0..cfg.tags.len()).map(|t| vec![t]).collect();
    ends.extend(cfg.groups.iter().map(|g| g.members.clone()));
    let mut rows: Vec<Vec<i64>> = vec![Vec::new(); cfg.tags.len()];
    let mut heard: Vec<Option<i64>> = vec![None; cfg.tags.len()];
    let mut shut: Vec<Option<i64>> = vec![None; ends.len()];
    let mut largest = i64::MIN;
    for row in log {
        if lost(cfg, &rows[row.tag], row) {
            continue;
        }
        for g in cfg.groups.iter().filter(|g| g.members.contains(&row.tag)) {
            let others = g.members.iter().filter(|m| **m != row.tag).flat_map(|m| &rows[*m]);
            if others.max().is_some_and(|newest| *newest > row.ts + g.wait) {
                return false;
            }
        }
        if ends.iter().zip(&shut).any(|(e, shut)| e.contains(&row.tag) && shut.is_some_and(|s| row.ts < s)) {
            return false;
        }
        if rows[row.tag].contains(&row.ts) {
            continue; // duplicate or conflict: not admitted, not heard
        }
        largest = largest.max(row.ts);
        rows[row.tag].push(row.ts);
        heard[row.tag] = Some(largest);
        for (e, shut) in ends.iter().zip(&mut shut) {
            let last = e.iter().filter_map(|t| heard[*t]).max().unwrap_or(largest);
            if largest > last + cfg.grace {
                *shut = Some(largest - cfg.grace);
            }
        }
    }
    true
}

/// A random order that keeps each tag's own and the bounds: whole components lag, tags and rows jitter.
pub(crate) fn interleave(
    r: &mut Rng,
    cfg: &Config,
    queues: &[Vec<Row>],
    parts: &[Vec<usize>],
) -> Option<Vec<Row>> {
    for _ in 0..12 {
        let mut out: Vec<(f64, Row)> = Vec::new();
        for part in parts {
            let (a, b) = (r.int(0, cfg.grace), r.int(0, 60));
            let lag = r.pick(&[0, 0, a, b, 531_441 * out.len() as i64]);
            let waits = cfg.groups.iter().filter(|g| part.contains(&g.members[0])).map(|g| g.wait);
            let wait = waits.min().unwrap_or(cfg.grace) as f64;
            for tag in part {
                let (mut key, slow) = (-1e9_f64, r.pick(&[0.0, 0.0, wait]));
                for row in &queues[*tag] {
                    let jitter = r.unit() * wait;
                    let late = r.pick(&[0.0, 0.0, wait, jitter]).max(slow) + r.unit() / 1e4;
                    key = (key + 1e-6).max((row.ts + lag) as f64 + late);
                    out.push((key, *row));
                }
            }
        }
        out.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut log: Vec<Row> = out.into_iter().map(|(_, row)| row).collect();
        number(r, &mut log);
        if within(cfg, &log) {
            return Some(log);
        }
    }
    None
}

/// Puts the rows into records: most of one row, some of up to four.
pub(crate) fn number(r: &mut Rng, log: &mut [Row]) {
    let (mut offset, mut index) = (0, 0);
    for row in log {
        (row.offset, row.index) = (offset, index);
        if r.chance(0.7) || index == 3 {
            (offset, index) = (offset + r.pick(&[1, 1, 1, 3]), 0);
        } else {
            index += 1;
        }
    }
}

/// No bounds at all: any order, strays, jumps and future rows. Rows of one record share its timestamp.
pub(crate) fn wild(r: &mut Rng, cfg: &mut Config, log: &mut [Row]) {
    cfg.max_jump = r.pick(&[None, Some(20), Some(20)]);
    let stamped = r.pick(&[0.0, 0.5, 0.5, 1.0]);
    if r.chance(0.7) {
        r.shuffle(log);
    }
    number(r, log);
    let mut record = (i64::MIN, None);
    for row in log {
        if row.offset != record.0 {
            record = (row.offset, r.chance(stamped).then_some(row.ts + r.pick(&[0, 0, -70, 90])));
        }
        row.ts += r.pick(&[0, 0, 0, 0, 0, 0, 0, 0, -30, 500]);
        row.record_ts = record.1;
    }
}

// ---- cases ------------------------------------------------------------------------------------------------------------

/// A row, or a journal entry with its number, at its place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Item {
    Row(Row),
    Entry(u64, Entry),
}

/// What a law is tried on: a configuration, one order of all rows and one distribution over partitions.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    pub(crate) cfg: Config,
    pub(crate) log: Vec<Item>,
    /// The same rows by partition, within the bounds; empty where a law does not need it.
    pub(crate) spread: Vec<Vec<Row>>,
    /// Judged by more than the twin knows.
    pub(crate) rich: bool,
}

impl Case {
    pub(crate) fn rows(&self) -> Vec<Row> {
        self.log.iter().filter_map(|item| if let Item::Row(row) = item { Some(*row) } else { None }).collect()
    }

    /// Numbers for choices inside a law: cuts, places.
    pub(crate) fn rng(&self) -> Rng {
        Rng::new(self.seed ^ 0x5EED)
    }
}

/// Rows within the bounds, in one log and spread over up to three partitions.
pub(crate) fn bounded(seed: u64) -> Option<Case> {
    let mut r = Rng::new(seed);
    let (cfg, parts) = random_config(&mut r);
    let queues: Vec<Vec<Row>> = (0..cfg.tags.len())
        .map(|t| {
            let n = r.int(1, 13) as usize;
            random_tag(&mut r, &cfg, t, n)
        })
        .collect();
    let homes: Vec<usize> = parts.iter().map(|_| r.below(3)).collect();
    let log = interleave(&mut r, &cfg, &queues, &parts)?;
    let mut spread = Vec::new();
    for home in 0..3 {
        let here: Vec<Vec<usize>> =
            parts.iter().zip(&homes).filter(|(_, h)| **h == home).map(|(p, _)| p.clone()).collect();
        if !here.is_empty() {
            spread.push(interleave(&mut r, &cfg, &queues, &here)?);
        }
    }
    let mut case = Case { seed, cfg, log: log.into_iter().map(Item::Row).collect(), spread, rich: false };
    if r.chance(0.3) {
        let epoch = 1_700_000_000_000_000_000 + r.int(0, 59);
        case.log.iter_mut().for_each(|item| {
            if let Item::Row(row) = item {
                row.ts += epoch;
            }
        });
        case.spread.iter_mut().flatten().for_each(|row| row.ts += epoch);
    }
    Some(case)
}

/// Any log at all, with clock ticks and commands anywhere.
pub(crate) fn anything(seed: u64) -> Option<Case> {
    let mut case = bounded(seed)?;
    let mut r = Rng::new(seed ^ 0xA11);
    let mut rows = case.rows();
    if r.chance(0.7) {
        wild(&mut r, &mut case.cfg, &mut rows);
    }
    case.spread.clear();
    case.log.clear();
    let often = r.pick(&[0.0, 0.05, 0.2]);
    let last = rows.iter().map(|row| row.ts).max()?;
    let mut entries = 0;
    for at in 0..=rows.len() {
        while r.chance(often) {
            entries += 1;
            let entry = if r.chance(0.4) && !case.cfg.groups.is_empty() {
                let group = r.below(case.cfg.groups.len());
                r.pick(&[Entry::Hold(group), Entry::Release(group)])
            } else {
                let near = rows.get(at).map_or(last, |row| row.ts);
                Entry::ClockTick(near + r.int(-30, 60))
            };
            case.log.push(Item::Entry(entries, entry));
        }
        case.log.extend(rows.get(at).copied().map(Item::Row));
    }
    Some(case)
}

/// Half of the cases with the rich configuration: for laws that compare the engine with itself.
pub(crate) fn rich(case: Option<Case>) -> Option<Case> {
    case.map(|case| Case { rich: case.seed % 2 == 1, ..case })
}

/// Rows as a wide table has them: at each time a cell of most tags, without quality.
pub(crate) fn grid(seed: u64) -> Option<Case> {
    let mut case = bounded(seed)?;
    let mut r = Rng::new(seed ^ 0x317);
    (case.log, case.spread) = (Vec::new(), Vec::new());
    let mut ts = 0;
    for offset in 0..r.int(1, 24) {
        ts += r.pick(&[-3, -1, 0, 1, 1, 2, 2, 5, 30]);
        let mut index = 0;
        for tag in 0..case.cfg.tags.len() {
            let value =
                r.pick(&[None, Some(f64::NAN), Some(0.0), Some(2.0), Some(-7.0), Some(12.0), Some(12.0)]);
            if value.is_some() {
                let row = Row { ts, tag, value, quality: Quality::Ok, record_ts: None, offset, index };
                case.log.push(Item::Row(row));
                index += 1;
            }
        }
    }
    Some(case)
}

/// Places that cut `n` rows into batches: each row, one batch, or at random.
pub(crate) fn cuts(r: &mut Rng, n: usize) -> Vec<usize> {
    let p = r.pick(&[0.0, 0.1, 0.3, 1.0]);
    (1..n).filter(|_| r.chance(p)).collect()
}

// ---- batches ----------------------------------------------------------------------------------------------------------

/// How quality is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codes {
    Words,
    Numbers,
}

/// A long batch of consecutive rows; every third length has its tags in a dictionary with a name that no row uses.
pub(crate) fn batch(rows: &[Row], codes: Codes) -> RecordBatch {
    let ts = times(rows.iter().map(|r| r.ts));
    let tag: ArrayRef = if rows.len().is_multiple_of(3) {
        let used = 1 + rows.iter().map(|r| r.tag).max().unwrap_or(0);
        let names = StringArray::from_iter_values((0..=used).map(|t| format!("t{t}")));
        let keys = Int32Array::from_iter_values(rows.iter().map(|r| r.tag as i32));
        Arc::new(DictionaryArray::new(keys, Arc::new(names)))
    } else {
        Arc::new(StringArray::from_iter_values(rows.iter().map(|r| format!("t{}", r.tag))))
    };
    let value = Float64Array::from_iter(rows.iter().map(|r| r.value));
    let quality: ArrayRef = match codes {
        Codes::Numbers => Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.quality as u32))),
        Codes::Words => Arc::new(StringArray::from_iter_values(rows.iter().map(|r| match r.quality {
            Quality::Ok => "ok",
            Quality::Uncertain => "uncertain",
            Quality::Bad => "bad",
        }))),
    };
    let schema = Schema::new(vec![
        Field::new("ts", ts.data_type().clone(), false),
        Field::new("tag", tag.data_type().clone(), false),
        Field::new("value", DataType::Float64, true),
        Field::new("quality", quality.data_type().clone(), true),
    ]);
    RecordBatch::try_new(Arc::new(schema), vec![ts, tag, Arc::new(value), quality]).unwrap()
}

/// A wide batch: consecutive rows of one offset are the cells of one row, in the order of the tags.
pub(crate) fn wide_batch(rows: &[Row], tags: usize) -> RecordBatch {
    let lines: Vec<&[Row]> = rows.chunk_by(|a, b| a.offset == b.offset).collect();
    let mut fields =
        vec![Field::new("ts", DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), false)];
    let mut columns = vec![times(lines.iter().map(|line| line[0].ts))];
    for tag in 0..tags {
        let cell = |line: &&[Row]| line.iter().find(|r| r.tag == tag).map(|r| r.value.unwrap_or(f64::NAN));
        fields.push(Field::new(format!("t{tag}"), DataType::Float64, true));
        columns.push(Arc::new(Float64Array::from_iter(lines.iter().map(cell))));
    }
    let layout = [(engine::LAYOUT.to_string(), "wide".to_string())];
    let schema = Schema::new(fields).with_metadata(layout.into_iter().collect());
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn times(ts: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampNanosecondArray::from_iter_values(ts).with_timezone("UTC"))
}

/// The records of consecutive rows: how many rows, then offset, first index and record timestamp.
pub(crate) fn records(rows: &[Row]) -> Vec<(usize, i64, u32, Option<i64>)> {
    let mut records: Vec<(usize, i64, u32, Option<i64>)> = Vec::new();
    for row in rows {
        match records.last_mut() {
            Some((n, offset, first, ts))
                if *offset == row.offset && *first + *n as u32 == row.index && *ts == row.record_ts =>
            {
                *n += 1;
            }
            _ => records.push((1, row.offset, row.index, row.record_ts)),
        }
    }
    records
}

// ---- the smallest log that fails ----------------------------------------------------------------------------------------

/// Drops items, rows of a spread log, groups' worth of nothing, as long as the law still fails.
pub(crate) fn shrink(mut case: Case, fails: impl Fn(&Case) -> Option<String>) -> (Case, String) {
    let mut why = fails(&case).expect("only failing cases are shrunk");
    let mut smaller = true;
    while smaller {
        smaller = false;
        let mut len = (case.log.len() / 2).max(1);
        loop {
            let mut at = 0;
            while at < case.log.len() {
                let mut next = case.clone();
                let gone: Vec<Item> = next.log.drain(at..(at + len).min(case.log.len())).collect();
                drop_from_spread(&mut next, &gone);
                match fails(&next) {
                    Some(reason) => (case, why, smaller) = (next, reason, true),
                    None => at += len,
                }
            }
            if len == 1 {
                break;
            }
            len /= 2;
        }
    }
    (case, why)
}

/// Takes rows out of the spread logs, each once.
fn drop_from_spread(case: &mut Case, gone: &[Item]) {
    for item in gone {
        let Item::Row(row) = item else { continue };
        let alike = |x: &Row| {
            let bits = |v: Option<f64>| v.map(f64::to_bits);
            (x.ts, x.tag, x.quality) == (row.ts, row.tag, row.quality) && bits(x.value) == bits(row.value)
        };
        for log in &mut case.spread {
            if let Some(at) = log.iter().position(alike) {
                log.remove(at);
                break;
            }
        }
    }
}

/// The case as a person reads it.
pub(crate) fn show(case: &Case) -> String {
    let mut text = to_toml(&case.cfg, case.rich);
    writeln!(text, "seed {}, {} items", case.seed, case.log.len()).unwrap();
    let row = |r: &Row| {
        let Row { ts, tag, value, quality, record_ts, offset, index } = r;
        let stamp = record_ts.map_or(String::new(), |t| format!(" record_ts {t}"));
        format!("({offset}, {index}) t{tag} ts {ts} {value:?} {quality:?}{stamp}")
    };
    for item in &case.log {
        match item {
            Item::Row(r) => writeln!(text, "  {}", row(r)).unwrap(),
            Item::Entry(number, entry) => writeln!(text, "  journal {number}: {entry:?}").unwrap(),
        }
    }
    for (i, log) in case.spread.iter().enumerate() {
        writeln!(text, " partition {i}").unwrap();
        log.iter().for_each(|r| writeln!(text, "  {}", row(r)).unwrap());
    }
    text
}
