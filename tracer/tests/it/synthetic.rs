//! Captures that no program had to be traced for: as large, and as hostile, as a report may have to bear.

use std::{fs::File, io::BufWriter, path::Path};

use alloctrace::capture::{
    CohortRow, EndRow, EndedRow, FrameRow, Header, IntervalRow, MarkRow, ModuleRow, OomRow, ProcessRow,
    ProcessSample, Row, SCHEMA, SiteRow, StackRow, Writer,
};

/// What is in a capture.
pub(crate) struct Synthetic {
    pub(crate) sites: u32,
    pub(crate) frames: u32,
    pub(crate) intervals: u32,
    /// At least one; sites are of each in turn.
    pub(crate) processes: u32,
    /// Names that every third function has instead of its own.
    pub(crate) names: Vec<String>,
    /// Whether it ends as it should; otherwise it was cut off.
    pub(crate) is_complete: bool,
}

/// Always the same numbers, without a pattern that shows.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u32) -> u32 {
        // Knuth's multiplier and increment for 64 bits; the upper bits are the good ones.
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % u64::from(bound)) as u32
    }
}

/// Distinct functions of a program with 20,000 sites.
const FUNCTIONS: u32 = 8000;

/// Of the first process.
const PID: u32 = 7;

const MODULES: [&str; 4] =
    ["/usr/bin/orderd", "/usr/lib/liborder.so.4", "/usr/lib/libwire.so.2", "/usr/lib/libc.so.6"];

impl Synthetic {
    pub(crate) fn write(&self, path: &Path) {
        let header = Header {
            schema: SCHEMA.to_owned(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            started: "2026-01-02T03:04:05Z".to_owned(),
            host: "box".to_owned(),
            kernel: "6.18".to_owned(),
            interval_s: 1.0,
            target: "-p 7".to_owned(),
            ..Header::default()
        };
        let file = BufWriter::new(File::create(path).expect("a file in the scratch directory"));
        let mut writer = Writer::new(file, header).expect("a header");
        let mut row = |row: Row| writer.row(&row).expect("a row");
        for (id, path) in (1..).zip(MODULES) {
            row(Row::Module(ModuleRow { id, path: path.to_owned(), build_id: None }));
        }
        for process in 1..=self.processes {
            row(Row::Process(self.process(process)));
        }
        let mut sites = Vec::new();
        for id in 0..self.sites {
            row(Row::Stack(self.stack(id)));
            sites.push(Growth::new(id, 1 + id % self.processes, self.intervals));
        }
        for interval in 0..self.intervals {
            row(Row::Interval(self.interval(interval, &mut sites)));
            if interval == self.intervals / 3 {
                let t_s = f64::from(interval) + 0.5;
                row(Row::Mark(MarkRow { t_s, label: "deployed".to_owned() }));
            }
        }
        if self.is_complete {
            let t_s = f64::from(self.intervals);
            row(Row::Oom(OomRow { t_s, process: 1, ..OomRow::default() }));
            row(Row::End(EndRow { t_s, reason: "target-ended".to_owned() }));
        }
        writer.flush().expect("a capture");
    }

    fn process(&self, id: u32) -> ProcessRow {
        let ended = (self.is_complete && id == 1).then(|| EndedRow {
            t_s: f64::from(self.intervals),
            how: "oom-kill".to_owned(),
            code: 9,
        });
        ProcessRow {
            id,
            pid: PID + id - 1,
            name: "orderd".to_owned(),
            command: "orderd --port 80".to_owned(),
            exe: MODULES[0].to_owned(),
            limit_bytes: Some(1 << 30),
            ended,
            ..ProcessRow::default()
        }
    }

    /// Stacks have their outer half in common with many others, as those of a server have.
    fn stack(&self, id: u32) -> StackRow {
        let mut dice = Dice(u64::from(id));
        let mut way = 0_u32;
        let mut frames: Vec<FrameRow> = (0..self.frames)
            .map(|level| {
                let choices = match level {
                    0..3 => 1,
                    3..10 => 2,
                    _ => 4,
                };
                way = way.wrapping_mul(31).wrapping_add(dice.below(choices) + level * 7919);
                self.frame(way % FUNCTIONS)
            })
            .collect();
        // Its own line in the innermost function, so that no two sites are one.
        if let Some(innermost) = frames.last_mut() {
            innermost.offset += u64::from(id);
        }
        frames.reverse();
        StackRow { id, stop: "complete".to_owned(), frames }
    }

    fn frame(&self, function: u32) -> FrameRow {
        let name = match self.names.len() as u32 {
            count if count > 0 && function.is_multiple_of(3) => {
                self.names[(function / 3 % count) as usize].clone()
            }
            _ => name(function),
        };
        FrameRow { module: 1 + function % 4, offset: u64::from(function) << 12, function: Some(name.into()) }
    }

    fn interval(&self, interval: u32, sites: &mut [Growth]) -> IntervalRow {
        let t_s = f64::from(interval + 1);
        let rows: Vec<SiteRow> = sites.iter_mut().filter_map(|it| it.step(interval, t_s)).collect();
        let processes = (1..=self.processes).map(|it| sample(it, interval, sites)).collect();
        IntervalRow { t_s, processes, sites: rows, ..IntervalRow::default() }
    }
}

fn sample(process: u32, interval: u32, sites: &[Growth]) -> ProcessSample {
    let own = || sites.iter().map(|it| &it.row).filter(|it| it.process == process);
    let live_bytes = own().map(|it| it.allocated_bytes - it.freed_bytes).sum::<i64>();
    ProcessSample {
        process,
        rss_bytes: Some(live_bytes as u64 + (32 << 20)),
        live_bytes,
        live_blocks: own().map(|it| it.allocated_blocks - it.freed_blocks).sum(),
        unknown_frees: u64::from(interval) * 3,
        unsampled_frees: 0,
        arena_bytes: live_bytes,
        ..ProcessSample::default()
    }
}

/// How a site behaves: one in twenty changes in every interval, three in twenty now and then, the others at the
/// beginning only.
struct Growth {
    row: SiteRow,
    every: u32,
    last: u32,
    size: u32,
    /// It frees the oldest of what is beyond this.
    most_bytes: i64,
    dice: Dice,
}

impl Growth {
    fn new(id: u32, process: u32, intervals: u32) -> Self {
        let mut dice = Dice(u64::from(id) << 20);
        let (every, last) = match dice.below(20) {
            0 => (1, intervals),
            1..4 => (10, intervals),
            _ => (7, 28),
        };
        let row = SiteRow {
            site: id,
            process,
            kind: if id % 50 == 7 { "mmap" } else { "heap" }.to_owned(),
            via: if id % 50 == 7 { "mmap" } else { "malloc" }.to_owned(),
            stack: id,
            ..SiteRow::default()
        };
        let (every, last, most_bytes) = match id {
            LEAK => (1, intervals, i64::MAX),
            _ => (every, last, i64::from(4000 + dice.below(400_000))),
        };
        let size = if id == LEAK { 96 << 10 } else { 16 + dice.below(4000) };
        Self { row, every, last, size, most_bytes, dice }
    }

