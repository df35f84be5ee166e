//! The checked configuration: what cannot run does not start.

use super::catalogue::{Catalogue, HEARTBEAT, Numbers, Row, SENTINEL};
use super::raw::{
    CodeRaw, EngineRaw, Exclude, ExcludeWord, GroupRaw, QualityRaw, Reporting, ReportingRaw, RuleRaw, Scheme,
    SchemeRaw, SentinelRaw, Uncertain,
};
use super::select::matches;
use crate::output::{digest, digest_of};
use detectors::detect::{Columns, DetectRaw, Detector, Visitor};
use detectors::forecast::AnyForecast;
use detectors::params::ParamError;
use detectors::vote::{AnyVoter, Exclusion, ExclusionRaw};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Write;

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

/// The heartbeat of a tag that reports by exception, in nanoseconds.
fn heartbeat(reporting: &[ReportingRaw], numbers: Numbers<'_>, tag: &str) -> Option<i64> {
    if let Some(r) = reporting.iter().find(|r| r.tags.iter().any(|p| matches(p, tag))) {
        return r.heartbeat.map(|h| h.to_ns());
    }
    let seconds = numbers.get(HEARTBEAT)?;
    (seconds > 0.0).then_some((seconds * 1e9) as i64)
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
        let mut cells = Vec::new();
        for rule in raw.rule {
            cells.extend(check_rule(&rule, &raw.reporting, catalogue.as_ref())?);
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
            let numbers = |m: &str| catalogue.as_ref().map_or(Numbers::default(), |c| c.numbers(m));
            let age = |m: &String| heartbeat(&raw.reporting, numbers(m), m).unwrap_or(max_skew);
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
        let digest = digest_of([admission.as_bytes(), parts.join(" ").as_bytes(), &cells]);
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
    pub(crate) fn sentinels_of(&self, row: &Row<'_>) -> Vec<f64> {
        let fits = |s: &&SentinelRaw| s.tags.iter().any(|p| matches(p, row.tag));
        let mut values: Vec<f64> =
            self.sentinels.iter().filter(fits).flat_map(|s| &s.values).copied().collect();
        values.extend(row.numbers.get(SENTINEL));
        values
    }

    /// Tags that are declared (in the catalogue or as members of a group) and watched by a `gap` rule, with the longest silence that is good.
    pub fn watched(&self) -> Vec<(String, i64)> {
        let members = self.groups.iter().flat_map(|g| g.raw.members.iter());
        let declared: BTreeSet<&str> =
            self.catalogue.iter().flat_map(Catalogue::tags).chain(members.map(String::as_str)).collect();
        let max = |tag: &str| {
            let of = |rule: &RulePlan| match &rule.raw.detect {
                DetectRaw::Gap(gap) if rule.raw.tags.iter().any(|p| matches(p, tag)) => Some(gap.max.to_ns()),
                _ => None,
            };
            self.rules.iter().filter_map(of).min()
        };
        declared.into_iter().filter_map(|tag| Some((tag.to_string(), max(tag)?))).collect()
    }

    /// Kinds of each group's fallback models, in order.
    pub fn fallback_kinds(&self) -> Vec<Vec<&'static str>> {
        self.groups.iter().map(|g| g.raw.fallback.iter().map(|raw| raw.kind()).collect()).collect()
    }

    /// The catalogue's row of a tag.
    pub(crate) fn row<'a>(&'a self, tag: &'a str) -> Row<'a> {
        let numbers = self.catalogue.as_ref().map_or(Numbers::default(), |c| c.numbers(tag));
        Row { tag, numbers, heartbeat: heartbeat(&self.reporting, numbers, tag) }
    }

    /// Digest of all that judges a tag by the rule at a position: its parameters as written, and the numbers that they take from the
    /// catalogue for this tag.
    pub(crate) fn digest_for(&self, rule: usize, tag: &str) -> String {
        let RulePlan { raw, digest, .. } = &self.rules[rule];
        let cells = detectors::detect::visit(&raw.detect, Cells(self.row(tag)));
        if cells.is_empty() { digest.clone() } else { digest_of([digest.as_bytes(), &cells]) }
    }

    /// The heartbeat of a tag that reports by exception, in nanoseconds: silence inside it means "unchanged".
    pub fn heartbeat(&self, tag: &str) -> Option<i64> {
        self.row(tag).heartbeat
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

/// Whether a rule can run; what it reads of the catalogue, as bytes for a digest.
fn check_rule(
    rule: &RuleRaw,
    reporting: &[ReportingRaw],
    catalogue: Option<&Catalogue>,
) -> Result<Vec<u8>, ConfigError> {
    if rule.tags.is_empty() {
        return Err(ConfigError::SelectsNothing { rule: rule.id.clone(), patterns: Vec::new() });
    }
    if let Some(catalogue) = catalogue {
        for pattern in rule.tags.iter().filter(|p| !p.contains(['*', '?'])) {
            known(&rule.id, pattern, catalogue)?;
        }
    }
    detectors::detect::visit(&rule.detect, Check { rule, reporting, catalogue })
}

/// Binds a rule's parameters to every tag that is known of.
struct Check<'a> {
    rule: &'a RuleRaw,
    reporting: &'a [ReportingRaw],
    catalogue: Option<&'a Catalogue>,
}

impl Visitor for Check<'_> {
    type Out = Result<Vec<u8>, ConfigError>;

    fn visit<D: Detector>(self, raw: &D::Raw) -> Self::Out {
        let refuse = |source| ConfigError::Rule { rule: self.rule.id.clone(), source };
        let Some(catalogue) = self.catalogue else {
            if D::needs_columns(raw) {
                return Err(ConfigError::NoCatalogue { rule: self.rule.id.clone() });
            }
            D::bind(raw, &Row::default()).map_err(refuse)?;
            return Ok(Vec::new());
        };
        let mut selected = 0usize;
        let read = Read { bytes: RefCell::default(), row: Row::default() };
        let read = catalogue.tags().enumerate().try_fold(read, |mut read, (i, tag)| {
            if self.rule.tags.iter().any(|p| matches(p, tag)) {
                selected += 1;
                let numbers = catalogue.numbers_at(i);
                read.turn_to(Row { tag, numbers, heartbeat: heartbeat(self.reporting, numbers, tag) });
                D::bind(raw, &read).map_err(refuse)?;
            }
            Ok(read)
        })?;
        if selected == 0 {
            let patterns = self.rule.tags.clone();
            return Err(ConfigError::SelectsNothing { rule: self.rule.id.clone(), patterns });
        }
        Ok(read.bytes.into_inner())
    }
}

