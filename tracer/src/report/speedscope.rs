//! speedscope's own format (https://www.speedscope.app/file-format-schema.json): one profile for each measure, over
//! the same stacks.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use serde::Serialize;

use super::{
    Options,
    level::{Levels, printable, shown},
    words,
};
use crate::profile::{Profile, Site};

struct Measure {
    name: &'static str,
    unit: &'static str,
    of: fn(&Site) -> i64,
}

/// The first one is shown first.
const MEASURES: [Measure; 3] = [
    Measure { name: "live bytes", unit: "bytes", of: |it| it.live.bytes },
    Measure { name: "allocated bytes", unit: "bytes", of: |it| it.allocated.bytes },
    Measure { name: "live blocks", unit: "none", of: |it| it.live.blocks },
];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    #[serde(rename = "$schema")]
    schema: &'static str,
    name: String,
    exporter: String,
    active_profile_index: usize,
    shared: Shared<'a>,
    profiles: Vec<Sampled<'a>>,
}

#[derive(Serialize)]
struct Shared<'a> {
    frames: Vec<Frame<'a>>,
}

#[derive(Serialize)]
struct Frame<'a> {
    name: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<Cow<'a, str>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Sampled<'a> {
    r#type: &'static str,
    name: &'static str,
    unit: &'static str,
    start_value: i64,
    /// The sum of the weights.
    end_value: i64,
    /// Outermost first: indexes into the frames.
    samples: Vec<&'a [u32]>,
    weights: Vec<i64>,
}

pub(super) fn write(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let mut levels = Levels::of(profile);
    let sites = shown(profile, options);
    let stacks: Vec<Vec<u32>> = sites.iter().map(|it| levels.stack(it)).collect();
    let frames = levels.all().iter().map(|it| Frame { name: it.name(), file: it.file() }).collect();
    let file = File {
        schema: "https://www.speedscope.app/file-format-schema.json",
        name: name(profile),
        exporter: format!("alloctrace {}", env!("CARGO_PKG_VERSION")),
        active_profile_index: 0,
        shared: Shared { frames },
        profiles: MEASURES.iter().map(|it| sampled(it, sites, &stacks)).collect(),
    };
    serde_json::to_writer(&mut *out, &file)?;
    writeln!(out)
}

/// The only text of a file.
fn name(profile: &Profile) -> String {
    let [target, started] = [&profile.header.target, &profile.header.started].map(|it| printable(it));
    let sampled = words::sampled(profile).map(|it| format!("; {it}")).unwrap_or_default();
    format!("{target} ({started}{sampled})")
}

/// Weights below zero have no width: what was freed in this span of time and allocated before it is left out.
fn sampled<'a>(measure: &Measure, sites: &[Site], stacks: &'a [Vec<u32>]) -> Sampled<'a> {
    let weighed = sites.iter().map(measure.of).zip(stacks).filter(|(weight, _)| *weight > 0);
    let (weights, samples): (Vec<i64>, Vec<&[u32]>) =
        weighed.map(|(weight, it)| (weight, it.as_slice())).unzip();
    Sampled {
        r#type: "sampled",
        name: measure.name,
        unit: measure.unit,
        start_value: 0,
        end_value: weights.iter().sum(),
        samples,
        weights,
    }
}