    fn step(&mut self, interval: u32, t_s: f64) -> Option<SiteRow> {
        if !(interval + self.row.site).is_multiple_of(self.every) || interval > self.last {
            return None;
        }
        let row = &mut self.row;
        let blocks = i64::from(1 + self.dice.below(12));
        row.allocated_blocks += blocks;
        row.allocated_bytes += blocks * i64::from(self.size + self.dice.below(self.size));
        let live_bytes = (row.allocated_bytes - row.freed_bytes).min(self.most_bytes);
        row.freed_bytes = row.allocated_bytes - live_bytes;
        // All blocks of a site are about the same here.
        let share = row.freed_bytes as f64 / row.allocated_bytes as f64;
        row.freed_blocks = (row.allocated_blocks as f64 * share) as i64;
        row.peak_bytes = row.peak_bytes.max(live_bytes);
        let blocks = row.allocated_blocks - row.freed_blocks;
        row.cohorts = vec![CohortRow { from_s: 0.0, to_s: t_s, bytes: live_bytes, blocks }];
        Some(row.clone())
    }
}

/// The site that grows.
pub(crate) const LEAK: u32 = 11;

/// As long and as full of brackets as those of large programs.
fn name(function: u32) -> String {
    const SCOPES: [&str; 6] = ["orderd", "wire", "book", "session", "cache", "risk"];
    const TYPES: [&str; 6] = ["Engine", "Decoder", "Subscription", "Ledger", "PriceLevel", "Router"];
    const VERBS: [&str; 6] = ["on_message", "insert", "rebuild", "snapshot", "dispatch", "apply"];
    let pick = |list: [&'static str; 6], step: u32| list[(function / step) as usize % 6];
    let (scope, kind, verb) = (pick(SCOPES, 1), pick(TYPES, 6), pick(VERBS, 36));
    match function % 3 {
        0 => format!(
            "{scope}::{kind}<{scope}::Key{function}, std::shared_ptr<{scope}::{kind}Value> >::{verb}(std::basic_string_view<char, \
             std::char_traits<char> >, std::vector<{scope}::Entry, std::allocator<{scope}::Entry> > const&)"
        ),
        1 => format!("<{scope}::{kind}<T> as {scope}::Handler{function}>::{verb}::{{{{closure}}}}"),
        _ => format!("{scope}::{kind}{function}::{verb}"),
    }
}
