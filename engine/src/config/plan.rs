//! The checked configuration: what cannot run does not start.

use super::raw::{
    CodeRaw, EngineRaw, Exclude, ExcludeWord, GroupRaw, QualityRaw, Reporting, ReportingRaw, RuleRaw, Scheme,
    SchemeRaw, SentinelRaw, Uncertain,
};
use super::select::matches;
use crate::output::{digest, digest_of};
use detectors::detect::{Columns, DetectRaw};
use detectors::forecast::AnyForecast;
use detectors::params::ParamError;
use detectors::vote::{AnyVoter, Exclusion, ExclusionRaw};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;

/// Why a configuration was refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The text is not the TOML that was expected.
    #[error("{message}")]
    Syntax {
        /// What was expected and what was found, with line and column.
        message: String,
    },
    /// Two rules or groups share a name.
    #[error("`{id}` names two rules or groups; ids must be unique")]
    DuplicateId {
        /// The name.
        id: String,
    },
    /// Two bounds of time the wrong way round.
    #[error("`{lower}` = {low} ns must not exceed `{upper}` = {high} ns")]
    Order {
        /// The field that must be smaller.
        lower: String,
        /// Its value.
        low: i64,
        /// The field that must be larger.
        upper: String,
        /// Its value.
        high: i64,
    },
    /// A rule's parameters can't be used.
    #[error("rule `{rule}`: {source}")]
    Rule {
        /// The rule.
        rule: String,
        /// What is wrong.
        source: ParamError,
    },
    /// A group can't be used.
    #[error("group `{group}`: {problem}")]
    Group {
        /// The group.
        group: String,
        /// What is wrong.
        problem: GroupProblem,
    },
    /// A group's voter or exclusion can't be used.
    #[error("group `{group}`: {source}")]
    Vote {
        /// The group.
        group: String,
        /// What is wrong.
        source: ParamError,
    },
    /// The catalogue has no such tag.
    #[error("`{by}` names the tag `{tag}`, which is not in the catalogue{}", nearest.as_ref().map_or(String::new(), |n| format!("; did you mean `{n}`?")))]
    UnknownTag {
        /// Who names it.
        by: String,
        /// The name.
        tag: String,
        /// The nearest known name.
        nearest: Option<String>,
    },
    /// A rule without a pattern, or with a catalogue one that selects nothing.
    #[error("rule `{rule}` selects no tag{}", if patterns.is_empty() { ": `tags` is empty".into() } else { format!(" of the catalogue: {patterns:?}") })]
    SelectsNothing {
        /// The rule.
        rule: String,
        /// Its patterns.
        patterns: Vec<String>,
    },
    /// A table `[[sentinel]]` that could never match.
    #[error(
        "`[[sentinel]]` needs `tags` and `values`, and no value may be nan (that is missing anyway), got {values:?} for {tags:?}"
    )]
    Sentinel {
        /// Its patterns.
        tags: Vec<String>,
        /// Its values.
        values: Vec<f64>,
    },
    /// A table `[[reporting]]` that says too little or too much.
    #[error(
        "`[[reporting]]` for {tags:?}: mode \"by_exception\" needs a `heartbeat` longer than zero, \"periodic\" has none"
    )]
    Reporting {
        /// Its patterns.
        tags: Vec<String>,
    },
    /// Parameters come from the catalogue, but there is none.
    #[error(
        "rule `{rule}` takes parameters from the catalogue, but the configuration names none (`tags = \"…\"`)"
    )]
    NoCatalogue {
        /// The rule.
        rule: String,
    },
}

/// What is wrong with a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GroupProblem {
    /// Fewer than two members.
    #[error("needs two members or more")]
    TooFew,
    /// More members than a panel holds.
    #[error("has more members than a group can hold (32)")]
    TooMany,
    /// A member is named twice.
    #[error("names a member twice")]
    DuplicateMember,
    /// The reference member is no member.
    #[error("`tick.member` is not one of its members")]
    ReferenceIsNoMember,
    /// A period of zero.
    #[error("`tick.period` must be longer than zero")]
    NoPeriod,
}

