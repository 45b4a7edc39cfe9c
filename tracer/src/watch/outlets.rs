//! `[alerts]` of the configuration: whom alerts are told to, and how often.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::written;

/// Whom alerts are told to.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Outlets {
    pub log: Log,
    /// A program and its arguments; none if empty.
    pub command: Vec<String>,
    /// Whoever takes longer is ended, or given up.
    pub time_limit: Duration,
    pub webhook: Option<Webhook>,
    /// An alert that lasts is told again after this; `None`: never.
    pub repeat: Option<Duration>,
    /// For how long it must be better before an alert is resolved.
    pub resolve_after: Duration,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Log {
    /// A line for people, on standard error.
    #[default]
    Words,
    /// JSON lines, on standard error.
    StandardError,
    /// JSON lines, at the end of a file.
    File(PathBuf),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    pub url: Secret,
    pub headers: BTreeMap<String, Secret>,
    /// Certificates, in PEM, of those who may vouch for the other side; `None`: those of Mozilla.
    pub authorities: Option<PathBuf>,
}

/// A text, or where it is read each time that it is needed, so that no secret need stand in the configuration.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(
    untagged,
    expecting = "a text, { file = \"PATH\" } or { env = \"NAME\" }, each of the two with or without prefix"
)]
pub enum Secret {
    Plain(String),
    Elsewhere(Elsewhere),
}

/// One of the two is given.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Elsewhere {
    pub file: Option<PathBuf>,
    pub env: Option<String>,
    /// Stands before what is read: `Bearer `.
    #[serde(default)]
    pub prefix: String,
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => out.write_str("Plain(…)"),
            Self::Elsewhere(it) => it.fmt(out),
        }
    }
}

/// As it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    log: Option<String>,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default, deserialize_with = "written::duration")]
    time_limit: Option<Duration>,
    webhook: Option<Secret>,
    #[serde(default)]
    headers: BTreeMap<String, Secret>,
    authorities: Option<PathBuf>,
    #[serde(default, deserialize_with = "written::duration_or_none")]
    repeat: Option<Duration>,
    #[serde(default, deserialize_with = "written::duration_or_none")]
    resolve_after: Option<Duration>,
}

const TIME_LIMIT: Duration = Duration::from_secs(10);
const RESOLVE_AFTER: Duration = Duration::from_secs(60);

impl Default for Outlets {
    fn default() -> Self {
        Self {
            log: Log::default(),
            command: Vec::new(),
            time_limit: TIME_LIMIT,
            webhook: None,
            repeat: None,
            resolve_after: RESOLVE_AFTER,
        }
    }
}

impl TryFrom<Written> for Outlets {
    type Error = String;

    fn try_from(it: Written) -> Result<Self, String> {
        if it.command.first().is_some_and(String::is_empty) {
            return Err(
                "command is a program and its arguments: [\"/usr/local/bin/page\", \"team\"]".to_owned()
            );
        }
        if it.webhook.is_none() && (!it.headers.is_empty() || it.authorities.is_some()) {
            return Err("headers and authorities are of a webhook, and that is missing".to_owned());
        }
        let secrets = it.headers.values().chain(&it.webhook);
        for secret in secrets {
            if let Secret::Elsewhere(Elsewhere { file, env, .. }) = secret
                && file.is_some() == env.is_some()
            {
                return Err("a text is read from a file, or from env: one of the two".to_owned());
            }
        }
        if let Some(Secret::Plain(url)) = &it.webhook
            && !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme))
        {
            return Err("webhook begins with https:// or http://".to_owned());
        }
        let log = match it.log.as_deref() {
            None => Log::Words,
            Some("stderr") => Log::StandardError,
            Some("") => return Err("log is a file, or \"stderr\"".to_owned()),
            Some(path) => Log::File(path.into()),
        };
        let (headers, authorities) = (it.headers, it.authorities);
        Ok(Self {
            log,
            command: it.command,
            time_limit: it.time_limit.unwrap_or(TIME_LIMIT),
            webhook: it.webhook.map(|url| Webhook { url, headers, authorities }),
            repeat: it.repeat.filter(|it| !it.is_zero()),
            resolve_after: it.resolve_after.unwrap_or(RESOLVE_AFTER),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Config;

    fn outlets(text: &str) -> Outlets {
        Config::parse(&format!("[alerts]\n{text}")).unwrap().alerts
    }

    #[test]
    fn what_is_written() {
        let found = outlets(
            "log = '/var/log/alerts.jsonl'\ncommand = ['page', 'team']\ntime-limit = '5s'\nrepeat = '1h'\n\
             resolve-after = 0\nwebhook = { env = 'HOOK' }\nauthorities = '/ca.pem'\n[alerts.headers]\n\
             X-Team = 'storage'\nAuthorization = { file = '/token', prefix = 'Bearer ' }",
        );
        let elsewhere = |file: Option<&str>, env: Option<&str>, prefix: &str| {
            let (file, env) = (file.map(PathBuf::from), env.map(str::to_owned));
            Secret::Elsewhere(Elsewhere { file, env, prefix: prefix.to_owned() })
        };
        let headers = BTreeMap::from([
            ("X-Team".to_owned(), Secret::Plain("storage".to_owned())),
            ("Authorization".to_owned(), elsewhere(Some("/token"), None, "Bearer ")),
        ]);
        let url = elsewhere(None, Some("HOOK"), "");
        let expected = Outlets {
            log: Log::File("/var/log/alerts.jsonl".into()),
            command: vec!["page".to_owned(), "team".to_owned()],
            time_limit: Duration::from_secs(5),
            webhook: Some(Webhook { url, headers, authorities: Some("/ca.pem".into()) }),
            repeat: Some(Duration::from_secs(3600)),
            resolve_after: Duration::ZERO,
        };
        assert_eq!(found, expected);
        assert_eq!(outlets(""), Outlets::default());
        assert_eq!(outlets("log = 'stderr'\nrepeat = 0").log, Log::StandardError);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, expected) in [
            ("webhook = 'ftp://x'", "https://"),
            ("webhook = 7", "a text, { file"),
            ("webhook = { file = '/x', env = 'X' }", "one of the two"),
            ("webhook = {}", "one of the two"),
            ("[alerts.headers]\nA = 'b'", "webhook"),
            ("command = ['']", "a program and its arguments"),
            ("log = ''", "a file"),
            ("repeat = 'often'", "often"),
            ("web-hook = 'https://x'", "web-hook"),
        ] {
            let error = Config::parse(&format!("[alerts]\n{text}")).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn a_secret_does_not_get_into_messages() {
        let found =
            format!("{:?}", outlets("webhook = 'https://hooks/TOKEN'\n[alerts.headers]\nA = 'TOKEN'"));
        assert!(!found.contains("TOKEN"), "{found}");
    }
}
