//! The live view of a stream in a terminal: a [`Scene`] of what happened, and a [`View`] of it that keys steer.
//!
//! A scene is fed plain data; `draw` turns a view into cells; `screen` owns the terminal. Absent here: Kafka, the loop
//! of the engine, clocks and the terminal itself, so that a test draws into memory.

mod chart;
pub mod draw;
pub mod screen;

use engine::payload::Served;
use engine::{Counters, Event, Transition, What};
use std::collections::VecDeque;
use std::time::Duration;

/// What stays the same while the view is open.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Time that is shown as 0 s.
    pub start_ns: i64,
    /// How much time the data span.
    pub span_ns: i64,
    /// Between two samples of a tag; a longer silence is missing data.
    pub period_ns: i64,
    /// How long the run takes.
    pub length: Duration,
}

/// Limits of a tag's rule: they fix its axis, so that no value can flatten the rest.
#[derive(Debug, Clone)]
pub struct Scale {
    /// Unit of the tag.
    pub unit: String,
    /// Values outside are failures.
    pub fail: [f64; 2],
    /// Values outside are suspect.
    pub suspect: [f64; 2],
}

/// Everything the view can show. Bounded: old samples, resolved alerts and old log lines leave.
#[derive(Debug, Clone)]
pub struct Scene {
    setup: Setup,
    elapsed: Duration,
    now_ns: i64,
    counters: Counters,
    /// Rows that had come in by which moment, over the last seconds.
    paces: VecDeque<(Duration, u64)>,
    tags: Vec<Track>,
    signals: Vec<Signal>,
    /// In the order they fired.
    alarms: Vec<Alarm>,
    log: VecDeque<Entry>,
    /// Where something happened last.
    focus: String,
}

/// A tag and its latest samples.
#[derive(Debug, Clone)]
struct Track {
    name: String,
    scale: Scale,
    /// Time and value; NaN: missing.
    samples: VecDeque<(i64, f64)>,
}

/// A signal, its members and its latest served values.
#[derive(Debug, Clone)]
struct Signal {
    name: String,
    /// Name and standing in the vote.
    members: Vec<(String, String)>,
    state: String,
    source: String,
    since_ns: i64,
    served: VecDeque<Shown>,
}

/// A served value.
#[derive(Debug, Clone, Copy)]
struct Shown {
    ts: i64,
    value: f64,
    lo: f64,
    hi: f64,
    substituted: bool,
}

/// An alert.
#[derive(Debug, Clone)]
struct Alarm {
    id: String,
    rule: String,
    target: String,
    fired_ns: i64,
    resolved_ns: Option<i64>,
    why: String,
}

/// A line of the log.
#[derive(Debug, Clone)]
struct Entry {
    at: i64,
    text: String,
    tone: Tone,
}

/// What a line of the log is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tone {
    Plain,
    /// A signal switches to its fallback.
    Fallback,
    /// A signal is measured again.
    Back,
}

impl Scene {
    /// Nothing happened yet.
    pub fn new(setup: Setup) -> Self {
        Scene {
            elapsed: Duration::ZERO,
            now_ns: setup.start_ns,
            counters: Counters::default(),
            paces: VecDeque::new(),
            tags: Vec::new(),
            signals: Vec::new(),
            alarms: Vec::new(),
            log: VecDeque::new(),
            focus: String::new(),
            setup,
        }
    }

    /// Makes a tag known. Samples of unknown tags are not shown.
    pub fn add_tag(&mut self, name: &str, scale: Scale) {
        self.tags.push(Track { name: name.into(), scale, samples: VecDeque::new() });
    }

    /// Makes a signal known; its axis is that of its first member.
    pub fn add_signal(&mut self, name: &str, members: &[String]) {
        if self.focus.is_empty() {
            self.focus = name.into();
        }
        self.signals.push(Signal {
            name: name.into(),
            members: members.iter().map(|m| (m.clone(), "active".into())).collect(),
            state: "unknown".into(),
            source: "none".into(),
            since_ns: self.setup.start_ns,
            served: VecDeque::new(),
        });
    }

    /// A sample as it came in; NaN: missing.
    pub fn sample(&mut self, tag: &str, ts: i64, value: f64) {
        if let Some(track) = self.tags.iter_mut().find(|t| t.name == tag) {
            keep(&mut track.samples, (ts, value), SAMPLES);
        }
    }

