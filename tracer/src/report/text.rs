//! For a person at three in the morning: who holds the memory is in the first screen, and how far to
//! believe it stands above the numbers.

mod processes;

use std::io::{self, Write};

use super::{
    Options,
    escape::printable,
    incident,
    paper::{Look, Paper},
    units, words,
};
use crate::{
    cost::Cost,
    event::Loss,
    profile::{By, Frame, Profile, Site, missed_bytes, trust::Grade},
};

/// Sites shown unless the user says otherwise.
pub(super) const TOP: usize = 10;

/// Direct mappings are address space, not memory in use; a few are enough.
const TOP_MAPPINGS: usize = 3;

/// Sites of resident memory that are shown beside those of a traced heap.
const TOP_RESIDENT: usize = 3;

/// Frames of one stack that are shown. JSON has all of them.
const MAX_FRAMES: usize = 32;

/// Marks that are shown. JSON has all of them.
const MAX_MARKS: usize = 10;

pub(super) fn write(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let out = &mut Paper::new(out, options.color);
    header(profile, options, out)?;
    if let Some(incident) = &profile.incident {
        let lines = incident::lines(incident);
        for (at, (word, text)) in lines.iter().enumerate() {
            write!(out, "{word:8} ")?;
            if at == 0 {
                out.put(Look::Alarm, text)?
            } else {
                write!(out, "{text}")?
            }
            writeln!(out)?;
        }
    }
    let is_one = profile.processes.len() < 2;
    if is_one {
        processes::one(profile, out)?;
    }
    totals(profile, out)?;
    trust(profile, out)?;
    suspects(profile, out)?;
    if !is_one {
        processes::several(profile, out)?;
    }
    let top = options.top.unwrap_or(TOP);
    let heap: Vec<&Site> =
        profile.sites.iter().filter(|it| &*it.kind == "heap" && it.live.bytes > 0).collect();
    let mappings: Vec<&Site> =
        profile.sites.iter().filter(|it| &*it.kind == "mmap" && it.live.bytes > 0).collect();
    let resident: Vec<&Site> =
        profile.sites.iter().filter(|it| it.is_resident() && it.live.bytes > 0).collect();
    if profile.timeline.is_empty() && !profile.complete {
        writeln!(out, "\nThe recording was cut off before its first interval: it says nothing.")?;
    } else if profile.sites.is_empty() && profile.other_sites > 0 {
        writeln!(out, "\nNone of {} sites is what was asked for.", units::count(profile.other_sites as i64))?;
    } else if profile.sites.is_empty() && profile.header.is_growth() {
        writeln!(
            out,
            "\nNothing grew: no mapping was made, and of the pages touched none was in the samples."
        )?;
    } else if profile.sites.is_empty() {
        writeln!(out, "\nNo allocation was seen: the traced processes did not call the allocator.")?;
    } else if heap.is_empty() && mappings.is_empty() && resident.is_empty() {
        let what = if profile.grade <= Grade::C {
            "Nothing is held: every block that was allocated has been freed again."
        } else {
            "Nothing is known to be held: what was lost or not followed, as said above, may be."
        };
        writeln!(out, "\n{what}")?;
    }
    let by = match profile.by {
        By::Process => "",
        By::Command => ", by command (--by process tells them apart)",
        By::Cgroup => ", by control group",
        By::All => ", all processes as one",
    };
    section(profile, &format!("Heap: who holds the memory{by}"), &heap, top, out)?;
    let top_resident = if heap.is_empty() { top } else { options.top.unwrap_or(TOP_RESIDENT) };
    let title = format!("Resident: who touched the memory that is in use (sampled){by}");
    section(profile, &title, &resident, top_resident, out)?;
    let top_mappings = options.top.unwrap_or(TOP_MAPPINGS);
    section(profile, "Direct mappings (address space, in use or not)", &mappings, top_mappings, out)
}

fn header(profile: &Profile, options: &Options, out: &mut Paper<'_>) -> io::Result<()> {
    let header = &profile.header;
    out.put(Look::Head, printable(&options.path))?;
    write!(out, "   {} of tracing", units::seconds(profile.duration_s))?;
    if !profile.complete {
        out.put(Look::Caution, "   (CUT OFF: the recording did not end properly)")?;
    }
    let [target, host, started] = [&header.target, &header.host, &header.started].map(|it| printable(it));
    writeln!(out, "\ntarget   {target}   on {host}, {started}")?;
    if profile.is_windowed() {
        let [from, to, at] = [profile.from_s, profile.to_s, profile.at_s].map(units::seconds);
        let seen = if profile.at_s > profile.to_s { format!(", and live at {at}") } else { String::new() };
        writeln!(out, "window   what was allocated from {from} to {to}{seen}")?;
    }
    for (number, mark) in (1..).zip(&profile.marks).take(MAX_MARKS) {
        let label =
            if mark.label.is_empty() { String::new() } else { format!(" {}", printable(&mark.label)) };
        writeln!(out, "mark {number:<3} at {}{label}", units::seconds(mark.t_s))?;
    }
    if profile.marks.len() > MAX_MARKS {
        writeln!(out, "         … and {} more marks", profile.marks.len() - MAX_MARKS)?;
    }
    Ok(())
}

