//! What is to be seen after some keys, in several sizes. `UPDATE_EXPECT=1 cargo test` writes them anew.

use expect_test::{Expect, expect};

use super::{OnePlace, press, screen, view};

fn check(text: &str, size: (u16, u16), expected: Expect) {
    let mut view = view();
    // The size of a page is known once something was drawn.
    screen(&mut view, size);
    press(&mut view, text);
    if view.wants_places() {
        view.find_places(&mut OnePlace);
    }
    expected.assert_eq(&screen(&mut view, size));
}

#[test]
fn sites() {
    check(
        "",
        (120, 40),
        expect![[r#"
            7 app   4.0 s
            live 1.4 KiB in 9 blocks   RSS 1.0 MiB   6 events/s   trust B: 1 truncated stacks
            steady: nothing grows by an amount that shows
                                                                                                                       █
                                                                    ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁██████████████████████████
            live                          ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁████████████████████████████████████████████████████ 1.4 KiB
                                          ██████████████████████████████████████████████████████████████████████████████
                                          ██████████████████████████████████████████████████████████████████████████████
            RSS                           ██████████████████████████████████████████████████████████████████████████████ 1.0 MiB
            mark                                                    1
             Sites  Functions    2 by live   heap   window 1 min
                    LIVE        GROWTH     BLOCKS  OLDEST  SHARE TREND      SITE
            =     1000 B         0 B/s          1    4.0s  71.4%   ████████ cache < main
            ▲      400 B      +100 B/s          8    4.0s  28.6%   ▁▁▃▃▃▆▆█ leak < main

























            ? help   q quit   Enter stack   Tab functions   l/g/b/a sort   / filter   w window   Space pause
        "#]],
    );
    check(
        "",
        (80, 24),
        expect![[r#"
            7 app   4.0 s
            live 1.4 KiB in 9 blocks   RSS 1.0 MiB   6 events/s   trust B: 1 truncated stac…
            steady: nothing grows by an amount that shows
            live                ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆█ 1.4 KiB
            RSS                 ████████████████████████████████████████████████ 1.0 MiB
            mark                                1
             Sites  Functions    2 by live   heap   window 1 min
                    LIVE        GROWTH     BLOCKS  OLDEST SITE
            =     1000 B         0 B/s          1    4.0s cache < main
            ▲      400 B      +100 B/s          8    4.0s leak < main













            ? help   q quit   Enter stack   Tab functions   l/g/b/a sort   / filter   w win…
        "#]],
    );
    check(
        "",
        (20, 5),
        expect![[r#"
        1.4 KiB app
                LIVE SITE
        =     1000 B cache …
        ▲      400 B leak <…

    "#]],
    );
    check(
        "",
        (1, 1),
        expect![[r#"
        1
    "#]],
    );
}

#[test]
fn functions() {
    check(
        "<Tab>j",
        (120, 24),
        expect![[r#"
            7 app   4.0 s
            live 1.4 KiB in 9 blocks   RSS 1.0 MiB   6 events/s   trust B: 1 truncated stacks
            steady: nothing grows by an amount that shows
            live                          ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆█ 1.4 KiB
            RSS                           ██████████████████████████████████████████████████████████████████████████████ 1.0 MiB
            mark                                                    1
             Sites  Functions    3 by live   heap   window 1 min
                    LIVE        OWN        GROWTH     BLOCKS  OLDEST  SHARE TREND      FUNCTION
            =    1.4 KiB        0 B      +100 B/s          9    4.0s 100.0%   ▁▁▃▃▃▆▆█ main
            =     1000 B     1000 B         0 B/s          1    4.0s  71.4%   ████████ cache
            ▲      400 B      400 B      +100 B/s          8    4.0s  28.6%   ▁▁▃▃▃▆▆█ leak












            ? help   q quit   Enter stack   Tab functions   l/g/b/a sort   / filter   w window   Space pause
        "#]],
    );
    check(
        "<Tab>",
        (80, 10),
        expect![[r#"
            7 app   4.0 s
            live 1.4 KiB in 9 blocks   RSS 1.0 MiB   6 events/s   trust B: 1 truncated stac…
             Sites  Functions    3 by live   heap   window 1 min
                    LIVE        OWN        GROWTH     BLOCKS FUNCTION
            =    1.4 KiB        0 B      +100 B/s          9 main
            =     1000 B     1000 B         0 B/s          1 cache
            ▲      400 B      400 B      +100 B/s          8 leak


            ? help   q quit   Enter stack   Tab functions   l/g/b/a sort   / filter   w win…
        "#]],
    );
}

#[test]
fn a_stack() {
    check(
        "j<Enter>",
        (80, 24),
        expect![[r#"
            7 app   4.0 s
            live 1.4 KiB in 9 blocks   RSS 1.0 MiB   6 events/s   trust B: 1 truncated stac…
            steady: nothing grows by an amount that shows
            live                ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆█ 1.4 KiB
            RSS                 ████████████████████████████████████████████████ 1.0 MiB
            mark                                1
             Sites  Functions    2 by live   heap   window 1 min
            heap by malloc in process 7   growing: 67 % of its blocks are still live
            live 400 B in 8 blocks   28.6%   growth +100 B/s   oldest 4.0s
            allocated 600 B in 12 blocks   freed 200 B in 4 blocks   peak 400 B
            site                ▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▁▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▃▆▆▆▆▆▆▆▆▆▆▆▆▆▆▆█

              push (app.c:12)  app inlined
              leak (app.c:12)  app
              main  app
              app+0x3000







            ? help   q quit   Esc back   j/k scroll   w window   Space pause
        "#]],
    );
    check(
        "j<Enter>",
        (20, 5),
        expect![[r#"
        1.4 KiB app
          push (app.c:12)  …
          leak (app.c:12)  …
          main  app
          app+0x3000
    "#]],
    );
    check(
        "j<Enter><End>",
        (30, 4),
        expect![[r#"
        1.4 KiB app
          leak (app.c:12)  app
          main  app
          app+0x3000
    "#]],
    );
}

#[test]
fn help() {
    check(
        "?",
        (80, 24),
        expect![[r#"
            7 app ┌ alloctrace top ──────────────────────────────────────────────────┐
            live 1│j k, arrows, PgUp PgDn, Home End   move                           │ stac…
            steady│Enter    the whole stack; in Functions: the sites with it         │
            live  │Esc      back; clears the filter                                  │iB
            RSS   │Tab      sites / functions                                        │iB
            mark  │p        processes; Enter: the sites of one, Esc: back            │
             Sites│l g b a  sort by live bytes, growth, blocks, age                  │
                  │t        heap / mappings / both                                   │
            =     │/        filter by name                                           │
            ▲     │w        window of growth and curves: 10 s, 1 min, 5 min, all     │
                  │Space    pause; the tracing goes on                               │
                  │m        place a mark                                             │
                  │s        save a capture of everything so far                      │
                  │f        save a flamegraph of what is live                        │
                  │q        quit; the traced process goes on                         │
                  │                                                                  │
                  │GROWTH   bytes a second, the median slope over the window         │
                  │OWN      allocated by the function itself, not by those it calls  │
                  │▲        grows to the end, and its blocks stay                    │
                  │=        holds what it got      ~  holds it in ever new blocks    │
                  │-        everything was freed   ?  too short to judge             │
                  │RSS      resident memory, that from before the tracing included   │
                  └──────────────────────────────────────────────────────────────────┘
            ? help   q quit   Enter stack   Tab functions   l/g/b/a sort   / filter   w win…
        "#]],
    );
    check(
        "?",
        (20, 5),
        expect![[r#"
        ┌ alloctrace top ──┐
        │j k, arrows, PgUp…│
        │Enter    the whol…│
        │Esc      back; cl…│
        └──────────────────┘
    "#]],
    );
}

#[test]
fn a_filter_and_what_it_leaves() {
    check(
        "/leak",
        (80, 12),
        expect![[r#"
            7 app   4.0 s
            live 1.4 KiB in 9 blocks   RSS 1.0 MiB   6 events/s   trust B: 1 truncated stac…
             Sites  Functions    1 by live   heap   window 1 min   /leak_
                    LIVE        GROWTH     BLOCKS  OLDEST SITE
            ▲      400 B      +100 B/s          8    4.0s leak < main






            Enter keeps the filter   Esc clears it
        "#]],
    );
    check(
        "/nobody<Enter>",
        (80, 12),
        expect![[r#"
            7 app   4.0 s
            live 1.4 KiB in 9 blocks   RSS 1.0 MiB   6 events/s   trust B: 1 truncated stac…
             Sites  Functions    0 by live   heap   window 1 min   /nobody
                    LIVE        GROWTH     BLOCKS  OLDEST SITE
            nothing has such a name






            ? help   q quit   Enter stack   Tab functions   l/g/b/a sort   / filter   w win…
        "#]],
    );
}
