//! The file stays small, and is readable wherever it was cut off.

use super::*;
use crate::{
    capture::{Header, IntervalRow, ProcessRow, SiteRow},
    watch::BlackBoxConfig,
};

/// A process that lives, and one that has ended, of so many sites each that share no bytes.
fn recording(sites: u32) -> Recording {
    let mut recording = Recording::default();
    recording.add(Row::Header(Header { schema: capture::SCHEMA.to_owned(), ..Header::default() }));
    for id in [1, 2] {
        let ended = (id == 2).then(Default::default);
        recording.add(Row::Process(ProcessRow { id, pid: id, ended, ..ProcessRow::default() }));
    }
    let site = |it: u32| SiteRow {
        site: it,
        process: 1 + it % 2,
        allocated_bytes: i64::from(it.wrapping_mul(2_654_435_761) >> 4),
        ..SiteRow::default()
    };
    let sites = (0..2 * sites).map(site).collect();
    recording.add(Row::Interval(IntervalRow { t_s: 1.0, sites, ..IntervalRow::default() }));
    recording
}

struct Directory(std::path::PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        Self(std::env::temp_dir().join(format!("alloctrace-{name}.{}", std::process::id())))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn however_many_sites_there_are_the_file_is_small_and_says_what_is_not_in_it() {
    let directory = Directory::new("small");
    let max_size = 16 << 10;
    let bounds = BlackBoxConfig { max_size, sites: 5000 };
    let config = Config { black_box: bounds, ..Config::default() };
    let black_box = BlackBox::open(&directory.0, &config).unwrap();
    let whole = recording(5000);
    let mut rolling = black_box.rewrite(&whole).unwrap();
    assert!(rolling.writer.out().metadata().unwrap().len() <= max_size / 2);
    rolling.append(&[Row::Interval(IntervalRow { t_s: 2.0, ..IntervalRow::default() })]).unwrap();
    let read = capture::read(File::open(black_box.state.join(ROLLING)).unwrap(), None).unwrap();
    assert_eq!((read.processes.len(), &*read.times_s), (2, &[1.0, 2.0][..]));
    let live = |it: &Recording| -> i64 { it.sites.values().map(|it| it.at(1).live().bytes).sum() };
    assert!(read.sites.len() > 2);
    assert_eq!(read.sites.len() as u64 + read.losses["left_out_sites"], 10_000);
    assert_eq!(live(&read) + read.losses["left_out_bytes"] as i64, live(&whole));
}

#[test]
fn what_an_interrupted_run_has_left_is_kept_as_far_as_it_goes() {
    let directory = Directory::new("left");
    let config = Config::default();
    let black_box = BlackBox::open(&directory.0, &config).unwrap();
    let mut rolling = black_box.rewrite(&recording(10)).unwrap();
    let mut ends = vec![rolling.writer.out().metadata().unwrap().len()];
    for t_s in [2.0, 3.0] {
        rolling.append(&[Row::Interval(IntervalRow { t_s, ..IntervalRow::default() })]).unwrap();
        ends.push(rolling.writer.out().metadata().unwrap().len());
    }
    drop((rolling, black_box));
    let left = fs::read(directory.0.join(ROLLING)).unwrap();
    for cut in [ends[0], ends[0] + 1, ends[1] - 1, ends[1], ends[1] + 9, ends[2] - 1, ends[2]] {
        fs::write(directory.0.join(ROLLING), &left[..cut as usize]).unwrap();
        drop(BlackBox::open(&directory.0, &config).unwrap());
        let incidents = super::super::incidents(&directory.0).unwrap();
        let [kept] = &incidents.kept[..] else { panic!("one incident") };
        let intervals = ends.iter().filter(|it| **it <= cut).count();
        assert_eq!(
            (&*kept.incident.kind, kept.incident.t_s),
            ("interrupted", intervals as f64),
            "cut at {cut}"
        );
        assert_eq!(capture::read(File::open(&kept.path).unwrap(), None).unwrap().times_s.len(), intervals);
        fs::remove_file(&kept.path).unwrap();
    }
}
