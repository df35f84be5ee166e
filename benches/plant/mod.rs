//! What measurements of the whole path judge: rows as JSON messages, three rules over all tags, votes of three.

use std::fmt::Write as _;

/// A row as the least that any reader must make of a message.
#[derive(serde::Deserialize)]
pub(crate) struct Row<'a> {
    pub(crate) ts: i64,
    pub(crate) tag: &'a str,
    pub(crate) value: f64,
    pub(crate) quality: u32,
}

/// A row as a message; `ts` in the unit of the topic.
pub(crate) fn message(ts: i64, tag: &str, value: f64) -> String {
    format!(r#"{{"ts":{ts},"tag":"{tag}","value":{value:.4},"quality":0}}"#)
}

/// Adds what qualities mean, limits, a rate and a z-score over all tags, and a vote for each three members.
pub(crate) fn judgements(config: &mut String, votes: impl Iterator<Item = [String; 3]>) {
    config.push_str("[quality]\nscheme = \"opcua\"\n");
    for (id, detect) in [
        ("range", "detect.range = { fail = [0.0, 100.0], suspect = [1.0, 99.0] }"),
        ("roc", "detect.rate = { suspect_per_s = 5.0 }"),
        ("base", "detect.zscore = { window = 600, suspect = 6.0, min_samples = 60 }"),
    ] {
        let _ = write!(config, "[[rule]]\nid = \"{id}\"\ntags = [\"*\"]\n{detect}\n");
    }
    for (g, members) in votes.enumerate() {
        let _ = write!(
            config,
            "[[group]]\nid = \"vote.{g:03}\"\nmembers = {members:?}\ntick = {{ period = \"6s\" }}\nmax_skew = \"6s\"\n\
             vote.mid_value = {{ tolerance = {{ abs = 2.0 }} }}\n"
        );
    }
}
