//! Turns a view into cells. No background is ever set: it is the terminal's own.

use super::chart::{self, MEASURED, MEMBERS, SUBSTITUTED, letter};
use super::{Alarm, Look, Scene, Signal, Tone, View};
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

/// Draws the view into the whole frame.
pub fn draw(view: &View, frame: &mut Frame<'_>) {
    let area = frame.area();
    let mut page = Page { buf: frame.buffer_mut(), pen: Pen::new(view.look), view, scene: view.picture() };
    page.draw(area);
    if !view.look.unicode {
        only_ascii(page.buf, area);
    }
}

/// Glyphs and colours of a look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pen {
    look: Look,
    pub(super) glyphs: &'static Glyphs,
}

impl Pen {
    fn new(look: Look) -> Self {
        Pen { look, glyphs: if look.unicode { &UNICODE } else { &ASCII } }
    }

    /// A style of this colour, where there are colours.
    pub(super) fn of(self, colour: Color) -> Style {
        if self.look.colour { Style::new().fg(colour) } else { Style::new() }
    }
}

/// What things are drawn with. Three of a kind: in the upper, middle and lower third of a cell.
#[derive(Debug)]
pub(super) struct Glyphs {
    pub(super) measured: [char; 3],
    pub(super) substituted: [char; 3],
    pub(super) interval: char,
    /// Above and below the axis.
    pub(super) beyond: [char; 2],
    pub(super) missing: char,
    pub(super) fail: char,
    pub(super) suspect: char,
    pub(super) axis: char,
    pub(super) tick: char,
    rule: char,
}

const UNICODE: Glyphs = Glyphs {
    measured: ['▔', '━', '▁'],
    substituted: ['▀', '■', '▄'],
    interval: '░',
    beyond: ['▲', '▼'],
    missing: '×',
    fail: '─',
    suspect: '┈',
    axis: '─',
    tick: '┬',
    rule: '─',
};

const ASCII: Glyphs = Glyphs {
    measured: ['"', '-', '_'],
    substituted: ['#'; 3],
    interval: ':',
    beyond: ['^', 'v'],
    missing: 'x',
    fail: '=',
    suspect: '.',
    axis: '-',
    tick: '+',
    rule: '-',
};

/// One cell; outside the buffer nothing.
pub(super) fn paint(buf: &mut Buffer, x: u16, y: u16, glyph: char, style: Style) {
    if let Some(cell) = buf.cell_mut((x, y)) {
        cell.reset();
        cell.set_char(glyph).set_style(style);
    }
}

struct Page<'a> {
    buf: &'a mut Buffer,
    pen: Pen,
    view: &'a View,
    scene: &'a Scene,
}

