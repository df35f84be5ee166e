//! The table `[server]` of the configuration file.

use schemars::JsonSchema;
use serde::Deserialize;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Where a running stream can be read and steered: `[server]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServerConfig {
    /// Address and port of `/metrics` and `/healthz`, for example `"127.0.0.1:9464"`; port 0 takes a free one.
    /// Absent: no port is opened.
    pub metrics: Option<Loopback>,
    /// Path of the Unix socket that takes commands; only the user who started the stream can use it.
    pub control: Option<PathBuf>,
}

/// An address that only this machine can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String")]
pub struct Loopback(SocketAddr);

impl Loopback {
    /// The address.
    pub fn addr(self) -> SocketAddr {
        self.0
    }
}

impl fmt::Display for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why an address was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LoopbackError {
    /// It is not an address and a port.
    #[error("expected an address and a port such as 127.0.0.1:9464, got `{got}`")]
    NotAnAddress {
        /// As written.
        got: String,
    },
    /// Others could reach it.
    #[error(
        "{got} can be reached from other machines, and there is no authentication yet: use 127.0.0.1 or [::1]"
    )]
    NotLoopback {
        /// As written.
        got: SocketAddr,
    },
}

impl TryFrom<SocketAddr> for Loopback {
    type Error = LoopbackError;

    fn try_from(got: SocketAddr) -> Result<Self, LoopbackError> {
        if got.ip().is_loopback() { Ok(Loopback(got)) } else { Err(LoopbackError::NotLoopback { got }) }
    }
}

impl FromStr for Loopback {
    type Err = LoopbackError;

    fn from_str(text: &str) -> Result<Self, LoopbackError> {
        let addr: SocketAddr =
            text.parse().map_err(|_| LoopbackError::NotAnAddress { got: text.to_string() })?;
        addr.try_into()
    }
}

impl TryFrom<String> for Loopback {
    type Error = LoopbackError;

    fn try_from(text: String) -> Result<Self, LoopbackError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        toml::from_str::<ServerConfig>(text).expect_err("refused").to_string()
    }

    /// Given an address that others can reach, then the file is refused with the reason and the line.
    #[test]
    fn an_address_that_others_can_reach_is_refused_with_the_reason() {
        for open in ["0.0.0.0:9464", "192.0.2.1:9464", "[::]:9464", "[::ffff:127.0.0.1]:9464"] {
            let message = refused(&format!("metrics = \"{open}\""));
            assert!(message.contains("no authentication yet"), "{message}");
            assert!(message.contains("line 1, column"), "{message}");
        }
    }

    #[test]
    fn loopback_is_taken_in_both_families() {
        for own in ["127.0.0.1:9464", "127.8.0.1:0", "[::1]:9464"] {
            let config: ServerConfig = toml::from_str(&format!("metrics = \"{own}\"")).expect("taken");
            assert_eq!(config.metrics.map(|m| m.to_string()).as_deref(), Some(own));
        }
        assert_eq!(toml::from_str::<ServerConfig>("").expect("taken"), ServerConfig::default());
    }

    #[test]
    fn what_is_not_an_address_and_unknown_keys_are_refused() {
        assert!(refused("metrics = \"localhost\"").contains("such as 127.0.0.1:9464, got `localhost`"));
        assert!(refused("metric = \"127.0.0.1:1\"").contains("unknown field `metric`"));
    }
}
