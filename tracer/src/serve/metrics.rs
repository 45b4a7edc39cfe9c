//! Where everybody stands, for Prometheus.
//!
//! The number of series is bounded: what did not fit is summed up under `alloctrace_left_out`.

use std::{borrow::Cow, fmt};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};

use super::{
    overview::{Overview, Process, Rest, Site, sum},
    page::Page,
    source::Own,
};
use crate::{event::Loss, report::escape::printable};

/// Characters of a name; a template of C++ has thousands.
const MAX_NAME_CHARS: usize = 120;

const OPEN: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `open`: as OpenMetrics; otherwise in the format from before it, which all tools read.
pub(super) fn page(overview: &Overview, own: Own, open: bool) -> Page {
    let mut registry = Registry::with_prefix("alloctrace");
    registry.register_collector(Box::new(Numbers { overview: overview.clone(), own }));
    let mut text = String::new();
    if let Err(error) = text::encode(&mut text, &registry) {
        return Page::text(500, &format!("The metrics could not be written: {error}."));
    }
    if open { Page::new(OPEN, text) } else { Page::new(PLAIN, plain(&text)) }
}

#[derive(Debug)]
struct Numbers {
    overview: Overview,
    own: Own,
}

impl Collector for Numbers {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.processes(&mut out)?;
        self.sites(&mut out)?;
        self.groups(&mut out)?;
        self.tracing(&mut out)
    }
}

impl Numbers {
    fn processes(&self, out: &mut Out<'_>) -> fmt::Result {
        let shown = self.shown_processes();
        let names: Vec<[String; 2]> = shown.iter().map(|it| [it.pid.to_string(), name(&it.name)]).collect();
        let mut each = |metric: &str, help: &str, value: &dyn Fn(&Process) -> Option<f64>| {
            let values = shown.iter().zip(&names);
            let values = values.filter_map(|(it, [pid, name])| {
                Some(([("pid", pid.as_str()), ("name", name.as_str())], value(it)?))
            });
            out.gauges(metric, help, values)
        };
        let bytes = |it: u64| Some(it as f64);
        each("process_resident_bytes", "Resident memory", &|it| bytes(it.rss_bytes))?;
        each("process_limit_bytes", "The least of what its limits and its control group allow", &|it| {
            bytes(it.limit_bytes?)
        })?;
        each(
            "process_growth_bytes_per_second",
            "Slope of the resident memory over the last minute",
            &|it| it.growth_bytes_per_s,
        )?;
        each(
            "process_time_to_limit_seconds",
            "Until it has what it may, if it goes on growing like this",
            &|it| it.time_to_limit_s,
        )?;
        each("process_live_bytes", "What its call stacks are known to hold", &|it| {
            Some(it.live_bytes as f64)
        })?;
        each("process_exact", "1 if each call of its allocator is followed", &|it| {
            Some(f64::from(u8::from(it.is_exact)))
        })?;
        each(
            "process_overhead_ratio",
            "What tracing added to its CPU time in the last minute, by estimate",
            &|it| it.overhead,
        )
    }

    fn shown_processes(&self) -> &[Process] {
        let all = &self.overview.processes;
        &all[..all.len().min(self.overview.limits.processes)]
    }

    fn sites(&self, out: &mut Out<'_>) -> fmt::Result {
        struct Names([String; 5]);
        let names = |it: &Site| {
            let Site { id, pid, name: process, function, via, .. } = it;
            Names([pid.to_string(), name(process), id.to_string(), name(function), name(via)])
        };
        let names: Vec<Names> = self.overview.sites.iter().map(names).collect();
        let values = self.overview.sites.iter().zip(&names).map(|(it, Names(names))| {
            let keys = ["pid", "name", "site", "function", "via"];
            let labels: [(&str, &str); 5] = std::array::from_fn(|at| (keys[at], names[at].as_str()));
            (labels, it.live_bytes as f64)
        });
        out.gauges("site_live_bytes", "What one call stack holds, by the function that asked for it", values)
    }

    fn groups(&self, out: &mut Out<'_>) -> fmt::Result {
        let groups = &self.overview.groups;
        let paths: Vec<String> = groups.iter().map(|it| name(&it.path)).collect();
        let mut each = |metric: &str, help: &str, value: &dyn Fn(usize) -> Option<f64>| {
            let values = paths.iter().enumerate();
            let values = values.filter_map(|(at, path)| Some(([("path", path.as_str())], value(at)?)));
            out.gauges(metric, help, values)
        };
        each("cgroup_memory_bytes", "What the kernel accounts to the control group", &|at| {
            Some(groups[at].memory_bytes as f64)
        })?;
        each("cgroup_limit_bytes", "What the control group may have", &|at| {
            Some(groups[at].limit_bytes? as f64)
        })
    }

