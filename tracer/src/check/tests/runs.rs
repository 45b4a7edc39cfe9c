//! Recordings that tests describe by what was live.

use std::collections::BTreeMap;

use crate::capture::{
    CohortRow, EndRow, EndedRow, FrameRow, Header, IntervalRow, ModuleRow, ProcessRow, ProcessSample, Row,
    SiteRow, StackRow,
};

/// A run that a test describes: seconds from 1 on, one interval each.
pub(super) struct Run {
    pub(super) target: &'static str,
    /// (name, began, exit code at the last second, parent): its number is its place.
    pub(super) processes: Vec<(&'static str, f64, Option<u32>, Option<u32>)>,
    /// (process, function, live bytes at each second from the one in which it is first seen)
    pub(super) sites: Vec<(u32, &'static str, usize, Vec<i64>)>,
    pub(super) loss: BTreeMap<String, u64>,
    pub(super) is_cut: bool,
}

/// A launched program: `start_up` is a cache that is filled at once, `leak` grows by 100 bytes a second, `stdout` is the
/// C library's. It exits with code 0 after six seconds.
pub(super) fn run() -> Run {
    Run {
        target: "-- ./app --soak",
        processes: vec![("app", 0.0, Some(0), None)],
        sites: vec![
            (0, "start_up", 1, vec![5000]),
            (0, "leak", 1, vec![100, 200, 300, 400, 500, 600]),
            (0, "_IO_file_doallocate", 2, vec![1024]),
        ],
        loss: BTreeMap::new(),
        is_cut: false,
    }
}

const SECONDS: usize = 6;

impl Run {
    pub(super) fn rows(&self) -> Vec<Row> {
        let header = Header {
            target: self.target.to_owned(),
            host: "box".to_owned(),
            started: "2026-01-02T03:04:05Z".to_owned(),
            interval_s: 1.0,
            ..Header::default()
        };
        let mut rows = vec![Row::Header(header)];
        rows.push(Row::Module(ModuleRow { id: 1, path: "/opt/app".to_owned(), build_id: None }));
        for (id, (name, began_s, code, parent)) in (0..).zip(&self.processes) {
            let ended = code.map(|code| EndedRow { t_s: SECONDS as f64 - 0.1, how: "exit".to_owned(), code });
            let (name, began_s) = ((*name).to_owned(), *began_s);
            let row = ProcessRow {
                id,
                pid: 70 + id,
                parent: *parent,
                name,
                began_s,
                ended,
                ..ProcessRow::default()
            };
            rows.push(Row::Process(row));
        }
        for (id, (_, function, ..)) in (0..).zip(&self.sites) {
            let frame = |name: &str, offset| FrameRow { module: 1, offset, function: Some(name.into()) };
            let frames = vec![frame(function, 0x1000 + u64::from(id)), frame("main", 0x2000)];
            rows.push(Row::Stack(StackRow { id, stop: "complete".to_owned(), frames }));
        }
        rows.extend((1..=SECONDS).map(|second| Row::Interval(self.interval(second))));
        if !self.is_cut {
            rows.push(Row::End(EndRow { t_s: SECONDS as f64, reason: "target-ended".to_owned() }));
        }
        rows
    }

    fn interval(&self, second: usize) -> IntervalRow {
        let site = |(id, (process, _, first, live)): (u32, &(u32, &str, usize, Vec<i64>))| {
            let at = second.checked_sub(*first)?;
            let live_bytes = *live.get(at)?;
            let mut before = 0;
            let cohort = |(at, now): (usize, &i64)| {
                let bytes = now - before;
                before = *now;
                let to_s = (first + at) as f64;
                CohortRow { from_s: to_s - 1.0, to_s, bytes, blocks: 1 }
            };
            let cohorts = live[..=at].iter().enumerate().map(cohort).filter(|it| it.bytes > 0).collect();
            Some(SiteRow {
                site: id,
                process: *process,
                kind: "heap".to_owned(),
                via: "malloc".to_owned(),
                stack: id,
                allocated_bytes: live_bytes.max(*live[..=at].iter().max()?),
                allocated_blocks: at as i64 + 1,
                freed_bytes: live[..=at].iter().max()? - live_bytes,
                freed_blocks: i64::from(live_bytes == 0) * (at as i64 + 1),
                peak_bytes: *live[..=at].iter().max()?,
                cohorts,
                ..SiteRow::default()
            })
        };
        let process = |process: u32| ProcessSample {
            process,
            rss_bytes: (second < SECONDS).then_some(1 << 20),
            ..ProcessSample::default()
        };
        IntervalRow {
            t_s: second as f64,
            processes: (0..self.processes.len() as u32).map(process).collect(),
            cgroups: Vec::new(),
            pressure: None,
            sites: (0..).zip(&self.sites).filter_map(site).collect(),
            loss: self.loss.clone(),
        }
    }
}
