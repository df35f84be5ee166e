//! The scoring of the Numenta Anomaly Benchmark, written from its published rules.
//!
//! Source: Lavin and Ahmad 2015 (arXiv:1510.03336); Ahmad et al. 2017, doi 10.1016/j.neucom.2017.04.070. A window counts once, by its
//! earliest detection; each detected row outside costs, less just after a window; the threshold is that of the best score.

use std::collections::BTreeMap;

/// What a row is to the score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    /// The detector's score, 0 to 1.
    pub(super) score: f64,
    /// Worth of a detection here: up to 1 in a window, 0 to −1 outside.
    unit: f64,
    /// The window, counted through the corpus.
    window: Option<usize>,
    /// The category of its file.
    category: usize,
}

/// Weights of a true positive, a false positive and a miss.
pub(super) struct Profile {
    pub(super) name: &'static str,
    weights: [f64; 3],
}

/// The published profiles.
pub(super) const PROFILES: [Profile; 3] = [
    Profile { name: "standard", weights: [1.0, 0.11, 1.0] },
    Profile { name: "low-FP", weights: [1.0, 0.22, 1.0] },
    Profile { name: "low-FN", weights: [1.0, 0.11, 2.0] },
];

/// Rows of a file that are not scored.
pub(super) fn probation(rows: usize) -> usize {
    (rows * 15 / 100).min(750)
}

/// The points of one file: `spans` are its windows, first and last row, numbered from `first_window`.
pub(super) fn points(
    scores: &[f64],
    spans: &[(usize, usize)],
    first_window: usize,
    category: usize,
) -> Vec<Point> {
    let mut points = Vec::with_capacity(scores.len());
    let (mut next, mut left) = (0, None);
    for (i, &score) in scores.iter().enumerate() {
        if spans.get(next).is_some_and(|span| i > span.1) {
            left = Some(spans[next]);
            next += 1;
        }
        let (unit, window) = match (spans.get(next), left) {
            (Some(&(from, to)), _) if from <= i => {
                let at = -((to - i + 1) as f64) / (to - from + 1) as f64;
                (squash(at) / squash(-1.0), Some(first_window + next))
            }
            (_, None) => (-1.0, None),
            (_, Some((from, to))) => (squash((i - to) as f64 / (to - from) as f64), None),
        };
        if i >= probation(scores.len()) {
            points.push(Point { score, unit, window, category });
        }
    }
    points
}

/// About 1 at the left edge of a window (−1), 0 at its right edge, −1 far after.
fn squash(at: f64) -> f64 {
    if at > 3.0 { -1.0 } else { 2.0 / (1.0 + libm::exp(5.0 * at)) - 1.0 }
}

/// A score of 0 (never an alarm) to 100 (perfect), and what was found at its threshold.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize)]
pub(super) struct Score {
    pub(super) score: f64,
    pub(super) threshold: f64,
    pub(super) windows_hit: usize,
    pub(super) fp_rows: usize,
}

/// One step of the sweep: all rows with this score or more are detections.
#[derive(Clone, Copy)]
struct Step {
    threshold: f64,
    gain: f64,
    hit: usize,
    fp: usize,
}

/// The gain over never alarming at every threshold, from the highest down. `points` are sorted so.
fn sweep(points: &[&Point], [tp, fp, fn_]: [f64; 3]) -> Vec<Step> {
    let mut best: BTreeMap<usize, f64> = BTreeMap::new();
    let mut now = Step { threshold: 1.1, gain: 0.0, hit: 0, fp: 0 };
    let mut steps = vec![now];
    for (i, point) in points.iter().enumerate() {
        match point.window {
            None => {
                now.gain += point.unit * fp;
                now.fp += 1;
            }
            Some(window) => {
                let value = point.unit * tp;
                let before = best.entry(window).or_insert(-fn_);
                now.hit += usize::from(*before == -fn_);
                now.gain += (value - *before).max(0.0);
                *before = before.max(value);
            }
        }
        if points.get(i + 1).is_none_or(|next| next.score != point.score) {
            now.threshold = point.score;
            steps.push(now);
        }
    }
    steps
}

/// The first step of the largest gain.
fn best(steps: &[Step]) -> Step {
    steps.iter().skip(1).fold(steps[0], |best, step| if step.gain > best.gain { *step } else { best })
}

fn sorted<'a>(points: impl Iterator<Item = &'a Point>) -> Vec<&'a Point> {
    let mut sorted: Vec<&Point> = points.collect();
    sorted.sort_by(|a, b| b.score.total_cmp(&a.score));
    sorted
}

/// Scores a corpus of so many windows at the threshold that is best for the profile.
pub(super) fn score(points: &[Point], windows: usize, profile: &Profile) -> Score {
    let best = best(&sweep(&sorted(points.iter()), profile.weights));
    Score {
        score: percent(best.gain, windows, profile),
        threshold: best.threshold,
        windows_hit: best.hit,
        fp_rows: best.fp,
    }
}

/// Scores each category at the threshold that is best for the others.
pub(super) fn score_by_others(points: &[Point], windows: usize, profile: &Profile) -> f64 {
    let categories = points.iter().map(|p| p.category + 1).max().unwrap_or(0);
    let gain = (0..categories).map(|category| {
        let others = sorted(points.iter().filter(|p| p.category != category));
        let threshold = best(&sweep(&others, profile.weights)).threshold;
        let own = sweep(&sorted(points.iter().filter(|p| p.category == category)), profile.weights);
        own.iter().take_while(|step| step.threshold >= threshold).last().map_or(0.0, |step| step.gain)
    });
    percent(gain.sum(), windows, profile)
}

fn percent(gain: f64, windows: usize, profile: &Profile) -> f64 {
    let [tp, _, fn_] = profile.weights;
    100.0 * gain / ((tp + fn_) * windows as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(scores: &[f64], spans: &[(usize, usize)]) -> [f64; 3] {
        let points = points(scores, spans, 0, 0);
        [0, 1, 2].map(|k| score(&points, spans.len(), &PROFILES[k]).score)
    }

    /// Given a detection at the left edge of each window and nothing else, then the score is 100; without any it is 0.
    #[test]
    fn perfect_is_100_and_silence_is_0() {
        let spans = [(30, 39), (70, 79)];
        let mut scores = vec![0.0; 100];
        assert_eq!(scored(&scores, &spans), [0.0; 3]);
        (scores[30], scores[70]) = (1.0, 1.0);
        assert_eq!(scored(&scores, &spans), [100.0; 3]);
    }

    /// Given one of two windows found and one false row of the same score, then the figures are those of the rules by hand.
    #[test]
    fn a_false_row_costs_its_weight() {
        let mut scores = vec![0.0; 100];
        (scores[20], scores[30]) = (0.9, 0.9);
        // Gain over silence: 1 + 1 (or 2) for the window, 0.11 (or 0.22) lost; of 2 (or 3) for each of two windows.
        let want = [100.0 * 1.89 / 4.0, 100.0 * 1.78 / 4.0, 100.0 * 2.89 / 6.0];
        for (got, want) in scored(&scores, &[(30, 39), (70, 79)]).into_iter().zip(want) {
            assert!((got - want).abs() < 1e-9, "{got} {want}");
        }
    }

    /// Given a detection before the first 15 % of a file have passed, then it counts for nothing.
    #[test]
    fn the_probation_is_not_scored() {
        let mut scores = vec![0.0; 100];
        scores[14] = 1.0;
        assert_eq!(scored(&scores, &[(70, 79)]), [0.0; 3]);
        assert_eq!(points(&scores, &[], 0, 0).len(), 85);
        assert_eq!(probation(22_695), 750);
    }
}
