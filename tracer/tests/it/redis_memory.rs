//! What redis says of its memory, against what alloctrace says: redis counts what jemalloc gave, alloctrace what was
//! asked for.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
};

use alloctrace::capture;

use crate::{
    program::{PATIENCE, Signal, needed, run, scratch, within},
    report::Report,
    tracer::{Tracer, alone},
};

const KEYS: u32 = 20_000;

/// jemalloc rounds up to size classes, of which there are four to each doubling: more than 16 bytes grow by a quarter
/// at most (jemalloc(3), "IMPLEMENTATION NOTES").
const WASTE: f64 = 1.25;

#[test]
fn growth_of_redis() {
    let _alone = alone();
    let directory = scratch("redis-memory");
    let file = directory.join("redis.jsonl.zst");
    let server = needed("redis-server", "redis-server");
    let socket = directory.join("s");
    let mut command = vec![server.as_os_str().to_owned()];
    command.extend(
        // Tables grow at once, or when they are asked to, and not when there is time.
        ["--port", "0", "--save", "", "--appendonly", "no", "--activerehashing", "no", "--unixsocket"]
            .map(Into::into),
    );
    command.push(socket.clone().into());
    let mut tracer = Tracer::launch(&command, &file, &["-i", "1h"]);
    let client = Client { program: needed("redis-cli", "redis-tools"), directory: directory.clone() };
    within(PATIENCE, || (client.ask("ping") == "PONG").then_some(())).expect("redis starts");

    let before = client.memory();
    snapshot(&mut tracer, &file, 1);
    // Lengths of all kinds, so that they fall into many classes.
    let value = |key: u32| "v".repeat((key * 7919 % 700 + 1) as usize);
    let commands: String = (0..KEYS).map(|key| format!("SET key:{key} {}\n", value(key))).collect();
    client.tell(&commands);
    assert_eq!(client.ask("dbsize"), KEYS.to_string());
    let after = client.memory();
    snapshot(&mut tracer, &file, 2);
    client.ask("shutdown nosave");
    let report = tracer.finish();

    assert_eq!(report.losses(), Vec::<String>::new());
    assert_eq!(report.totals.unknown_frees, 0);
    let recording = File::open(&file).map(|it| capture::read(it, None)).expect("open it").expect("read it");
    let allocators: Vec<&String> = recording.processes.values().flat_map(|it| &it.allocators).collect();
    assert!(allocators.iter().any(|it| it.starts_with("jemalloc (/")), "served by {allocators:?}");
    let live = |at: usize| report.timeline[at].live_bytes;
    let (requested, used) = (live(1) - live(0), after - before);
    println!(
        "requested {requested}, used_memory {used}: {:.1} % more",
        100.0 * (used as f64 / requested as f64 - 1.0)
    );
    let payload: i64 = (0..KEYS).map(|it| value(it).len() as i64).sum();
    assert!(requested > payload, "{requested} of requests hold {payload} of values");
    assert!(requested <= used, "requested {requested}, used {used}");
    assert!((used as f64) <= requested as f64 * WASTE, "requested {requested}, used {used}");
}

/// Has an interval written, which is the capture's `count`th.
fn snapshot(tracer: &mut Tracer, capture: &Path, count: usize) {
    tracer.signal(Signal::USR1);
    let is_there = || {
        let ended = Report::try_read(capture, &[]);
        let report: Option<Report> = serde_json::from_str(&ended.output).ok();
        report.is_some_and(|it| it.timeline.len() >= count).then_some(())
    };
    within(PATIENCE, is_there).expect("a snapshot is written");
}

struct Client {
    program: PathBuf,
    /// Where the socket is, which is named by a relative path: the length of those has a limit.
    directory: PathBuf,
}

impl Client {
    fn ask(&self, words: &str) -> String {
        run(self.command().args(words.split(' '))).output.trim().to_owned()
    }

    fn tell(&self, commands: &str) {
        let path = self.directory.join("commands");
        std::fs::write(&path, commands).expect("write the commands");
        let input = File::open(&path).expect("open the commands");
        let status = self.command().stdin(input).stdout(std::process::Stdio::null()).status();
        assert!(status.is_ok_and(|it| it.success()), "redis-cli reads its commands");
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.current_dir(&self.directory).args(["-s", "s"]);
        command
    }

    /// `used_memory`, once nothing changes any more.
    fn memory(&self) -> i64 {
        let used = || -> i64 {
            let info = self.ask("info memory");
            let line = info.lines().find_map(|it| it.strip_prefix("used_memory:")).expect("a figure");
            line.trim().parse().expect("a number")
        };
        let mut last = (used(), 0);
        within(PATIENCE, || {
            let now = used();
            last = if now == last.0 { (now, last.1 + 1) } else { (now, 0) };
            (last.1 >= 5).then_some(now)
        })
        .expect("redis comes to rest")
    }
}