/// What a rule's parameters read of a tag's row.
struct Cells<'a>(Row<'a>);

impl Visitor for Cells<'_> {
    type Out = Vec<u8>;

    fn visit<D: Detector>(self, raw: &D::Raw) -> Vec<u8> {
        let read = Read { bytes: RefCell::default(), row: self.0 };
        // A tag that can't be bound is not judged.
        let _ = D::bind(raw, &read);
        read.bytes.into_inner()
    }
}

/// A row that notes what was read from it: the tag, then each number by its bits (writing them out takes longer than all the
/// rest). Which columns they are from stands in the rule's parameters.
struct Read<'a> {
    bytes: RefCell<Vec<u8>>,
    row: Row<'a>,
}

impl<'a> Read<'a> {
    fn turn_to(&mut self, row: Row<'a>) {
        let bytes = self.bytes.get_mut();
        bytes.extend((row.tag.len() as u64).to_le_bytes());
        bytes.extend(row.tag.as_bytes());
        self.row = row;
    }
}

impl Columns for Read<'_> {
    fn number(&self, column: &str) -> Option<f64> {
        let number = self.row.number(column);
        self.bytes.borrow_mut().extend(number.unwrap_or(f64::NAN).to_bits().to_le_bytes());
        number
    }
    fn tag(&self) -> &str {
        self.row.tag
    }
    fn heartbeat_ns(&self) -> Option<i64> {
        self.row.heartbeat
    }
}

fn known(by: &str, tag: &str, catalogue: &Catalogue) -> Result<(), ConfigError> {
    if catalogue.contains(tag) {
        return Ok(());
    }
    let nearest = nearest(tag, catalogue.tags());
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
