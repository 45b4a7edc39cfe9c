//! A webhook: the alert as JSON in a POST. What may pass is tried again, and each try is limited in time.

use std::{env, fs, path::Path, sync::Arc, time::Duration};

use ureq::{
    Agent, Error,
    http::HeaderValue,
    tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem},
};

use super::Leaving;
use crate::watch::{Alert, Elsewhere, Secret, Webhook};

/// Between tries: a restart takes seconds, and more than one alert may wait.
const PAUSES: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(4), Duration::from_secs(16)];

pub(super) fn post(
    alert: &Alert,
    webhook: &Webhook,
    time_limit: Duration,
    leaving: &Leaving,
) -> Result<(), String> {
    let url = read(&webhook.url)?;
    let mut headers = Vec::new();
    for (name, value) in &webhook.headers {
        let mut value = HeaderValue::from_str(&read(value)?)
            .map_err(|_| format!("the header {name} has characters that no header may have"))?;
        value.set_sensitive(true);
        headers.push((name, value));
    }
    let roots = webhook.authorities.as_deref().map_or(Ok(RootCerts::WebPki), authorities)?;
    let agent: Agent = Agent::config_builder()
        .timeout_global(Some(time_limit))
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("alloctrace/", env!("CARGO_PKG_VERSION")))
        .tls_config(TlsConfig::builder().root_certs(roots).build())
        .build()
        .into();
    let body = alert.json().to_string();
    let mut tries = 0;
    loop {
        let mut request = agent.post(&url).content_type("application/json");
        for (name, value) in &headers {
            request = request.header(name.as_str(), value);
        }
        tries += 1;
        let failure = match request.send(&body) {
            Ok(answer) if answer.status().is_success() => return Ok(()),
            Ok(answer) => {
                let status = answer.status();
                // What was wrong with the request will be wrong again.
                let may_pass = status.is_server_error() || [408, 425, 429].contains(&status.as_u16());
                (format!("it answers {status}"), may_pass)
            }
            Err(error) => (words(&error), may_pass(&error)),
        };
        let (why, may_pass) = failure;
        let Some(pause) = PAUSES.get(tries - 1).filter(|_| may_pass && !leaving.is_time()) else {
            let tries = if tries > 1 { format!(", {tries} times") } else { String::new() };
            return Err(format!("{}: {why}{tries}", server(&url)));
        };
        leaving.sleep(*pause);
    }
}

/// The rest of the address may be a secret.
fn server(url: &str) -> &str {
    let host = url.find("://").map_or(0, |it| it + 3);
    let end = url[host..].find(['/', '?', '#']).map_or(url.len(), |it| host + it);
    let user = url[host..end].rfind('@').map_or(host, |it| host + it + 1);
    &url[user..end]
}

fn may_pass(error: &Error) -> bool {
    matches!(error, Error::Io(_) | Error::Timeout(_) | Error::HostNotFound | Error::ConnectionFailed)
        && !is_refused_certificate(error)
}

/// rustls tells it as an error of the connection.
fn is_refused_certificate(error: &Error) -> bool {
    error.to_string().contains("invalid peer certificate")
}

fn words(error: &Error) -> String {
    if is_refused_certificate(error) {
        let error = error.to_string();
        // Signed by itself, or by somebody unknown.
        let is_stranger = ["UnknownIssuer", "CaUsedAsEndEntity"].iter().any(|it| error.contains(it));
        let hint = if is_stranger {
            "; a certificate authority of your own is named by authorities = \"FILE\""
        } else {
            ""
        };
        return format!("its certificate is not trusted ({error}){hint}");
    }
    match error {
        Error::Io(error) => error.to_string(),
        Error::Timeout(_) => "it takes longer than time-limit".to_owned(),
        other => other.to_string(),
    }
}

/// A text of the configuration, from wherever it is.
fn read(secret: &Secret) -> Result<String, String> {
    let (text, prefix) = match secret {
        Secret::Plain(text) => (text.clone(), ""),
        Secret::Elsewhere(Elsewhere { file: Some(file), prefix, .. }) => {
            let text = fs::read_to_string(file).map_err(|it| format!("{}: {it}", file.display()))?;
            (text.trim().to_owned(), prefix.as_str())
        }
        Secret::Elsewhere(Elsewhere { env, prefix, .. }) => {
            let name = env.as_deref().unwrap_or("");
            let text = env::var(name).map_err(|it| format!("environment variable {name}: {it}"))?;
            (text, prefix.as_str())
        }
    };
    Ok(format!("{prefix}{text}"))
}

fn authorities(path: &Path) -> Result<RootCerts, String> {
    let failed = |why: String| format!("{}: {why}", path.display());
    let text = fs::read(path).map_err(|it| failed(it.to_string()))?;
    let certificates: Vec<Certificate<'static>> = parse_pem(&text)
        .filter_map(|it| match it {
            Ok(PemItem::Certificate(it)) => Some(Ok(it)),
            Ok(_) => None,
            Err(error) => Some(Err(failed(error.to_string()))),
        })
        .collect::<Result<_, _>>()?;
    if certificates.is_empty() {
        return Err(failed("there is no certificate in it".to_owned()));
    }
    Ok(RootCerts::Specific(Arc::new(certificates)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_address_only_the_server_is_said() {
        for (url, expected) in [
            ("https://hooks.example.com/T/SECRET", "hooks.example.com"),
            ("http://user:SECRET@localhost:8080?token=SECRET", "localhost:8080"),
            ("https://a", "a"),
        ] {
            assert_eq!(server(url), expected);
        }
    }

    #[test]
    fn a_text_may_be_elsewhere() {
        let of = |file: Option<&str>, env: Option<&str>| {
            let (file, env) = (file.map(Into::into), env.map(str::to_owned));
            read(&Secret::Elsewhere(Elsewhere { file, env, prefix: "Bearer ".to_owned() }))
        };
        assert_eq!(of(None, Some("CARGO_PKG_NAME")), Ok("Bearer tracer".to_owned()));
        assert!(of(None, Some("NO_SUCH_VARIABLE")).unwrap_err().contains("NO_SUCH_VARIABLE"));
        assert!(of(Some("/no/such/file"), None).unwrap_err().contains("/no/such/file"));
    }
}
