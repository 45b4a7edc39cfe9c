//! One outcome in every format.

use expect_test::{Expect, expect};

use super::{outcome, per_s, rules, runs::run};
use crate::check::{Budget, Format, Options, write, write_summary};

fn golden(format: Format, expected: Expect) {
    let rules = rules(
        &[Budget::Growth(per_s(50)), Budget::Live(1 << 20), Budget::Rss(1)],
        "leak:start_up\nleak:unused",
    );
    let (outcome, case) = outcome(&run().rows(), &rules);
    let options = Options {
        path: None,
        top: 1,
        verbose: true,
        color: false,
        workspace: Some("/home/me/app".to_owned()),
    };
    let mut out = Vec::new();
    write(format, &outcome, &case, &options, &mut out).unwrap();
    expected.assert_eq(&String::from_utf8(out).unwrap());
}

#[test]
fn as_text() {
    golden(
        Format::Text,
        expect![[r#"
            alloctrace check: 2 of 3 budgets breached
            target   -- ./app --soak   on box, 2026-01-02T03:04:05Z
            traced   6.0 s, all of it judged
            trust    A: nothing was lost: every number is exact and every stack complete

            breached   --max-growth: 100 B/s measured, 50 B/s allowed: by 1.4 KiB in 4.0 s
            kept       --max-live: 1.6 KiB measured, 1.0 MiB allowed: in process 70 app, at 6.0 s
            breached   --max-rss: 1.0 MiB measured, 1 B allowed: in process 70 app, at 1.0 s

            --max-growth: what grew

              1. 400 B  100.0 %  4 blocks  +100 B/s  oldest 6.0 s  [growing: 100 % of its blocks are still live]
                 by malloc
                   leak (alloc.c:3)  app
                   main (main.c:34)  app

            --max-rss: what the heap held then

              1. 100 B  100.0 %  1 block  +100 B/s  oldest 6.0 s  [growing: 100 % of its blocks are still live]
                 by malloc
                   leak (alloc.c:3)  app
                   main (main.c:34)  app

            Suppressions used:
                 blocks        bytes  pattern
                      1        5,000  leak:start_up
                      1        1,024  leak:^_IO_file_doallocate$  (built in)

            Suppressions that nothing matched:
              leak:unused
        "#]],
    );
}

#[test]
fn as_workflow_commands() {
    golden(
        Format::Github,
        expect![[r#"
            ::error file=src/main.c,line=34,title=alloctrace check%3A --max-growth breached::100 B/s measured, 50 B/s allowed: by 1.4 KiB in 4.0 s%0A%0A--max-growth: what grew%0A%0A  1. 400 B  100.0 %25  4 blocks  +100 B/s  oldest 6.0 s  [growing: 100 %25 of its blocks are still live]%0A     by malloc%0A       leak (alloc.c:3)  app%0A       main (main.c:34)  app
            ::notice title=alloctrace check%3A --max-live kept::1.6 KiB measured, 1.0 MiB allowed: in process 70 app, at 6.0 s
            ::error file=src/main.c,line=34,title=alloctrace check%3A --max-rss breached::1.0 MiB measured, 1 B allowed: in process 70 app, at 1.0 s%0A%0A--max-rss: what the heap held then%0A%0A  1. 100 B  100.0 %25  1 block  +100 B/s  oldest 6.0 s  [growing: 100 %25 of its blocks are still live]%0A     by malloc%0A       leak (alloc.c:3)  app%0A       main (main.c:34)  app
        "#]],
    );
}

#[test]
fn as_test_results() {
    golden(
        Format::Junit,
        expect![[r#"
            <?xml version="1.0" encoding="UTF-8"?>
            <testsuites tests="5" failures="2" errors="0" time="6.000">
              <testsuite name="alloctrace check -- ./app --soak" timestamp="2026-01-02T03:04:05" hostname="box" skipped="0" tests="5" failures="2" errors="0" time="6.000">
                <testcase classname="alloctrace.check" name="--max-growth" time="0">
                  <failure type="breached" message="100 B/s measured, 50 B/s allowed: by 1.4 KiB in 4.0 s">--max-growth: what grew

              1. 400 B  100.0 %  4 blocks  +100 B/s  oldest 6.0 s  [growing: 100 % of its blocks are still live]
                 by malloc
                   leak (alloc.c:3)  app
                   main (main.c:34)  app</failure>
                </testcase>
                <testcase classname="alloctrace.check" name="--max-live" time="0"/>
                <testcase classname="alloctrace.check" name="--max-rss" time="0">
                  <failure type="breached" message="1.0 MiB measured, 1 B allowed: in process 70 app, at 1.0 s">--max-rss: what the heap held then

              1. 100 B  100.0 %  1 block  +100 B/s  oldest 6.0 s  [growing: 100 % of its blocks are still live]
                 by malloc
                   leak (alloc.c:3)  app
                   main (main.c:34)  app</failure>
                </testcase>
                <testcase classname="alloctrace.check" name="trust" time="0"/>
                <testcase classname="alloctrace.check" name="command" time="0"/>
                <system-out>alloctrace check: 2 of 3 budgets breached
            target   -- ./app --soak   on box, 2026-01-02T03:04:05Z
            traced   6.0 s, all of it judged
            trust    A: nothing was lost: every number is exact and every stack complete

            breached   --max-growth: 100 B/s measured, 50 B/s allowed: by 1.4 KiB in 4.0 s
            kept       --max-live: 1.6 KiB measured, 1.0 MiB allowed: in process 70 app, at 6.0 s
            breached   --max-rss: 1.0 MiB measured, 1 B allowed: in process 70 app, at 1.0 s

            --max-growth: what grew

              1. 400 B  100.0 %  4 blocks  +100 B/s  oldest 6.0 s  [growing: 100 % of its blocks are still live]
                 by malloc
                   leak (alloc.c:3)  app
                   main (main.c:34)  app

            --max-rss: what the heap held then

              1. 100 B  100.0 %  1 block  +100 B/s  oldest 6.0 s  [growing: 100 % of its blocks are still live]
                 by malloc
                   leak (alloc.c:3)  app
                   main (main.c:34)  app

            Suppressions used:
                 blocks        bytes  pattern
                      1        5,000  leak:start_up
                      1        1,024  leak:^_IO_file_doallocate$  (built in)

            Suppressions that nothing matched:
              leak:unused
            </system-out>
              </testsuite>
            </testsuites>
        "#]],
    );
}

#[test]
fn as_json() {
    golden(
        Format::Json,
        expect![[r#"
            {
              "budgets": [
                {
                  "allowed": 50.0,
                  "budget": "--max-growth",
                  "detail": "by 1.4 KiB in 4.0 s",
                  "measured": 100.0,
                  "measured_high": 100.0,
                  "measured_low": 100.0,
                  "other_sites": 0,
                  "result": "breached",
                  "sites": [
                    {
                      "blocks": 4,
                      "bytes": 400,
                      "share": 1.0,
                      "site": {
                        "allocated_blocks": 5,
                        "allocated_bytes": 500,
                        "allocated_error_bytes": 0,
                        "change_blocks": 5,
                        "change_bytes": 500,
                        "frames": [
                          {
                            "build_id": null,
                            "file": "/usr/src/lib/alloc.c",
                            "function": "leak",
                            "inlined": false,
                            "line": 3,
                            "module": "/opt/app",
                            "offset": 4097
                          },
                          {
                            "build_id": null,
                            "file": "/home/me/app/src/main.c",
                            "function": "main",
                            "inlined": false,
                            "line": 34,
                            "module": "/opt/app",
                            "offset": 8192
                          }
                        ],
                        "freed_blocks": 0,
                        "freed_bytes": 0,
                        "growth_bytes_per_s": 100.0,
                        "id": 1,
                        "kind": "heap",
                        "live_blocks": 5,
                        "live_bytes": 500,
                        "live_error_blocks": 0,
                        "live_error_bytes": 0,
                        "live_high_bytes": 500,
                        "live_low_bytes": 500,
                        "merged_sites": 1,
                        "oldest_s": 6.0,
                        "peak_bytes": 500,
                        "pid": 70,
                        "process": 0,
                        "reused_bytes": 0,
                        "sample_bytes": 0,
                        "stack_complete": true,
                        "verdict": "growing: 100 % of its blocks are still live",
                        "via": "malloc"
                      }
                    }
                  ],
                  "unit": "bytes/s"
                },
                {
                  "allowed": 1048576.0,
                  "budget": "--max-live",
                  "detail": "in process 70 app, at 6.0 s",
                  "measured": 1624.0,
                  "measured_high": 1624.0,
                  "measured_low": 1624.0,
                  "other_sites": 0,
                  "result": "kept",
                  "sites": [],
                  "unit": "bytes"
                },
                {
                  "allowed": 1.0,
                  "budget": "--max-rss",
                  "detail": "in process 70 app, at 1.0 s",
                  "measured": 1048576.0,
                  "measured_high": 1048576.0,
                  "measured_low": 1048576.0,
                  "other_sites": 0,
                  "result": "breached",
                  "sites": [
                    {
                      "blocks": 1,
                      "bytes": 100,
                      "share": 1.0,
                      "site": {
                        "allocated_blocks": 6,
                        "allocated_bytes": 600,
                        "allocated_error_bytes": 0,
                        "change_blocks": 6,
                        "change_bytes": 600,
                        "frames": [
                          {
                            "build_id": null,
                            "file": "/usr/src/lib/alloc.c",
                            "function": "leak",
                            "inlined": false,
                            "line": 3,
                            "module": "/opt/app",
                            "offset": 4097
                          },
                          {
                            "build_id": null,
                            "file": "/home/me/app/src/main.c",
                            "function": "main",
                            "inlined": false,
                            "line": 34,
                            "module": "/opt/app",
                            "offset": 8192
                          }
                        ],
                        "freed_blocks": 0,
                        "freed_bytes": 0,
                        "growth_bytes_per_s": 100.0,
                        "id": 1,
                        "kind": "heap",
                        "live_blocks": 6,
                        "live_bytes": 600,
                        "live_error_blocks": 0,
                        "live_error_bytes": 0,
                        "live_high_bytes": 600,
                        "live_low_bytes": 600,
                        "merged_sites": 1,
                        "oldest_s": 6.0,
                        "peak_bytes": 600,
                        "pid": 70,
                        "process": 0,
                        "reused_bytes": 0,
                        "sample_bytes": 0,
                        "stack_complete": true,
                        "verdict": "growing: 100 % of its blocks are still live",
                        "via": "malloc"
                      }
                    }
                  ],
                  "unit": "bytes"
                }
              ],
              "capture": {
                "complete": true,
                "duration_s": 6.0,
                "host": "box",
                "interval_s": 1.0,
                "kernel": "",
                "path": null,
                "sample_bytes": 0,
                "started": "2026-01-02T03:04:05Z",
                "tool_version": ""
              },
              "command_failure": null,
              "doubts": [],
              "loss": {},
              "schema": "alloctrace.check/1",
              "status": "breached",
              "summary": "2 of 3 budgets breached",
              "suppressions": [
                {
                  "built_in": false,
                  "live_blocks": 1,
                  "live_bytes": 5000,
                  "pattern": "start_up",
                  "sites": 1
                },
                {
                  "built_in": false,
                  "live_blocks": 0,
                  "live_bytes": 0,
                  "pattern": "unused",
                  "sites": 0
                },
                {
                  "built_in": true,
                  "live_blocks": 1,
                  "live_bytes": 1024,
                  "pattern": "^_IO_file_doallocate$",
                  "sites": 1
                },
                {
                  "built_in": true,
                  "live_blocks": 0,
                  "live_bytes": 0,
                  "pattern": "^_dl_allocate_tls$",
                  "sites": 0
                },
                {
                  "built_in": true,
                  "live_blocks": 0,
                  "live_bytes": 0,
                  "pattern": "^_dl_init$",
                  "sites": 0
                },
                {
                  "built_in": true,
                  "live_blocks": 0,
                  "live_bytes": 0,
                  "pattern": "^std::sys::*stack_overflow*thread_info",
                  "sites": 0
                },
                {
                  "built_in": true,
                  "live_blocks": 0,
                  "live_bytes": 0,
                  "pattern": "^std::rt::init",
                  "sites": 0
                }
              ],
              "target": "-- ./app --soak",
              "trust": "A",
              "window": {
                "from_s": 0.0,
                "to_s": 6.0
              }
            }
        "#]],
    );
}

#[test]
fn as_a_summary_of_the_step() {
    let (outcome, case) =
        outcome(&run().rows(), &rules(&[Budget::Growth(per_s(50)), Budget::Live(1 << 20)], ""));
    let mut out = Vec::new();
    write_summary(&outcome, &case, &Options { top: 1, ..Options::default() }, &mut out).unwrap();
    expect![[r#"
        ### alloctrace check: 1 of 2 budgets breached

        `-- ./app --soak`

        | budget | allowed | measured | | |
        |---|--:|--:|---|---|
        | `--max-growth` | 50 B/s | 100 B/s | breached | by 1.4 KiB in 4.0 s |
        | `--max-live` | 1.0 MiB | 6.5 KiB | kept | in process 70 app, at 6.0 s |

        ```
        --max-growth: what grew

          1. 400 B  100.0 %  4 blocks  +100 B/s  oldest 6.0 s  [growing: 100 % of its blocks are still live]
             by malloc
               leak (alloc.c:3)  app
               main (main.c:34)  app
        ```

        Trust A: nothing was lost: every number is exact and every stack complete.
    "#]]
    .assert_eq(&String::from_utf8(out).unwrap());
}
