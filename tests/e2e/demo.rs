//! `truegauge demo`: what a newcomer is promised to see.

use std::sync::atomic::AtomicBool;
use std::time::Duration;
use truegauge::cmd::demo::{Lines, play};

/// Given the plant's script in three seconds, then each kind of trouble is told and every row is accounted for.
#[test]
fn the_demo_shows_every_kind_of_trouble() {
    let mut lines = Vec::new();
    let stop = AtomicBool::new(false);
    let told = play(Duration::from_secs(3), &stop, &mut Lines(|line| lines.push(line))).expect("it plays");
    let text = lines.join("\n");
    for wanted in [
        "ALERT    range of pump1.flow",
        "ALERT    rate of turbine1.speed",
        "ALERT    gap of tank1.level",
        "member   boiler1.pressure.b of boiler1.pressure: suspect -> excluded",
        "signal   boiler1.level: suspect -> degraded",
        "served by a model",
    ] {
        assert!(text.contains(wanted), "no `{wanted}` in\n{text}");
    }
    let run = &told.run;
    assert_eq!((run.switches_to_fallback, run.recoveries), (1, 1), "{text}");
    assert_eq!(
        run.rows_in,
        run.processed + run.late + run.dead_letters + run.duplicates + run.shed + run.held
    );
    assert!(run.rows_in > 11_000 && run.dead_letters == 0 && run.late == 0, "{run:?}");
}