/// The checked configuration of the engine.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Order and lateness.
    pub time: Time,
    /// Bounds.
    pub limits: super::raw::LimitsRaw,
    /// What quality codes mean.
    pub quality: Option<QualityRaw>,
    /// Values that stand for "no measurement".
    pub sentinels: Vec<SentinelRaw>,
    /// How tags report.
    pub reporting: Vec<ReportingRaw>,
    /// The rules.
    pub rules: Vec<RulePlan>,
    /// The groups.
    pub groups: Vec<GroupPlan>,
    /// The tag catalogue.
    pub catalogue: Option<Catalogue>,
    /// Digest of everything that judges.
    pub digest: String,
}

/// Order and lateness, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// How long a row is held for older rows of its tag.
    pub max_delay: i64,
    /// How far progress must run ahead.
    pub grace: i64,
    /// How far a row may be ahead of its record timestamp.
    pub max_ahead: i64,
    /// How far a row may be ahead of progress.
    pub max_jump: Option<i64>,
}

/// A checked rule.
#[derive(Debug, Clone)]
pub struct RulePlan {
    /// As written.
    pub raw: RuleRaw,
    /// Digest of all that shapes its judgement.
    pub digest: String,
    /// What shapes the state of its detector: a change of anything else keeps what was learned.
    pub shape: String,
}

/// A checked group.
#[derive(Debug, Clone)]
pub struct GroupPlan {
    /// As written.
    pub raw: GroupRaw,
    /// Pace of its ticks.
    pub period: i64,
    /// Position of the reference member.
    pub reference: Option<usize>,
    /// How long a tick waits for slower members.
    pub wait: i64,
    /// How far progress must run ahead of a silent group.
    pub grace: i64,
    /// How old a sample may be.
    pub max_skew: i64,
    /// How old a sample of each member may be: its heartbeat when it reports by exception.
    pub max_age: Vec<i64>,
    /// The voter.
    pub voter: AnyVoter,
    /// How members are excluded; never, if absent.
    pub exclusion: Option<Exclusion>,
    /// The fallback models with nothing learned, in order.
    pub models: Vec<AnyForecast>,
    /// Digest of all that shapes its judgement.
    pub digest: String,
}

/// The tag catalogue: numbers by tag and column.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalogue {
    /// The numeric cells of each tag; of two cells in one column the last counts.
    pub rows: BTreeMap<String, Cells>,
}

/// Numeric cells of one tag: column and number.
pub type Cells = Vec<(Arc<str>, f64)>;

impl Catalogue {
    /// All of it as bytes, for a digest: numbers by their bits, since writing them out takes longer than all the rest.
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let word = |bytes: &mut Vec<u8>, word: &str| {
            bytes.extend((word.len() as u64).to_le_bytes());
            bytes.extend(word.as_bytes());
        };
        for (tag, cells) in &self.rows {
            word(&mut bytes, tag);
            bytes.extend((cells.len() as u64).to_le_bytes());
            for (column, number) in cells {
                word(&mut bytes, column);
                bytes.extend(number.to_bits().to_le_bytes());
            }
        }
        bytes
    }
}

/// Column of the catalogue with the value of a tag that stands for "no measurement".
const SENTINEL: &str = "sentinel";

/// Column of the catalogue with the heartbeat of a tag that reports by exception, in seconds.
const HEARTBEAT: &str = "heartbeat_s";

/// The heartbeat of a tag that reports by exception, in nanoseconds.
fn heartbeat(reporting: &[ReportingRaw], catalogue: Option<&Catalogue>, tag: &str) -> Option<i64> {
    if let Some(r) = reporting.iter().find(|r| r.tags.iter().any(|p| matches(p, tag))) {
        return r.heartbeat.map(|h| h.to_ns());
    }
    let seconds = cell(catalogue?.rows.get(tag)?, HEARTBEAT)?;
    (seconds > 0.0).then_some((seconds * 1e9) as i64)
}