fn totals(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let sum = |kind: &str, part: fn(&Site) -> Cost| -> Cost {
        profile.sites.iter().filter(|it| &*it.kind == kind).map(part).sum()
    };
    let cost = |it: Cost| format!("{} in {} blocks", units::bytes(it.bytes), units::count(it.blocks));
    let (live, allocated, freed) =
        (sum("heap", |it| it.live), sum("heap", |it| it.allocated), sum("heap", |it| it.freed));
    let resident = profile.resident();
    if resident.live.blocks > 0 {
        writeln!(
            out,
            "resident {} ± {} touched since tracing began, by {} samples (± is two standard errors)",
            units::bytes(resident.live.bytes),
            units::bytes(resident.error_bytes),
            units::count(resident.live.blocks)
        )?;
    }
    if allocated == Cost::default() && resident.live.blocks > 0 {
        return mapped(sum("mmap", |it| it.live), out);
    }
    writeln!(out, "live     {}   (allocated {}, freed {})", cost(live), cost(allocated), cost(freed))?;
    let ended: Cost = profile.processes.iter().filter(|it| it.is_gone).map(|it| it.live).sum();
    if ended.blocks > 0 && profile.processes.len() > 1 {
        let how = if profile.by == By::Process { "counted here" } else { "freed then, and not counted" };
        writeln!(out, "         {} were held by processes when they ended: {how}", cost(ended))?;
    }
    estimated(profile, out)?;
    let error: Cost = profile.sites.iter().filter(|it| !it.is_resident()).map(|it| it.births_error).sum();
    if error != Cost::default() {
        writeln!(
            out,
            "         ± {} in {} blocks: births that were merged across the border of the window",
            units::bytes(error.bytes),
            units::count(error.blocks)
        )?;
    }
    mapped(sum("mmap", |it| it.live), out)
}

/// What is live is estimated.
fn estimated(profile: &Profile, out: &mut dyn Write) -> io::Result<()> {
    let Some(sample_bytes) = profile.sample_bytes() else { return Ok(()) };
    let (range, error) = Profile::error_of(profile.sites.iter().filter(|it| &*it.kind == "heap"));
    let live: i64 = profile.sites.iter().filter(|it| &*it.kind == "heap").map(|it| it.live.bytes).sum();
    writeln!(
        out,
        "         {} in {} blocks: estimated, one byte in {} was sampled",
        words::error(live, range, error.bytes),
        units::count(error.blocks),
        units::bytes(sample_bytes)
    )?;
    writeln!(
        out,
        "         each ± and each range holds the truth nineteen times of twenty; a site of less than {} may be missing",
        units::bytes(missed_bytes(sample_bytes))
    )
}

fn mapped(cost: Cost, out: &mut dyn Write) -> io::Result<()> {
    if cost.blocks > 0 {
        writeln!(out, "mapped   {} in {} blocks", units::bytes(cost.bytes), units::count(cost.blocks))?;
    }
    Ok(())
}

/// The grade and every loss.
pub(super) fn trust(profile: &Profile, out: &mut Paper<'_>) -> io::Result<()> {
    write!(out, "trust    ")?;
    let judgement = format!("{}: {}", profile.grade, profile.trust());
    if profile.grade > Grade::B {
        out.put(Look::Caution, judgement)?
    } else {
        write!(out, "{judgement}")?
    }
    writeln!(out)?;
    if profile.header.is_growth() {
        writeln!(
            out,
            "         what is resident is not counted but estimated from samples, with the error beside it"
        )?;
    }
    for loss in Loss::ALL {
        let count = profile.loss(loss);
        if count > 0 {
            let count = units::count(count as i64);
            writeln!(out, "         {count} {}: {}", loss.name(), words::explain(loss))?;
        }
    }
    if profile.unknown_frees() > 0 {
        let count = units::count(profile.unknown_frees() as i64);
        writeln!(out, "         {count} unknown frees: of blocks from before the tracing began")?;
    }
    if profile.unsampled_frees() > 0 {
        let count = units::count(profile.unsampled_frees() as i64);
        let older =
            if profile.header.is_launch() { "" } else { ", or that are from before the tracing began" };
        writeln!(out, "         {count} unsampled frees: of blocks that were not in the sample{older}")?;
    }
    Ok(())
}

