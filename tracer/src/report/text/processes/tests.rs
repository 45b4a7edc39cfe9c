//! Families of processes, as a reader meets them.

use expect_test::{Expect, expect};

use crate::{
    capture::{
        CgroupSample, EndRow, EndedRow, Header, IntervalRow, ProcessRow, ProcessSample, Recording, Row,
        SiteRow, StackRow, TierRow,
    },
    profile::{Profile, Query},
    report::{Format, Options},
};

fn row(id: u32, parent: Option<u32>, name: &str) -> ProcessRow {
    let (name, exe) = (name.to_owned(), format!("/usr/bin/{name}"));
    ProcessRow {
        id,
        pid: 100 + id,
        parent,
        name,
        exe,
        began_s: f64::from(id) / 10.0,
        ..ProcessRow::default()
    }
}

fn ended(row: ProcessRow, t_s: f64, how: &str, code: u32) -> ProcessRow {
    ProcessRow { ended: Some(EndedRow { t_s, how: how.to_owned(), code }), ..row }
}

/// Two intervals, in which each process holds a KiB for each of its number.
fn recording(rows: Vec<ProcessRow>) -> Recording {
    let mut recording = Recording::default();
    recording.add(Row::Header(Header { target: "-a".to_owned(), ..Header::default() }));
    recording.add(Row::Stack(StackRow { id: 0, stop: "complete".to_owned(), frames: Vec::new() }));
    for t_s in [50.0, 100.0] {
        let group = CgroupSample {
            path: "/web".to_owned(),
            memory_bytes: 5 << 20,
            limit_bytes: Some(1 << 30),
            ..CgroupSample::default()
        };
        let mut interval = IntervalRow { t_s, cgroups: vec![group], ..IntervalRow::default() };
        for row in &rows {
            if row.ended.as_ref().is_some_and(|it| it.t_s + 50.0 <= t_s) {
                continue;
            }
            let bytes = i64::from(row.id) << 10;
            interval.sites.push(SiteRow {
                site: row.id,
                process: row.id,
                kind: "heap".to_owned(),
                via: "malloc".to_owned(),
                allocated_bytes: bytes,
                allocated_blocks: 1,
                ..SiteRow::default()
            });
            let rss_bytes = row.ended.is_none().then_some(10 << 20);
            let sample =
                ProcessSample { process: row.id, rss_bytes, live_bytes: bytes, ..ProcessSample::default() };
            interval.processes.push(sample);
        }
        recording.add(Row::Interval(interval));
    }
    rows.into_iter().for_each(|it| recording.add(Row::Process(it)));
    recording.add(Row::End(EndRow { t_s: 100.0, reason: "signal".to_owned() }));
    recording
}

/// What stands between the totals and the sites.
fn check(recording: &Recording, expected: Expect) {
    let profile = Profile::new(recording, &Query::default(), 0);
    let mut out = Vec::new();
    crate::report::write(Format::Text, recording, &profile, &Options::default(), &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let from = text.find("Processes:").unwrap();
    let to = text.find("\n\nHeap:").unwrap();
    expected.assert_eq(&format!("{}\n", &text[from..to]));
}

#[test]
fn a_family() {
    let web = |row: ProcessRow| ProcessRow { cgroup: Some("/web".to_owned()), ..row };
    let served =
        |row: ProcessRow| ProcessRow { allocators: vec!["glibc (/lib/libc.so.6)".to_owned()], ..row };
    let rows = vec![
        served(web(row(1, None, "server"))),
        web(row(2, Some(1), "worker")),
        web(ended(row(3, Some(1), "worker"), 80.0, "oom-kill", 9)),
        ended(row(4, Some(2), "sh"), 20.0, "exit", 1),
        // The number of the shell, again.
        ProcessRow { pid: 104, ..row(5, Some(1), "cron") },
    ];
    let mut recording = recording(rows);
    let (tier, reason) = ("exact".to_owned(), "it grows".to_owned());
    recording.add(Row::Tier(TierRow { t_s: 50.0, process: 2, tier, reason }));
    check(
        &recording,
        expect![[r#"
            Processes: 5, 2 of them ended
                  PID NAME                               LIVE        RSS   RSS MOST        GROWTH
                  101 server                          1.0 KiB   10.0 MiB   10.0 MiB         0 B/s  glibc
                  104   cron                          5.0 KiB   10.0 MiB   10.0 MiB         0 B/s  from 0.5 s
                  103   worker                        3.0 KiB          –          –         0 B/s  KILLED BY THE OOM KILLER
                  102   worker                        2.0 KiB   10.0 MiB   10.0 MiB         0 B/s  exact since 50.0 s: it grows
                  104     sh                          4.0 KiB          –          –         0 B/s  from 0.4 s  exited with code 1

            CONTROL GROUP                             PROCESSES       LIVE     KERNEL       MOST      LIMIT
            /web                                              3    6.0 KiB    5.0 MiB    5.0 MiB    1.0 GiB
            control group not known                           2    5.0 KiB          –          –          –
        "#]],
    );
}

#[test]
fn a_build_is_a_line_for_each_command() {
    let mut rows = vec![row(1, None, "make"), row(2, Some(1), "ccache")];
    rows.extend((3..300).map(|id| {
        let name = if id % 3 == 0 { "as" } else { "cc1plus" };
        ended(row(id, Some(1 + id % 2), name), 20.0, "exit", 0)
    }));
    rows.push(ended(row(300, Some(2), "cc1plus"), 40.0, "oom-kill", 9));
    check(
        &recording(rows),
        expect![[r#"
            Processes: 300, 298 of them ended
                  PID NAME                               LIVE        RSS   RSS MOST        GROWTH
                  101 make                            1.0 KiB   10.0 MiB   10.0 MiB         0 B/s
                  102   ccache                        2.0 KiB   10.0 MiB   10.0 MiB         0 B/s
                  400     cc1plus                   300.0 KiB          –          –         0 B/s  KILLED BY THE OOM KILLER
                    … and 297 more, in the table below

            COMMAND                              LIVE        RSS  MOST EACH        GROWTH  ALLOCATED  ENDED
            ccache ×1                         2.0 KiB   10.0 MiB   10.0 MiB         0 B/s    2.0 KiB  0
            make ×1                           1.0 KiB   10.0 MiB   10.0 MiB         0 B/s    1.0 KiB  0
            cc1plus ×199                          0 B        0 B          –         0 B/s   29.6 MiB  199
            as ×99                                0 B        0 B          –         0 B/s   14.5 MiB  99
        "#]],
    );
}

#[test]
fn a_circle_of_parents_is_no_trap() {
    let rows = vec![row(1, Some(2), "a"), row(2, Some(1), "b"), row(3, Some(3), "c"), row(4, Some(9), "d")];
    check(
        &recording(rows),
        expect![[r#"
        Processes: 4
              PID NAME                               LIVE        RSS   RSS MOST        GROWTH
              104 d                               4.0 KiB   10.0 MiB   10.0 MiB         0 B/s
              103 c                               3.0 KiB   10.0 MiB   10.0 MiB         0 B/s
              101 a                               1.0 KiB   10.0 MiB   10.0 MiB         0 B/s
              102   b                             2.0 KiB   10.0 MiB   10.0 MiB         0 B/s
    "#]],
    );
}
