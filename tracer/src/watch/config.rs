//! The configuration file of `alloctrace watch`, in TOML. Each part has its own file beside this one.

use std::path::PathBuf;

use serde::Deserialize;

use super::{BlackBoxConfig, Budget, HttpConfig, IncidentsConfig, Outlets};

/// What the file says. What it does not say is as usual.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Where incidents and the black box are kept.
    pub state_dir: Option<PathBuf>,
    pub incidents: IncidentsConfig,
    pub black_box: BlackBoxConfig,
    /// What processes may take.
    pub budget: Vec<Budget>,
    /// Whom alerts are told to.
    pub alerts: Outlets,
    pub http: HttpConfig,
}

/// The file is not as it should be; says where.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(#[from] toml::de::Error);

impl Config {
    /// # Errors
    /// With the line and what is expected there.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        Ok(toml::from_str(text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_as_usual() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let error = Config::parse("state-dir = '/tmp'\nstate-dri = 'x'").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("state-dri"), "{error}");
    }
}
