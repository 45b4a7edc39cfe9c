//! What is written is what is read, however much of it is left.

use super::*;

/// A capture of two intervals, and what it holds.
fn small() -> (Vec<u8>, Recording) {
    let header =
        Header { schema: SCHEMA.to_owned(), target: "-p 7".to_owned(), interval_s: 1.0, ..Header::default() };
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, header.clone()).unwrap();
    let mut recording = Recording::default();
    recording.add(Row::Header(header));
    let mut add = |row: Row, is_last_of_flush: bool| {
        writer.row(&row).unwrap();
        recording.add(row);
        if is_last_of_flush {
            writer.flush().unwrap();
        }
    };
    add(
        Row::Module(ModuleRow { id: 1, path: "/bin/app".to_owned(), build_id: Some("ab".to_owned()) }),
        false,
    );
    let frame = |offset| FrameRow { module: 1, offset, function: Some("grow".into()) };
    let frames = vec![frame(0x1234), frame(0x1240), frame(0x1234)];
    add(Row::Stack(StackRow { id: 0, stop: "complete".to_owned(), frames }), false);
    for t_s in [1.0, 2.0] {
        let site =
            SiteRow { via: "malloc".to_owned(), allocated_bytes: t_s as i64 * 64, ..SiteRow::default() };
        let memory_bytes = t_s as u64 * 4096;
        let group = CgroupSample {
            path: "/app".to_owned(),
            memory_bytes,
            limit_bytes: Some(1 << 20),
            ..CgroupSample::default()
        };
        let row = IntervalRow { t_s, sites: vec![site], cgroups: vec![group], ..IntervalRow::default() };
        add(Row::Interval(row), true);
    }
    let (tier, reason) = ("exact".to_owned(), "it grows".to_owned());
    add(Row::Tier(TierRow { t_s: 2.0, process: 0, tier, reason }), false);
    add(Row::End(EndRow { t_s: 2.0, reason: "signal".to_owned() }), true);
    (bytes, recording)
}

#[test]
fn what_is_written_is_read() {
    let (bytes, recording) = small();
    assert_eq!(read(&bytes[..], None).unwrap(), recording);
}

#[test]
fn a_recording_keeps_what_is_distinct_and_what_changed() {
    let (_, recording) = small();
    assert_eq!((recording.frames.len(), &*recording.stacks[&0].frames), (2, &[0, 1, 0][..]));
    let live: Vec<i64> = (0..3).map(|it| recording.sites[&0].at(it).live().bytes).collect();
    assert_eq!(live, [64, 128, 128]);
    let near = |t_s| recording.interval_near(t_s);
    assert_eq!(
        [near(0.4), near(0.9), near(1.4), near(1.6), near(9.0)],
        [None, Some(0), Some(0), Some(1), Some(1)]
    );
}

#[test]
fn read_until_a_time_it_ends_there() {
    let (bytes, _) = small();
    let part = read(&bytes[..], Some(1.5)).unwrap();
    assert_eq!((part.times_s, part.later_intervals, part.sites[&0].points.len()), (vec![1.0], 1, 1));
    let times = read_times(&bytes[..]).unwrap();
    assert_eq!(
        (times.times_s, times.end.map(|it| it.t_s), times.sites.len()),
        (vec![1.0, 2.0], Some(2.0), 0)
    );
}

#[test]
fn cut_anywhere_it_is_readable_up_to_a_flush() {
    let (bytes, whole) = small();
    let mut seen = 0;
    for cut in 0..bytes.len() {
        match read(&bytes[..cut], None) {
            Ok(part) => {
                assert_eq!(part.end, None, "cut at {cut}");
                assert!(part.times_s.len() >= seen, "cut at {cut}");
                seen = part.times_s.len();
                assert_eq!(part.times_s, whole.times_s[..seen], "cut at {cut}");
            }
            Err(Error::NotZstd | Error::NotCapture(_)) => assert_eq!(seen, 0, "cut at {cut}"),
            Err(error) => panic!("cut at {cut}: {error}"),
        }
    }
    assert_eq!(seen, 2);
}

#[test]
fn damaged_anywhere_it_is_named_or_read() {
    let (bytes, _) = small();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x5a;
        // Any answer is right that is not a panic.
        let _ = read(&damaged[..], None).map_err(|it| it.to_string());
    }
}

#[test]
fn other_files_are_refused_by_what_they_are() {
    let check = |bytes: &[u8], expected: &str| {
        let error = read(bytes, None).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(b"", "does not begin with a zstd frame");
    check(b"\x7fELF", "does not begin with a zstd frame");
    check(&zstd::encode_all(&b"{\"a\":1}\n"[..], 1).unwrap(), "no header");
    let newer = b"{\"type\":\"header\",\"schema\":\"alloctrace.capture/9\",\"tool_version\":\"\",\"started\":\"\",\"host\":\"\",\"kernel\":\"\",\"interval_s\":1.0,\"target\":\"\"}\n";
    check(&zstd::encode_all(&newer[..], 1).unwrap(), "newer alloctrace");
}
