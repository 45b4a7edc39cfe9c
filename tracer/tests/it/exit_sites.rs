//! Calls that are seen where their results are final, against the same calls seen at entry and return: each site of a program that
//! does the same work twice must have the same numbers.

use std::{collections::BTreeMap, path::Path};

use crate::{
    program::{needed, run, scratch},
    report::{Report, Site},
    tracer::{alloctrace, alone},
};

/// Values of one length, since programs copy their environment.
const WITHOUT: &str = "off";
const WITH: &str = "on.";

#[test]
fn sqlite() {
    let statements = "
        create table t(a integer primary key, b text);
        with recursive n(i) as (select 1 union all select i + 1 from n where i < 20000)
            insert into t select i, 'row ' || i from n;
        create index x on t(b);
        select count(*), max(length(b)) from t;
        delete from t where a % 3 = 0;";
    check(
        "sqlite",
        &needed("sqlite3", "sqlite3"),
        &["-batch", "-init", "/dev/null", ":memory:", statements],
        false,
    );
}

#[test]
fn python() {
    // No extension modules: a stack that comes before the tracer has the table of one may be cut.
    let script = "
import threading
def work(): return sorted({'key%d' % i: 'v' * (i % 900) for i in range(3000)}.items())
for _ in range(3):
    it = threading.Thread(target=work); it.start(); it.join()
";
    needed("python3", "python3");
    // The distribution's: another may be a script, of whose interpreter nothing is known before it runs.
    check("python", Path::new("/usr/bin/python3"), &["-S", "-E", "-c", script], true);
}

fn check(name: &str, program: &Path, arguments: &[&str], has_threads: bool) {
    let _alone = alone();
    let directory = scratch(&format!("exit-sites-{name}"));
    let seen = |setting| {
        let mut sites = sites(&directory, setting, program, arguments);
        // What threads get for themselves depends on where the kernel puts it, and on which of two is faster.
        sites.retain(|(kind, via, _), _| !has_threads || (kind.as_str(), via.as_str()) == ("heap", "malloc"));
        sites
    };
    let (before, after) = (seen(WITHOUT), seen(WITH));
    let blocks: i64 = before.values().map(|it| it[1]).sum();
    assert!(blocks > 1000, "it did something: {blocks} blocks");
    assert_eq!(after, before, "with exit sites (left) and without");
}

/// What allocated, and the frames as module and offset.
type Place = (String, String, Vec<(String, u64)>);

/// By what and where: bytes and blocks that were allocated, freed and are live.
fn sites(directory: &Path, setting: &str, program: &Path, arguments: &[&str]) -> BTreeMap<Place, [i64; 6]> {
    let capture = directory.join(format!("{setting}.jsonl.zst"));
    let mut command = alloctrace(["record", "--no-follow", "-vv", "-o"]);
    command.arg(&capture).arg("--").arg(program).args(arguments).current_dir(directory);
    command.env("ALLOCTRACE_EXIT_SITES", setting).env("PYTHONHASHSEED", "0").env("PYTHONMALLOC", "malloc");
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    let is_whole = ended.errors.contains("without a return probe, at its ends");
    assert!(!(setting == WITHOUT && is_whole), "{}", ended.errors);
    println!("{setting}: exit sites {}", if is_whole { "used" } else { "not used" });
    let report = Report::read(&capture);
    assert!(report.losses().is_empty(), "losses: {:?}", report.losses());
    let mut sites = BTreeMap::new();
    for it in &report.sites {
        let Site { kind, via, .. } = it;
        let frames = it
            .frames
            .iter()
            .filter(|it| !it.inlined)
            .map(|it| (it.module.clone().unwrap_or_default(), it.offset));
        let sums: &mut [i64; 6] = sites.entry((kind.clone(), via.clone(), frames.collect())).or_default();
        let numbers = [
            it.allocated_bytes,
            it.allocated_blocks,
            it.freed_bytes,
            it.freed_blocks,
            it.live_bytes,
            it.live_blocks,
        ];
        sums.iter_mut().zip(numbers).for_each(|(sum, it)| *sum += it);
    }
    sites
}