impl Catalogue {
    fn column(&self, name: &str) -> impl Iterator<Item = (&str, f64)> {
        self.rows.iter().filter_map(move |(tag, row)| Some((tag.as_str(), cell(row, name)?)))
    }
}

/// The number in a column; of two cells in one column the last counts.
fn cell(cells: &Cells, column: &str) -> Option<f64> {
    cells.iter().rev().find(|(name, _)| &**name == column).map(|(_, number)| *number)
}

/// A catalogue row as detectors see it; a tag without a row has no columns.
pub(crate) struct Row<'a> {
    tag: &'a str,
    numbers: Option<&'a Cells>,
    heartbeat: Option<i64>,
}

impl Columns for Row<'_> {
    fn number(&self, column: &str) -> Option<f64> {
        self.numbers?.iter().rfind(|(name, _)| **name == *column).map(|(_, number)| *number)
    }
    fn tag(&self) -> &str {
        self.tag
    }
    fn heartbeat_ns(&self) -> Option<i64> {
        self.heartbeat
    }
}

impl Plan {
    /// Reads the engine's part of a configuration file.
    ///
    /// # Errors
    /// [`ConfigError`] for anything that can't run as written.
    pub fn parse(text: &str, catalogue: Option<Catalogue>) -> Result<Plan, ConfigError> {
        let raw: EngineRaw =
            toml::from_str(text).map_err(|e| ConfigError::Syntax { message: e.to_string() })?;
        Plan::new(raw, catalogue)
    }

