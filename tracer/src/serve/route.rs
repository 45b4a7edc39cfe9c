//! What a request asks for. Pure: path and query go in.

use percent_encoding::percent_decode_str;

use super::page::Page;
use crate::{event::Kind, report::Format};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wanted {
    Index,
    Robots,
    Metrics { open: bool },
    Health,
    Alive,
    PprofIndex,
    Pprof(Pprof),
    Processes(Look),
    Process { pid: u32, format: Format },
    Incidents(Look),
    Incident { name: String, format: Format },
}

/// A profile for `go tool pprof` and its relatives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Pprof {
    pub(super) pid: Option<u32>,
    pub(super) kind: Option<&'static str>,
    /// Only what happens from now on, for so long.
    pub(super) seconds: Option<u32>,
    /// It opens with what was allocated instead of what is live.
    pub(super) opens_with_allocated: bool,
}

/// How a list is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Look {
    Json,
    Text,
    Html,
}

/// Nobody waits longer for an answer.
pub(super) const MAX_SECONDS: u32 = 300;

/// Every page, for the index: (path, what it is).
pub(super) const PAGES: [(&str, &str); 8] = [
    ("/metrics", "for Prometheus: OpenMetrics, or its older format"),
    ("/health", "how the tracing itself goes; status 503 when something is wrong with it"),
    ("/alive", "status 200 as long as anybody answers"),
    ("/processes", "who is watched, and when each will have what it may; /processes/PID is a report"),
    ("/incidents", "what was kept of those that died; /incidents/NAME is a report"),
    ("/debug/pprof/", "what the next two can do"),
    ("/debug/pprof/heap", "what is live, for go tool pprof; ?pid=N, ?seconds=S, ?kind=heap|mmap|resident"),
    ("/debug/pprof/allocs", "the same, opening with what was allocated"),
];

/// What path, query and the header `Accept` ask for, or why that is nothing.
pub(super) fn route(path: &str, query: Option<&str>, accept: &str) -> Result<Wanted, Page> {
    let mut parameters = Parameters::parse(query)?;
    let wanted = match path {
        "/" => Wanted::Index,
        "/robots.txt" => Wanted::Robots,
        "/metrics" => Wanted::Metrics { open: accept.contains("application/openmetrics-text") },
        "/health" => Wanted::Health,
        "/alive" => Wanted::Alive,
        "/debug/pprof" | "/debug/pprof/" => Wanted::PprofIndex,
        "/debug/pprof/heap" => Wanted::Pprof(parameters.pprof(false)?),
        "/debug/pprof/allocs" => Wanted::Pprof(parameters.pprof(true)?),
        "/processes" => Wanted::Processes(parameters.look(accept)?),
        "/incidents" => Wanted::Incidents(parameters.look(accept)?),
        _ => match path.split_once("/processes/").or_else(|| path.split_once("/incidents/")) {
            Some(("", rest)) if !rest.is_empty() && !rest.contains('/') => {
                let name = decode(rest)?;
                let format = parameters.format()?;
                if path.starts_with("/incidents/") {
                    Wanted::Incident { name, format }
                } else {
                    Wanted::Process { pid: number("the process number", &name)?, format }
                }
            }
            _ => return Err(Page::text(404, "There is no such page; / lists those that there are.")),
        },
    };
    parameters.must_be_used()?;
    Ok(wanted)
}

/// The names and values of a query, as far as nobody has taken them.
struct Parameters(Vec<(String, String)>);

impl Parameters {
    fn parse(query: Option<&str>) -> Result<Self, Page> {
        let pairs = query.unwrap_or("").split('&').filter(|it| !it.is_empty());
        let pair = |it: &str| {
            let (name, value) = it.split_once('=').unwrap_or((it, ""));
            // As forms write spaces.
            let [name, value] = [name, value].map(|it| decode(&it.replace('+', " ")));
            Ok((name?, value?))
        };
        pairs.map(pair).collect::<Result<_, Page>>().map(Self)
    }

    /// `None` if it is not there.
    fn take(&mut self, name: &str) -> Result<Option<String>, Page> {
        let Some(place) = self.0.iter().position(|it| it.0 == name) else { return Ok(None) };
        let value = self.0.swap_remove(place).1;
        if self.0.iter().any(|it| it.0 == name) {
            return Err(Page::wrong(&format!("The parameter {name} is there twice.")));
        }
        Ok(Some(value))
    }

    fn pprof(&mut self, opens_with_allocated: bool) -> Result<Pprof, Page> {
        let seconds = self.take("seconds")?.map(|it| number("seconds", &it)).transpose()?;
        if seconds.is_some_and(|it| !(1..=MAX_SECONDS).contains(&it)) {
            return Err(Page::wrong(&format!("seconds must be from 1 to {MAX_SECONDS}.")));
        }
        let pid = self.take("pid")?.map(|it| number("pid", &it)).transpose()?;
        Ok(Pprof { pid, kind: self.kind()?, seconds, opens_with_allocated })
    }

