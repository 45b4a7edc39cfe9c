//! The JSON report, as far as the tests ask about it.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;
use serde_json::Value;

use crate::{formats::check_every_format, program::Ended, tracer::alloctrace_says};

#[derive(Debug, Deserialize)]
pub(crate) struct Report {
    pub(crate) schema: String,
    pub(crate) capture: Capture,
    pub(crate) processes: Vec<Process>,
    pub(crate) loss: BTreeMap<String, Value>,
    pub(crate) totals: Totals,
    pub(crate) sites: Vec<Site>,
    pub(crate) timeline: Vec<Moment>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) tiers: Vec<Tier>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Tier {
    pub(crate) tier: String,
    pub(crate) reason: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Mark {}

#[derive(Debug, Deserialize)]
pub(crate) struct Capture {
    pub(crate) complete: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    pub(crate) parent_pid: Option<u32>,
    pub(crate) verdict: String,
    pub(crate) account: Option<Account>,
    pub(crate) arena_bytes: i64,
    pub(crate) ended: Option<ProcessEnd>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Account {
    pub(crate) change_bytes: i64,
    pub(crate) live_bytes: i64,
    pub(crate) retained_bytes: i64,
}

#[derive(Debug, Deserialize, PartialEq)]
pub(crate) struct ProcessEnd {
    pub(crate) how: String,
    pub(crate) code: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Totals {
    pub(crate) live_bytes: i64,
    pub(crate) live_blocks: i64,
    pub(crate) allocated_bytes: i64,
    pub(crate) allocated_blocks: i64,
    pub(crate) freed_bytes: i64,
    pub(crate) freed_blocks: i64,
    pub(crate) unknown_frees: i64,
    pub(crate) unsampled_frees: i64,
    pub(crate) sample_bytes: i64,
    pub(crate) missed_site_bytes: i64,
    /// Of processes that had ended, and so not live of several that are looked at as one.
    pub(crate) ended_bytes: i64,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Site {
    /// `None` where sites of several processes were to be merged.
    pub(crate) pid: Option<u32>,
    pub(crate) kind: String,
    pub(crate) via: String,
    pub(crate) live_bytes: i64,
    pub(crate) live_blocks: i64,
    pub(crate) allocated_bytes: i64,
    pub(crate) allocated_blocks: i64,
    pub(crate) freed_bytes: i64,
    pub(crate) freed_blocks: i64,
    pub(crate) live_error_bytes: i64,
    pub(crate) live_low_bytes: i64,
    pub(crate) live_high_bytes: i64,
    pub(crate) change_bytes: i64,
    pub(crate) growth_bytes_per_s: f64,
    pub(crate) verdict: String,
    pub(crate) stack_complete: bool,
    #[serde(default)]
    pub(crate) stack_stop: Option<String>,
    pub(crate) frames: Vec<Frame>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Frame {
    pub(crate) function: Option<String>,
    pub(crate) module: Option<String>,
    pub(crate) offset: u64,
    pub(crate) inlined: bool,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Moment {
    pub(crate) t_s: f64,
    #[serde(default)]
    pub(crate) live_bytes: i64,
}

impl Report {
    /// Reads a capture by `alloctrace report`, which must succeed.
    pub(crate) fn read(capture: &Path) -> Self {
        Self::of(capture, &[])
    }

    /// The same with further options.
    pub(crate) fn of(capture: &Path, options: &[&str]) -> Self {
        let ended = Self::try_read(capture, options);
        assert_eq!(ended.code, Some(0), "report of {}:\n{}", capture.display(), ended.errors);
        let report: Self = serde_json::from_str(&ended.output).unwrap_or_else(|error| {
            panic!("the report of {} is not as promised: {error}\n{}", capture.display(), ended.output)
        });
        assert_eq!(report.schema, "alloctrace.report/1");
        report.check_sums();
        check_every_format(capture);
        report
    }

    pub(crate) fn try_read(capture: &Path, options: &[&str]) -> Ended {
        let mut arguments = vec!["report".into(), capture.as_os_str().to_owned()];
        arguments.extend(["--format", "json"].iter().chain(options).map(Into::into));
        alloctrace_says(arguments)
    }

    /// Losses that were counted, each as `name: count`.
    pub(crate) fn losses(&self) -> Vec<String> {
        let counts = self.loss.iter().filter(|(name, _)| *name != "grade");
        counts
            .filter(|(_, count)| count.as_u64() != Some(0))
            .map(|(name, count)| format!("{name}: {count}"))
            .collect()
    }

    /// live = allocated − freed, at each site and in all.
    fn check_sums(&self) {
        for site in &self.sites {
            let label = site.label();
            assert_eq!(site.live_bytes, site.allocated_bytes - site.freed_bytes, "live bytes of {label}");
            assert_eq!(site.live_blocks, site.allocated_blocks - site.freed_blocks, "live blocks of {label}");
        }
        // Resident memory lies inside of what the other kinds count.
        let is_resident = |it: &&Site| it.kind == "resident";
        let is_all = self.sites.iter().all(|it| is_resident(&it));
        let sum = |part: fn(&Site) -> i64| -> i64 {
            self.sites.iter().filter(|it| is_all || !is_resident(it)).map(part).sum()
        };
        let totals = &self.totals;
        assert_eq!(totals.live_bytes, sum(|it| it.live_bytes), "live bytes in all");
        assert_eq!(totals.live_blocks, sum(|it| it.live_blocks), "live blocks in all");
        assert_eq!(totals.allocated_bytes, sum(|it| it.allocated_bytes), "allocated bytes in all");
        assert_eq!(totals.allocated_blocks, sum(|it| it.allocated_blocks), "allocated blocks in all");
        assert_eq!(totals.freed_bytes, sum(|it| it.freed_bytes), "freed bytes in all");
        assert_eq!(totals.freed_blocks, sum(|it| it.freed_blocks), "freed blocks in all");
    }
}

impl Site {
    /// The functions that are frames of their own, innermost first.
    pub(crate) fn functions(&self) -> Vec<&str> {
        self.frames.iter().filter(|it| !it.inlined).map(|it| it.function.as_deref().unwrap_or("?")).collect()
    }

    /// For a person who looks for the reason of a difference.
    pub(crate) fn label(&self) -> String {
        let frame = |it: &Frame| match (&it.function, &it.module) {
            (Some(function), _) => function.clone(),
            (None, module) => format!("{}+{:#x}", module.as_deref().unwrap_or("?"), it.offset),
        };
        let frames: Vec<_> = self.frames.iter().filter(|it| !it.inlined).map(frame).collect();
        let Self { pid, kind, via, live_bytes, live_blocks, allocated_bytes, allocated_blocks, .. } = self;
        let stop = self.stack_stop.as_deref().map_or(String::new(), |it| format!(" [{it}]"));
        format!(
            "{kind} {via} {live_bytes} {live_blocks} {allocated_bytes} {allocated_blocks} {}{stop} (pid {pid:?})",
            frames.join(";")
        )
    }
}
