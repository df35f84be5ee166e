//! The chart of one signal or tag: values over time between the limits of its rule.
//!
//! The value axis never follows the data: it spans the fail limits and a margin. What lies beyond is drawn at the edge
//! with a glyph of its own. A column is a fixed stretch of time, so that the picture moves by whole columns.

use super::draw::{Pen, paint};
use super::{Scale, Scene, Shown, Signal, Track};
use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use std::collections::VecDeque;

/// Draws the chart of `subject`: values, the time axis with what is missing, and its labels.
pub(super) fn draw(buf: &mut Buffer, area: Rect, pen: Pen, scene: &Scene, subject: &str) {
    let signal = scene.signals.iter().find(|s| s.name == subject);
    let member = signal.and_then(|s| s.members.first()).map_or(subject, |(name, _)| name);
    let Some(track) = scene.tags.iter().find(|t| t.name == member) else { return };
    if area.width < GUTTER + 8 || area.height < 4 {
        return;
    }
    let plot = Rect { x: area.x + GUTTER, y: area.y, width: area.width - GUTTER, height: area.height - 2 };
    let grid = Grid::new(plot, &track.scale, scene);
    let mut chart = Chart { buf, pen, grid, scene };
    chart.limits(&track.scale);
    match signal {
        Some(signal) => chart.signal(signal),
        None => chart.tag(track),
    }
    chart.axis(subject, signal);
}

/// Where a value and a time are on the screen.
struct Grid {
    plot: Rect,
    lo: f64,
    hi: f64,
    column_ns: i64,
    /// Time at the left edge.
    left_ns: i64,
}

/// A place in the plot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Row, and third of the row from the top.
    Inside(u16, usize),
    Above,
    Below,
}

impl Grid {
    fn new(plot: Rect, scale: &Scale, scene: &Scene) -> Self {
        let [fail_lo, fail_hi] = scale.fail;
        let margin = MARGIN * (fail_hi - fail_lo);
        let columns = i64::from(plot.width);
        let second = 1_000_000_000;
        let column_ns = ((WINDOW_S + columns - 1) / columns * second).max(scene.setup.period_ns);
        let last = (scene.now_ns - scene.setup.start_ns).max(0) / column_ns;
        let first = (last - columns + 1).max(0);
        let left_ns = scene.setup.start_ns + first * column_ns;
        Grid { plot, lo: fail_lo - margin, hi: fail_hi + margin, column_ns, left_ns }
    }

    fn column(&self, ts: i64) -> Option<u16> {
        let column = (ts - self.left_ns).div_euclid(self.column_ns);
        u16::try_from(column).ok().filter(|c| *c < self.plot.width)
    }

    fn place(&self, value: f64) -> Place {
        let thirds = 3 * i64::from(self.plot.height);
        let third = ((self.hi - value) / (self.hi - self.lo) * thirds as f64).floor();
        if third < 0.0 {
            Place::Above
        } else if third >= thirds as f64 {
            Place::Below
        } else {
            Place::Inside((third as i64 / 3) as u16, (third as i64 % 3) as usize)
        }
    }

    /// Time between labels: whole columns, near a minute where that leaves them room.
    fn tick_ns(&self) -> i64 {
        let nice = [10, 20, 30, 60, 120, 300, 600].map(|s| s * 1_000_000_000);
        let fits = |t: &i64| t % self.column_ns == 0 && t / self.column_ns >= i64::from(TICK);
        nice.into_iter().find(fits).unwrap_or(i64::from(TICK) * self.column_ns)
    }

    /// The nearest row inside.
    fn row(&self, value: f64) -> u16 {
        match self.place(value) {
            Place::Inside(row, _) => row,
            Place::Above => 0,
            Place::Below => self.plot.height - 1,
        }
    }
}

struct Chart<'a> {
    buf: &'a mut Buffer,
    pen: Pen,
    grid: Grid,
    scene: &'a Scene,
}