    /// Checks a configuration as written.
    ///
    /// # Errors
    /// [`ConfigError`] for anything that can't run as written.
    pub fn new(raw: EngineRaw, catalogue: Option<Catalogue>) -> Result<Plan, ConfigError> {
        let max_delay = raw.time.max_delay.map_or(0, |s| s.to_ns());
        let wait = |g: &GroupRaw| g.wait.map_or(max_delay, |s| s.to_ns());
        let widest = raw.group.iter().map(wait).max().unwrap_or(max_delay).max(max_delay);
        let skew = raw.time.skew.map_or(0, |s| s.to_ns());
        let time = Time {
            max_delay,
            grace: raw.time.grace.map_or(widest.saturating_add(skew), |s| s.to_ns()),
            max_ahead: raw.time.max_ahead.map_or(60_000_000_000, |s| s.to_ns()),
            max_jump: raw.time.max_jump.map(|s| s.to_ns()),
        };
        let ordered = |lower: &str, low: i64, upper: &str, high: i64| {
            if low > high {
                return Err(ConfigError::Order { lower: lower.into(), low, upper: upper.into(), high });
            }
            Ok(())
        };
        ordered("time.max_delay", max_delay, "time.grace", time.grace)?;
        let mut admission = format!("{time:?} {:?}", raw.quality);
        for SentinelRaw { tags, values } in &raw.sentinel {
            if tags.is_empty() || values.is_empty() || values.iter().any(|x| x.is_nan()) {
                return Err(ConfigError::Sentinel { tags: tags.clone(), values: values.clone() });
            }
        }
        let own: Vec<_> = catalogue.iter().flat_map(|c| c.column(SENTINEL)).collect();
        if !raw.sentinel.is_empty() || !own.is_empty() {
            write!(admission, " {:?} {own:?}", raw.sentinel).expect("a string takes all");
        }
        for ReportingRaw { tags, mode, heartbeat } in &raw.reporting {
            let beats = heartbeat.is_some_and(|h| h.to_ns() > 0);
            if tags.is_empty() || beats != (*mode == Reporting::ByException) || heartbeat.is_some() != beats {
                return Err(ConfigError::Reporting { tags: tags.clone() });
            }
        }
        let own: Vec<_> = catalogue.iter().flat_map(|c| c.column(HEARTBEAT)).collect();
        if !raw.reporting.is_empty() || !own.is_empty() {
            write!(admission, " {:?} {own:?}", raw.reporting).expect("a string takes all");
        }
        let mut ids = BTreeSet::new();
        for id in raw.rule.iter().map(|r| &r.id).chain(raw.group.iter().map(|g| &g.id)) {
            if !ids.insert(id.clone()) {
                return Err(ConfigError::DuplicateId { id: id.clone() });
            }
        }
        let mut rules = Vec::new();
        for rule in raw.rule {
            check_rule(&rule, catalogue.as_ref())?;
            let digest = digest(&[&admission, &format!("{rule:?}")]);
            let shape = format!("{:?}", rule.detect);
            rules.push(RulePlan { raw: rule, digest, shape });
        }
        let mut groups = Vec::new();
        for group in raw.group {
            let wait = wait(&group);
            let name = |field: &str| format!("group `{}`: {field}", group.id);
            ordered("time.max_delay", max_delay, &name("wait"), wait)?;
            ordered(&name("wait"), wait, "time.grace", time.grace)?;
            let reference = check_group(&group, catalogue.as_ref())?;
            let digest = digest(&[&admission, &format!("{group:?}")]);
            let refuse = |source| ConfigError::Vote { group: group.id.clone(), source };
            let exclusion = match &group.exclude {
                Exclude::Word(ExcludeWord::Never) => None,
                Exclude::Word(ExcludeWord::Auto) => {
                    Some(Exclusion::new(&ExclusionRaw::default()).map_err(refuse)?)
                }
                Exclude::Counters(raw) => Some(Exclusion::new(raw).map_err(refuse)?),
            };
            let voter = group.vote.build().map_err(refuse)?;
            let period = group.tick.period.to_ns();
            let models: Result<Vec<_>, _> = group.fallback.iter().map(|m| m.build(period)).collect();
            let models = models.map_err(refuse)?;
            let max_skew = group.max_skew.to_ns();
            let age = |m: &String| heartbeat(&raw.reporting, catalogue.as_ref(), m).unwrap_or(max_skew);
            groups.push(GroupPlan {
                max_age: group.members.iter().map(age).collect(),
                period,
                reference,
                wait,
                grace: time.grace,
                voter,
                exclusion,
                models,
                max_skew,
                raw: group,
                digest,
            });
        }
        let parts: Vec<&str> =
            rules.iter().map(|r| r.digest.as_str()).chain(groups.iter().map(|g| g.digest.as_str())).collect();
        let catalogue_bytes = catalogue.as_ref().map_or(Vec::new(), Catalogue::bytes);
        let digest = digest_of([admission.as_bytes(), parts.join(" ").as_bytes(), &catalogue_bytes]);
        Ok(Plan {
            time,
            limits: raw.limits,
            quality: raw.quality,
            sentinels: raw.sentinel,
            reporting: raw.reporting,
            rules,
            groups,
            catalogue,
            digest,
        })
    }

    /// The values of a tag that stand for "no measurement".
    pub(crate) fn sentinels_of(&self, tag: &str) -> Vec<f64> {
        let fits = |s: &&SentinelRaw| s.tags.iter().any(|p| matches(p, tag));
        let mut values: Vec<f64> =
            self.sentinels.iter().filter(fits).flat_map(|s| &s.values).copied().collect();
        values.extend(self.row(tag).number(SENTINEL));
        values
    }

    /// Tags that are declared (in the catalogue or as members of a group) and watched by a `gap` rule, with the longest silence that is good.
    pub fn watched(&self) -> Vec<(String, i64)> {
        let members = self.groups.iter().flat_map(|g| g.raw.members.iter());
        let declared: BTreeSet<&String> =
            self.catalogue.iter().flat_map(|c| c.rows.keys()).chain(members).collect();
        let max = |tag: &str| {
            let of = |rule: &RulePlan| match &rule.raw.detect {
                DetectRaw::Gap(gap) if rule.raw.tags.iter().any(|p| matches(p, tag)) => Some(gap.max.to_ns()),
                _ => None,
            };
            self.rules.iter().filter_map(of).min()
        };
        declared.into_iter().filter_map(|tag| Some((tag.clone(), max(tag)?))).collect()
    }

