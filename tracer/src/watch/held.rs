//! What holds the memory of a process, in a line.

use std::fmt;

use super::Watched;
use crate::{
    capture::{Recording, SiteHistory},
    report::units,
};

/// Frames that are named, and so much of each.
const FRAMES: usize = 4;
const CHARACTERS: usize = 60;

/// What a process holds, and the site that holds most of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// Blocks of the allocator, or pages of which samples are known.
    pub kind: String,
    pub bytes: i64,
    pub most_bytes: i64,
    /// Innermost first.
    pub functions: Vec<String>,
}

impl Watched {
    /// What is known best: blocks, if its allocator has been followed, and pages otherwise.
    pub fn held(&self, process: u32) -> Option<Held> {
        ["heap", "resident"].into_iter().find_map(|it| held(&self.recording, process, it))
    }
}

fn held(recording: &Recording, process: u32, kind: &str) -> Option<Held> {
    let live = |it: &&SiteHistory| it.points.last().map_or(0, |it| it.live().bytes);
    let sites = || recording.sites.values().filter(|it| it.process == process && &*it.kind == kind);
    let most = sites().max_by_key(live).filter(|it| live(it) > 0)?;
    let stack = recording.stacks.get(&most.stack);
    let names = stack.iter().flat_map(|it| it.frames.iter()).map(|it| &recording.frames[*it as usize]);
    let names = names.map(|it| short(it.function.as_deref().unwrap_or("?")));
    Some(Held {
        kind: kind.to_owned(),
        bytes: sites().map(|it| live(&it)).sum(),
        most_bytes: live(&most),
        functions: names.take(FRAMES).collect(),
    })
}

fn short(name: &str) -> String {
    match name.char_indices().nth(CHARACTERS) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

impl fmt::Display for Held {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, most) = (units::bytes(self.bytes), units::bytes(self.most_bytes));
        let what = if self.kind == "heap" { "blocks" } else { "pages" };
        write!(out, "{bytes} of {what} are known, {most} of them of {}", self.functions.join(" < "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::sample_recording;

    #[test]
    fn the_largest_site_is_named() {
        let recording = sample_recording();
        let process = *recording.processes.keys().next().unwrap();
        let largest = recording.sites.values().filter(|it| it.process == process && &*it.kind == "heap");
        let largest = largest.map(|it| it.points.last().unwrap().live().bytes).max().unwrap();
        let held = Watched { recording, ..Watched::default() }.held(process).unwrap();
        assert_eq!((held.kind.as_str(), held.most_bytes), ("heap", largest));
        assert!(held.bytes >= held.most_bytes && !held.functions.is_empty(), "{held:?}");
        assert!(held.to_string().contains(" of blocks are known, "), "{held}");
        assert_eq!(Watched::default().held(7), None);
    }
}
