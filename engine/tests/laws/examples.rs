//! Single cases that the random logs rarely reach, each with the smallest log that shows it.

use arrow_array::{
    ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray, UInt32Array,
};
use engine::{
    BatchError, Content, JournalEntry, Outputs, Pipeline, Plan, ServedValue, Source, Span, State, Transition,
    What, status,
};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) const GROUP: &str = r#"
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
pub(crate) struct At {
    pub(crate) pipeline: Pipeline,
    pub(crate) out: Outputs,
}

impl At {
    pub(crate) fn new(text: &str) -> Self {
        let plan = Plan::parse(text, None).expect("a configuration");
        let out = Outputs { all_verdicts: true, ..Outputs::default() };
        At { pipeline: Pipeline::new(Arc::new(plan), 0), out }
    }

    pub(crate) fn push(&mut self, rows: &[(i64, &str, f64)]) {
        self.pipeline.push_rows(&batch(rows), &[], &mut self.out).expect("a canonical batch");
    }

    /// A value of each of the three members.
    pub(crate) fn tick(&mut self, ts: i64, value: f64) {
        self.push(&["a", "b", "c"].map(|tag| (ts, tag, value)));
    }

    pub(crate) fn apply(&mut self, number: u64, content: Content) {
        self.pipeline.apply(&JournalEntry { number, content }, &mut self.out);
    }

    /// Stops, and goes on under a configuration.
    pub(crate) fn restart(&mut self, text: &str) {
        let plan = Arc::new(Plan::parse(text, None).expect("a configuration"));
        let bytes = self.pipeline.snapshot();
        self.pipeline = Pipeline::restore(plan, 0, &bytes, &mut self.out).expect("a snapshot");
    }

    /// The transitions of alerts so far, each with its time.
    pub(crate) fn alerts(&self) -> Vec<String> {
        let told = |e: &engine::Event| match &e.what {
            What::Alert { rule, target, transition, .. } => {
                Some(format!("{rule} of {target}: {transition:?} {}", e.at))
            }
            _ => None,
        };
        self.out.events.iter().filter_map(told).collect()
    }