    fn kind(&mut self) -> Result<Option<&'static str>, Page> {
        let Some(text) = self.take("kind")? else { return Ok(None) };
        let kinds = [Kind::Heap, Kind::Mmap, Kind::Resident].map(Kind::name);
        let found = kinds.into_iter().find(|it| *it == text);
        found.map(Some).ok_or_else(|| Page::wrong("kind must be heap, mmap or resident."))
    }

    /// Of a list.
    fn look(&mut self, accept: &str) -> Result<Look, Page> {
        match self.take("format")?.as_deref() {
            Some("json") => Ok(Look::Json),
            Some("text") => Ok(Look::Text),
            Some("html") => Ok(Look::Html),
            Some(_) => Err(Page::wrong("format must be json, text or html.")),
            None if accept.contains("text/html") => Ok(Look::Html),
            None => Ok(Look::Json),
        }
    }

    /// Of a report.
    fn format(&mut self) -> Result<Format, Page> {
        let Some(text) = self.take("format")? else { return Ok(Format::Html) };
        let found = Format::ALL.into_iter().find(|it| it.name() == text);
        found.ok_or_else(|| {
            let names = Format::ALL.map(Format::name).join(", ");
            Page::wrong(&format!("format must be one of {names}."))
        })
    }

    /// What nobody has asked for is a slip, and the answer would be to another question.
    fn must_be_used(&self) -> Result<(), Page> {
        match self.0.first() {
            None => Ok(()),
            Some(_) => Err(Page::wrong(
                "There is a parameter that this page does not know; / lists those that there are.",
            )),
        }
    }
}

fn decode(text: &str) -> Result<String, Page> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.map(Into::into).map_err(|_| Page::wrong("The address is not in UTF-8."))
}

fn number(name: &str, text: &str) -> Result<u32, Page> {
    // Only digits: `+7` is a number to `parse` as well.
    let digits = Some(text).filter(|it| it.bytes().all(|it| it.is_ascii_digit()));
    digits
        .and_then(|it| it.parse().ok())
        .ok_or_else(|| Page::wrong(&format!("{name} must be a whole number of at most {}.", u32::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(address: &str, expected: Wanted) {
        let (path, query) = address.split_once('?').map_or((address, None), |it| (it.0, Some(it.1)));
        assert_eq!(route(path, query, "*/*"), Ok(expected), "{address}");
    }

    fn refused(address: &str, status: u16, says: &str) {
        let (path, query) = address.split_once('?').map_or((address, None), |it| (it.0, Some(it.1)));
        let page = route(path, query, "").expect_err(address);
        let text = String::from_utf8_lossy(&page.body).into_owned();
        assert_eq!(page.status, status, "{address}: {text}");
        assert!(text.contains(says) && text.ends_with(".\n"), "{address}: {text}");
        assert!(!text.contains('<'), "{address}: what was asked is not said again: {text}");
    }

    fn heap() -> Pprof {
        Pprof::default()
    }

    #[test]
    fn pages() {
        check("/", Wanted::Index);
        check("/metrics", Wanted::Metrics { open: false });
        check("/health?", Wanted::Health);
        check("/debug/pprof/", Wanted::PprofIndex);
        check("/debug/pprof/heap", Wanted::Pprof(heap()));
        check("/debug/pprof/heap?pid=7", Wanted::Pprof(Pprof { pid: Some(7), ..heap() }));
        let window =
            Pprof { pid: Some(7), seconds: Some(30), kind: Some("mmap"), opens_with_allocated: true };
        check("/debug/pprof/allocs?seconds=30&kind=mmap&pid=7", Wanted::Pprof(window));
        check("/processes", Wanted::Processes(Look::Json));
        check("/processes?format=text", Wanted::Processes(Look::Text));
        check("/processes/12", Wanted::Process { pid: 12, format: Format::Html });
        check("/processes/12?format=flamegraph", Wanted::Process { pid: 12, format: Format::Flamegraph });
        check("/incidents", Wanted::Incidents(Look::Json));
        let name = "incident.a b.7.jsonl.zst".to_owned();
        check(
            "/incidents/incident.a%20b.7.jsonl.zst?format=%6ason",
            Wanted::Incident { name, format: Format::Json },
        );
        for (path, _) in PAGES {
            assert!(route(path, None, "").is_ok(), "the index names {path}");
        }
    }

    #[test]
    fn what_a_reader_accepts() {
        let browser = "text/html,application/xhtml+xml,*/*;q=0.8";
        assert_eq!(route("/processes", None, browser), Ok(Wanted::Processes(Look::Html)));
        assert_eq!(route("/processes", Some("format=json"), browser), Ok(Wanted::Processes(Look::Json)));
        let prometheus = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5";
        assert_eq!(route("/metrics", None, prometheus), Ok(Wanted::Metrics { open: true }));
    }

    #[test]
    fn what_is_no_page() {
        for path in [
            "",
            "/x",
            "//",
            "/metrics/",
            "/METRICS",
            "/processes/",
            "/processes/1/2",
            "/x/processes/1",
            "/incidents/../etc",
        ] {
            refused(path, 404, "no such page");
        }
        // One name, however it is written; whether there is such an incident is another question.
        let name = "../../etc/passwd".to_owned();
        check("/incidents/..%2f..%2fetc%2fpasswd", Wanted::Incident { name, format: Format::Html });
    }

    #[test]
    fn what_is_no_question() {
        refused("/debug/pprof/heap?pid=", 400, "pid must be");
        refused("/debug/pprof/heap?pid=-1", 400, "pid must be");
        refused("/debug/pprof/heap?pid=+1", 400, "pid must be");
        refused("/debug/pprof/heap?pid=4294967296", 400, "pid must be");
        refused("/debug/pprof/heap?pid=1&pid=2", 400, "twice");
        refused("/debug/pprof/heap?seconds=0", 400, "from 1 to 300");
        refused("/debug/pprof/heap?seconds=301", 400, "from 1 to 300");
        refused("/debug/pprof/heap?seconds=1.5", 400, "whole number");
        refused("/debug/pprof/heap?kind=stack", 400, "heap, mmap or resident");
        refused("/debug/pprof/heap?pids=1", 400, "does not know");
        refused("/metrics?<script>", 400, "does not know");
        refused("/processes?format=xml", 400, "json, text or html");
        refused("/processes/me", 400, "whole number");
        refused("/processes/1?format=<b>", 400, "one of text, json");
        refused("/incidents/%ff", 400, "UTF-8");
    }
}
