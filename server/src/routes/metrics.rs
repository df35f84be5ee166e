//! `GET /metrics`: what the stream shows of itself, in the Prometheus text format 0.0.4.
//!
//! Answers `200` and lines such as `truegauge_rows_total{fate="processed"} 120`; `503` is never given: before the first
//! read-out the page is empty.
//! Source: the text-based format of the Prometheus documentation, "Exposition formats".
// Written here and not with `prometheus-client`: its text is OpenMetrics (another content type, and counters that it
// counts itself), while these few lines are the whole of format 0.0.4.

use axum::Router;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use engine::metrics::{Board, Kind, Metric, Reading};
use std::sync::Arc;

const PATH: &str = "/metrics";
const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn route(board: Arc<Board>) -> Router {
    Router::new().route(PATH, get(show)).with_state(board)
}

async fn show(State(board): State<Arc<Board>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], page(board.read().readings))
}

/// The page: each metric once with its help and type, its values in the order in which they came.
fn page(mut readings: Vec<Reading>) -> String {
    // Partitions may be read out one after the other; the format wants the lines of a metric together.
    readings.sort_by_key(|reading| reading.metric);
    let (mut text, mut last) = (String::new(), None);
    for reading in &readings {
        if last.replace(reading.metric) != Some(reading.metric) {
            head(reading.metric, &mut text);
        }
        line(reading, &mut text);
    }
    text
}

fn head(metric: Metric, text: &mut String) {
    let (suffix, kind) = match metric.kind() {
        Kind::Counter => ("_total", "counter"),
        Kind::Gauge => ("", "gauge"),
    };
    let name = metric.name();
    text.push_str(&format!("# HELP {name}{suffix} {}\n", escaped(metric.help(), false)));
    text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
}

fn line(reading: &Reading, text: &mut String) {
    text.push_str(reading.metric.name());
    if reading.metric.kind() == Kind::Counter {
        text.push_str("_total");
    }
    for (i, (name, value)) in reading.labels.iter().enumerate() {
        let before = if i == 0 { '{' } else { ',' };
        text.push_str(&format!("{before}{name}=\"{}\"", escaped(value, true)));
    }
    if !reading.labels.is_empty() {
        text.push('}');
    }
    text.push_str(&format!(" {}\n", number(reading.value)));
}

/// Backslashes and line ends are escaped everywhere, quotes in label values only.
fn escaped(text: &str, label: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if label => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out
}

/// Infinities as the format spells them; NaN is spelt alike.
fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(metric: Metric, labels: &[(&'static str, &str)], value: f64) -> Reading {
        Reading { metric, labels: labels.iter().map(|(n, v)| (*n, v.to_string())).collect(), value }
    }

    /// Given readings of two partitions one after the other, then each metric has one head and its lines together.
    #[test]
    fn each_metric_has_one_head_and_its_lines_together() {
        let page = page(vec![
            reading(Metric::Rows, &[("partition", "0"), ("fate", "processed")], 120.0),
            reading(Metric::RowsHeld, &[("partition", "0")], 2.0),
            reading(Metric::Rows, &[("partition", "1"), ("fate", "late")], 1.0),
            reading(Metric::RowsHeld, &[], 0.5),
        ]);
        let wanted = "\
# HELP truegauge_rows_total Rows that came in, by what became of them
# TYPE truegauge_rows_total counter
truegauge_rows_total{partition=\"0\",fate=\"processed\"} 120
truegauge_rows_total{partition=\"1\",fate=\"late\"} 1
# HELP truegauge_rows_held Rows waiting inside max_delay or for max_jump
# TYPE truegauge_rows_held gauge
truegauge_rows_held{partition=\"0\"} 2
truegauge_rows_held 0.5
";
        assert_eq!(page, wanted);
    }

    #[test]
    fn label_values_are_escaped_and_help_keeps_its_quotes() {
        assert_eq!(escaped("a\\b\"c\nd{é}", true), "a\\\\b\\\"c\\nd{é}");
        assert_eq!(escaped("say \"a\\b\"\n", false), "say \"a\\\\b\"\\n");
    }

    #[test]
    fn numbers_are_spelt_as_the_format_has_them() {
        let spelt = [1e15, -0.25, f64::INFINITY, f64::NEG_INFINITY, f64::NAN].map(number);
        assert_eq!(spelt, ["1000000000000000", "-0.25", "+Inf", "-Inf", "NaN"]);
    }
}
