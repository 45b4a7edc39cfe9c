//! What named things mean, in words for the reader.

use std::borrow::Cow;

use super::{escape::printable, units};
use crate::{
    capture::{EndedRow, IncidentRow},
    event::Loss,
    profile::{Account, Frame, Outlook, Process, Profile, Range, Site},
};

/// What a loss means for the reader.
pub fn explain(loss: Loss) -> &'static str {
    match loss {
        Loss::LostEvents => "allocations or frees that did not fit into the ring; try a larger --ring",
        Loss::LostStacks => "stacks that did not fit into the ring; sent again later",
        Loss::ScratchBusy => "allocations without a stack: too many walks at once on one CPU",
        Loss::ThreadsFull => "calls of threads that did not fit into the thread table",
        Loss::ProcessesFull => "children that are not traced",
        Loss::ObjectsFull => "executable files that did not fit into the object table",
        Loss::StaleCalls => "allocator calls whose return was not seen",
        Loss::UnreadableResults => "results of posix_memalign that could not be read",
        Loss::FailedUnmaps => "munmap calls that were counted and then failed",
        Loss::UnfollowedCalls => "calls that allocate or free in a way that cannot be followed",
        Loss::TruncatedStacks => "distinct stacks of more than 127 frames",
        Loss::IncompleteStacks => "distinct stacks that end too early, for the reasons below",
        Loss::UnmappedFrames => "end at an address that is not code",
        Loss::NoTableFrames => "end in code without unwind information",
        Loss::UnsupportedFrames => "end at unwind information that cannot be expressed",
        Loss::UnreadableStacks => {
            "end at stack memory that could not be read, or was too deep to be sent for later"
        }
        Loss::GoneStacks => "end because the process was gone too soon",
        Loss::UnknownStacks => "events whose stack never arrived",
        Loss::LostFrees => "addresses allocated twice without a free in between",
        Loss::UnnamedModules => "executable files that could not be opened: no names for their functions",
        Loss::SkippedTables => "executable files without usable unwind information",
        Loss::FailedProbes => "allocator functions that could not be probed",
        Loss::UnprobedFunctions => {
            "allocator functions that may throw and whose returns cannot be found: not probed"
        }
        Loss::LateProbes => "processes that mapped an allocator not met before: its first calls are missing",
        Loss::LateProcesses => "processes that were found only after they had begun",
        Loss::MalformedRecords => "records that made no sense",
        Loss::UnsizedPages => "samples of pages whose size the kernel did not tell, taken for small ones",
        Loss::UntrackedBlocks => "blocks beyond --max-memory: allocated is right, freed counts them at once",
        Loss::UntrackedBytes => "bytes of those blocks: live may be more by as much",
        Loss::LeftOutSites => "sites that held least: left out, so that the file stays small",
        Loss::LeftOutBytes => "live bytes of those sites",
        Loss::UnfollowedProcesses => {
            "times that a process's allocator was not followed any more, for it cost too much: what its blocks became is unknown"
        }
    }
}

/// How far an estimate may be off: by as much on both sides, or from where to where.
pub fn error(bytes: i64, range: Range, error_bytes: i64) -> String {
    /// Sides that differ by less than this share are the same for the eye.
    const ALIKE: f64 = 0.25;
    let (less, more) = (bytes - range.low_bytes, range.high_bytes - bytes);
    if (less - more).abs() as f64 <= ALIKE * less.max(more) as f64 {
        format!("± {}", units::bytes(error_bytes))
    } else {
        format!("({} to {})", units::bytes(range.low_bytes), units::bytes(range.high_bytes))
    }
}

/// What a file says that can show no error beside a figure, if blocks were sampled.
pub fn sampled(profile: &Profile) -> Option<String> {
    let sample_bytes = profile.sample_bytes()?;
    let heap = || profile.sites.iter().filter(|it| &*it.kind == "heap");
    let (range, error) = Profile::error_of(heap());
    let live: i64 = heap().map(|it| it.live.bytes).sum();
    Some(format!(
        "estimates: one byte in {} was sampled, and the live heap is {} {}",
        units::bytes(sample_bytes),
        units::bytes(live),
        self::error(live, range, error.bytes)
    ))
}

/// As a percentage.
pub fn share(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 9.95 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}

/// What happened, in a word or two.
pub fn incident_kind(incident: &IncidentRow) -> String {
    let detail =
        incident.signal.as_ref().filter(|_| incident.kind == "crash").or(incident.constraint.as_ref());
    match detail {
        Some(detail) => format!("{} ({})", printable(&incident.kind), printable(detail)),
        None => printable(&incident.kind).into_owned(),
    }
}

/// The same at length.
pub fn incident(incident: &IncidentRow) -> String {
    match (&*incident.kind, incident.constraint.as_deref(), incident.signal.as_deref()) {
        ("oom-kill", Some("memory-cgroup"), _) => {
            "KILLED BY THE OOM KILLER: its control group was at its limit".to_owned()
        }
        ("oom-kill", Some("machine"), _) => {
            "KILLED BY THE OOM KILLER: the machine had no memory left".to_owned()
        }
        ("oom-kill", ..) => "KILLED BY THE OOM KILLER".to_owned(),
        ("killed", ..) => "KILLED by SIGKILL, which the OOM killer did not send".to_owned(),
        ("crash", _, Some(signal)) => format!("CRASHED: {}", printable(signal)),
        ("interrupted", ..) => "the tracer itself was ended without a word: this is what it knew".to_owned(),
        (kind, ..) => printable(kind).into_owned(),
    }
}

