//! The configuration file of `alloctrace watch`, in TOML. Each part has its own file beside this one.

use std::path::PathBuf;

use serde::{Deserialize, de::Error as _};

use super::{BlackBoxConfig, Budget, HttpConfig, IncidentsConfig, Outlets, Trigger};

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
    /// When to look closely at a process; none of them if it is empty, and the usual ones if it is not there.
    #[serde(rename = "trigger")]
    pub triggers: Option<Vec<Trigger>>,
}

/// The file is not as it should be; says where.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(#[from] toml::de::Error);

impl Config {
    /// # Errors
    /// With the line and what is expected there.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text)?;
        for trigger in config.triggers.iter().flatten() {
            trigger.check().map_err(toml::de::Error::custom)?;
        }
        Ok(config)
    }

    /// Those of the file, or the usual ones.
    pub fn triggers(&self) -> Vec<Trigger> {
        self.triggers.clone().unwrap_or_else(Trigger::usual)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_has_bounds() {
        let text = "[incidents]\nkeep = 5\nmax-size = '1MiB'\n[black-box]\nsites = 10";
        let config = Config::parse(text).unwrap();
        assert_eq!(config.incidents, IncidentsConfig { keep: 5, max_size: 1 << 20 });
        assert_eq!(config.black_box, BlackBoxConfig { sites: 10, ..BlackBoxConfig::default() });
        assert!(Config::parse("[incidents]\nmax-size = 'much'").is_err());
    }

    #[test]
    fn nothing_is_as_usual() {
        assert_eq!(Config::parse("").unwrap(), Config::default());
        assert_eq!(Config::default().triggers(), Trigger::usual());
        assert_eq!(Config::parse("trigger = []").unwrap().triggers(), []);
    }

    #[test]
    fn triggers_are_tables() {
        let text = "[[trigger]]\nrss-share = '80%'\ncalm = '2m'\n[[trigger]]\ngrowth = '1MiB/min'\nfor = '10m'\n\
                    name = 'app'\nsuspicious = true";
        let specs = ["rss-share=80%,calm=2m", "growth=1MiB/min,for=10m,name=app,suspicious"];
        let expected: Vec<Trigger> = specs.iter().map(|it| it.parse().unwrap()).collect();
        assert_eq!(Config::parse(text).unwrap().triggers(), expected);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let wrong = |text: &str, said: &[&str]| {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(said.iter().all(|it| error.contains(it)), "{error}");
        };
        wrong("state-dir = '/tmp'\nstate-dri = 'x'", &["line 2", "state-dri"]);
        wrong("[[trigger]]\nrss-share = 'most'", &["line 2", "most"]);
        wrong("[[trigger]]\nname = 'app'", &["needs a condition"]);
    }

    /// As it is packaged, nothing is but usual; and what stands in comments as an example must be right.
    #[test]
    fn the_packaged_file_is_read() {
        let text = include_str!("../../packaging/watch.toml");
        assert_eq!(Config::parse(text).unwrap(), Config::default());
        let is_example = |line: &str| line.starts_with(|it: char| it.is_ascii_lowercase() || it == '[');
        let examples = text.lines().map(|it| it.strip_prefix('#').filter(|it| is_example(it)).unwrap_or(it));
        let config = Config::parse(&examples.collect::<Vec<_>>().join("\n")).unwrap();
        assert_eq!(config.triggers, Some(Trigger::usual()));
        assert_eq!((config.incidents, config.black_box), Default::default());
        assert_eq!(config.budget.len(), 1);
    }
}