    pub(crate) fn end(mut self) -> Outputs {
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

/// Given a row from the future that is sent again, then it is told once, with its own time, also after a restart; another
/// one is told too.
#[test]
fn a_repeated_future_row_is_told_once() {
    let text = "[time]\nmax_ahead = \"10ns\"\n";
    let mut at = At::new(text);
    let span = |offset, record_ts| Span { rows: 1, offset, first_index: 0, record_ts: Some(record_ts) };
    for (offset, (ts, record_ts)) in [(900, 5), (900, 7), (900, 8), (901, 9)].into_iter().enumerate() {
        let spans = [span(offset as i64, record_ts)];
        at.pipeline.push_rows(&batch(&[(ts, "a", 1.0)]), &spans, &mut at.out).expect("a canonical batch");
        at.restart(text);
    }
    assert_eq!(at.pipeline.counters().future, 4);
    let told: Vec<i64> = at.end().events.iter().map(|e| e.at).collect();
    assert_eq!(told, [900, 901]);
}

/// Given a sequence number that lets an alert start twice at one time, then these are two alerts, each with its own id;
/// the first has the id that it would have alone.
#[test]
fn two_alerts_of_one_time_have_two_ids() {
    let text = "[[rule]]\nid = \"r\"\ntags = [\"*\"]\ndetect.range = { fail = [0.0, 10.0] }\nalert = {}\n";
    let alerts = |n: usize| {
        let mut at = At::new(text);
        let rows = &[(5, "a", 99.0), (5, "a", 1.0), (5, "a", 99.0), (5, "a", 1.0)][..n];
        let seq: ArrayRef = Arc::new(Int64Array::from_iter_values(1..=n as i64));
        let rows = with(&batch(rows), "seq", seq);
        at.pipeline.push_rows(&rows, &[], &mut at.out).expect("a canonical batch");
        at.end().events
    };
    let (two, one) = (alerts(4), alerts(2));
    assert_eq!(two.len(), 4);
    assert_eq!(two.iter().map(|e| &e.id).collect::<BTreeSet<_>>().len(), 4, "{two:#?}");
    assert_eq!(two[..2], one[..]);
    let id = |e: &engine::Event| match &e.what {
        What::Alert { alert, transition, .. } => (alert.clone(), *transition == Transition::Firing),
        _ => panic!("{e:?}"),
    };
    assert_eq!((id(&two[2]).0, id(&two[2]).1), (id(&two[3]).0, true));
    assert_ne!(id(&two[0]).0, id(&two[2]).0);
}

/// Given a signal that is held by command over ten years, then its ticks cost nothing, and the release acts at the last
/// of them, as it would had each been closed.
#[test]
fn ten_years_of_being_held_cost_nothing() {
    const YEARS: i64 = 10 * 365 * 86_400 * 1_000_000_000;
    for text in [GROUP.to_string(), GROUP.replace("10ns\" }", "10ns\", member = \"b\" }")] {
        let mut at = At::new(&text);
        at.push(&[(10, "a", 1.0), (10, "b", 1.0), (10, "c", 1.0)]);
        at.apply(1, Content::Hold { signal: "g".into() });
        at.push(&[(YEARS, "a", 1.0), (YEARS, "b", 1.0), (YEARS + 5, "c", 1.0)]);
        at.apply(2, Content::Release { signal: "g".into() });
        let released = at.out.events.last().expect("the release");
        assert_eq!(released.at, YEARS, "{released:?}");
        at.push(&[(YEARS + 10, "a", 1.0), (YEARS + 10, "b", 1.0), (YEARS + 10, "c", 1.0)]);
        assert_eq!(last(&at.end()).state, State::Normal);
    }
}

/// Given a batch with a null where no null can be, then it is refused whole: a source's fault. A row without a sequence
/// number among others is just that.
#[test]
fn nulls_that_cannot_be_are_refused() {
    let whole = batch(&[(1, "a", 1.0), (2, "a", 2.0)]);
    let ts = TimestampNanosecondArray::from(vec![Some(1), None]).with_timezone("UTC");
    let tag = StringArray::from(vec![Some("a"), None]);
    let columns: [(&'static str, ArrayRef); 2] = [("ts", Arc::new(ts)), ("tag", Arc::new(tag))];
    for (column, array) in columns {
        let mut at = At::new("");
        let refused = at.pipeline.push_rows(&with(&whole, column, array), &[], &mut at.out);
        assert_eq!(refused, Err(BatchError::Null { column }));
        assert_eq!(at.pipeline.counters().rows_in, 0);
    }
    let mut at = At::new("");
    let rows =
        with(&batch(&[(1, "a", 1.0), (1, "a", 1.0)]), "seq", Arc::new(Int64Array::from(vec![Some(7), None])));
    at.pipeline.push_rows(&rows, &[], &mut at.out).expect("a canonical batch");
    assert_eq!(at.pipeline.counters().duplicates, 1);
}

/// The batch with one column put in or replaced.
fn with(batch: &RecordBatch, column: &str, array: ArrayRef) -> RecordBatch {
    let schema = batch.schema();
    let names = schema.fields().iter().map(|f| f.name().clone()).zip(batch.columns().iter().cloned());
    let kept: Vec<_> = names.filter(|(name, _)| name != column).collect();
    RecordBatch::try_from_iter(kept.into_iter().chain([(column.to_string(), array)])).expect("one length")
}

/// Given members that may vote with uncertain samples, then a vote that an uncertain one had a part in is not Good.
#[test]
fn a_vote_with_an_uncertain_sample_is_uncertain() {
    let text = format!(
        "[quality]\nscheme = \"qartod\"\n{}",
        GROUP.replace("signals", "allow_uncertain = true\nsignals")
    );
    let status_of = |codes: [u32; 3]| {
        let mut at = At::new(&text);
        let rows = batch(&[(10, "a", 1.0), (10, "b", 1.0), (10, "c", 1.0)]);
        let rows = with(&rows, "quality", Arc::new(UInt32Array::from(codes.to_vec())));
        at.pipeline.push_rows(&rows, &[], &mut at.out).expect("a canonical batch");
        let out = at.end();
        (last(&out).status, last(&out).state)
    };
    assert_eq!(status_of([1, 1, 1]), (status::GOOD, State::Normal));
    assert_eq!(status_of([1, 3, 1]), (status::SUB_NORMAL, State::Normal));
    assert_eq!(status_of([1, 4, 1]), (status::GOOD, State::Normal));
}

/// Given sentinels by pattern and in the catalogue, then in both layouts exactly those values of those tags are missing;
/// a configuration that could never match is refused, and sentinels are part of the digest.
#[test]
fn sentinels_are_missing_samples_in_both_layouts() {
    let rule = "[[rule]]\nid = \"r\"\ntags = [\"*\"]\ndetect.range = { fail = [-1.0, 10.0] }\n";
    let text = format!("[[sentinel]]\ntags = [\"a*\"]\nvalues = [-999.0, 0.0]\n{rule}");
    let sentinels = vec![f64::NAN, f64::NAN, 32767.0];
    let catalogue = engine::Catalogue::new(&["a", "b", "c"], &[("sentinel", sentinels)]);
    let plan = |text: &str, catalogue| Plan::parse(text, catalogue).expect("a configuration");
    let full = Arc::new(plan(&text, Some(catalogue)));
    let rows = [
        (1, "a", -999.0),
        (1, "b", -999.0),
        (1, "c", 32767.0),
        (2, "a", -0.0),
        (2, "b", 0.0),
        (2, "c", -999.0),
        (3, "a", -998.999_999),
        (3, "b", 32767.0),
        (3, "c", 5.0),
    ];
    let wide = {
        let of = |tag| Float64Array::from_iter_values(rows.iter().filter(|r| r.1 == tag).map(|r| r.2));
        let ts = TimestampNanosecondArray::from_iter_values(1..=3).with_timezone("UTC");
        let mut columns: Vec<(&str, ArrayRef)> = vec![("ts", Arc::new(ts))];
        columns.extend(["a", "b", "c"].map(|tag| (tag, Arc::new(of(tag)) as ArrayRef)));
        let batch = RecordBatch::try_from_iter(columns).expect("one length");
        let layout = [(engine::LAYOUT.to_string(), "wide".to_string())].into();
        let schema = batch.schema().as_ref().clone().with_metadata(layout);
        batch.with_schema(Arc::new(schema)).expect("the same columns")
    };
    for rows in [batch(&rows), wide] {
        let out = Outputs { all_verdicts: true, ..Outputs::default() };
        let mut at = At { pipeline: Pipeline::new(full.clone(), 0), out };
        at.pipeline.push_rows(&rows, &[], &mut at.out).expect("a canonical batch");
        let mut flags: Vec<_> = at.out.verdicts.iter().map(|v| (v.ts, v.tag, v.flag as u8)).collect();
        flags.sort_unstable();
        let flags: Vec<u8> = flags.iter().map(|f| f.2).collect();
        assert_eq!(flags, [9, 4, 9, 9, 1, 4, 4, 4, 1]);
    }
    assert_ne!(plan(rule, None).digest, plan(&text, None).digest);
    for bad in ["tags = []\nvalues = [1.0]", "tags = [\"*\"]\nvalues = []", "tags = [\"*\"]\nvalues = [nan]"]
    {
        let refused = Plan::parse(&format!("[[sentinel]]\n{bad}\n"), None).expect_err(bad);
        assert!(refused.to_string().contains("[[sentinel]]"), "{refused}");
    }
}

const REPORTING: &str = "[[reporting]]\ntags = [\"c*\"]\nmode = \"by_exception\"\nheartbeat = \"100ns\"\n";

/// Given a member that reports by exception, then its last value votes inside its heartbeat, and no longer.
#[test]
fn a_member_by_exception_votes_inside_its_heartbeat() {
    let text = format!("{REPORTING}{}", GROUP.replace("exclude = {", "exclude = \"never\" # {"));
    let mut at = At::new(&text);
    at.push(&[(10, "c", 9.0)]);
    for k in 1..20 {
        at.push(&[(k * 10, "a", 1.0), (k * 10, "b", 1.5)]);
    }
    let flags: Vec<u8> = {
        let out = at.end();
        // The tags in the order of the group: c is the third of each tick.
        out.verdicts.iter().filter(|v| v.tag == 2).map(|v| v.flag as u8).collect()
    };
    let (inside, after) = flags.split_at(11);
    assert!(inside.iter().all(|f| *f == 3) && after.len() == 8 && after.iter().all(|f| *f == 9), "{flags:?}");
}

/// Given a tag that reports by exception, then a silence inside its heartbeat does not break the comparison of its rate;
/// that of other tags is broken as ever, whichever comes first.
#[test]
fn a_rate_is_compared_across_the_heartbeat() {
    let rule =
        "[[rule]]\nid = \"r\"\ntags = [\"*\"]\ndetect.rate = { fail_per_s = 1.0, max_gap = \"5ns\" }\n";
    let text = format!("{REPORTING}{rule}");
    for order in [["c1", "a", "c2"], ["a", "c1", "c2"]] {
        let mut at = At::new(&text);
        for (ts, x) in [(0, 0.0), (100, 5.0), (300, 9.0)] {
            at.push(&order.map(|tag| (ts, tag, x)));
        }
        let name = |v: &engine::VerdictRow| at.pipeline.tag_name(v.tag).to_string();
        let flags = |tag: &str| -> Vec<u8> {
            at.out.verdicts.iter().filter(|v| name(v) == tag).map(|v| v.flag as u8).collect()
        };
        assert_eq!([flags("a"), flags("c1"), flags("c2")], [vec![2, 2, 2], vec![2, 4, 2], vec![2, 4, 2]]);
    }
}

/// Given `[[reporting]]` that says too little or too much, then it is refused; it is part of the digest, and a gap shorter
/// than a heartbeat is pointed out.
#[test]
fn reporting_is_checked() {
    let plan = |text: &str| Plan::parse(text, None);
    for bad in [
        "tags = [\"a\"]\nmode = \"by_exception\"",
        "tags = [\"a\"]\nmode = \"by_exception\"\nheartbeat = \"0s\"",
        "tags = [\"a\"]\nmode = \"periodic\"\nheartbeat = \"1s\"",
        "tags = []\nmode = \"periodic\"",
    ] {
        let refused = plan(&format!("[[reporting]]\n{bad}\n")).expect_err(bad);
        assert!(refused.to_string().contains("[[reporting]]"), "{refused}");
    }
    let rule = "[[rule]]\nid = \"g\"\ntags = [\"*\"]\ndetect.gap = { max = \"50ns\" }\n";
    let (with, without) = (plan(&format!("{REPORTING}{rule}")).expect("fine"), plan(rule).expect("fine"));
    assert_ne!(with.digest, without.digest);
    assert_eq!(with.gaps_inside_heartbeats(["a", "c1"].into_iter()), [("g", "c1")]);
    let catalogue = engine::Catalogue::new(&["x"], &[("heartbeat_s", vec![2.0])]);
    assert_eq!(Plan::parse("", Some(catalogue)).expect("fine").heartbeat("x"), Some(2_000_000_000));
}

/// Given limits that are reached, then each is told once, counted, and nothing else goes missing.
#[test]
fn a_limit_that_is_reached_is_told_once() {
    let told = |out: &Outputs| -> Vec<String> {
        let code = |e: &engine::Event| match &e.what {
            What::Operational { code, .. } => Some(code.clone()),
            _ => None,
        };
        out.events.iter().filter_map(code).collect()
    };
    let mut at = At::new("[limits]\ntags = 2\n");
    at.push(&[(1, "a", 1.0), (1, "b", 1.0), (1, "c", 1.0), (2, "d", 1.0), (2, "a", 1.0)]);
    at.push(&[(3, "c", 1.0)]);
    assert_eq!((at.pipeline.counters().processed, at.pipeline.counters().dead_letters), (3, 3));
    assert_eq!(told(&at.end()), ["limit_tags"]);

    let text = "[time]\nmax_delay = \"100ns\"\n[limits]\nheld_rows = 3\n\
                [[rule]]\nid = \"r\"\ntags = [\"*\"]\ndetect.range = { fail = [0.0, 10.0] }\n";
    let mut at = At::new(text);
    at.push(&[(5, "a", 1.0), (4, "a", 1.0), (6, "a", 1.0), (3, "a", 1.0), (7, "a", 1.0), (2, "a", 1.0)]);
    let c = at.pipeline.counters();
    // 3 and 4 were released early, so 2 is late.
    assert_eq!((c.held, c.early, c.processed, c.late), (3, 2, 2, 1));
    let out = at.end();
    assert_eq!(told(&out), ["limit_held_rows"]);
    assert_eq!(out.verdicts.iter().map(|v| v.ts).collect::<Vec<_>>(), [3, 4, 5, 6, 7]);

    let wait = "wait = \"1s\"\nmax_skew";
    let mut at = At::new(&GROUP.replace("max_skew", wait));
    let many = engine::limits::SEEN_SAMPLES as i64 + 5;
    let rows: Vec<_> = (0..many).map(|ts| (ts, "a", 1.0)).collect();
    at.push(&rows);
    assert_eq!(at.pipeline.counters().forgotten, 5);
    assert_eq!(told(&at.out), ["limit_group_samples"]);
}

/// Given rules of which some never see a row, then these are known at the end.
#[test]
fn rules_that_never_ran_are_known() {
    let rule = |id: &str, tag: &str| {
        format!("[[rule]]\nid = \"{id}\"\ntags = [\"{tag}\"]\ndetect.range = {{ fail = [0.0, 10.0] }}\n")
    };
    let mut at = At::new(&format!("{}{}{GROUP}", rule("seen", "a*"), rule("unseen", "b")));
    at.push(&[(1, "a", f64::NAN)]);
    assert_eq!(at.pipeline.idle_rules().collect::<Vec<_>>(), ["unseen"]);
}

/// Given qualities beside the tags of a wide batch, then a bad one makes its sample missing, as in the long layout; one
/// whose tag is not there does nothing, and codes without a scheme are refused.
#[test]
fn wide_qualities_decide_what_is_missing() {
    let rule = "[[rule]]\nid = \"r\"\ntags = [\"*\"]\ndetect.range = { fail = [0.0, 10.0] }\n";
    let codes: ArrayRef = Arc::new(UInt32Array::from(vec![Some(1), Some(4), Some(3), None]));
    let rows = batch(&[(1, "a", 1.0), (2, "a", 99.0), (3, "a", 99.0), (4, "a", 1.0)]);
    let long = with(&rows, "quality", codes.clone());
    let marked = |name: &str, of: &str| {
        let of = [(engine::QUALITY_OF.to_string(), of.to_string())].into();
        arrow_schema::Field::new(name, arrow_schema::DataType::UInt32, true).with_metadata(of)
    };
    let fields = vec![
        rows.schema().field(0).clone(),
        arrow_schema::Field::new("a", arrow_schema::DataType::Float64, true),
        marked("a_q", "a"),
        marked("b_q", "b"),
    ];
    let layout = [(engine::LAYOUT.to_string(), "wide".to_string())].into();
    let schema = Arc::new(arrow_schema::Schema::new(fields).with_metadata(layout));
    let columns = vec![rows.column(0).clone(), rows.column(2).clone(), codes.clone(), codes];
    let wide = RecordBatch::try_new(schema, columns).expect("one length");
    for rows in [&long, &wide] {
        let mut at = At::new(&format!("[quality]\nscheme = \"qartod\"\n{rule}"));
        at.pipeline.push_rows(rows, &[], &mut at.out).expect("a canonical batch");
        assert_eq!(at.pipeline.tag_count(), 1);
        assert_eq!(at.end().verdicts.iter().map(|v| v.flag as u8).collect::<Vec<_>>(), [1, 9, 4, 9]);
    }
    let mut at = At::new(rule);
    assert_eq!(at.pipeline.push_rows(&wide, &[], &mut at.out), Err(BatchError::NoScheme));
    // Long rows come from anybody: one with a code must not stop the others.
    let words: ArrayRef =
        Arc::new(arrow_array::StringArray::from(vec![Some("1"), Some("\0"), None, Some("\0")]));
    at.pipeline.push_rows(&with(&rows, "quality", words), &[], &mut at.out).expect("a canonical batch");
    let dead: Vec<_> = at.out.dead.iter().map(|d| (d.ts, d.code)).collect();
    assert_eq!(dead, [(1, "no_quality_scheme"), (3, "no_quality_scheme")]);
    assert_eq!(at.end().verdicts.iter().map(|v| v.flag as u8).collect::<Vec<_>>(), [4, 1]);
}

/// Given alerts of two tags and of a group, then those that fire are counted by rule and severity, also after a restart; a rule
/// without an alert is not among them, and one that was changed begins with none.
#[test]
fn alerts_that_fire_are_counted_also_after_a_restart() {
    let rules = "[[rule]]\nid = \"r\"\ntags = [\"*\"]\ndetect.range = { fail = [0.0, 1.0] }\n\
                 alert = { on = \"fail\", severity = \"critical\" }\n\
                 [[rule]]\nid = \"quiet\"\ntags = [\"*\"]\ndetect.range = { fail = [0.0, 1.0] }\n";
    let mut at = At::new(rules);
    at.push(&[(1, "a", 9.0), (1, "b", 9.0), (1, "c", 0.5)]);
    assert_eq!(at.pipeline.alerts_firing(), [("r", "critical", 2)]);
    let restore = |text: &str, bytes: &[u8]| {
        let plan = Plan::parse(text, None).expect("a configuration");
        Pipeline::restore(Arc::new(plan), 0, bytes, &mut Outputs::default()).expect("a state")
    };
    let bytes = at.pipeline.snapshot();
    let changed = rules.replacen("[0.0, 1.0]", "[0.0, 2.0]", 1);
    assert_eq!(restore(&changed, &bytes).alerts_firing(), [("r", "critical", 0)]);
    at.pipeline = restore(rules, &bytes);
    assert_eq!(at.pipeline.alerts_firing(), [("r", "critical", 2)]);
    at.push(&[(2, "a", 0.5)]);
    assert_eq!(at.pipeline.alerts_firing(), [("r", "critical", 1)]);
    at.push(&[(2, "b", 0.5), (2, "c", 9.0), (3, "c", 0.5)]);
    assert_eq!(at.pipeline.alerts_firing(), [("r", "critical", 0)]);

    let mut at = At::new(&format!("{GROUP}alert = {{ on = \"fail\" }}\n"));
    at.push(&[(10, "a", 1.0), (10, "b", 1.0), (10, "c", 1.0), (20, "a", 1.0), (200, "a", f64::NAN)]);
    let firing = at.pipeline.alerts_firing();
    let fired = |e: &engine::Event| matches!(e.what, What::Alert { transition: Transition::Firing, .. });
    assert_eq!(firing[0].2, at.out.events.iter().filter(|e| fired(e)).count() as u64, "{:?}", at.out.events);
    assert_eq!(firing[0].2, 1, "{:?}", at.out.events);
}

/// Given the alert of a signal that has failed, then it fires at its deadline though no member is heard any more, or none that can
/// vote; that of a signal that is held resolves at its deadline.
#[test]
fn an_alert_of_a_silent_group_keeps_its_deadline() {
    let alert = "alert = { on = \"fail\", for = \"30ns\", keep_firing_for = \"30ns\" }\n";
    let text = format!("[time]\ngrace = \"5ns\"\n{GROUP}{alert}");
    let failed = || {
        let mut at = At::new(&text);
        at.tick(10, 1.0);
        at.tick(20, f64::NAN);
        assert_eq!(at.pipeline.signals(), [("g".into(), State::Failed)]);
        at
    };
    let mut at = failed();
    at.push(&[(55, "other", 0.0)]);
    assert!(at.alerts().is_empty(), "{:?}", at.alerts());
    at.push(&[(56, "other", 0.0)]);
    assert_eq!(at.alerts(), ["g of g: Firing 50"]);
    at.tick(60, 1.0);
    at.apply(1, Content::Hold { signal: "g".into() });
    at.push(&[(95, "other", 0.0)]);
    assert_eq!(at.alerts().len(), 1);
    at.push(&[(96, "other", 0.0)]);
    assert_eq!(at.alerts()[1..], ["g of g: Resolved 90"]);

    let mut at = failed();
    at.tick(60, f64::NAN);
    assert_eq!(at.alerts(), ["g of g: Firing 50"]);

    let mut at = At::new(&text);
    at.tick(10, 1.0);
    at.apply(1, Content::Split { signal: "g".into() });
    at.push(&[(46, "other", 0.0)]);
    assert_eq!(at.alerts(), ["g of g: Firing 40"]);
}
