//! What a restart finds, most of it under another configuration than the one that was stopped.

use crate::examples::{At, GROUP};
use engine::{Content, State};

fn state(at: &At) -> State {
    at.pipeline.signals()[0].1
}

/// Given a signal that an operator holds, then it is held after a restart, also under a changed group and after one more restart, until
/// it is released.
#[test]
fn a_hold_survives_a_restart() {
    let other = GROUP.replace("abs = 1.0", "abs = 2.0");
    for texts in [[GROUP, GROUP], [&other, &other], [&other, GROUP]] {
        let mut at = At::new(GROUP);
        at.tick(10, 1.0);
        at.apply(1, Content::Hold { signal: "g".into() });
        let served = at.out.values.len();
        for (text, ts) in texts.into_iter().zip([20, 30]) {
            at.restart(text);
            at.tick(ts, 1.0);
            assert_eq!((state(&at), at.out.values.len()), (State::Held, served));
        }
        at.apply(2, Content::Release { signal: "g".into() });
        at.tick(40, 1.0);
        assert_eq!(state(&at), State::Normal);
        assert_eq!(at.out.values.last().map(|v| (v.ts, v.value)), Some((40, 1.0)));
    }
}

/// Given a signal that failed because its members come from two partitions, then that is so after a restart, also under a changed group
/// and after one more restart, until it is released.
#[test]
fn a_split_survives_a_restart() {
    let other = GROUP.replace("abs = 1.0", "abs = 2.0");
    for texts in [[GROUP, GROUP], [&other, &other], [&other, GROUP]] {
        let mut at = At::new(GROUP);
        at.tick(10, 1.0);
        at.apply(1, Content::Split { signal: "g".into() });
        let served = at.out.values.len();
        for (text, ts) in texts.into_iter().zip([20, 30]) {
            at.restart(text);
            at.tick(ts, 1.0);
            assert!(at.pipeline.is_split(0));
            assert_eq!((state(&at), at.out.values.len()), (State::Failed, served));
        }
        at.apply(2, Content::Release { signal: "g".into() });
        at.tick(40, 1.0);
        assert_eq!((state(&at), at.pipeline.is_split(0)), (State::Normal, false));
    }
}

/// Given rows that wait inside `max_delay`, when the partition goes on with a smaller one or none, then they are released before later
/// ones of their tag, and those of a tag that is silent when their time is past.
#[test]
fn rows_held_by_another_delay_are_released() {
    let text = |delay: &str| {
        format!(
            "[time]\n{delay}grace = \"200ns\"\n\
             [[rule]]\nid = \"r\"\ntags = [\"*\"]\ndetect.range = {{ fail = [0.0, 10.0] }}\n"
        )
    };
    for (after, own) in [("", 0), ("max_delay = \"2ns\"\n", 1)] {
        let mut at = At::new(&text("max_delay = \"100ns\"\n"));
        at.push(&[(101, "a", 1.0), (100, "a", 1.0), (100, "b", 1.0)]);
        at.restart(&text(after));
        assert_eq!(at.pipeline.counters().held, 3);
        at.push(&[(102, "a", 1.0), (103, "a", 1.0)]);
        at.push(&[(104, "a", 1.0)]);
        // Only the row of c itself may wait now.
        at.push(&[(400, "c", 1.0)]);
        let c = at.pipeline.counters();
        assert_eq!((c.held, c.processed, c.late), (own, 7 - own, 0), "{after}");
        let judged = |tag: u32| -> Vec<i64> {
            at.out.verdicts.iter().filter(|v| v.tag == tag).map(|v| v.ts).collect()
        };
        assert_eq!((judged(0), judged(1)), (vec![100, 101, 102, 103, 104], vec![100]), "{after}");
        at.end();
    }
}