impl Chart<'_> {
    /// A glyph in the plot.
    fn put(&mut self, column: u16, row: u16, glyph: char, style: Style) {
        let (x, y) = (self.grid.plot.x + column, self.grid.plot.y + row);
        paint(self.buf, x, y, glyph, style);
    }

    /// A value; beyond the axis it is at the edge, with another glyph.
    fn value(&mut self, ts: i64, value: f64, glyphs: [char; 3], style: Style) {
        let Some(column) = self.grid.column(ts).filter(|_| !value.is_nan()) else { return };
        let [above, below] = self.pen.glyphs.beyond;
        let red = self.pen.of(Color::LightRed).add_modifier(Modifier::BOLD);
        match self.grid.place(value) {
            Place::Inside(row, third) => self.put(column, row, glyphs[third], style),
            Place::Above => self.put(column, 0, above, red),
            Place::Below => self.put(column, self.grid.plot.height - 1, below, red),
        }
    }

    fn limits(&mut self, scale: &Scale) {
        let lines = [
            (scale.suspect, "suspect", self.pen.glyphs.suspect, Color::Yellow),
            (scale.fail, "fail", self.pen.glyphs.fail, Color::Red),
        ];
        for (limits, word, glyph, colour) in lines {
            let style = self.pen.of(colour).add_modifier(Modifier::DIM);
            for limit in limits {
                let row = self.grid.row(limit);
                for column in 0..self.grid.plot.width {
                    self.put(column, row, glyph, style);
                }
                let digits = digits(limit);
                let label = format!("{word} {limit:.digits$} ");
                let label = format!("{label:>width$}", width = usize::from(GUTTER));
                let (x, y) = (self.grid.plot.x - GUTTER, self.grid.plot.y + row);
                self.buf.set_stringn(x, y, label, usize::from(GUTTER), self.pen.of(colour));
            }
        }
    }

    fn signal(&mut self, signal: &Signal) {
        let model = self.pen.of(SUBSTITUTED);
        for shown in signal.served.iter().filter(|s| s.substituted && s.lo.is_finite() && s.hi.is_finite()) {
            let Some(column) = self.grid.column(shown.ts) else { continue };
            for row in self.grid.row(shown.hi)..=self.grid.row(shown.lo) {
                self.put(column, row, self.pen.glyphs.interval, model.add_modifier(Modifier::DIM));
            }
        }
        // The served value last, so that where all agree there is one line.
        for (i, (name, _)) in signal.members.iter().enumerate() {
            let Some(track) = self.scene.tags.iter().find(|t| t.name == *name) else { continue };
            let style = self.pen.of(MEMBERS[i % MEMBERS.len()]);
            for (ts, value) in &track.samples {
                self.value(*ts, *value, [letter(name); 3], style);
            }
        }
        for Shown { ts, value, substituted, .. } in &signal.served {
            if *substituted {
                let style = model.add_modifier(Modifier::BOLD);
                self.value(*ts, *value, self.pen.glyphs.substituted, style);
            } else {
                self.value(*ts, *value, self.pen.glyphs.measured, self.pen.of(MEASURED));
            }
        }
    }

    fn tag(&mut self, track: &Track) {
        for (ts, value) in &track.samples {
            self.value(*ts, *value, self.pen.glyphs.measured, self.pen.of(MEASURED));
        }
    }

    /// The time axis. A column without a sample of one of the tags is marked, and one in which an alert fires.
    fn axis(&mut self, subject: &str, signal: Option<&Signal>) {
        let names: Vec<&str> =
            signal.map_or(vec![subject], |s| s.members.iter().map(|(m, _)| m.as_str()).collect());
        let tracks: Vec<&Track> =
            self.scene.tags.iter().filter(|t| names.contains(&t.name.as_str())).collect();
        let (y, width) = (self.grid.plot.height, self.grid.plot.width);
        let bold = |colour| self.pen.of(colour).add_modifier(Modifier::BOLD);
        let (missing, firing) = (bold(Color::LightRed), bold(Color::Yellow));
        let plain = Style::new().add_modifier(Modifier::DIM);
        let tick_ns = self.grid.tick_ns();
        let gaps: Vec<Vec<bool>> = tracks.iter().map(|t| self.gaps(&t.samples)).collect();
        for column in 0..width {
            let from = self.grid.left_ns + i64::from(column) * self.grid.column_ns;
            let to = from + self.grid.column_ns;
            // The start of a column is a whole number of columns from the start of the run, so every tick has one.
            let ticked = (from - self.scene.setup.start_ns) % tick_ns == 0;
            let fires = self.scene.alarms.iter().any(|a| {
                let about = a.target == subject || names.contains(&a.target.as_str());
                about && a.fired_ns < to && a.resolved_ns.unwrap_or(i64::MAX) >= from
            });
            let (glyph, style) = if gaps.iter().any(|g| g[usize::from(column)]) {
                (self.pen.glyphs.missing, missing)
            } else if fires && from <= self.scene.now_ns {
                ('!', firing)
            } else if ticked {
                (self.pen.glyphs.tick, plain)
            } else {
                (self.pen.glyphs.axis, plain)
            };
            self.put(column, y, glyph, style);
            if ticked && column + 7 <= width {
                let label = format!("{} s", self.scene.seconds(from));
                let (x, y) = (self.grid.plot.x + column, self.grid.plot.y + y + 1);
                self.buf.set_stringn(x, y, label, 8, plain);
            }
        }
    }

    /// Columns in which a tag reported nothing usable though it should have.
    fn gaps(&self, samples: &VecDeque<(i64, f64)>) -> Vec<bool> {
        let grid = &self.grid;
        let mut gaps = vec![false; usize::from(grid.plot.width)];
        let mut seen = gaps.clone();
        for (ts, value) in samples {
            let Some(column) = grid.column(*ts).map(usize::from) else { continue };
            seen[column] |= !value.is_nan();
            gaps[column] |= value.is_nan();
        }
        let Some((first, _)) = samples.front() else { return gaps };
        for (column, gap) in gaps.iter_mut().enumerate() {
            let from = grid.left_ns + column as i64 * grid.column_ns;
            let due = from >= *first && from + grid.column_ns <= self.scene.now_ns;
            *gap |= due && !seen[column];
        }
        gaps
    }
}

/// The letter of a member: the last of its name.
pub(super) fn letter(member: &str) -> char {
    member.chars().next_back().unwrap_or('?')
}

/// Decimals that fit a label.
fn digits(x: f64) -> usize {
    if x.abs() >= 1000.0 { 0 } else { 1 + usize::from(x.abs() < 100.0) }
}

pub(super) const MEASURED: Color = Color::Green;
pub(super) const SUBSTITUTED: Color = Color::LightMagenta;
pub(super) const MEMBERS: [Color; 3] = [Color::Cyan, Color::Yellow, Color::LightBlue];
/// Room for the labels of limits.
const GUTTER: u16 = 14;
/// Share of the span between the fail limits that is shown beyond each.
const MARGIN: f64 = 0.06;
/// Least time a full chart shows.
const WINDOW_S: i64 = 240;
/// Fewest columns between labels of the time axis.
const TICK: u16 = 8;
