//! The settings of `[source.kafka]`, and those of librdkafka that come of them.

use std::{collections::BTreeMap, env, time::Duration};

use rdkafka::{ClientConfig, config::RDKafkaLogLevel};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{SourceError, decode::DecodeConfig};

/// The table `[source.kafka]`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Brokers to ask first: `["host:9092"]`.
    pub brokers: Vec<String>,
    /// Topics to read.
    pub topics: Vec<String>,
    /// Consumer group that offsets are committed under.
    #[serde(default = "default_group")]
    pub group: String,
    /// Who says which partitions are read.
    #[serde(default)]
    pub assign: Assign,
    /// How records are decoded.
    #[serde(default)]
    pub decode: DecodeConfig,
    /// Where to begin without a known offset.
    #[serde(default)]
    pub from: From,
    /// A batch is handed on at this many rows.
    #[serde(default = "default_batch_rows")]
    pub batch_rows: usize,
    /// A batch is handed on when its first row has waited this long: `"50ms"`.
    #[serde(default = "default_max_wait")]
    pub max_wait: Wait,
    /// How long to look for the brokers at start: `"10s"`.
    #[serde(default = "default_connect_timeout")]
    pub connect_timeout: Wait,
    /// Encryption and login.
    #[serde(default)]
    pub security: KafkaSecurity,
    /// Settings of librdkafka, by their names there. Those this page has a field for are refused.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// Who says which partitions are read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Assign {
    /// All partitions of the topics, at the caller's offsets.
    #[default]
    All,
    /// The consumer group: members share the partitions, and with one `[run] state_dir` for all a partition's state follows it.
    /// Slower: messages are polled one by one.
    Group,
}

/// Where to begin without a known offset.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// At the oldest record kept.
    #[default]
    Earliest,
    /// At what is written from now on.
    Latest,
}

/// Encryption and login. Secrets stand in environment variables; here are their names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaSecurity {
    /// `plaintext`, `ssl`, `sasl_plaintext` or `sasl_ssl`.
    pub protocol: Option<String>,
    /// `PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`.
    pub mechanism: Option<String>,
    /// Name of the environment variable with the user name.
    pub username_env: Option<String>,
    /// Name of the environment variable with the password.
    pub password_env: Option<String>,
    /// File with the certificates to trust.
    pub ca_location: Option<String>,
}

/// A waiting time as the user writes it: a whole number and `ms`, `s` or `m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct Wait(Duration);

impl Wait {
    /// A wait of this many milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(Duration::from_millis(ms))
    }

    /// As a duration.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for Wait {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (count, unit) = text.split_at(split);
        let scale_ms = match unit {
            "ms" => Some(1),
            "s" => Some(1_000),
            "m" => Some(60_000),
            _ => None,
        };
        let ms = scale_ms.and_then(|scale| count.parse::<u64>().ok()?.checked_mul(scale));
        ms.filter(|ms| *ms <= 3_600_000)
            .map(Self::from_millis)
            .ok_or_else(|| format!("a wait of up to an hour such as \"50ms\" or \"10s\", got {text:?}"))
    }
}

impl std::convert::From<Wait> for String {
    fn from(wait: Wait) -> String {
        format!("{}ms", wait.0.as_millis())
    }
}

fn default_group() -> String {
    "truegauge".to_owned()
}

fn default_batch_rows() -> usize {
    8192
}

fn default_max_wait() -> Wait {
    Wait::from_millis(50)
}

fn default_connect_timeout() -> Wait {
    Wait::from_millis(10_000)
}

/// Settings of the consumer.
pub(super) fn consumer_config(config: &KafkaConfig) -> Result<ClientConfig, SourceError> {
    if config.topics.is_empty() {
        let (field, got) = ("topics", "[]".to_owned());
        return Err(SourceError::Config { field, got, want: "at least one topic" });
    }
    let mut client = client_config(&config.brokers, &config.security, &config.properties)?;
    // The beginning is given; the client resets only where the log has lost its place, and what is kept is read.
    client
        .set("group.id", &config.group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest");
    Ok(client)
}

/// Settings that sources and sinks share. The values of secrets go into the client and nowhere else.
pub(crate) fn client_config(
    brokers: &[String],
    security: &KafkaSecurity,
    properties: &BTreeMap<String, String>,
) -> Result<ClientConfig, SourceError> {
    const OWN: [&str; 9] = [
        "bootstrap.servers",
        "metadata.broker.list",
        "group.id",
        "enable.auto.commit",
        "enable.auto.offset.store",
        "enable.partition.eof",
        "auto.offset.reset",
        "sasl.username",
        "security.protocol",
    ];
    if brokers.is_empty() {
        let (field, got) = ("brokers", "[]".to_owned());
        return Err(SourceError::Config { field, got, want: "at least one host:port" });
    }
    let mut client = ClientConfig::new();
    // The client writes its log to the terminal; what matters is returned or in `last_error`.
    client.set_log_level(RDKafkaLogLevel::Emerg);
    client.set("bootstrap.servers", brokers.join(","));
    for (name, value) in properties {
        if OWN.contains(&name.as_str()) || is_secret(name) {
            let want = "no setting that has a field of its own, and no secret (see `security`)";
            return Err(SourceError::Config { field: "properties", got: name.clone(), want });
        }
        client.set(name, value);
    }
    let plain = [
        ("security.protocol", &security.protocol),
        ("sasl.mechanism", &security.mechanism),
        ("ssl.ca.location", &security.ca_location),
    ];
    for (name, value) in plain {
        if let Some(value) = value {
            client.set(name, value);
        }
    }
    let secret = [
        ("sasl.username", "security.username_env", &security.username_env),
        ("sasl.password", "security.password_env", &security.password_env),
    ];
    for (name, field, variable) in secret {
        if let Some(variable) = variable {
            let want = "the name of an environment variable that is set";
            let value =
                env::var(variable).map_err(|_| SourceError::Config { field, got: variable.clone(), want })?;
            client.set(name, value);
        }
    }
    Ok(client)
}

/// Whether a setting of librdkafka holds a secret. A file that holds one is none.
fn is_secret(name: &str) -> bool {
    const PARTS: [&str; 8] = [
        "password",
        "passphrase",
        "secret",
        "private",
        "key.pem",
        "ssl_key",
        "oauthbearer.config",
        "oauthbearer.extensions",
    ];
    let file = name.ends_with(".file") || name.ends_with(".location");
    !file && PARTS.iter().any(|part| name.contains(part))
}
