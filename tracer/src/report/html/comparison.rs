//! The data of the page that compares two recordings: a site is a pair, with a point before and a point after.

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use rustc_hash::FxHashMap;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    TOP,
    document::{Beginnings, Points, Tables, deflated, more, script, trust},
    histories::Point,
    stacks::{Stacks, Strings},
};
use crate::{
    profile::{Difference, Frame, Pair, Profile, Side, Site, source_name},
    report::{
        Options,
        difference::{Paths, duration_s, is_uneven},
    },
};

/// Texts are places in the strings, `node` one in the nodes.
#[derive(Default, Serialize)]
struct Pairs {
    /// The place among all pairs.
    id: Vec<usize>,
    /// How many pairs it is: more than one for the sum of those that have no row of their own.
    count: Vec<usize>,
    /// The place of the process.
    process: Vec<usize>,
    kind: Vec<u32>,
    via: Vec<u32>,
    node: Vec<Option<u32>>,
    stop: Vec<u32>,
    verdict: Vec<u32>,
    verdict_class: Vec<u32>,
    /// 1 for what moves by as much within one recording.
    noise: Vec<u8>,
    growth_before_bytes_per_s: Vec<f64>,
    growth_after_bytes_per_s: Vec<f64>,
    /// Always two: before, and after.
    points: Vec<usize>,
}

pub(super) fn json(difference: &Difference, paths: &Paths, options: &Options) -> std::io::Result<String> {
    let (before, after) = (&difference.before, &difference.after);
    let processes = Processes::of(difference);
    let document = json!({
        "schema": "alloctrace.html/1",
        "comparison": {
            "before": side(&paths.before, before),
            "after": side(&paths.after, after),
            "normalized": difference.is_even,
            "uneven": is_uneven(difference),
        },
        "tool_version": env!("CARGO_PKG_VERSION"),
        "processes": processes.names.iter().map(|it| json!({ "name": it })).collect::<Vec<_>>(),
        // The first edge is the end of what was before, the second that of what is after.
        "times_s": [duration_s(before), duration_s(after)],
        "edges": [0, 1],
        "tables": deflated(&tables(difference, &processes, options.top.unwrap_or(TOP)))?,
    });
    script(&document)
}

fn side(path: &str, profile: &Profile) -> Value {
    json!({
        "path": path,
        "target": profile.header.target,
        "host": profile.header.host,
        "started": profile.header.started,
        "duration_s": duration_s(profile),
        "complete": profile.complete,
        "trust": trust(profile),
    })
}

fn tables(difference: &Difference, processes: &Processes, top: usize) -> Tables<Pairs> {
    let (mut strings, mut stacks) = (Strings::default(), Stacks::default());
    let (mut pairs, mut points) = (Pairs::default(), Points::default());
    let beginnings = Beginnings::new(&mut stacks, &mut strings);
    let mut names = Names::of(difference);
    let (shown, others) = difference.pairs.split_at(top.min(difference.pairs.len()));
    for (id, pair) in shown.iter().enumerate() {
        let Some(site) = difference.site(pair).1 else { continue };
        let stack = difference.stack(pair).into_iter().rev().filter_map(|it| names.frame(it));
        let stack: Vec<u32> = stack.map(|it| stacks.frame(&it, &mut strings)).collect();
        let node = stacks.node(beginnings.of(site).into_iter().chain(stack));
        pairs.add(id, &[pair], processes.place(pair), site, node, &mut strings);
        points.add(&sides([pair].into_iter()));
    }
    for (id, alike) in groups(difference, processes, others) {
        let Some(site) = alike.first().and_then(|it| difference.site(it).1) else { continue };
        let frame = stacks.frame(&more(alike.len()), &mut strings);
        let node = stacks.node([frame].into_iter());
        let process = alike.first().map_or(0, |it| processes.place(it));
        pairs.add(top + id, &alike, process, site, node, &mut strings);
        points.add(&sides(alike.into_iter()));
    }
    Tables { strings: strings.into_texts(), stacks, sites: pairs, points, samples: Vec::new() }
}

/// Pairs of the same process and kind that are noise, or are not; numbered.
fn groups<'a>(
    difference: &Difference,
    processes: &Processes,
    pairs: &'a [Pair],
) -> impl Iterator<Item = (usize, Vec<&'a Pair>)> {
    let mut groups = BTreeMap::<_, Vec<&Pair>>::new();
    for pair in pairs {
        let kind = difference.site(pair).1.map(|it| Arc::clone(&it.kind));
        groups.entry((pair.is_noise, processes.place(pair), kind)).or_default().push(pair);
    }
    groups.into_values().enumerate()
}

