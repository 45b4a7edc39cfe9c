//! One small profile in every format.

mod interchange;
mod looks;

use expect_test::{Expect, expect};

use super::*;
use crate::{
    profile::Query,
    symbol::{Place, Places},
};

/// Knows one frame, with a function inlined into it.
struct OnePlace;

impl Places for OnePlace {
    fn places(&mut self, _path: &str, build_id: Option<&str>, offset: u64) -> Vec<Place> {
        if (build_id, offset) != (Some("ab12"), 0x1000) {
            return Vec::new();
        }
        let place = |function: &str, line, inlined| Place {
            function: Some(function.to_owned()),
            file: Some("/src/app.c".to_owned()),
            line: Some(line),
            inlined,
        };
        vec![place("push", 12, true), place("leak", 34, false)]
    }
}

fn check(format: Format, query: &Query, expected: Expect) {
    let recording = crate::profile::sample_recording();
    let mut profile = Profile::new(&recording, query, 10);
    profile.add_places(&mut OnePlace);
    let options = Options { path: "a.jsonl.zst".to_owned(), ..Options::default() };
    let mut out = Vec::new();
    write(format, &recording, &profile, &options, &mut out).unwrap();
    expected.assert_eq(&String::from_utf8(out).unwrap());
}

#[test]
fn text() {
    check(
        Format::Text,
        &Query::default(),
        expect![[r#"
            a.jsonl.zst   4.0 s of tracing
            target   -p 7   on box, 2026-01-02T03:04:05Z
            mark 1   at 2.0 s
            process  7 app   RSS 1.0 MiB -> 1.0 MiB   still running
                     steady: nothing grows by an amount that shows
                         +1.4 KiB  live heap blocks, of the sites below
                         +2.6 KiB  kept by the allocator: free, cached or its own
                         -4.0 KiB  allocated, but not resident
                          1.0 MiB  from before, not attributed
            live     1.4 KiB in 9 blocks   (allocated 1.6 KiB in 13 blocks, freed 200 B in 4 blocks)
            trust    B: every number is exact; stacks that end early hold under 1 % of the live bytes
                     1 truncated_stacks: distinct stacks of more than 127 frames
                     5 unknown frees: of blocks from before the tracing began
            suspects     +100 B/s  push < leak < main

            Heap: who holds the memory

              1. 1000 B  71.4 %  1 block  0 B/s  oldest 4.0 s  [steady]
                 by calloc
                   cache  app
                   main  app
                   app+0x3000

              2. 400 B  28.6 %  8 blocks  +100 B/s  oldest 4.0 s  [growing: 67 % of its blocks are still live]
                 by malloc
                   push (app.c:12)  app inlined
                   leak (app.c:34)  app
                   main  app
                   app+0x3000
        "#]],
    );
}

#[test]
fn text_of_nothing() {
    check(
        Format::Text,
        &Query { pids: vec![8], ..Query::default() },
        expect![[r#"
            a.jsonl.zst   4.0 s of tracing
            target   -p 7   on box, 2026-01-02T03:04:05Z
            mark 1   at 2.0 s
            live     0 B in 0 blocks   (allocated 0 B in 0 blocks, freed 0 B in 0 blocks)
            trust    B: every number is exact; stacks that end early hold under 1 % of the live bytes
                     1 truncated_stacks: distinct stacks of more than 127 frames

            None of 2 sites is what was asked for.
        "#]],
    );
}

#[test]
fn folded() {
    check(
        Format::Folded,
        &Query::default(),
        expect![[r#"
        app;app+0x3000;main;cache 1000
        app;app+0x3000;main;leak;push 400
    "#]],
    );
}

#[test]
fn json() {
    check(
        Format::Json,
        &Query { min_bytes: Some(1000), ..Query::default() },
        expect![[r#"
            {
            "schema":"alloctrace.report/1",
            "capture":{"complete":true,"duration_s":4.0,"host":"box","interval_s":1.0,"kernel":"","path":"a.jsonl.zst","sample_bytes":0,"started":"2026-01-02T03:04:05Z","tool_version":""},
            "by":"process",
            "window":{"at_s":4.0,"from_s":0.0,"to_s":4.0},
            "processes":[
            {"account":{"before_bytes":1048576,"change_bytes":0,"live_bytes":1400,"mapped_bytes":0,"resident_bytes":0,"resident_error_bytes":0,"rest_bytes":-4096,"retained_bytes":2696},"allocated_blocks":13,"allocated_bytes":1600,"allocators":[],"arena_bytes":4096,"began_s":0.0,"cgroup":null,"command":"app --serve","ended":null,"ended_s":null,"exe":"","growing_sites":1,"growth_bytes_per_s":100.0,"id":1,"limit_bytes":null,"live_blocks":9,"live_bytes":1400,"mapped_bytes":0,"name":"app","overhead":null,"parent":null,"parent_pid":null,"pid":7,"rss_first_bytes":1048576,"rss_last_bytes":1048576,"rss_max_bytes":1048576,"tier":null,"unknown_frees":5,"verdict":"steady","verdict_text":"steady: nothing grows by an amount that shows"}],
            "groups":[],
            "cgroups":[],
            "tiers":[],
            "loss":{"failed_probes":0,"failed_unmaps":0,"gone_stacks":0,"grade":"B","incomplete_stacks":0,"late_probes":0,"late_processes":0,"left_out_bytes":0,"left_out_sites":0,"lost_events":0,"lost_frees":0,"lost_stacks":0,"malformed_records":0,"no_table_frames":0,"objects_full":0,"processes_full":0,"scratch_busy":0,"skipped_tables":0,"stale_calls":0,"threads_full":0,"truncated_stacks":1,"unfollowed_calls":0,"unfollowed_processes":0,"unknown_stacks":0,"unmapped_frames":0,"unnamed_modules":0,"unprobed_functions":0,"unreadable_results":0,"unreadable_stacks":0,"unsized_pages":0,"unsupported_frames":0,"untracked_blocks":0,"untracked_bytes":0},
            "totals":{"allocated_blocks":1,"allocated_bytes":1000,"ended_blocks":0,"ended_bytes":0,"freed_blocks":0,"freed_bytes":0,"live_blocks":1,"live_bytes":1000,"live_error_blocks":0,"live_error_bytes":0,"missed_site_bytes":0,"resident_bytes":0,"resident_error_bytes":0,"resident_samples":0,"sample_bytes":0,"unknown_frees":5,"unsampled_frees":0},
            "sites":[
            {"id":1,"pid":7,"process":1,"merged_sites":1,"kind":"heap","via":"calloc","live_bytes":1000,"live_blocks":1,"live_error_bytes":0,"live_error_blocks":0,"live_low_bytes":1000,"live_high_bytes":1000,"sample_bytes":0,"allocated_error_bytes":0,"allocated_bytes":1000,"allocated_blocks":1,"freed_bytes":0,"freed_blocks":0,"change_bytes":1000,"change_blocks":1,"peak_bytes":1000,"reused_bytes":0,"oldest_s":4.0,"growth_bytes_per_s":0.0,"verdict":"steady","stack_complete":true,"frames":[{"function":"cache","module":"/opt/app","build_id":"ab12","offset":4097,"file":null,"line":null,"inlined":false},{"function":"main","module":"/opt/app","build_id":"ab12","offset":8192,"file":null,"line":null,"inlined":false},{"function":null,"module":"/opt/app","build_id":"ab12","offset":12288,"file":null,"line":null,"inlined":false}]}],
            "timeline":[
            {"live_blocks":3,"live_bytes":1100,"pid":7,"process":1,"rss_bytes":1048576,"t_s":1.0},
            {"live_blocks":5,"live_bytes":1200,"pid":7,"process":1,"rss_bytes":1048576,"t_s":2.0},
            {"live_blocks":7,"live_bytes":1300,"pid":7,"process":1,"rss_bytes":1048576,"t_s":3.0},
            {"live_blocks":9,"live_bytes":1400,"pid":7,"process":1,"rss_bytes":1048576,"t_s":4.0}],
            "marks":[{"label":"","t_s":2.0}]
            }
        "#]],
    );
}
