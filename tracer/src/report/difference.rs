//! What changed between two recordings, in each format that can say so.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Options, flamegraph, folded, html, json::FrameJson, paper::Paper, units, words};
use crate::profile::{By, Difference, Pair, Profile, Side};

/// Pairs that text shows unless the user says otherwise.
const TOP: usize = 10;

/// Frames of one stack that text shows.
const MAX_FRAMES: usize = 32;

/// The paths of the two captures, as the user gave them.
pub struct Paths {
    pub before: String,
    pub after: String,
}

/// For people.
///
/// # Errors
/// Those of `out`.
pub fn write_text(
    difference: &Difference,
    paths: &Paths,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    let out = &mut Paper::new(out, options.color);
    recording("before", &paths.before, &difference.before, out)?;
    recording("after", &paths.after, &difference.after, out)?;
    if difference.is_even {
        let after_s = duration_s(&difference.after);
        writeln!(out, "even     before is shown as it would be after {}", units::seconds(after_s))?;
    } else if is_uneven(difference) {
        writeln!(
            out,
            "         the durations differ: --normalize shows before as if it had lasted as long as after"
        )?;
    }
    let (before, after) = difference.totals();
    writeln!(
        out,
        "live     {} -> {}   ({}{})",
        units::bytes(before.bytes),
        units::bytes(after.bytes),
        units::change(after.bytes - before.bytes),
        error(error_bytes(difference))
    )?;
    for (what, profile) in [("before", &difference.before), ("after", &difference.after)] {
        if let Some(sampled) = words::sampled(profile) {
            writeln!(out, "         {what}: {sampled}")?;
        }
    }
    let (noise, changed): (Vec<&Pair>, Vec<&Pair>) =
        difference.pairs.iter().partition(|it| it.is_noise || it.live_change().bytes == 0);
    let top = options.top.unwrap_or(TOP);
    if changed.is_empty() {
        writeln!(out, "\nNo site changed by more than it moves within one recording.")?;
    }
    for (place, pair) in (1..).zip(changed.iter().take(top)) {
        self::pair(difference, place, pair, out)?;
    }
    let rest = &changed[top.min(changed.len())..];
    for (what, pairs) in [("more changed (-T shows more)", rest), ("within noise", &noise[..])] {
        if !pairs.is_empty() {
            let bytes: i64 = pairs.iter().map(|it| it.live_change().bytes).sum();
            let count = units::count(pairs.len() as i64);
            writeln!(out, "\n     {count} sites {what}: {} in all", units::change(bytes))?;
        }
    }
    Ok(())
}

/// Of the change of all that is live.
fn error_bytes(difference: &Difference) -> i64 {
    let [before, after] = [&difference.before, &difference.after].map(|it| it.live_error().bytes as f64);
    before.hypot(after).ceil() as i64
}

fn error(error_bytes: i64) -> String {
    if error_bytes == 0 { String::new() } else { format!(" ± {}", units::bytes(error_bytes)) }
}

/// Durations that differ by less are the same for the eye.
const UNEVEN_SHARE: f64 = 0.1;

pub(super) fn duration_s(profile: &Profile) -> f64 {
    profile.to_s - profile.from_s
}

/// Whether one was recorded for longer than the other, and this shows in the numbers.
pub(super) fn is_uneven(difference: &Difference) -> bool {
    let (before_s, after_s) = (duration_s(&difference.before), duration_s(&difference.after));
    !difference.is_even && (before_s - after_s).abs() > UNEVEN_SHARE * before_s.max(after_s)
}

fn recording(what: &str, path: &str, profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let cut = if profile.complete { "" } else { "   (CUT OFF)" };
    writeln!(
        out,
        "{what:<8} {path}   {} of {}   trust {}{cut}",
        units::seconds(duration_s(profile)),
        profile.header.target,
        profile.grade
    )
}