impl Page<'_> {
    /// Shares the room out: with little of it the log goes first, then the lists, then the chart.
    fn draw(&mut self, area: Rect) {
        let Rect { width, height, .. } = area;
        let rows = |y: u16, n: u16| Rect { x: 0, y, width, height: n };
        self.title(rows(0, height.min(2)));
        if height < 4 {
            return;
        }
        self.keys(rows(height - 1, 1));
        let body = rows(2, height - 3);
        if width >= WIDE && body.height >= 20 {
            let (left, right) = (Rect { width: width - SIDE - 2, ..body }, width - SIDE);
            let log = (body.height / 4).min(9);
            self.chart(Rect { height: body.height - log, ..left });
            self.log(Rect { y: body.y + body.height - log, height: log, ..left });
            let lines = 1 + 2 * self.scene.signals.len() as u16 + 1;
            self.signals(Rect { x: right, width: SIDE, height: lines.min(body.height), ..body });
            let rest = body.height.saturating_sub(lines);
            self.alerts(Rect { x: right, width: SIDE, y: body.y + body.height - rest, height: rest });
            return;
        }
        let lists = if body.height >= 12 { 5 } else { 0 };
        let log = if body.height >= 18 { 3 + (body.height - 18) / 4 } else { 0 };
        self.chart(rows(2, body.height - lists - log));
        let (y, half) = (2 + body.height - lists - log, width / 2);
        self.signals(Rect { x: 0, y, width: half.saturating_sub(1), height: lists });
        self.alerts(Rect { x: half, y, width: width - half, height: lists });
        self.log(rows(y + lists, log));
    }

    fn line(&mut self, area: Rect, row: u16, spans: Vec<Span<'_>>) {
        if row < area.height {
            self.buf.set_line(area.x, area.y + row, &Line::from(spans), area.width);
        }
    }

    /// The heading of a part, drawn to its right edge.
    fn heading(&mut self, area: Rect, words: Vec<Span<'_>>) {
        let rule = self.pen.glyphs.rule;
        let dim = Style::new().add_modifier(Modifier::DIM);
        let mut spans = vec![Span::styled(format!("{rule}{rule} "), dim)];
        spans.extend(words);
        let taken: usize = spans.iter().map(Span::width).sum();
        let rest = usize::from(area.width).saturating_sub(taken + 1);
        spans.push(Span::styled(format!(" {}", String::from(rule).repeat(rest)), dim));
        self.line(area, 0, spans);
    }

    /// How far the run is. It stays live when the picture is frozen: the engine runs on.
    fn title(&mut self, area: Rect) {
        let live = &self.view.live;
        let (setup, c) = (&live.setup, &live.counters);
        let (now, span) = (live.seconds(live.now_ns), setup.span_ns / 1_000_000_000);
        let (elapsed, length) = (live.elapsed.as_secs_f64(), setup.length.as_secs_f64());
        let mut spans = vec![
            Span::styled("truegauge demo", Style::new().add_modifier(Modifier::BOLD)),
            Span::raw(format!("  {elapsed:.1} of {length:.0} s  plant at {now} of {span} s")),
            Span::raw(format!("  {:.0} rows/s", live.rows_per_s())),
        ];
        if self.view.frozen.is_some() {
            let at = self.scene.seconds(self.scene.now_ns);
            let style = self.pen.of(Color::LightCyan).add_modifier(Modifier::BOLD);
            spans.push(Span::styled(format!("  FROZEN at {at} s"), style));
        }
        self.line(area, 0, spans);
        let words = if area.width >= 96 {
            ["rows in", "processed", "late", "dead letters", "duplicates", "shed", "held"]
        } else {
            ["in", "processed", "late", "dead", "duplicate", "shed", "held"]
        };
        let counts = [c.rows_in, c.processed, c.late, c.dead_letters, c.duplicates, c.shed, c.held];
        let (mut spans, short) = (Vec::new(), area.width < 78);
        for (i, (word, count)) in words.iter().zip(counts).enumerate() {
            if short && i > 1 && count == 0 {
                continue;
            }
            let join = ["", " = "].get(i).unwrap_or(&" + ");
            let style = match i {
                0 | 1 => Style::new(),
                _ if count > 0 => self.pen.of(Color::Yellow).add_modifier(Modifier::BOLD),
                _ => Style::new().add_modifier(Modifier::DIM),
            };
            spans.push(Span::raw(*join));
            spans.push(Span::styled(format!("{word} {count}"), style));
        }
        if short {
            spans.push(Span::styled(" + others 0", Style::new().add_modifier(Modifier::DIM)));
        }
        if !c.balanced() {
            spans.push(Span::styled("  DOES NOT BALANCE", self.pen.of(Color::Red)));
        }
        self.line(area, 1, spans);
    }

    fn chart(&mut self, area: Rect) {
        let subject = self.view.subject();
        let signal = self.scene.signals.iter().find(|s| s.name == subject);
        let member = signal.and_then(|s| s.members.first()).map_or(subject, |(name, _)| name);
        let track = self.scene.tags.iter().find(|t| t.name == member);
        let unit = track.map_or("", |t| &t.scale.unit);
        let mut words =
            vec![Span::styled(format!("{subject} ({unit})"), Style::new().add_modifier(Modifier::BOLD))];
        match signal {
            Some(signal) => {
                words.push(Span::raw("  "));
                words.push(self.state(signal));
                words.push(Span::raw(format!("  {}", latest(signal))));
            }
            None => {
                let red = self.pen.of(Color::LightRed).add_modifier(Modifier::BOLD);
                words.push(match track.and_then(|t| t.samples.back()) {
                    Some((ts, _)) if self.scene.silent(*ts) => Span::styled("  silent", red),
                    Some((_, value)) if value.is_nan() => Span::styled("  missing", red),
                    Some((_, value)) => Span::raw(format!("  measured {value:.2}")),
                    None => Span::raw("  waiting for rows"),
                });
            }
        }
        self.heading(area, words);
        if area.height >= 6 {
            let plot = Rect { y: area.y + 1, height: area.height - 2, ..area };
            chart::draw(self.buf, plot, self.pen, self.scene, subject);
            self.legend(Rect { y: area.y + area.height - 1, height: 1, ..area }, signal);
        }
    }

    /// What the glyphs mean; the last entries fall off where there is no room.
    fn legend(&mut self, area: Rect, signal: Option<&Signal>) {
        let glyphs = self.pen.glyphs;
        let model = self.pen.of(SUBSTITUTED);
        let red = self.pen.of(Color::LightRed).add_modifier(Modifier::BOLD);
        let firing = self.pen.of(Color::Yellow).add_modifier(Modifier::BOLD);
        let mut entries: Vec<(String, Style, &str)> = Vec::new();
        match signal {
            Some(signal) => {
                entries.push((glyphs.measured[1].into(), self.pen.of(MEASURED), " voted "));
                entries.push((glyphs.substituted[1].into(), model.add_modifier(Modifier::BOLD), " model "));
                entries.push((glyphs.interval.into(), model.add_modifier(Modifier::DIM), " interval  "));
                for (i, (name, _)) in signal.members.iter().enumerate() {
                    let word = if i + 1 == signal.members.len() { " members  " } else { " " };
                    entries.push((letter(name).into(), self.pen.of(MEMBERS[i % MEMBERS.len()]), word));
                }
            }
            None => entries.push((glyphs.measured[1].into(), self.pen.of(MEASURED), " measured  ")),
        }
        entries.push((glyphs.missing.into(), red, " missing  "));
        entries.push(("!".into(), firing, " alert  "));
        entries.push((glyphs.beyond.iter().collect(), red, " beyond"));
        let (mut spans, mut taken) = (Vec::new(), 0);
        for (glyph, style, word) in entries {
            taken += glyph.chars().count() + word.len();
            if taken > usize::from(area.width) {
                break;
            }
            spans.extend([Span::styled(glyph, style), Span::raw(word)]);
        }
        self.line(area, 0, spans);
    }

    fn state(&self, signal: &Signal) -> Span<'static> {
        let colour = match signal.state.as_str() {
            "normal" => Color::Green,
            "suspect" => Color::Yellow,
            "degraded" => SUBSTITUTED,
            "recovering" => Color::Cyan,
            "failed" => Color::LightRed,
            "held" => Color::LightBlue,
            _ => return Span::raw(signal.state.clone()),
        };
        let weight = if signal.state == "normal" { Modifier::empty() } else { Modifier::BOLD };
        Span::styled(signal.state.clone(), self.pen.of(colour).add_modifier(weight))
    }

    fn signals(&mut self, area: Rect) {
        self.heading(area, vec![Span::raw("signals")]);
        for (i, signal) in self.scene.signals.iter().enumerate() {
            let (name, source) = (&signal.name, &signal.source);
            let since = self.scene.seconds(signal.since_ns);
            let since = if area.width >= SIDE { format!("since {since} s") } else { format!("{since} s") };
            let spans = vec![
                Span::raw(format!("{name} ")),
                self.state(signal),
                Span::raw(format!(" {source} {since}")),
            ];
            self.line(area, 1 + 2 * i as u16, spans);
            let mut spans = vec![Span::raw(" ")];
            for (m, (name, standing)) in signal.members.iter().enumerate() {
                spans.push(Span::styled(
                    format!(" {}", letter(name)),
                    self.pen.of(MEMBERS[m % MEMBERS.len()]),
                ));
                let (word, style) = self.standing(name, standing);
                spans.push(Span::styled(format!(" {word} "), style));
            }
            self.line(area, 2 + 2 * i as u16, spans);
        }
    }

    /// How a member stands: whether it reports, then whether it may vote.
    fn standing<'a>(&self, name: &str, standing: &'a str) -> (&'a str, Style) {
        let scene = self.scene;
        let last = scene.tags.iter().find(|t| t.name == name).and_then(|t| t.samples.back());
        let red = self.pen.of(Color::LightRed).add_modifier(Modifier::BOLD);
        match last {
            Some((ts, _)) if scene.silent(*ts) => ("silent", red),
            Some((_, value)) if value.is_nan() => ("missing", red),
            _ if standing == "active" => ("ok", Style::new().add_modifier(Modifier::DIM)),
            _ => (standing, self.pen.of(Color::Yellow).add_modifier(Modifier::BOLD)),
        }
    }

    /// The firing ones, then those that ended, each with the latest first.
    fn alerts(&mut self, area: Rect) {
        let alarms = &self.scene.alarms;
        let firing = alarms.iter().rev().filter(|a| a.resolved_ns.is_none());
        let resolved = alarms.iter().rev().filter(|a| a.resolved_ns.is_some());
        let count = firing.clone().count();
        self.heading(
            area,
            vec![Span::raw(format!("alerts: {count} firing, {} resolved", alarms.len() - count))],
        );
        if alarms.is_empty() {
            self.line(area, 1, vec![Span::styled("none yet", Style::new().add_modifier(Modifier::DIM))]);
        }
        let lines: Vec<_> =
            firing.chain(resolved).take(usize::from(area.height)).map(|a| self.alarm(a)).collect();
        for (i, spans) in lines.into_iter().enumerate() {
            self.line(area, 1 + i as u16, spans);
        }
    }

    fn alarm(&self, alarm: &Alarm) -> Vec<Span<'static>> {
        let Alarm { rule, target, why, .. } = alarm;
        let from = self.scene.seconds(alarm.fired_ns);
        match alarm.resolved_ns {
            None => {
                let red = self.pen.of(Color::LightRed).add_modifier(Modifier::BOLD);
                vec![
                    Span::styled(format!("! {rule}"), red),
                    Span::raw(format!(" of {target}  since {from} s  {why}")),
                ]
            }
            Some(to) => {
                let to = self.scene.seconds(to);
                let dim = Style::new().add_modifier(Modifier::DIM);
                vec![Span::styled(format!("  {rule} of {target}  {from}-{to} s resolved"), dim)]
            }
        }
    }

    fn log(&mut self, area: Rect) {
        if area.height == 0 {
            return;
        }
        self.heading(area, vec![Span::raw("what happened")]);
        let room = usize::from(area.height - 1);
        let log = &self.scene.log;
        let scene = self.scene;
        for (i, entry) in log.iter().skip(log.len().saturating_sub(room)).enumerate() {
            let line = format!("{:>5} s  {}", scene.seconds(entry.at), entry.text);
            let style = match entry.tone {
                Tone::Plain => Style::new(),
                Tone::Fallback => self.pen.of(SUBSTITUTED).add_modifier(Modifier::BOLD),
                Tone::Back => self.pen.of(MEASURED).add_modifier(Modifier::BOLD),
            };
            self.line(area, 1 + i as u16, vec![Span::styled(line, style)]);
        }
    }

    fn keys(&mut self, area: Rect) {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let freeze = if self.view.frozen.is_some() { " go on  " } else { " freeze  " };
        let mut spans = vec![
            Span::styled("space", bold),
            Span::raw(freeze),
            Span::styled("tab", bold),
            Span::raw(" other chart  "),
        ];
        if self.view.chosen.is_some() {
            spans.extend([Span::styled("f", bold), Span::raw(" follow what happens  ")]);
        }
        spans.extend([Span::styled("q", bold), Span::raw(" quit")]);
        self.line(area, 0, spans);
    }
}

