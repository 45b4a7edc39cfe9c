//! The part of the configuration that is about answers over HTTP.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::Deserialize;

/// `[http]`
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct HttpConfig {
    /// Where it is listened; changes when the watch is started again.
    #[serde(default, deserialize_with = "listen")]
    pub listen: Option<Listen>,
    /// How many processes `/metrics` names, largest first.
    pub max_processes: Option<usize>,
    /// How many sites it names.
    pub max_sites: Option<usize>,
}

/// Where questions come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Nowhere,
    /// A host and a port.
    Tcp(String),
    Unix(PathBuf),
}

impl Listen {
    /// What only this machine's users can reach.
    pub const USUAL: &str = "127.0.0.1:9464";
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::Nowhere);
        }
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::Unix(path))
            } else {
                Err("the path behind unix: must begin with /".to_owned())
            };
        }
        match text.rsplit_once(':').map(|(host, port)| (host, port.parse::<u16>())) {
            Some((host, Ok(_))) if !host.is_empty() => Ok(Self::Tcp(text.to_owned())),
            _ => Err(format!("write for example {}, unix:/run/alloctrace.sock or none", Self::USUAL)),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nowhere => out.write_str("none"),
            Self::Tcp(address) => out.write_str(address),
            Self::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

fn listen<'de, D: serde::Deserializer<'de>>(input: D) -> Result<Option<Listen>, D::Error> {
    let text = String::deserialize(input)?;
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<Listen>) {
        let found = text.parse::<Listen>();
        assert_eq!(found.clone().ok(), expected, "{text}: {found:?}");
        if let Some(listen) = expected {
            assert_eq!(listen.to_string(), text);
        }
    }

    #[test]
    fn where_to_listen() {
        check("none", Some(Listen::Nowhere));
        check("127.0.0.1:9464", Some(Listen::Tcp("127.0.0.1:9464".to_owned())));
        check("localhost:0", Some(Listen::Tcp("localhost:0".to_owned())));
        check("[::]:9464", Some(Listen::Tcp("[::]:9464".to_owned())));
        check("unix:/run/a.sock", Some(Listen::Unix("/run/a.sock".into())));
        for wrong in ["", "9464", ":9464", "host", "host:", "host:99999", "unix:", "unix:a.sock"] {
            check(wrong, None);
        }
    }

    #[test]
    fn a_file_says_it() {
        let config = |text| crate::watch::Config::parse(text);
        let http = config("[http]\nlisten = 'unix:/run/a.sock'\nmax-sites = 5").unwrap().http;
        assert_eq!(http.listen, Some(Listen::Unix("/run/a.sock".into())));
        assert_eq!(http.max_sites, Some(5));
        let error = config("[http]\nlisten = 'nowhere'").unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("127.0.0.1:9464"), "{error}");
        assert!(config("[http]\nlisten = 7").is_err());
    }
}