    /// Kinds of each group's fallback models, in order.
    pub fn fallback_kinds(&self) -> Vec<Vec<&'static str>> {
        self.groups.iter().map(|g| g.raw.fallback.iter().map(|raw| raw.kind()).collect()).collect()
    }

    /// The catalogue's row of a tag.
    pub(crate) fn row<'a>(&'a self, tag: &'a str) -> Row<'a> {
        let catalogue = self.catalogue.as_ref();
        let numbers = catalogue.and_then(|c| c.rows.get(tag));
        Row { tag, numbers, heartbeat: self.heartbeat(tag) }
    }

    /// The heartbeat of a tag that reports by exception, in nanoseconds: silence inside it means "unchanged".
    pub fn heartbeat(&self, tag: &str) -> Option<i64> {
        heartbeat(&self.reporting, self.catalogue.as_ref(), tag)
    }

    /// Rules of the kind `gap` that would take a silence for a fault inside the heartbeat of one of `tags`: rule and tag.
    pub fn gaps_inside_heartbeats<'a>(
        &self,
        tags: impl Iterator<Item = &'a str> + Clone,
    ) -> Vec<(&str, &'a str)> {
        let mut found = Vec::new();
        for rule in &self.rules {
            let DetectRaw::Gap(gap) = &rule.raw.detect else { continue };
            let selected = tags.clone().filter(|tag| rule.raw.tags.iter().any(|p| matches(p, tag)));
            let inside = |tag: &&str| self.heartbeat(tag).is_some_and(|beat| gap.max.to_ns() < beat);
            found.extend(selected.filter(inside).map(|tag| (rule.raw.id.as_str(), tag)));
        }
        found
    }
}

fn check_rule(rule: &RuleRaw, catalogue: Option<&Catalogue>) -> Result<(), ConfigError> {
    struct Check<'a>(&'a RuleRaw, Option<&'a Catalogue>);
    impl detectors::detect::Visitor for Check<'_> {
        type Out = Result<(), ConfigError>;
        fn visit<D: detectors::detect::Detector>(self, raw: &D::Raw) -> Self::Out {
            let (rule, Some(catalogue)) = (self.0, self.1) else {
                if D::needs_columns(raw) {
                    return Err(ConfigError::NoCatalogue { rule: self.0.id.clone() });
                }
                let row = Row { tag: "", numbers: None, heartbeat: None };
                let bound = D::bind(raw, &row);
                return bound
                    .map(|_| ())
                    .map_err(|source| ConfigError::Rule { rule: self.0.id.clone(), source });
            };
            let mut selected = 0usize;
            for (tag, numbers) in &catalogue.rows {
                if rule.tags.iter().any(|p| matches(p, tag)) {
                    selected += 1;
                    D::bind(raw, &Row { tag, numbers: Some(numbers), heartbeat: None })
                        .map_err(|source| ConfigError::Rule { rule: rule.id.clone(), source })?;
                }
            }
            if selected == 0 {
                return Err(ConfigError::SelectsNothing {
                    rule: rule.id.clone(),
                    patterns: rule.tags.clone(),
                });
            }
            Ok(())
        }
    }
    if rule.tags.is_empty() {
        return Err(ConfigError::SelectsNothing { rule: rule.id.clone(), patterns: Vec::new() });
    }
    if let Some(catalogue) = catalogue {
        for pattern in rule.tags.iter().filter(|p| !p.contains(['*', '?'])) {
            known(&rule.id, pattern, catalogue)?;
        }
    }
    detectors::detect::visit(&rule.detect, Check(rule, catalogue))
}

fn known(by: &str, tag: &str, catalogue: &Catalogue) -> Result<(), ConfigError> {
    if catalogue.rows.contains_key(tag) {
        return Ok(());
    }
    let nearest = nearest(tag, catalogue.rows.keys().map(String::as_str));
    Err(ConfigError::UnknownTag { by: by.into(), tag: tag.into(), nearest })
}