/// What a signal serves now.
fn latest(signal: &Signal) -> String {
    match signal.served.back() {
        Some(s) if s.value.is_nan() => "nothing served".into(),
        Some(s) if s.substituted => format!("{} {:.2} in [{:.2}, {:.2}]", signal.source, s.value, s.lo, s.hi),
        Some(s) => format!("{} {:.2}", signal.source, s.value),
        None => "waiting for rows".into(),
    }
}

/// Names come from a configuration and may hold anything.
fn only_ascii(buf: &mut Buffer, area: Rect) {
    for position in area.positions() {
        if let Some(cell) = buf.cell_mut(position)
            && !cell.symbol().is_ascii()
        {
            cell.set_char('?');
        }
    }
}

/// From this width on the lists stand beside the chart.
const WIDE: u16 = 110;
/// Width of the lists there.
const SIDE: u16 = 46;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::{Key, Scale, Setup};
    use engine::payload::Served;
    use engine::{Counters, Event, Explanation, Transition, What};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use std::time::Duration;

    const FULL: Look = Look { colour: true, unicode: true };
    const SECOND: i64 = 1_000_000_000;

    /// A group of three and a lone tag, before the first row.
    fn empty() -> Scene {
        let length = Duration::from_secs(20);
        let mut scene = Scene::new(Setup { start_ns: 0, span_ns: 600 * SECOND, period_ns: SECOND, length });
        let members = ["level.a", "level.b", "level.c"].map(String::from);
        for name in members.iter().map(String::as_str).chain(["flow"]) {
            let (fail, suspect) = ([0.0, 100.0], [20.0, 80.0]);
            scene.add_tag(name, Scale { unit: "mm".into(), fail, suspect });
        }
        scene.add_signal("level", &members);
        scene
    }

    fn served(s: i64, value: f64, source: &str) -> Served {
        let model = source != "voted";
        Served {
            signal: "level".into(),
            ts: s * SECOND,
            n: 0,
            value: Some(value),
            source: source.into(),
            lo: model.then_some(value - 20.0),
            hi: model.then_some(value + 20.0),
            coverage: model.then_some(0.9),
            status: 0,
            state: if model { "degraded" } else { "normal" },
            horizon_s: 0.0,
        }
    }

    fn alert(at: i64, transition: Transition) -> Event {
        let why = Some(Explanation::new(1e6, 20.0, 80.0));
        let what = What::Alert {
            alert: "1".into(),
            rule: "range".into(),
            target: "flow".into(),
            transition,
            since: at * SECOND,
            severity: "critical".into(),
            why,
            reason: None,
        };
        Event { id: "e".into(), at: at * SECOND, what }
    }

    fn state(at: i64, to: &str) -> Event {
        let (from, reason) = ("normal".into(), "no quorum".into());
        let what = What::Signal { signal: "level".into(), from, to: to.into(), reason, command: None };
        Event { id: "s".into(), at: at * SECOND, what }
    }

    /// 200 s: the group is measured for 100 s, then `a` and `c` are missing and a model serves; `flow` has one spike.
    fn eventful() -> Scene {
        let mut scene = empty();
        for s in 0..200 {
            let lost = s >= 100;
            for (name, value) in [("level.a", 50.0), ("level.b", 50.0), ("level.c", 30.0)] {
                let gone = lost && name != "level.b";
                scene.sample(name, s * SECOND, if gone { f64::NAN } else { value });
            }
            scene.sample("flow", s * SECOND, if s == 60 { 1e6 } else { 40.0 + 20.0 * (s % 2) as f64 });
            scene.serve(&served(s, 50.0, if lost { "model:ar" } else { "voted" }));
        }
        scene.tell(&alert(60, Transition::Firing));
        scene.tell(&state(100, "degraded"));
        let counters = Counters { rows_in: 800, processed: 800, ..Counters::default() };
        scene.advance(Duration::from_secs(7), counters, Some(199 * SECOND));
        scene
    }

    fn drawn(view: &View, width: u16, height: u16) -> Buffer {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("memory is a terminal");
        terminal.draw(|frame| draw(view, frame)).expect("memory can be drawn to");
        terminal.backend().buffer().clone()
    }

    fn rows(buf: &Buffer) -> Vec<String> {
        let row = |y| (0..buf.area.width).map(|x| buf[(x, y)].symbol()).collect();
        (0..buf.area.height).map(row).collect()
    }

    /// Cells of the plot at 120 by 35, without axis and legend, that show one of these glyphs: (x, y, colour).
    fn cells(buf: &Buffer, glyphs: &str) -> Vec<(u16, u16, Color)> {
        let plot = buf.area.positions().filter(|p| (14..70).contains(&p.x) && (3..AXIS).contains(&p.y));
        plot.filter(|p| glyphs.contains(buf[*p].symbol())).map(|p| (p.x, p.y, buf[p].fg)).collect()
    }

    /// Columns that the time axis marks as missing.
    fn marks(buf: &Buffer) -> Vec<u16> {
        (14..70).filter(|x| buf[(*x, AXIS)].symbol() == "×").collect()
    }

    /// Row of the time axis at 120 by 35.
    const AXIS: u16 = 23;

    /// The chart of `flow` instead of that of the signal.
    fn on_flow(look: Look) -> View {
        let mut view = View::new(look, eventful());
        assert_eq!(view.subject(), "level", "the view follows what happened last");
        view.press(Key::Next);
        assert_eq!(view.subject(), "flow");
        view
    }

    /// Given a signal that was voted and then served by a model, then the two differ in glyph and in colour, the
    /// interval is drawn around the model alone, and without colours the glyphs still differ.
    #[test]
    fn a_substituted_value_never_looks_measured() {
        for look in [FULL, Look { unicode: false, ..FULL }] {
            let (measured, substituted, interval) =
                if look.unicode { ("▔━▁", "▀■▄", "░") } else { ("\"-_", "#", ":") };
            let buf = drawn(&View::new(look, eventful()), 120, 35);
            let (lo, hi): (Vec<_>, Vec<_>) = (cells(&buf, measured), cells(&buf, substituted));
            assert!(lo.len() > 15 && hi.len() > 15, "{:#?}", rows(&buf));
            let last_measured = lo.iter().filter(|c| c.2 == MEASURED).map(|c| c.0).max();
            let first_substituted = hi.iter().map(|c| c.0).min();
            assert!(last_measured < first_substituted, "{:#?}", rows(&buf));
            assert!(hi.iter().all(|c| c.2 == SUBSTITUTED));
            let band = cells(&buf, interval);
            assert!(band.len() > 2 * hi.len(), "{:#?}", rows(&buf));
            assert!(band.iter().all(|c| Some(c.0) >= first_substituted));
        }
    }

    /// Given two members without values, then the plot has no letter of theirs there and the time axis marks it.
    #[test]
    fn missing_is_shown_as_missing() {
        let buf = drawn(&View::new(FULL, eventful()), 120, 35);
        let marks = marks(&buf);
        assert!(marks.len() > 15, "{:#?}", rows(&buf));
        let from = marks.iter().min().copied();
        assert!(!cells(&buf, "c").is_empty() && cells(&buf, "c").iter().all(|c| Some(c.0) < from));
        assert!(rows(&buf).iter().any(|r| r.contains("a missing  b ok  c missing")), "{:#?}", rows(&buf));
    }

    /// Given a tag that falls silent, then the time axis marks the columns without a sample, as soon as they are over.
    #[test]
    fn silence_is_shown_as_missing() {
        let mut view = on_flow(FULL);
        assert!(marks(&drawn(&view, 120, 35)).is_empty());
        let mut scene = eventful();
        scene.advance(Duration::from_secs(8), Counters::default(), Some(220 * SECOND));
        view.update(scene);
        let buf = drawn(&view, 120, 35);
        assert!(marks(&buf).len() >= 3, "{:#?}", rows(&buf));
    }

    /// Given one value a million times too large, then it is at the edge with a glyph of its own, and a swing between
    /// 40 and 60 still spans as many rows as without the spike.
    #[test]
    fn a_spike_does_not_flatten_the_rest() {
        let buf = drawn(&on_flow(FULL), 120, 35);
        let beyond = cells(&buf, "▲▼");
        assert_eq!(beyond.len(), 1, "{:#?}", rows(&buf));
        assert!(beyond[0].1 <= 4, "at the upper edge");
        let swing = cells(&buf, "▔━▁");
        let (top, bottom) = (swing.iter().map(|c| c.1).min(), swing.iter().map(|c| c.1).max());
        assert!(top.zip(bottom).is_some_and(|(t, b)| b - t >= 2), "{:#?}", rows(&buf));
        assert!(
            rows(&buf).iter().any(|r| r.contains("fail 100.0"))
                && rows(&buf).iter().any(|r| r.contains("suspect 20.00"))
        );
    }

    /// Without colours no cell has one, and what matters is told by words and glyphs.
    #[test]
    fn no_colour_means_no_colour() {
        let look = Look { colour: false, ..FULL };
        for view in [View::new(look, eventful()), on_flow(look)] {
            let buf = drawn(&view, 120, 35);
            assert!(buf.content.iter().all(|c| c.fg == Color::Reset && c.bg == Color::Reset));
            let text = rows(&buf).join("\n");
            assert!(text.contains("degraded") && text.contains("! range of flow"), "{text}");
        }
    }

    /// In ASCII every cell is ASCII, and nothing had to be replaced.
    #[test]
    fn ascii_means_ascii() {
        let look = Look { unicode: false, ..FULL };
        for (view, size) in [(View::new(look, eventful()), (120, 35)), (on_flow(look), (80, 24))] {
            let buf = drawn(&view, size.0, size.1);
            let text = rows(&buf).join("\n");
            assert!(text.is_ascii() && !text.contains('?'), "{text}");
        }
    }

    /// The background is the terminal's own, and colours are of the sixteen that a terminal's theme sets.
    #[test]
    fn no_cell_has_a_background() {
        for view in [View::new(FULL, eventful()), on_flow(FULL)] {
            let buf = drawn(&view, 120, 35);
            assert!(buf.content.iter().all(|c| c.bg == Color::Reset));
            assert!(buf.content.iter().all(|c| !matches!(c.fg, Color::Rgb(..) | Color::Indexed(_))));
            assert!(buf.content.iter().any(|c| c.fg != Color::Reset));
        }
    }

    /// Given a frozen picture, when the engine goes on, then the picture stays while its counters go on, and the
    /// picture catches up when it is let go.
    #[test]
    fn frozen_is_the_picture_not_the_engine() {
        let mut view = View::new(FULL, eventful());
        view.press(Key::Freeze);
        let before = rows(&drawn(&view, 120, 35));
        let mut scene = eventful();
        scene.tell(&alert(210, Transition::Resolved));
        scene.serve(&served(210, 90.0, "voted"));
        scene.tell(&state(210, "normal"));
        let counters = Counters { rows_in: 900, processed: 900, ..Counters::default() };
        scene.advance(Duration::from_secs(9), counters, Some(210 * SECOND));
        view.update(scene);
        let after = rows(&drawn(&view, 120, 35));
        assert_eq!(before[2..], after[2..]);
        assert!(
            after[0].contains("FROZEN at 199 s") && after[0].contains("plant at 210 of 600 s"),
            "{}",
            after[0]
        );
        assert!(after[1].starts_with("rows in 900 = processed 900 + late 0"), "{}", after[1]);
        view.press(Key::Freeze);
        assert_ne!(rows(&drawn(&view, 120, 35))[2..], before[2..]);
    }

    /// At any size the view draws something and does not panic; at 80 by 24 everything has its place.
    #[test]
    fn small_terminals_are_served_too() {
        for view in [View::new(FULL, empty()), View::new(FULL, eventful()), on_flow(FULL)] {
            for (width, height) in (1..=130).step_by(3).flat_map(|w| (1..=40).map(move |h| (w, h))) {
                drawn(&view, width, height);
            }
            drawn(&view, 60, 15);
        }
        let text = rows(&drawn(&View::new(FULL, eventful()), 80, 24)).join("\n");
        for wanted in [
            "rows/s",
            "held 0",
            "fail 100.0",
            "degraded",
            "signals",
            "alerts: 1 firing",
            "no quorum",
            "q quit",
        ] {
            assert!(text.contains(wanted), "no `{wanted}` in\n{text}");
        }
    }
}
