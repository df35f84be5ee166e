//! Single cases that the random logs rarely reach, each with the smallest log that shows it.

use arrow_array::{ArrayRef, Float64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use engine::{Outputs, Pipeline, Plan, ServedValue, Source, State, What, status};
use std::sync::Arc;

const GROUP: &str = r#"
[[group]]
id = "g"
members = ["a", "b", "c"]
tick = { period = "10ns" }
max_skew = "5ns"
signals = "every"
exclude = { up = 2, trip = 4, cap = 6, probation_ticks = 3 }
vote.mid_value = { tolerance = { abs = 1.0 }, min = 1 }
"#;

/// A partition at work and what it said.
struct At {
    pipeline: Pipeline,
    out: Outputs,
}

impl At {
    fn new(text: &str) -> Self {
        let plan = Plan::parse(text, None).expect("a configuration");
        let out = Outputs { all_verdicts: true, ..Outputs::default() };
        At { pipeline: Pipeline::new(Arc::new(plan), 0), out }
    }

    fn push(&mut self, rows: &[(i64, &str, f64)]) {
        self.pipeline.push_rows(&batch(rows), &[], &mut self.out).expect("a canonical batch");
    }

    fn end(mut self) -> Outputs {
        let last = self.pipeline.progress();
        self.pipeline.end(last, &mut self.out);
        assert!(self.pipeline.counters().balanced());
        self.out
    }
}

fn batch(rows: &[(i64, &str, f64)]) -> RecordBatch {
    let ts = TimestampNanosecondArray::from_iter_values(rows.iter().map(|r| r.0)).with_timezone("UTC");
    let columns: [(&str, ArrayRef); 3] = [
        ("ts", Arc::new(ts)),
        ("tag", Arc::new(StringArray::from_iter_values(rows.iter().map(|r| r.1)))),
        ("value", Arc::new(Float64Array::from_iter_values(rows.iter().map(|r| r.2)))),
    ];
    RecordBatch::try_from_iter(columns).expect("one length")
}

/// One value a tick, three members.
fn run(text: &str, ticks: &[[(i64, f64); 3]]) -> Outputs {
    let mut at = At::new(text);
    for tick in ticks {
        let rows: Vec<_> = tick.iter().zip(["a", "b", "c"]).map(|((ts, x), tag)| (*ts, tag, *x)).collect();
        at.push(&rows);
    }
    at.end()
}

fn last(out: &Outputs) -> &ServedValue {
    out.values.last().expect("a served value")
}

/// Given three members of which no two agree, then the middle one is served as sub-normal, and nobody is blamed however
/// long it lasts.
#[test]
fn a_middle_value_that_nobody_shares_blames_nobody() {
    let ticks: Vec<_> = (1..40).map(|k| [(k * 10, 0.0), (k * 10, 10.0), (k * 10, 20.0)]).collect();
    let out = run(GROUP, &ticks);
    assert!(out.values.iter().all(|v| (v.value, v.status) == (10.0, status::SUB_NORMAL)), "{:?}", last(&out));
    assert!(out.values.iter().all(|v| v.state == State::Suspect));
    assert!(!out.events.iter().any(|e| matches!(e.what, What::Member { .. })), "{:?}", out.events);
}

/// Given a member that stays off, then it is excluded once and stays so while the two that are left agree; back in line,
/// it returns by way of probation.
#[test]
fn a_member_that_stays_off_stays_excluded() {
    let changes = |ticks: &[[(i64, f64); 3]]| -> Vec<String> {
        let events = run(GROUP, ticks).events;
        let to = |e: engine::Event| match e.what {
            What::Member { member, to, .. } => Some(format!("{member} {to}")),
            _ => None,
        };
        events.into_iter().filter_map(to).collect()
    };
    let off: Vec<_> = (1..40).map(|k| [(k * 10, 9.5), (k * 10, 10.0), (k * 10, 20.0)]).collect();
    assert_eq!(changes(&off), ["c excluded"]);
    let back: Vec<_> = (40..60).map(|k| [(k * 10, 9.5), (k * 10, 10.0), (k * 10, 10.0)]).collect();
    assert_eq!(changes(&[off, back].concat()), ["c excluded", "c probation", "c active"]);
}

/// Given samples so far apart that their distance does not fit, then the old one is too old for the vote.
#[test]
fn an_age_beyond_all_numbers_is_too_old() {
    let text = GROUP.replace("exclude = {", "exclude = \"never\" # {");
    let mut at = At::new(&text);
    at.push(&[(i64::MIN + 7, "a", 1.0), (i64::MAX - 7, "b", 2.0)]);
    let out = at.end();
    let v = last(&out);
    assert_eq!((v.value, v.source), (2.0, Source::Measured), "{v:?}");
}

/// Given samples at the end of time, then their tick closes once, and nothing goes round in circles.
#[test]
fn the_last_tick_of_time_closes_once() {
    let end = i64::MAX;
    let out = run(&GROUP.replace("10ns", "1ns"), &[[(end, 1.0), (end, 1.0), (end, 1.0)]]);
    let ticks: Vec<_> = out.values.iter().map(|v| (v.ts, v.state)).collect();
    assert_eq!(ticks, [(end, State::Normal)]);
}

/// Given an infinite member, then it is missing for its group: no vote, no miscompare; two are left and agree.
#[test]
fn an_infinite_member_is_missing() {
    let out = run(GROUP, &[[(10, 1.0), (10, 1.5), (10, f64::INFINITY)]]);
    let flags: Vec<u8> = out.verdicts.iter().map(|v| v.flag as u8).collect();
    assert_eq!(flags, [1, 1, 9]);
    assert_eq!((last(&out).value, last(&out).state), (1.25, State::Normal));
}