/// Where to look first, whatever the order of the sites below: a slow leak can hold less than any cache.
fn suspects(profile: &Profile, out: &mut Paper<'_>) -> io::Result<()> {
    // Sites of one function may differ below it only.
    let mut said: Vec<String> = Vec::new();
    for site in profile.suspects() {
        let headline = words::headline(profile, site);
        if !said.contains(&headline) {
            let title = if said.is_empty() { "suspects" } else { "" };
            write!(out, "{title:<8} {:>12}  ", units::rate(site.growth_bytes_per_s))?;
            out.put(Look::Head, &headline)?;
            writeln!(out)?;
            said.push(headline);
        }
    }
    Ok(())
}

fn section(
    profile: &Profile,
    title: &str,
    sites: &[&Site],
    top: usize,
    out: &mut Paper<'_>,
) -> io::Result<()> {
    if sites.is_empty() || top == 0 {
        return Ok(());
    }
    writeln!(out)?;
    out.put(Look::Head, title)?;
    writeln!(out)?;
    let all: i64 = sites.iter().map(|it| it.live.bytes).sum();
    for (place, site) in (1..).zip(sites.iter().take(top)) {
        let share = site.live.bytes as f64 / all.max(1) as f64;
        self::site(profile, place, site, site.live, share, out)?;
    }
    let rest = &sites[top.min(sites.len())..];
    if !rest.is_empty() {
        let cost: Cost = rest.iter().map(|it| it.live).sum();
        let (count, bytes) = (units::count(rest.len() as i64), units::bytes(cost.bytes));
        writeln!(out, "\n     {bytes} more in {count} other sites (-T shows more)")?;
    }
    Ok(())
}

/// One site and its stack. `cost` is what it is shown for, and `share` what of all that is, 0 to 1.
pub(super) fn site(
    profile: &Profile,
    place: usize,
    site: &Site,
    cost: Cost,
    share: f64,
    out: &mut Paper<'_>,
) -> io::Result<()> {
    let (bytes, share) = (units::bytes(cost.bytes), share * 100.0);
    let blocks = match (site.is_resident(), cost.blocks) {
        (true, 1) => "sample",
        (true, _) => "samples",
        (false, 1) => "block",
        (false, _) => "blocks",
    };
    write!(out, "\n{place:>3}. {bytes}  {share:.1} %  {} {blocks}", units::count(cost.blocks))?;
    if site.live_error.bytes > 0 && cost == site.live {
        write!(out, "  {}", words::error(site.live.bytes, site.live_range, site.live_error.bytes))?;
    }
    write!(out, "  {}", units::rate(site.growth_bytes_per_s))?;
    if let Some(oldest_s) = site.oldest_s {
        write!(out, "  oldest {}", units::seconds(oldest_s))?;
    }
    write!(out, "  ")?;
    let verdict = format!("[{}]", site.verdict);
    if site.is_growing() {
        out.put(Look::Alarm, verdict)?
    } else {
        write!(out, "{verdict}")?
    }
    writeln!(out)?;
    write!(out, "     by {}", printable(&site.via))?;
    if profile.processes.len() > 1 {
        match (profile.by, profile.group(site)) {
            (By::Process, Some(group)) => write!(out, " in process {}", printable(&group.name))?,
            (_, Some(group)) => write!(out, " in {}", printable(&group.name))?,
            (_, None) => {}
        }
        if site.merged_sites() > 1 {
            write!(out, ", {} sites", units::count(site.merged_sites() as i64))?;
        }
    }
    writeln!(out)?;
    let frames: Vec<&Frame> = profile.stack(site).filter(|it| !it.is_plumbing()).collect();
    for frame in frames.iter().take(MAX_FRAMES) {
        self::frame(frame, out)?;
    }
    if frames.len() > MAX_FRAMES {
        writeln!(out, "       … and {} more", frames.len() - MAX_FRAMES)?;
    }
    if !site.is_complete() {
        writeln!(out, "       (the stack ends here too early: {})", site.stop.replace('_', " "))?;
    }
    Ok(())
}

/// Names of generic functions can fill a page.
const MAX_NAME_CHARS: usize = 120;

pub(super) fn frame(frame: &Frame, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "       {}", words::shorten(&printable(&frame.label()), MAX_NAME_CHARS))?;
    if let Some(file) = &frame.file {
        let name = printable(file.rsplit('/').next().unwrap_or(file));
        match frame.line {
            Some(line) => write!(out, " ({name}:{line})")?,
            None => write!(out, " ({name})")?,
        }
    }
    let inlined = if frame.inlined { " inlined" } else { "" };
    if frame.function.is_some() {
        writeln!(out, "  {}{inlined}", printable(frame.module_name()))
    } else {
        writeln!(out)
    }
}
