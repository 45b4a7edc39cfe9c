//! Pages that list: what pages there are, who is watched, what was kept.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{
    overview::{Overview, Process, Rest},
    page::{JSON, Page, TEXT, escape_html},
    route::{Look, PAGES},
    source::Incident,
};
use crate::report::{escape::printable, units, words};

const STYLE: &str = "body{font:14px/1.5 system-ui,sans-serif;margin:2em;color-scheme:light dark}\
    table{border-collapse:collapse}td,th{padding:.1em .8em;text-align:left}\
    td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}tr:nth-child(even){background:#8881}";

/// Those that mean something in an address stay.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

pub(super) fn index() -> Page {
    let mut rows = String::new();
    for (path, what) in PAGES {
        let _ = write!(rows, "<tr><td><a href=\"{path}\">{path}</a><td>{}", escape_html(what));
    }
    document(
        "alloctrace",
        &format!(
            "<p>A watch is kept on this machine. Everything here can only be read.\n<table>{rows}</table>"
        ),
    )
}

pub(super) fn robots() -> Page {
    Page::new(TEXT, "User-agent: *\nDisallow: /\n")
}

pub(super) fn pprof_index(overview: &Overview) -> Page {
    let mut body = "<p>For <code>go tool pprof</code> and what else reads its profiles. Both hold \
        inuse_space, inuse_objects, alloc_space and alloc_objects by call stack, of the memory since it is watched; with \
        <code>seconds=S</code> what is allocated from the request on, S seconds long. A process whose calls are not followed \
        is told by samples of its resident memory, of the kind <code>resident</code>.\n<table>"
        .to_owned();
    let row = |body: &mut String, query: &str, name: &str| {
        let link = |page: &str| format!("<a href=\"/debug/pprof/{page}{query}\">{page}</a>");
        let _ = write!(body, "<tr><td>{}<td>{}<td>{}", escape_html(name), link("heap"), link("allocs"));
    };
    row(&mut body, "", "all processes");
    for it in &overview.processes {
        row(&mut body, &format!("?pid={}", it.pid), &format!("{} {}", it.pid, printable(&it.name)));
    }
    body.push_str("</table>");
    document("alloctrace: profiles", &body)
}

pub(super) fn processes(overview: &Overview, look: Look) -> Page {
    let Overview { processes, other_processes, .. } = overview;
    match look {
        Look::Json => Page::new(JSON, pretty(&processes_json(overview))),
        Look::Text => {
            let mut rows = vec![HEAD.map(str::to_owned)];
            rows.extend(processes.iter().map(cells));
            Page::new(TEXT, aligned(&rows) + &rest(*other_processes, " resident"))
        }
        Look::Html => {
            let row = |it: &Process| {
                let mut cells = cells(it).map(|it| escape_html(&it));
                cells[0] = format!("<a href=\"/processes/{pid}\">{pid}</a>", pid = it.pid);
                cells
            };
            let rows: Vec<[String; 8]> = processes.iter().map(row).collect();
            let after = escape_html(&rest(*other_processes, " resident"));
            document("alloctrace: processes", &(table(&HEAD, &rows) + "<p>" + &after))
        }
    }
}

fn processes_json(overview: &Overview) -> Value {
    let process = |it: &Process| {
        json!({
            "pid": it.pid,
            "name": it.name,
            "cgroup": it.cgroup,
            "rss_bytes": it.rss_bytes,
            "limit_bytes": it.limit_bytes,
            "growth_bytes_per_s": it.growth_bytes_per_s,
            "time_to_limit_s": it.time_to_limit_s,
            "live_bytes": it.live_bytes,
            "tier": tier(it),
            "overhead": it.overhead,
        })
    };
    json!({
        "schema": "alloctrace.processes/1",
        "t_s": overview.now_s,
        "processes": overview.processes.iter().map(process).collect::<Vec<_>>(),
        "left_out": {
            "processes": overview.other_processes.count,
            "rss_bytes": overview.other_processes.bytes,
        },
    })
}

fn tier(process: &Process) -> &'static str {
    if process.is_exact { "exact" } else { "growth" }
}

const HEAD: [&str; 8] = ["PID", "RSS", "LIMIT", "GROWTH", "TIME TO LIMIT", "LIVE", "TIER", "NAME"];

fn cells(it: &Process) -> [String; 8] {
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "–".to_owned());
    [
        it.pid.to_string(),
        units::bytes(it.rss_bytes as i64),
        or_none(it.limit_bytes.map(|it| units::bytes(it as i64))),
        or_none(it.growth_bytes_per_s.map(units::rate)),
        or_none(it.time_to_limit_s.map(units::seconds)),
        units::bytes(it.live_bytes),
        tier(it).to_owned(),
        printable(&it.name).into_owned(),
    ]
}

/// What a list does not show, as a sentence or as nothing.
fn rest(rest: Rest, of: &str) -> String {
    if rest.count == 0 {
        return String::new();
    }
    format!("… and {} more with {}{of}\n", units::count(rest.count as i64), units::bytes(rest.bytes))
}

pub(super) fn incidents(incidents: &[Incident], look: Look) -> Page {
    match look {
        Look::Json => {
            let incident = |it: &Incident| {
                let mut value = serde_json::to_value(&it.row).unwrap_or_default();
                value["name"] = it.name.as_str().into();
                value["path"] = path(it).into();
                value
            };
            let all: Vec<Value> = incidents.iter().map(incident).collect();
            Page::new(JSON, pretty(&json!({ "schema": "alloctrace.incidents/1", "incidents": all })))
        }
        Look::Text => {
            let mut rows = vec![INCIDENT_HEAD.map(str::to_owned)];
            rows.extend(incidents.iter().map(incident_cells));
            Page::new(TEXT, aligned(&rows))
        }
        Look::Html => {
            let row = |it: &Incident| {
                let mut cells = incident_cells(it).map(|it| escape_html(&it));
                cells[5] = format!("<a href=\"{}\">{}</a>", path(it), cells[5]);
                cells
            };
            let rows: Vec<[String; 6]> = incidents.iter().map(row).collect();
            document("alloctrace: incidents", &table(&INCIDENT_HEAD, &rows))
        }
    }
}