    /// A value as it was served.
    pub fn serve(&mut self, served: &Served) {
        let Some(signal) = self.signals.iter_mut().find(|s| s.name == served.signal) else { return };
        let number = |x: Option<f64>| x.unwrap_or(f64::NAN);
        let substituted = served.source == "hold" || served.source.starts_with("model");
        let (value, lo, hi) = (number(served.value), number(served.lo), number(served.hi));
        signal.source.clone_from(&served.source);
        keep(&mut signal.served, Shown { ts: served.ts, value, lo, hi, substituted }, SAMPLES);
    }

    /// An event as it was found.
    pub fn tell(&mut self, event: &Event) {
        let at = event.at;
        match &event.what {
            What::Alert { alert, rule, target, transition: Transition::Firing, why, .. } => {
                let why = why.as_ref().map_or(String::new(), beyond);
                let (id, rule, target) = (alert.clone(), rule.clone(), target.clone());
                self.focus_on(&target);
                self.alarms.push(Alarm { id, rule, target, fired_ns: at, resolved_ns: None, why });
                self.forget_alarms();
            }
            What::Alert { alert, .. } => {
                if let Some(alarm) = self.alarms.iter_mut().find(|a| a.id == *alert) {
                    alarm.resolved_ns = Some(at);
                }
            }
            What::Signal { signal, from, to, reason, .. } => {
                let serving = |state: &str| matches!(state, "degraded" | "recovering");
                let (tone, moment) = match (serving(from), serving(to)) {
                    (false, true) => (Tone::Fallback, ", a model serves"),
                    (true, false) if to != "failed" && to != "held" => (Tone::Back, ", measured again"),
                    _ => (Tone::Plain, ""),
                };
                self.note(at, format!("{signal}: {from} -> {to}{moment} ({reason})"), tone);
                if let Some(s) = self.signals.iter_mut().find(|s| s.name == *signal) {
                    (s.state, s.since_ns) = (to.clone(), at);
                }
                if to != "normal" {
                    self.focus_on(signal);
                }
            }
            What::Member { group, member, from, to } => {
                self.note(at, format!("{member} of {group}: {from} -> {to}"), Tone::Plain);
                let members =
                    self.signals.iter_mut().filter(|s| s.name == *group).flat_map(|s| &mut s.members);
                for (_, standing) in members.filter(|(name, _)| name == member) {
                    standing.clone_from(to);
                }
                if to != "active" {
                    self.focus_on(group);
                }
            }
            What::Operational { message, .. } => self.note(at, message.clone(), Tone::Plain),
            What::Future { tag, .. } => {
                self.note(at, format!("a row of {tag} from the future was set aside"), Tone::Plain);
            }
        }
    }

    fn note(&mut self, at: i64, text: String, tone: Tone) {
        keep(&mut self.log, Entry { at, text, tone }, LINES);
    }

    /// Whether a tag that reported last at this time should have reported since.
    fn silent(&self, last: i64) -> bool {
        self.now_ns.saturating_sub(last) > 3 * self.setup.period_ns
    }

    /// How far the run is: wall time since it began, rows by fate, and the newest time of the data.
    pub fn advance(&mut self, elapsed: Duration, counters: Counters, now_ns: Option<i64>) {
        self.elapsed = elapsed;
        self.counters = counters;
        self.now_ns = now_ns.unwrap_or(self.now_ns);
        if self.paces.back().is_none_or(|(t, _)| elapsed.saturating_sub(*t) >= PACE_STEP) {
            keep(&mut self.paces, (elapsed, counters.rows_in), PACES);
        }
    }

    /// Rows a second, over the last three seconds.
    fn rows_per_s(&self) -> f64 {
        let Some((since, rows)) = self.paces.front() else { return 0.0 };
        let seconds = self.elapsed.saturating_sub(*since).as_secs_f64();
        if seconds > 0.0 { self.counters.rows_in.saturating_sub(*rows) as f64 / seconds } else { 0.0 }
    }

    /// What a chart can be drawn of: the signals, then the tags that had an alert of their own.
    fn subjects(&self) -> Vec<&str> {
        let mut subjects: Vec<&str> = self.signals.iter().map(|s| s.name.as_str()).collect();
        for alarm in &self.alarms {
            let subject = self.subject_of(&alarm.target);
            if !subjects.contains(&subject) {
                subjects.push(subject);
            }
        }
        subjects
    }

    /// The signal that a tag is a member of, or else itself.
    fn subject_of<'a>(&'a self, target: &'a str) -> &'a str {
        let signal = self.signals.iter().find(|s| s.members.iter().any(|(m, _)| m == target));
        signal.map_or(target, |s| &s.name)
    }

    fn focus_on(&mut self, target: &str) {
        self.focus = self.subject_of(target).to_string();
    }