/// How a process ended, if it has.
pub fn ended(process: &Process) -> Option<String> {
    process.row.ended.as_ref().map(end)
}

/// How a process ended.
pub fn end(ended: &EndedRow) -> String {
    match &*ended.how {
        "exit" => format!("exited with code {}", ended.code),
        "oom-kill" => "KILLED BY THE OOM KILLER".to_owned(),
        "exec" => "became another program, which is not traced".to_owned(),
        "unseen" => "gone; how it ended was lost".to_owned(),
        _ => format!("killed by signal {}", ended.code),
    }
}

/// What a process looks like.
pub fn outlook(outlook: Outlook) -> String {
    match outlook {
        Outlook::TooShort => "too short to judge".to_owned(),
        Outlook::Steady => "steady: nothing grows by an amount that shows".to_owned(),
        Outlook::Settled { change_bytes } => {
            format!(
                "settled: it took {}, and what holds it does not grow to the end",
                units::bytes(change_bytes)
            )
        }
        Outlook::Growing { sites, change_bytes } => {
            let which = if sites == 1 { "1 site grows".to_owned() } else { format!("{sites} sites grow") };
            format!("growing: {which} to the end, by {} so far", units::bytes(change_bytes))
        }
        Outlook::Fragmented { retained_bytes, live_bytes } => format!(
            "fragmented, not leaking: the allocator keeps {} that no live block is in; live blocks take {}",
            units::bytes(retained_bytes),
            units::bytes(live_bytes)
        ),
        Outlook::Mapping { change_bytes } => {
            format!("growing by {} of direct mappings, not by the heap", units::bytes(change_bytes))
        }
        Outlook::Elsewhere { change_bytes } => format!(
            "growing by {} outside of heap and mappings: stacks, files, or memory from before that is touched now",
            units::bytes(change_bytes)
        ),
    }
}

/// Functions of a headline.
const HEADLINE_FRAMES: usize = 3;

/// Enough to recognise a function that is a page long.
const HEADLINE_CHARS: usize = 60;

/// A stack in one line: `push < on_event < serve`, from the first function that belongs to the program.
pub fn headline(profile: &Profile, site: &Site) -> String {
    headline_of(profile.stack(site))
}

/// The same of frames, innermost first.
pub fn headline_of<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> String {
    let names = headline_names(frames);
    if names.is_empty() { "(no stack)".to_owned() } else { names.join(" < ") }
}

/// The functions of a headline.
fn headline_names<'a>(frames: impl IntoIterator<Item = &'a Frame>) -> Vec<String> {
    let frames: Vec<&Frame> = frames.into_iter().collect();
    let own: Vec<&Frame> =
        frames.iter().copied().filter(|it| !it.is_plumbing() && !it.is_library()).collect();
    let frames = if own.is_empty() { frames } else { own };
    let mut names: Vec<String> =
        frames.iter().map(|it| shorten(&printable(&it.label()), HEADLINE_CHARS)).collect();
    // Recursion, and copies of a function that were inlined into it, are said once.
    names.dedup();
    names.truncate(HEADLINE_FRAMES);
    names
}

/// At most `chars` of it, and nothing that a terminal acts on.
pub fn shorten(name: &str, chars: usize) -> String {
    let name = &*printable(name);
    match name.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

/// Where the change of the resident bytes went: the parts that are not nothing.
pub fn account(account: &Account) -> impl Iterator<Item = (i64, Cow<'static, str>)> {
    let is_sampled = account.resident_error_bytes > 0 || account.resident_bytes != 0;
    let parts: Vec<(i64, Cow<'static, str>)> = if is_sampled {
        let error = units::bytes(account.resident_error_bytes);
        let touched =
            format!("± {error}  touched since, by the sites below (sampled; ± is two standard errors)");
        let rest = "not explained: program files, shared memory, or made resident without a page fault";
        let rest =
            if account.rest_bytes > 0 { rest } else { "more than was sampled as gone, or within the error" };
        vec![(account.resident_bytes, touched.into()), (account.rest_bytes, rest.into())]
    } else {
        let parts = [
            (account.live_bytes, "live heap blocks, of the sites below"),
            (account.mapped_bytes, "mapped by the program itself (address space, in use or not)"),
            (
                account.retained_bytes,
                if account.retained_bytes > 0 {
                    "kept by the allocator: free, cached or its own"
                } else {
                    "blocks that found room in what the allocator had before"
                },
            ),
            (
                account.rest_bytes,
                if account.rest_bytes > 0 {
                    "not explained: program files, stacks, older memory that is touched now"
                } else {
                    "allocated, but not resident"
                },
            ),
        ];
        parts.into_iter().map(|(bytes, what)| (bytes, Cow::from(what))).collect()
    };
    parts.into_iter().filter(|(bytes, _)| *bytes != 0)
}
