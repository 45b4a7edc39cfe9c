//! What is written is what is read, however much of it is left.

use super::*;

fn small() -> (Vec<u8>, Recording) {
    let header =
        Header { schema: SCHEMA.to_owned(), target: "-p 7".to_owned(), interval_s: 1.0, ..Header::default() };
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, header.clone(), 0).unwrap();
    let module = ModuleRow { id: 1, path: "/bin/app".to_owned(), build_id: Some("ab".to_owned()) };
    let frame = FrameRow { module: 1, offset: 0x1234, function: Some("grow".into()) };
    let stack = StackRow { id: 0, stop: "complete".to_owned(), frames: vec![frame] };
    let mut recording = Recording { header, ..Recording::default() };
    recording.modules.insert(1, module.clone());
    recording.stacks.insert(0, stack.clone());
    writer.row(&Row::Module(module)).unwrap();
    writer.row(&Row::Stack(stack)).unwrap();
    for t_s in [1.0, 2.0] {
        let site =
            SiteRow { via: "malloc".to_owned(), allocated_bytes: t_s as i64 * 64, ..SiteRow::default() };
        let interval = IntervalRow { t_s, sites: vec![site], ..IntervalRow::default() };
        recording.intervals.push(interval.clone());
        writer.row(&Row::Interval(interval)).unwrap();
        writer.flush().unwrap();
    }
    let end = EndRow { t_s: 2.0, reason: "signal".to_owned() };
    recording.end = Some(end.clone());
    writer.row(&Row::End(end)).unwrap();
    writer.flush().unwrap();
    (bytes, recording)
}

#[test]
fn what_is_written_is_read() {
    let (bytes, recording) = small();
    assert_eq!(read(&bytes[..]).unwrap(), recording);
}

#[test]
fn cut_anywhere_it_is_readable_up_to_a_flush() {
    let (bytes, whole) = small();
    let mut seen = 0;
    for cut in 0..bytes.len() {
        match read(&bytes[..cut]) {
            Ok(part) => {
                assert_eq!(part.end, None, "cut at {cut}");
                assert!(part.intervals.len() >= seen, "cut at {cut}");
                seen = part.intervals.len();
                assert_eq!(part.intervals, whole.intervals[..seen], "cut at {cut}");
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
        let _ = read(&damaged[..]).map_err(|it| it.to_string());
    }
}

#[test]
fn other_files_are_refused_by_what_they_are() {
    let check = |bytes: &[u8], expected: &str| {
        let error = read(bytes).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    check(b"", "does not begin with a zstd frame");
    check(b"\x7fELF", "does not begin with a zstd frame");
    check(&zstd::encode_all(&b"{\"a\":1}\n"[..], 1).unwrap(), "no header");
    let newer = b"{\"type\":\"header\",\"schema\":\"alloctrace.capture/9\",\"tool_version\":\"\",\"started\":\"\",\"host\":\"\",\"kernel\":\"\",\"interval_s\":1.0,\"target\":\"\"}\n";
    check(&zstd::encode_all(&newer[..], 1).unwrap(), "newer alloctrace");
}