fn selecting(pattern: &str) -> String {
    format!(
        "[time]\ngrace = \"5ns\"\n\
         [[rule]]\nid = \"z\"\ntags = [\"{pattern}\"]\n\
         detect.zscore = {{ window = 200, suspect = 3.0, min_samples = 10 }}\n\
         [[rule]]\nid = \"r\"\ntags = [\"{pattern}\"]\ndetect.range = {{ fail = [0.0, 10.0] }}\n\
         alert = {{ on = \"fail\", for = \"5ns\", keep_firing_for = \"5ns\" }}\n"
    )
}

fn warming(at: &mut At, tag: &str) -> Option<u64> {
    let number = (0..at.pipeline.tag_count() as u32).find(|n| at.pipeline.tag_name(*n) == tag);
    at.pipeline.warming(0, number.expect("a known tag"))
}

fn learn(at: &mut At, from: i64, tag: &str) {
    let rows: Vec<_> = (from..from + 150).map(|ts| (ts, tag, (ts % 7) as f64)).collect();
    at.push(&rows);
}

/// Given a mistake in a rule's pattern that is mended later, then a tag that was not selected meanwhile leaves nothing behind: its alert
/// ended when the rule changed, it is not judged, and it begins anew afterwards.
#[test]
fn a_tag_no_longer_selected_begins_anew_later() {
    let mut at = At::new(&selecting("pump*"));
    learn(&mut at, 0, "pump1");
    at.push(&[(200, "pump1", 99.0), (210, "pump1", 99.0)]);
    assert_eq!((warming(&mut at, "pump1"), at.alerts()), (None, vec!["r of pump1: Firing 205".to_string()]));
    // One that is about to end when it is stopped.
    at.push(&[(220, "pump1", 1.0)]);

    at.restart(&selecting("pmup*"));
    assert_eq!(at.alerts()[1..], ["r of pump1: Resolved 220"]);
    let judged = at.out.verdicts.len();
    at.push(&[(300, "pump1", 99.0), (400, "other", 0.0)]);
    assert_eq!((at.out.verdicts.len(), at.alerts().len()), (judged, 2));

    at.restart(&selecting("pump*"));
    assert_eq!(warming(&mut at, "pump1"), Some(10));
    assert_eq!(at.pipeline.alerts_firing(), [("r", "warning", 0)]);
    at.push(&[(500, "pump1", 99.0), (600, "other", 0.0)]);
    assert_eq!(
        (warming(&mut at, "pump1"), &at.alerts()[2..]),
        (Some(9), &["r of pump1: Firing 505".into()][..])
    );
}

/// Given a pattern that selects more tags than before, then those selected before keep what was learned, also while they are silent, and
/// the new ones begin anew.
#[test]
fn a_tag_newly_selected_begins_anew() {
    let mut at = At::new(&selecting("pump*"));
    learn(&mut at, 0, "pump1");
    learn(&mut at, 0, "fan1");
    assert_eq!((warming(&mut at, "pump1"), warming(&mut at, "fan1")), (None, None));
    at.restart(&selecting("*"));
    assert_eq!((warming(&mut at, "pump1"), warming(&mut at, "fan1")), (None, Some(10)));
    at.push(&[(200, "pump1", 1000.0), (200, "fan1", 1000.0)]);
    let flags: Vec<_> =
        at.out.verdicts.iter().filter(|v| v.ts == 200 && v.rule == 0).map(|v| v.flag as u8).collect();
    assert_eq!(flags, [3, 2]);
}

/// Given patterns that are changed again and again, then what tags that are no longer selected had learned takes no place.
#[test]
fn windows_of_tags_no_longer_selected_are_given_back() {
    let mut at = At::new(&selecting("pump*"));
    let mut sizes = Vec::new();
    for (k, pattern) in ["fan*", "pump*"].into_iter().cycle().take(12).enumerate() {
        learn(&mut at, k as i64 * 1_000, "pump1");
        learn(&mut at, k as i64 * 1_000, "fan1");
        sizes.push(at.pipeline.snapshot().len());
        at.restart(&selecting(pattern));
    }
    assert!(sizes[11] < sizes[3] + 200, "{sizes:?}");
}