fn path(incident: &Incident) -> String {
    format!("/incidents/{}", utf8_percent_encode(&incident.name, IN_PATH))
}

const INCIDENT_HEAD: [&str; 6] = ["TIME", "KIND", "VICTIM", "HELD", "MOST IN", "NAME"];

/// As `alloctrace incidents` lists them.
fn incident_cells(Incident { name, row }: &Incident) -> [String; 6] {
    /// Enough to recognise a function that is a page long.
    const FUNCTION_CHARS: usize = 60;
    let victim = row.victim.as_ref();
    let function = victim.and_then(|it| it.function.as_deref());
    [
        printable(&row.time).into_owned(),
        words::incident_kind(row),
        victim.map_or_else(String::new, |it| format!("{} ({})", printable(&it.name), it.pid)),
        victim.map_or_else(String::new, |it| units::bytes(it.live_bytes)),
        function.map_or_else(String::new, |it| words::shorten(it, FUNCTION_CHARS)),
        printable(name).into_owned(),
    ]
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

/// Numbers to the right; the last column, names, to the left.
fn aligned<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |at: usize| rows.iter().map(|it| it[at].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let mut text = String::new();
    for row in rows {
        for (cell, width) in row.iter().zip(widths).take(N - 1) {
            let _ = write!(text, "{cell:>width$}  ");
        }
        text.push_str(&row[N - 1]);
        text.push('\n');
    }
    text
}

/// Cells are markup.
fn table<const N: usize>(head: &[&str; N], rows: &[[String; N]]) -> String {
    let class = |at: usize| if at + 1 < N { " class=n" } else { "" };
    let mut text = "<table><tr>".to_owned();
    for (at, cell) in head.iter().enumerate() {
        let _ = write!(text, "<th{}>{cell}", class(at));
    }
    for row in rows {
        text.push_str("\n<tr>");
        for (at, cell) in row.iter().enumerate() {
            let _ = write!(text, "<td{}>{cell}", class(at));
        }
    }
    text.push_str("</table>");
    text
}

fn document(title: &str, body: &str) -> Page {
    let home = if title == "alloctrace" { "" } else { "<p><a href=\"/\">alloctrace</a>\n" };
    Page::html(format!(
        "<!doctype html>\n<meta charset=utf-8><meta name=robots content=noindex>\n<title>{title}</title>\n\
        <style>{STYLE}</style>\n<h1>{title}</h1>\n{home}{body}\n"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::IncidentRow;

    fn overview() -> Overview {
        let name = "<b>\x1b[2J".to_owned();
        let process = Process {
            pid: 7,
            name,
            rss_bytes: 5 << 20,
            limit_bytes: Some(64 << 20),
            growth_bytes_per_s: Some(1024.0),
            time_to_limit_s: Some(60_416.0),
            live_bytes: 4096,
            ..Process::default()
        };
        let other_processes = Rest { count: 2, bytes: 2048 };
        Overview { processes: vec![process], other_processes, ..Overview::default() }
    }

    fn text(page: &Page) -> String {
        String::from_utf8(page.body.to_vec()).unwrap()
    }

    #[test]
    fn a_table_in_text() {
        let expected = "\
PID      RSS     LIMIT      GROWTH  TIME TO LIMIT     LIVE    TIER  NAME
  7  5.0 MiB  64.0 MiB  +1.0 KiB/s      16 h 46 min  4.0 KiB  growth  <b>\\u{1b}[2J
… and 2 more with 2.0 KiB resident
";
        let squeeze = |it: &str| it.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(squeeze(&text(&processes(&overview(), Look::Text))), squeeze(expected));
    }

    #[test]
    fn names_are_text_in_a_page() {
        for page in [processes(&overview(), Look::Html), pprof_index(&overview())] {
            let text = text(&page);
            assert!(text.contains("&lt;b&gt;\\u{1b}[2J") && !text.contains("<b>"), "{text}");
            assert!(page.headers.iter().any(|it| it.0 == "content-security-policy"));
        }
        let name = "incident.\"><script>.1.jsonl.zst".to_owned();
        let row = IncidentRow { kind: "<i>".to_owned(), ..IncidentRow::default() };
        let incident = Incident { name, row };
        let html = text(&incidents(std::slice::from_ref(&incident), Look::Html));
        assert!(
            !html.contains("<script")
                && !html.contains("<i>")
                && html.contains("incident.%22%3E%3Cscript%3E.1.jsonl.zst\">"),
            "{html}"
        );
        let json: Value = serde_json::from_str(&text(&incidents(&[incident], Look::Json))).unwrap();
        assert_eq!(json["incidents"][0]["path"], "/incidents/incident.%22%3E%3Cscript%3E.1.jsonl.zst");
    }

    #[test]
    fn json_of_processes() {
        let json: Value = serde_json::from_str(&text(&processes(&overview(), Look::Json))).unwrap();
        assert_eq!(json["processes"][0]["limit_bytes"], 64 << 20);
        assert_eq!(json["processes"][0]["tier"], "growth");
        assert_eq!(json["left_out"]["processes"], 2);
    }
}