    /// How the tracing itself goes.
    fn tracing(&self, out: &mut Out<'_>) -> fmt::Result {
        let Self { overview, own } = self;
        let losses = Loss::ALL.into_iter().map(|loss| {
            let count = overview.losses.get(loss.name()).copied().unwrap_or(0);
            ([("loss", loss.name())], count as f64)
        });
        out.counters("losses", "Why an answer may not be exact, by reason", losses)?;
        out.counter("events", "Allocations and frees that were seen", overview.events as f64)?;
        let incidents =
            overview.incidents.iter().map(|(kind, count)| ([("kind", kind.as_str())], *count as f64));
        out.counters("incidents", "Incidents that were written", incidents)?;
        let alerts = overview.alerts.iter().map(|((budget, severity), count)| {
            ([("budget", budget.as_str()), ("severity", severity.as_str())], *count as f64)
        });
        out.gauges("alerts_firing", "Alerts that have not resolved", alerts)?;
        let failures = overview.alert_failures.iter().map(|(way, count)| ([("way", *way)], *count as f64));
        out.counters("alert_failures", "Alerts that could not be told, by whom they were for", failures)?;
        let left_out = self.left_out();
        let left_out = left_out.iter().map(|(what, amount)| ([("what", *what)], *amount as f64));
        out.gauges("left_out", "What is too much to be named here, in numbers and in bytes", left_out)?;
        if let Some(bytes) = own.resident_bytes {
            out.gauge("tracer_resident_bytes", "Resident memory of alloctrace", bytes as f64)?;
        }
        out.counter("tracer_cpu_seconds", "CPU time of alloctrace", own.cpu_s)?;
        let version = [("version", overview.tool_version.as_str())];
        out.gauges("build_info", "Always 1", [(version, 1.0)].into_iter())
    }

    fn left_out(&self) -> [(&'static str, i64); 6] {
        let overview = &self.overview;
        let listed = sum(&overview.processes[self.shown_processes().len()..], |it| it.rss_bytes as i64);
        let processes = Rest {
            count: overview.other_processes.count + listed.count,
            bytes: overview.other_processes.bytes + listed.bytes,
        };
        [
            ("processes", processes.count as i64),
            ("process_resident_bytes", processes.bytes),
            ("sites", overview.other_sites.count as i64),
            ("site_live_bytes", overview.other_sites.bytes),
            ("cgroups", overview.other_groups.count as i64),
            ("cgroup_memory_bytes", overview.other_groups.bytes),
        ]
    }
}

/// One metric after the other.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn gauges<S: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (S, f64)>,
    ) -> fmt::Result {
        self.all(name, help, MetricType::Gauge, values, |mut one, value| one.encode_gauge(&value))
    }

    fn counters<S: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (S, f64)>,
    ) -> fmt::Result {
        self.all(name, help, MetricType::Counter, values, |mut one, value| {
            one.encode_counter::<NoLabelSet, _, f64>(&value, None)
        })
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    fn counter(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    }

    fn all<S: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        values: impl Iterator<Item = (S, f64)>,
        encode: impl Fn(MetricEncoder<'_>, f64) -> fmt::Result,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, kind)?;
        for (labels, value) in values {
            encode(metric.encode_family(&labels)?, value)?;
        }
        Ok(())
    }
}

/// A name that the target gave itself, bounded.
fn name(name: &str) -> String {
    let name: Cow<'_, str> = printable(name);
    match name.char_indices().nth(MAX_NAME_CHARS) {
        None => name.into_owned(),
        Some((end, _)) => format!("{}…", &name[..end]),
    }
}