/// What the pairs have in sum, before and after.
fn sides<'a>(pairs: impl Iterator<Item = &'a Pair>) -> [Point; 2] {
    let mut points = [0, 1].map(|edge| Point { edge, ..Point::default() });
    for pair in pairs {
        for (point, side) in points.iter_mut().zip([&pair.before, &pair.after]) {
            point.allocated += side.allocated;
            point.freed += side.freed;
        }
    }
    points
}

impl Pairs {
    fn add(
        &mut self,
        id: usize,
        pairs: &[&Pair],
        process: usize,
        site: &Site,
        node: Option<u32>,
        strings: &mut Strings,
    ) {
        let own = pairs.len() == 1;
        let (verdict, class) = match pairs {
            [pair] => verdict(pair),
            _ => ("", "same"),
        };
        let growth = |side: fn(&Pair) -> &Side| pairs.iter().map(|it| side(it).growth_bytes_per_s).sum();
        self.id.push(id);
        self.count.push(pairs.len());
        self.process.push(process);
        self.kind.push(strings.place(&site.kind));
        self.via.push(strings.place(if own { &site.via } else { "" }));
        self.node.push(node);
        self.stop.push(strings.place(if own { &site.stop } else { "complete" }));
        self.verdict.push(strings.place(verdict));
        self.verdict_class.push(strings.place(class));
        self.noise.push(u8::from(pairs.iter().all(|it| it.is_noise)));
        self.growth_before_bytes_per_s.push(growth(|it| &it.before));
        self.growth_after_bytes_per_s.push(growth(|it| &it.after));
        self.points.push(2);
    }
}

/// What became of a pair, in words, and in one word for its looks.
fn verdict(pair: &Pair) -> (&'static str, &'static str) {
    let grows = (pair.before.is_growing, pair.after.is_growing);
    match (grows, pair.live_change().bytes) {
        _ if pair.is_noise && pair.live_change().bytes == 0 => ("same: no byte more or less", "same"),
        _ if pair.is_noise => ("noise: it moves by as much within one recording", "same"),
        ((true, true), _) => ("still grows: it grows in both recordings", "growing"),
        ((false, true), _) => ("grows now: it grows to the end, and did not before", "growing"),
        ((true, false), _) => ("grew: it grew before, and does not after", "fixed"),
        _ if pair.before.sites.is_empty() => ("new: it is not in the recording from before", "more"),
        _ if pair.after.sites.is_empty() => ("gone: it is not in the recording from after", "less"),
        (_, change) if change > 0 => ("more: that is beyond what it moves by within one recording", "more"),
        _ => ("less: that is beyond what it moves by within one recording", "less"),
    }
}

/// Processes of either recording; one name is one process here, as in the pairs.
struct Processes<'a> {
    names: Vec<&'a str>,
    places: FxHashMap<&'a str, usize>,
}

impl<'a> Processes<'a> {
    fn of(difference: &'a Difference) -> Self {
        let mut names = Vec::new();
        let mut places = FxHashMap::default();
        for pair in &difference.pairs {
            places.entry(&*pair.owner).or_insert_with(|| {
                names.push(&*pair.owner);
                names.len() - 1
            });
        }
        Self { names, places }
    }

    fn place(&self, pair: &Pair) -> usize {
        self.places.get(&*pair.owner).copied().unwrap_or_default()
    }
}

/// Frames called as they were matched: what only one build has must not part the stacks of the two.
struct Names {
    has_inlined: bool,
    modules: FxHashMap<String, Arc<str>>,
}

impl Names {
    fn of(difference: &Difference) -> Self {
        // Known only of builds that are still there.
        let has_inlined = |it: &Profile| it.stacks.frames().iter().any(|frame| frame.inlined);
        let has_inlined = has_inlined(&difference.before) && has_inlined(&difference.after);
        Self { has_inlined, modules: FxHashMap::default() }
    }

    /// `None` for a function that may be known on one side only.
    fn frame(&mut self, frame: &Frame) -> Option<Frame> {
        if frame.inlined && !self.has_inlined {
            return None;
        }
        let Some(function) = &frame.function else { return Some(frame.clone()) };
        let function = source_name(function);
        // A build may lie elsewhere than the other did.
        let key = format!("{function}\n{}", frame.module_name());
        let module = self.modules.entry(key).or_insert_with(|| Arc::clone(&frame.module));
        Some(Frame { function: Some(function.into()), module: Arc::clone(module), ..frame.clone() })
    }
}
