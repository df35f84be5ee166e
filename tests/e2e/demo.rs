//! `truegauge demo`: what a newcomer is promised to see.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use truegauge::cmd::demo::{Lines, Show, Step, feed, play, scene};
use truegauge::view::draw::draw;
use truegauge::view::{Key, Look, Scene, View};

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

/// Given a demo that is stopped at its second alert, then it ends there and not with its script though rows are always
/// on their way, and every row that was taken is accounted for.
#[test]
fn a_stopped_demo_ends_at_once() {
    let stop = AtomicBool::new(false);
    let mut lines = Lines(|line| {
        if line.contains("ALERT    rate") {
            stop.store(true, Ordering::Relaxed);
        }
    });
    let run = play(Duration::from_secs(6), &stop, &mut lines).expect("it plays").run;
    assert!(run.rows_in < 6_000, "{run:?}");
    assert_eq!(
        run.rows_in,
        run.processed + run.late + run.dead_letters + run.duplicates + run.shed + run.held
    );
}

/// Feeds a scene as the live view does.
struct Fed(Scene);

impl Show for Fed {
    fn show(&mut self, step: &Step<'_>) {
        feed(&mut self.0, step);
    }
}

/// Given the real engine behind the view, when the script is over, then the view has followed to the last trouble and
/// shows every alert, and the chart of the signal that a model served shows that: values of the model with their
/// interval, what was missing, and when it was measured again.
#[test]
fn the_live_view_shows_what_the_engine_did() {
    let length = Duration::from_secs(3);
    let mut fed = Fed(scene(length));
    play(length, &AtomicBool::new(false), &mut fed).expect("it plays");
    let mut view = View::new(Look { colour: true, unicode: true }, fed.0);
    let last = picture(&view);
    view.press(Key::Next);
    view.press(Key::Next);
    let level = picture(&view);
    let expected = [
        (&last, "── tank1.level (%)"),
        (&last, "alerts: 0 firing, 6 resolved"),
        (&last, "range of pump1.flow  36-65 s resolved"),
        (&last, "rate of turbine1.speed  101-108 s resolved"),
        (&last, "rows in 11930 = processed 11930 + late 0"),
        (&level, "── boiler1.level (mm)"),
        (&level, "░░"),
        (&level, "▄▄"),
        (&level, "×××"),
        (&level, "recovering -> suspect, measured again"),
    ];
    for (picture, wanted) in expected {
        assert!(picture.contains(wanted), "no `{wanted}` in\n{picture}");
    }
}

fn picture(view: &View) -> String {
    let mut terminal = Terminal::new(TestBackend::new(120, 35)).expect("memory is a terminal");
    terminal.draw(|frame| draw(view, frame)).expect("memory can be drawn to");
    terminal.backend().to_string()
}
