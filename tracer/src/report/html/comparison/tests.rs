//! The page of a comparison: its numbers are those of the difference, and builds do not part its stacks.

use super::{
    super::{
        tests::{data, numbers, totals},
        write_comparison,
    },
    *,
};
use crate::{
    capture::{FrameRow, Recording, Row, StackRow},
    cost::Cost,
    profile::{Query, sample_recording},
    symbol::{Place, Places},
};

fn profile(recording: &Recording) -> Profile {
    Profile::new(recording, &Query::default(), usize::MAX)
}

fn page(difference: &Difference, path: &str, top: Option<usize>) -> String {
    let paths = Paths { before: path.to_owned(), after: "after".to_owned() };
    let mut out = Vec::new();
    write_comparison(difference, &paths, &Options { top, ..Options::default() }, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// (before, after) of each pair in the page, allocated and freed.
fn sides(tables: &Value) -> Vec<[[Cost; 2]; 2]> {
    let counts = numbers(&tables["sites"]["points"]);
    let column = |name: &str| totals(&tables["points"][name], &counts);
    assert!(column("edge").iter().all(|it| **it == [0, 1]));
    let costs = |bytes: &str, blocks: &str| -> Vec<[Cost; 2]> {
        let cost = |bytes: &Vec<i64>, blocks: &Vec<i64>| {
            [0, 1].map(|edge| Cost { bytes: bytes[edge], blocks: blocks[edge] })
        };
        column(bytes).iter().zip(&column(blocks)).map(|(bytes, blocks)| cost(bytes, blocks)).collect()
    };
    let allocated = costs("allocated_bytes", "allocated_blocks");
    let freed = costs("freed_bytes", "freed_blocks");
    allocated.into_iter().zip(freed).map(|(a, f)| [[a[0], f[0]], [a[1], f[1]]]).collect()
}

fn texts(tables: &Value, column: &Value) -> Vec<String> {
    let text = |it: i64| tables["strings"][it as usize].as_str().unwrap().to_owned();
    numbers(column).into_iter().map(text).collect()
}

/// The names of a pair's frames in the page, innermost first.
fn stack(tables: &Value, pair: usize) -> Vec<String> {
    let place = |value: &Value, at: usize| value[at].as_u64().unwrap() as usize;
    let functions = texts(tables, &tables["functions"]["name"]);
    let mut node = place(&tables["sites"]["node"], pair);
    let mut names = Vec::new();
    loop {
        let frame = place(&tables["nodes"]["frame"], node);
        names.push(functions[place(&tables["frames"]["function"], frame)].clone());
        match place(&tables["nodes"]["caller"], node) {
            0 => return names,
            ahead => node -= ahead,
        }
    }
}

#[test]
fn the_numbers_are_those_of_the_difference() {
    let whole = || profile(&sample_recording());
    let fixed = || {
        let mut profile = whole();
        profile.sites.retain(|it| it.id == 1);
        profile
    };
    let half = || {
        let mut profile = whole();
        profile.to_s = 2.0;
        profile
    };
    for (before, after, is_even) in
        [(whole(), fixed(), false), (fixed(), whole(), false), (half(), whole(), true)]
    {
        let difference = Difference::new(before, after, is_even);
        let (document, tables) = data(&page(&difference, "before", None));
        assert_eq!(document["comparison"]["normalized"], is_even);
        let side = |it: &Side| [it.allocated, it.freed];
        let expected: Vec<_> =
            difference.pairs.iter().map(|it| [side(&it.before), side(&it.after)]).collect();
        assert_eq!(sides(&tables), expected);
        let noise: Vec<_> = difference.pairs.iter().map(|it| i64::from(it.is_noise)).collect();
        assert_eq!(numbers(&tables["sites"]["noise"]), noise);
        let growth: Vec<_> = difference.pairs.iter().map(|it| it.after.growth_bytes_per_s).collect();
        assert_eq!(tables["sites"]["growth_after_bytes_per_s"], json!(growth));
        for (place, pair) in difference.pairs.iter().enumerate() {
            let names: Vec<_> = difference.stack(pair).into_iter().map(Frame::label).collect();
            assert_eq!(stack(&tables, place), names);
        }
    }
}

#[test]
fn verdicts_say_what_became_of_a_site() {
    let check = |before: Profile, after: Profile, expected: &str| {
        let (_, tables) = data(&page(&Difference::new(before, after, false), "before", None));
        let verdict = &texts(&tables, &tables["sites"]["verdict"])[0];
        assert!(verdict.starts_with(expected), "{verdict}");
    };
    let whole = || profile(&sample_recording());
    let without = |id: u32| {
        let mut profile = whole();
        profile.sites.retain(|it| it.id != id);
        profile
    };
    check(whole(), whole(), "still grows:");
    check(whole(), without(0), "grew:");
    check(without(0), whole(), "grows now:");
    let none = || {
        let mut profile = whole();
        profile.sites.clear();
        profile
    };
    // With the suspect on neither side, what is left is the cache.
    check(without(0), none(), "gone:");
    check(none(), without(0), "new:");
    check(without(0), without(0), "same:");
}

#[test]
fn pairs_beyond_the_limit_are_summed_up() {
    let mut after = profile(&sample_recording());
    after.sites.clear();
    let difference = Difference::new(profile(&sample_recording()), after, false);
    let (_, tables) = data(&page(&difference, "before", Some(0)));
    assert_eq!(numbers(&tables["sites"]["count"]).iter().sum::<i64>(), 2);
    let live = |edge: usize| sides(&tables).iter().map(|it| it[edge][0] - it[edge][1]).sum::<Cost>();
    assert_eq!((live(0), live(1)), difference.totals());
}

/// A function inlined into main.
struct Inlined;

impl Places for Inlined {
    fn places(&mut self, _: &str, _: Option<&str>, offset: u64) -> Vec<Place> {
        let place = |name: &str, inlined| Place {
            function: Some(name.to_owned()),
            file: None,
            line: Some(1),
            inlined,
        };
        if offset == 0x2000 { vec![place("grow", true), place("main", false)] } else { Vec::new() }
    }
}

#[test]
fn stacks_of_two_builds_are_one_tree() {
    let mut elsewhere = sample_recording();
    elsewhere.modules.values_mut().for_each(|it| it.path = "/old/app".to_owned());
    let mut before = profile(&elsewhere);
    // The build from before is gone; of that from after, inlined functions are known.
    before.sites.retain(|it| it.id == 0);
    let mut after = profile(&sample_recording());
    after.sites.retain(|it| it.id == 1);
    let mut difference = Difference::new(before, after, false);
    difference.after.add_places(&mut Inlined);
    assert!(difference.after.stacks.frames().iter().any(|it| it.inlined));
    let (_, tables) = data(&page(&difference, "before", None));
    let stacks = [0, 1].map(|it| stack(&tables, it));
    assert!(stacks.iter().flatten().all(|it| it != "grow"), "{stacks:?}");
    let functions = texts(&tables, &tables["functions"]["name"]);
    assert_eq!(functions.iter().filter(|it| *it == "main").count(), 1, "{functions:?}");
}

#[test]
fn a_name_cannot_leave_the_data() {
    let hostile = "</script><script>alert(1)</script><!--";
    let mut recording = sample_recording();
    let frame = FrameRow { module: 1, offset: 1, function: Some(hostile.into()) };
    recording.add(Row::Stack(StackRow { id: 0, stop: "<b>".to_owned(), frames: vec![frame] }));
    recording.header.target = hostile.to_owned();
    recording.header.host = hostile.to_owned();
    for process in recording.processes.values_mut() {
        process.name = hostile.to_owned();
    }
    let difference = Difference::new(profile(&recording), profile(&sample_recording()), false);
    let page = page(&difference, hostile, None);
    assert_eq!(page.matches("alert(1)").count(), 4, "target, host, path and process; the stack is deflated");
    assert_eq!(page.matches("<script").count(), 3, "the data, the plot and ours");
    let (document, tables) = data(&page);
    assert_eq!(document["comparison"]["before"]["path"], hostile);
    assert!(tables["strings"].as_array().unwrap().contains(&hostile.into()));
}