    /// The oldest resolved alerts leave, or the oldest of all.
    fn forget_alarms(&mut self) {
        while self.alarms.len() > ALARMS {
            let oldest = self.alarms.iter().position(|a| a.resolved_ns.is_some()).unwrap_or(0);
            self.alarms.remove(oldest);
        }
    }

    /// Seconds since the start.
    fn seconds(&self, ts: i64) -> i64 {
        ts.saturating_sub(self.setup.start_ns).div_euclid(1_000_000_000)
    }
}

/// What was observed and which limit it broke.
fn beyond(why: &engine::Explanation) -> String {
    match (why.observed, why.lo, why.hi) {
        (Some(x), _, Some(hi)) if x > hi => format!("{x:.2} > {hi:.2}"),
        (Some(x), Some(lo), _) if x < lo => format!("{x:.2} < {lo:.2}"),
        _ => String::new(),
    }
}

fn keep<T>(queue: &mut VecDeque<T>, item: T, most: usize) {
    if queue.len() == most {
        queue.pop_front();
    }
    queue.push_back(item);
}

/// What the terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Colours; without them words, glyphs and weights tell the same.
    pub colour: bool,
    /// Line and block glyphs; without them ASCII alone.
    pub unicode: bool,
}

impl Look {
    /// From the environment: `NO_COLOR`, and the locale by `LC_ALL`, then `LC_CTYPE`, then `LANG`.
    pub fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &&str| variable(name).filter(|value| !value.is_empty());
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(set).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        let unicode = locale.contains("utf-8") || locale.contains("utf8");
        Look { colour: set(&"NO_COLOR").is_none(), unicode }
    }
}

/// What a person asks of the view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The next chart.
    Next,
    /// The chart before.
    Previous,
    /// The chart of what happened last, from now on.
    Follow,
    /// Hold the picture still, or let it go on.
    Freeze,
    /// End the run.
    Quit,
}

/// A scene as it is looked at.
#[derive(Debug, Clone)]
pub struct View {
    look: Look,
    live: Scene,
    /// The scene when the picture was frozen.
    frozen: Option<Scene>,
    /// The chart that a key chose; none: follow what happens.
    chosen: Option<String>,
}

impl View {
    /// Follows what happens.
    pub fn new(look: Look, scene: Scene) -> Self {
        View { look, live: scene, frozen: None, chosen: None }
    }

    /// Takes the newest scene; a frozen picture stays as it is.
    pub fn update(&mut self, scene: Scene) {
        self.live = scene;
    }

    /// Does what a key asks; whether the run goes on.
    pub fn press(&mut self, key: Key) -> bool {
        match key {
            Key::Next => self.step(1),
            Key::Previous => self.step(-1),
            Key::Follow => self.chosen = None,
            Key::Freeze => {
                self.frozen = if self.frozen.is_some() { None } else { Some(self.live.clone()) };
            }
            Key::Quit => return false,
        }
        true
    }

    /// The scene that is in the picture.
    fn picture(&self) -> &Scene {
        self.frozen.as_ref().unwrap_or(&self.live)
    }

    /// The signal or tag whose chart is in the picture.
    fn subject(&self) -> &str {
        self.chosen.as_deref().unwrap_or(&self.picture().focus)
    }

    fn step(&mut self, by: isize) {
        let subjects = self.picture().subjects();
        let at = subjects.iter().position(|s| *s == self.subject()).unwrap_or(0);
        let next = (at as isize + by).rem_euclid(subjects.len().max(1) as isize) as usize;
        self.chosen = subjects.get(next).map(|s| (*s).to_string());
    }
}

/// Samples kept of a tag: more than the widest chart shows.
const SAMPLES: usize = 1200;
/// Alerts kept.
const ALARMS: usize = 64;
/// Lines of the log kept.
const LINES: usize = 64;
/// Between two points of the pace, and how many are kept: three seconds.
const PACE_STEP: Duration = Duration::from_millis(100);
const PACES: usize = 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn look(set: &[(&str, &str)]) -> Look {
        let find = |name: &str| set.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_string());
        Look::of(find)
    }

    /// The locale is the first of the three that is set and not empty; `NO_COLOR` counts when it is not empty.
    #[test]
    fn the_environment_decides_how_it_looks() {
        assert!(look(&[("LANG", "en_US.UTF-8")]).unicode);
        assert!(look(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8"), ("LANG", "C")]).unicode);
        assert!(!look(&[("LC_ALL", "C"), ("LANG", "en_US.UTF-8")]).unicode);
        assert!(!look(&[]).unicode);
        assert!(look(&[("NO_COLOR", "")]).colour && !look(&[("NO_COLOR", "1")]).colour);
    }
}
