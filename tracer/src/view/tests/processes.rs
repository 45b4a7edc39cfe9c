//! Hundreds of processes: a page of them, and the way into one.

use expect_test::expect;

use super::{View, press, screen};
use crate::{
    capture::{Header, IntervalRow, ProcessRow, ProcessSample, Row, SiteRow, StackRow},
    profile::Sort,
};

/// Six seconds of 300 processes; each holds a KiB for each of its number, and the last one grows.
fn crowd() -> View {
    let mut rows = vec![Row::Header(Header { target: "-a".to_owned(), ..Header::default() })];
    rows.extend((1..=300).map(|id| {
        let (name, command) = (format!("worker{id}"), format!("worker --number {id}"));
        Row::Process(ProcessRow { id, pid: 1000 + id, name, command, ..ProcessRow::default() })
    }));
    rows.push(Row::Stack(StackRow { id: 0, stop: "complete".to_owned(), frames: Vec::new() }));
    for second in 1..=6 {
        let mut row = IntervalRow { t_s: f64::from(second), ..IntervalRow::default() };
        for process in 1..=300 {
            let times = if process == 300 { i64::from(second) } else { 1 };
            let bytes = times * i64::from(process) * 1024;
            row.sites.push(SiteRow {
                site: process,
                process,
                kind: "heap".to_owned(),
                via: "malloc".to_owned(),
                allocated_bytes: bytes,
                allocated_blocks: times,
                ..SiteRow::default()
            });
            let rss_bytes = Some(50 << 20);
            row.processes.push(ProcessSample { process, rss_bytes, live_bytes: bytes, ..Default::default() });
        }
        rows.push(Row::Interval(row));
    }
    let mut view = View::new(Sort::Bytes);
    view.add(rows);
    view.refresh();
    view
}

#[test]
fn a_page_of_them() {
    let mut view = crowd();
    press(&mut view, "p");
    expect![[r#"
        1001 worker1 and 299 more   6.0 s
        live 45.6 MiB in 305 blocks   RSS 14.6 GiB   51 events/s   trust A: nothing lost
        live                ▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇▇████████████████ 45.6 MiB
        RSS                 ██████████████████████████████████████████████████████████████████████████████ 14.6 GiB
         Sites  Functions  Processes    300 by live   heap   window 1 min
                LIVE        RSS        GROWTH     BLOCKS  OLDEST  SHARE     PID PROCESS
        ▲    1.8 MiB   50.0 MiB  +300.0 KiB/s          6           3.9%    1300 worker300   worker --number 300
        =  299.0 KiB   50.0 MiB         0 B/s          1           0.6%    1299 worker299   worker --number 299
        =  298.0 KiB   50.0 MiB         0 B/s          1           0.6%    1298 worker298   worker --number 298
        =  297.0 KiB   50.0 MiB         0 B/s          1           0.6%    1297 worker297   worker --number 297
        =  296.0 KiB   50.0 MiB         0 B/s          1           0.6%    1296 worker296   worker --number 296
        =  295.0 KiB   50.0 MiB         0 B/s          1           0.6%    1295 worker295   worker --number 295
        =  294.0 KiB   50.0 MiB         0 B/s          1           0.6%    1294 worker294   worker --number 294
        =  293.0 KiB   50.0 MiB         0 B/s          1           0.6%    1293 worker293   worker --number 293
        =  292.0 KiB   50.0 MiB         0 B/s          1           0.6%    1292 worker292   worker --number 292
        =  291.0 KiB   50.0 MiB         0 B/s          1           0.6%    1291 worker291   worker --number 291
        =  290.0 KiB   50.0 MiB         0 B/s          1           0.6%    1290 worker290   worker --number 290
        ? help   q quit   Enter its sites   p all sites   l/g/b/a sort   / filter   w window   Space pause
    "#]].assert_eq(&screen(&mut view, (110, 18)));
}

#[test]
fn one_is_found_and_looked_into() {
    let mut view = crowd();
    press(&mut view, "p/number 17<Enter>");
    assert_eq!(view.list.len(), 11, "17 and 170 to 179");
    press(&mut view, "<End><Enter>");
    expect![[r#"
        1001 worker1 and 299 more   6.0 s
        live 45.6 MiB in 305 blocks   RSS 14.6 GiB   51 events/s   trust A: nothing lost
         Sites  Functions  Processes    1 by live   heap   window 1 min   of 1017 worker17   worker --number 17
                LIVE        GROWTH     BLOCKS  OLDEST  SHARE TREND          PID SITE
        =   17.0 KiB         0 B/s          1           0.0%  █████████    1017 (no stack)






        ? help   q quit   Enter stack   Esc processes   Tab functions   l/g/b/a sort   / filter   w window
    "#]].assert_eq(&screen(&mut view, (110, 12)));
    press(&mut view, "<Esc>");
    assert_eq!(view.list.len(), 300, "back among all");
}