fn check_group(group: &GroupRaw, catalogue: Option<&Catalogue>) -> Result<Option<usize>, ConfigError> {
    let refuse = |problem| Err(ConfigError::Group { group: group.id.clone(), problem });
    if group.members.len() < 2 {
        return refuse(GroupProblem::TooFew);
    }
    if group.members.len() > detectors::vote::MAX_MEMBERS {
        return refuse(GroupProblem::TooMany);
    }
    if group.members.iter().collect::<BTreeSet<_>>().len() < group.members.len() {
        return refuse(GroupProblem::DuplicateMember);
    }
    if group.tick.period.to_ns() <= 0 {
        return refuse(GroupProblem::NoPeriod);
    }
    if let Some(catalogue) = catalogue {
        for member in &group.members {
            known(&group.id, member, catalogue)?;
        }
    }
    match &group.tick.member {
        None => Ok(None),
        Some(name) => match group.members.iter().position(|m| m == name) {
            Some(i) => Ok(Some(i)),
            None => refuse(GroupProblem::ReferenceIsNoMember),
        },
    }
}

/// The nearest of `names` to `wanted` by edit distance, if it is near at all.
pub fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<String> {
    names
        .map(|name| (distance(wanted, name), name))
        .filter(|(d, _)| *d <= (wanted.len() / 3).max(2))
        .min()
        .map(|(_, name)| name.to_string())
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(x != *y)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

/// Quality class of a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Class {
    Good = 0,
    Uncertain = 1,
    Bad = 2,
}

impl QualityRaw {
    /// Class of a numeric code.
    pub(crate) fn class(&self, code: u32) -> Class {
        let class = match &self.scheme {
            SchemeRaw::Named(Scheme::Opcua) => match code >> 30 {
                0 => Class::Good,
                1 => Class::Uncertain,
                _ => Class::Bad,
            },
            SchemeRaw::Named(Scheme::Opcda) => match code >> 6 & 3 {
                3 => Class::Good,
                1 => Class::Uncertain,
                _ => Class::Bad,
            },
            SchemeRaw::Named(Scheme::Qartod) => match code {
                1 => Class::Good,
                2 | 3 => Class::Uncertain,
                _ => Class::Bad,
            },
            SchemeRaw::Custom(_) => return self.of(|c| matches!(c, CodeRaw::Number(n) if *n == code)),
        };
        self.settle(class)
    }

    /// Class of a code in words.
    pub(crate) fn class_of_word(&self, word: &str) -> Class {
        match &self.scheme {
            SchemeRaw::Named(_) => match word.parse::<u32>() {
                Ok(code) => self.class(code),
                Err(_) => self.settle(named(word)),
            },
            SchemeRaw::Custom(_) => self.of(|c| match c {
                CodeRaw::Word(w) => w == word,
                CodeRaw::Number(n) => word.parse() == Ok(*n),
            }),
        }
    }

    fn of(&self, is: impl Fn(&CodeRaw) -> bool) -> Class {
        let SchemeRaw::Custom(custom) = &self.scheme else { return Class::Bad };
        if custom.good.iter().any(&is) {
            Class::Good
        } else if custom.uncertain.iter().any(&is) {
            self.settle(Class::Uncertain)
        } else {
            Class::Bad
        }
    }

    fn settle(&self, class: Class) -> Class {
        match (class, self.uncertain) {
            (Class::Uncertain, Uncertain::Trust) => Class::Good,
            (Class::Uncertain, Uncertain::Missing) => Class::Bad,
            _ => class,
        }
    }
}

/// OPC UA's status words by their first word.
fn named(word: &str) -> Class {
    if word.starts_with("Good") {
        Class::Good
    } else if word.starts_with("Uncertain") {
        Class::Uncertain
    } else {
        Class::Bad
    }
}