fn pair(difference: &Difference, place: usize, pair: &Pair, out: &mut dyn Write) -> io::Result<()> {
    let change = pair.live_change();
    writeln!(
        out,
        "\n{place:>3}. {}{}   {} -> {}   {} -> {} blocks   {} -> {}",
        units::change(change.bytes),
        error(pair.live_change_error_bytes()),
        units::bytes(pair.before.live.bytes),
        units::bytes(pair.after.live.bytes),
        units::count(pair.before.live.blocks),
        units::count(pair.after.live.blocks),
        units::rate(pair.before.growth_bytes_per_s),
        units::rate(pair.after.growth_bytes_per_s),
    )?;
    if let (_, Some(site)) = difference.site(pair) {
        let where_ = match (pair.before.sites.is_empty(), pair.after.sites.is_empty()) {
            (true, _) => "   only after",
            (_, true) => "   only before",
            _ => "",
        };
        writeln!(out, "     by {}{where_}", site.via)?;
    }
    let stack = difference.stack(pair);
    for frame in stack.iter().take(MAX_FRAMES) {
        super::text::frame(frame, out)?;
    }
    if stack.len() > MAX_FRAMES {
        writeln!(out, "       … and {} more", stack.len() - MAX_FRAMES)?;
    }
    Ok(())
}

/// `stack before after`, for flame graph tools.
///
/// # Errors
/// Those of `out`.
pub fn write_folded(difference: &Difference, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    folded::write_difference(difference, options, out)
}

/// A picture: SVG with search and zoom.
///
/// # Errors
/// Those of `out`.
pub fn write_flamegraph(difference: &Difference, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    flamegraph::write_difference(difference, options, out)
}

/// A page for a browser, in one file.
///
/// # Errors
/// Those of `out`.
pub fn write_html(
    difference: &Difference,
    paths: &Paths,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    html::write_comparison(difference, paths, options, out)
}

/// `alloctrace.diff/1`: every pair, for programs. Field names are a contract.
///
/// # Errors
/// Those of `out`.
pub fn write_json(
    difference: &Difference,
    paths: &Paths,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    let (before, after) = difference.totals();
    let change = after - before;
    let top = options.top.unwrap_or(usize::MAX);
    let value = json!({
        "schema": "alloctrace.diff/1",
        "before": recording_json(&paths.before, &difference.before),
        "after": recording_json(&paths.after, &difference.after),
        "normalized": difference.is_even,
        "totals": {
            "before_live_bytes": before.bytes,
            "before_live_blocks": before.blocks,
            "after_live_bytes": after.bytes,
            "after_live_blocks": after.blocks,
            "change_live_bytes": change.bytes,
            "change_live_blocks": change.blocks,
            "change_live_error_bytes": error_bytes(difference),
        },
        "sites": difference.pairs.iter().take(top).map(|it| pair_json(difference, it)).collect::<Vec<_>>(),
    });
    serde_json::to_writer_pretty(&mut *out, &value)?;
    writeln!(out)
}

fn recording_json(path: &str, profile: &Profile) -> Value {
    json!({
        "path": path,
        "target": profile.header.target,
        "started": profile.header.started,
        "from_s": profile.from_s,
        "to_s": profile.to_s,
        "complete": profile.complete,
        "sample_bytes": profile.sample_bytes().unwrap_or(0),
        "grade": profile.grade.to_string(),
    })
}

fn pair_json(difference: &Difference, pair: &Pair) -> Value {
    let side = |it: &Side| {
        json!({
            "live_bytes": it.live.bytes,
            "live_blocks": it.live.blocks,
            "live_error_bytes": it.live_error_bytes,
            "allocated_bytes": it.allocated.bytes,
            "allocated_blocks": it.allocated.blocks,
            "freed_bytes": it.freed.bytes,
            "freed_blocks": it.freed.blocks,
            "growth_bytes_per_s": it.growth_bytes_per_s,
            "growing": it.is_growing,
            "sites": it.sites.len(),
        })
    };
    let (profile, site) = difference.site(pair);
    let is_process = profile.by == By::Process;
    let (live, allocated, freed) = (pair.live_change(), pair.allocated_change(), pair.freed_change());
    json!({
        "process": is_process.then_some(&pair.owner),
        "group": (!is_process).then_some(&pair.owner),
        "kind": site.map(|it| &it.kind),
        "via": site.map(|it| &it.via),
        "before": side(&pair.before),
        "after": side(&pair.after),
        "change": {
            "live_bytes": live.bytes,
            "live_blocks": live.blocks,
            "live_error_bytes": pair.live_change_error_bytes(),
            "allocated_bytes": allocated.bytes,
            "allocated_blocks": allocated.blocks,
            "freed_bytes": freed.bytes,
            "freed_blocks": freed.blocks,
            "growth_bytes_per_s": pair.growth_change_bytes_per_s(),
        },
        "noise": pair.is_noise,
        "frames": difference.stack(pair).into_iter().map(FrameJson::of).collect::<Vec<_>>(),
    })
}