/// OpenMetrics in the older format: there a counter is called as its samples are, and there is no mark at the end.
fn plain(open: &str) -> String {
    let mut lines: Vec<String> = Vec::new();
    for line in open.lines().filter(|it| *it != "# EOF") {
        if let Some(name) = line.strip_prefix("# TYPE ").and_then(|it| it.strip_suffix(" counter")) {
            if let Some(help) = lines.last_mut() {
                *help = help.replacen(name, &format!("{name}_total"), 1);
            }
            lines.push(format!("# TYPE {name}_total counter"));
        } else {
            lines.push(line.to_owned());
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::overview::{Group, Limits};

    fn overview() -> Overview {
        let process = |pid: u32, name: &str| Process {
            pid,
            name: name.to_owned(),
            rss_bytes: 1000 * u64::from(10 - pid),
            limit_bytes: (pid == 1).then_some(64 << 20),
            ..Process::default()
        };
        let site = Site {
            id: 4,
            pid: 1,
            name: "a\"b\\c\nd".to_owned(),
            function: "f".repeat(5000),
            via: "malloc".to_owned(),
            live_bytes: 77,
        };
        Overview {
            processes: vec![process(1, "web"), process(2, "db"), process(3, "tail")],
            other_processes: Rest { count: 5, bytes: 50 },
            groups: vec![Group { path: "/a".to_owned(), memory_bytes: 5, limit_bytes: None }],
            sites: vec![site],
            losses: [("lost_events".to_owned(), 3)].into(),
            events: 12,
            alerts: [(("web".to_owned(), "error".to_owned()), 1)].into(),
            alert_failures: [("webhook", 2)].into(),
            limits: Limits { processes: 2, sites: 1 },
            ..Overview::default()
        }
    }

    fn text(open: bool) -> String {
        let own = Own { resident_bytes: Some(5), cpu_s: 1.5 };
        String::from_utf8(page(&overview(), own, open).body.to_vec()).unwrap()
    }

    #[test]
    fn values() {
        let text = text(true);
        for line in [
            "alloctrace_process_resident_bytes{pid=\"1\",name=\"web\"} 9000.0",
            "alloctrace_process_limit_bytes{pid=\"1\",name=\"web\"} 67108864.0",
            "alloctrace_cgroup_memory_bytes{path=\"/a\"} 5.0",
            "alloctrace_losses_total{loss=\"lost_events\"} 3.0",
            "alloctrace_losses_total{loss=\"late_probes\"} 0.0",
            "alloctrace_events_total 12.0",
            "alloctrace_alerts_firing{budget=\"web\",severity=\"error\"} 1.0",
            "alloctrace_alert_failures_total{way=\"webhook\"} 2.0",
            "alloctrace_tracer_cpu_seconds_total 1.5",
            "# TYPE alloctrace_losses counter",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert!(!text.contains("process_limit_bytes{pid=\"2\""), "there is none");
    }

    #[test]
    fn what_does_not_fit_is_summed_up() {
        let text = text(true);
        assert!(!text.contains("tail"), "{text}");
        for line in [
            "alloctrace_left_out{what=\"processes\"} 6.0",
            "alloctrace_left_out{what=\"process_resident_bytes\"} 7050.0",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn names_cannot_leave_their_place() {
        let text = text(true);
        let line = text.lines().find(|it| it.starts_with("alloctrace_site_live_bytes")).unwrap();
        assert!(line.contains(r#"name="a\"b\\c\\nd""#), "{line}");
        assert!(line.contains("ff…\"") && line.len() < 300, "{line}");
    }

    #[test]
    fn the_older_format_calls_counters_by_their_samples() {
        let text = text(false);
        assert!(text.contains("\n# TYPE alloctrace_losses_total counter\nalloctrace_losses_total{loss="));
        assert!(text.contains("\n# HELP alloctrace_losses_total Why"));
        assert!(text.contains("\n# TYPE alloctrace_process_exact gauge\n"));
        assert!(!text.contains("EOF") && text.ends_with('\n') && !text.ends_with("\n\n"));
    }

    /// Rules and dashboards ask for nothing that there is not.
    #[test]
    fn what_is_packaged_names_metrics_that_there_are() {
        let source = include_str!("metrics.rs");
        let is_word = |it: char| it.is_ascii_alphanumeric() || it == '_';
        for packaged in [
            include_str!("../../packaging/prometheus/alloctrace.rules.yaml"),
            include_str!("../../packaging/prometheus/alloctrace.rules.test.yaml"),
            include_str!("../../packaging/grafana/alloctrace.json"),
        ] {
            let words = packaged.split(|it| !is_word(it)).filter_map(|it| it.strip_prefix("alloctrace_"));
            for word in words {
                let name = word.trim_end_matches("_total");
                assert!(source.contains(&format!("\"{name}\"")), "there is no alloctrace_{word}");
            }
        }
    }
}
