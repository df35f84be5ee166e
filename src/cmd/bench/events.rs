//! Event recall at a given number of false alarms, under one episode rule for every detector.
//!
//! At a threshold, an alarm is a row at or above it when none of the `rest` rows before was. An event is found when an alarm
//! lies in it; an alarm in no event is false. One threshold holds for all signals.

/// Scores of one signal, and its events.
#[derive(Debug, Clone)]
pub(super) struct Scored {
    pub(super) score: Vec<f64>,
    /// First and last row of each event, in order.
    pub(super) events: Vec<(usize, usize)>,
    /// Rows before it are not looked at.
    pub(super) from: usize,
}

/// What is found at one threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Found {
    pub(super) recall: f64,
    pub(super) false_per_row: f64,
}

/// What is found at thresholds from high to low.
pub(super) fn curve(signals: &[Scored], rest: usize) -> Vec<Found> {
    let mut scores: Vec<f64> = signals.iter().flat_map(|s| s.score[s.from..].iter().copied()).collect();
    scores.sort_unstable_by(|a, b| b.total_cmp(a));
    let (mut thresholds, mut rank) = (Vec::new(), 1.0f64);
    while rank as usize <= scores.len() / 4 {
        thresholds.push(scores[rank as usize - 1]);
        rank = (rank * 1.02).max(rank + 1.0);
    }
    thresholds.dedup();
    thresholds.into_iter().map(|threshold| at(signals, rest, threshold)).collect()
}

/// What is found at one threshold.
pub(super) fn at(signals: &[Scored], rest: usize, threshold: f64) -> Found {
    let (mut events, mut found, mut alarms, mut rows) = (0, 0, 0, 0);
    for signal in signals {
        let (mut next, mut hit, mut last) = (0, false, None);
        for (i, &score) in signal.score.iter().enumerate() {
            if signal.events.get(next).is_some_and(|event| i > event.1) {
                (next, hit) = (next + 1, false);
            }
            if i < signal.from {
                continue;
            }
            let inside = signal.events.get(next).is_some_and(|event| event.0 <= i);
            rows += usize::from(!inside);
            if score >= threshold {
                if last.is_none_or(|last| i - last >= rest) {
                    alarms += usize::from(!inside);
                    found += usize::from(inside && !hit);
                    hit |= inside;
                }
                last = Some(i);
            }
        }
        events += signal.events.iter().filter(|event| event.1 >= signal.from).count();
    }
    Found {
        recall: f64::from(found as u32) / f64::from((events as u32).max(1)),
        false_per_row: f64::from(alarms as u32) / f64::from((rows as u32).max(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Given one event found, one missed and two rows of one false episode, then half is found at one alarm in its rows.
    #[test]
    fn an_episode_is_one_alarm() {
        let mut score = vec![0.0; 100];
        (score[22], score[23], score[60], score[62]) = (0.9, 0.9, 0.8, 0.8);
        let signal = Scored { score, events: vec![(20, 29), (40, 49)], from: 10 };
        let signals = [signal];
        assert_eq!(at(&signals, 5, 0.8), Found { recall: 0.5, false_per_row: 1.0 / 70.0 });
        assert_eq!(at(&signals, 1, 0.8).false_per_row, 2.0 / 70.0);
        assert_eq!(at(&signals, 50, 0.8).false_per_row, 0.0);
        assert!(curve(&signals, 5).iter().any(|found| found.recall == 0.5 && found.false_per_row == 0.0));
    }
}
