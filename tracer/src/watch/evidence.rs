//! The call stacks that an alert names: what holds, or takes, the memory that is too much.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::Watched;
use crate::{
    capture::{Point, Recording},
    cost::Cost,
    profile::{Frame, Profile, Query, Site, Stacks},
    report::words,
};

/// More stacks than anybody reads in an alert are in the recording.
const MOST_STACKS: usize = 5;

/// Frames of each: what is further out says little of who allocates.
const MOST_FRAMES: usize = 32;

/// How the libraries of allocators begin.
const ALLOCATORS: [&str; 7] =
    ["libc.so", "libc.musl", "ld-", "libjemalloc", "libtcmalloc", "libmimalloc", "libsnmalloc"];

/// What an alert names.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Evidence {
    /// They are in the order of their growth, and shares are shares of that; else of what they hold.
    pub by_growth: bool,
    /// The worst first.
    pub stacks: Vec<TopStack>,
    /// In words, if there are none and there should be.
    pub why_none: Option<String>,
}

/// A call stack.
#[derive(Clone, Debug, PartialEq)]
pub struct TopStack {
    /// Innermost first.
    pub frames: Vec<Frame>,
    /// The function that allocated.
    pub via: String,
    /// `heap`, `mmap` or `resident`; the last is known by samples of page faults.
    pub kind: String,
    pub live: Cost,
    /// Two standard errors of its bytes; 0 where every block is seen.
    pub live_error_bytes: i64,
    /// In the window that was looked at.
    pub grown_bytes: i64,
    pub growth_bytes_per_s: f64,
    /// 0 to 1.
    pub share: f64,
    /// All frames are known.
    pub is_complete: bool,
}

impl Evidence {
    pub(super) fn of_what(&self) -> &'static str {
        if self.by_growth { "the growth" } else { "what is live" }
    }
}

impl TopStack {
    /// In one line, without the allocator's own functions: pages are touched inside of them.
    pub(super) fn headline(&self) -> String {
        let is_allocator = |it: &&Frame| {
            let module = it.module_name();
            ALLOCATORS.iter().any(|name| module.starts_with(name))
        };
        let inner = self.frames.iter().take_while(is_allocator).count();
        words::headline_of(self.frames.get(inner..).filter(|it| !it.is_empty()).unwrap_or(&self.frames))
    }

    fn is_sampled(&self) -> bool {
        self.kind == "resident"
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "functions": self.frames.iter().map(Frame::label).collect::<Vec<_>>(),
            "complete": self.is_complete,
            "via": self.via,
            "kind": self.kind,
            "sampled": self.is_sampled(),
            "live_bytes": self.live.bytes,
            "live_blocks": self.live.blocks,
            "live_error_bytes": self.live_error_bytes,
            "grown_bytes": self.grown_bytes,
            "growth_bytes_per_s": self.growth_bytes_per_s,
            "share": self.share,
        })
    }
}

/// What an alert wants to know.
pub(super) struct Wanted {
    /// Numbers of the recording.
    pub(super) processes: BTreeSet<u32>,
    /// How far back it looks.
    pub(super) window_s: f64,
    pub(super) by_growth: bool,
    pub(super) is_exact: bool,
}

/// Answers in the same order. Several questions about the same time cost one look at the recording.
pub(super) fn gather(watched: &Watched, wanted: &[Wanted]) -> Vec<Evidence> {
    let recording = &watched.recording;
    let process = |it: &u32| recording.processes.get(it);
    let ids = wanted.iter().flat_map(|it| &it.processes);
    let pids: BTreeSet<u32> = ids.filter_map(process).map(|it| it.pid).collect();
    if pids.is_empty() {
        return wanted.iter().map(|it| it.evidence(recording, None)).collect();
    }
    let mut profiles: BTreeMap<u64, Profile> = BTreeMap::new();
    let answer = |it: &Wanted| {
        let profile = profiles.entry(it.window_s.to_bits()).or_insert_with(|| {
            let from_s = Some(watched.now_s() - it.window_s).filter(|it| *it > 0.0);
            let query =
                Query { from_s, pids: pids.iter().copied().collect(), overlapping: true, ..Query::default() };
            Profile::new(recording, &query, 0)
        });
        it.evidence(recording, Some(profile))
    };
    wanted.iter().map(answer).collect()
}

/// Sites whose bytes may be added up.
#[derive(Clone, Copy)]
enum Kind {
    Blocks,
    /// Where allocators are followed from the beginning, mappings are the program's own.
    BlocksAndMappings,
    Pages,
    /// An allocator's too.
    Mappings,
}

impl Kind {
    fn is_of(self, site: &Site) -> bool {
        match self {
            Self::Blocks => &*site.kind == "heap",
            Self::BlocksAndMappings => !site.is_resident(),
            Self::Pages => site.is_resident(),
            Self::Mappings => &*site.kind == "mmap",
        }
    }
}

impl Wanted {
    fn evidence(&self, recording: &Recording, profile: Option<&Profile>) -> Evidence {
        let all = profile.map_or(&[][..], |it| &it.sites);
        let own = || all.iter().filter(|it| self.processes.contains(&it.process));
        let weight = |it: &Site| {
            let bytes = if self.by_growth { it.change.bytes } else { live(recording, it).bytes };
            bytes.max(0)
        };
        let sum = |kind: Kind| own().filter(|it| kind.is_of(it)).map(weight).sum::<i64>();
        let is_exact = ["", "exact"].contains(&&*recording.header.tier);
        let blocks = if is_exact { Kind::BlocksAndMappings } else { Kind::Blocks };
        // Blocks say more than pages, unless they have been looked at for a short time only.
        let kind = match (sum(blocks), sum(Kind::Pages)) {
            (0, 0) => Kind::Mappings,
            (blocks_bytes, pages_bytes) if pages_bytes > 2 * blocks_bytes => Kind::Pages,
            _ => blocks,
        };
        let all_bytes = sum(kind);
        let mut sites: Vec<&Site> = own().filter(|it| kind.is_of(it) && weight(it) > 0).collect();
        if self.by_growth {
            let rate = |it: &Site| it.growth_bytes_per_s;
            sites.sort_by(|a, b| {
                b.is_growing().cmp(&a.is_growing()).then_with(|| rate(b).total_cmp(&rate(a)))
            });
        } else {
            sites.sort_by_key(|it| -weight(it));
        }
        sites.truncate(MOST_STACKS);
        let stack = |it: &&Site| {
            let mut frames = Stacks::of_site(recording, it, None);
            let is_complete = it.is_complete() && frames.len() <= MOST_FRAMES;
            frames.truncate(MOST_FRAMES);
            TopStack {
                frames,
                via: it.via.to_string(),
                kind: it.kind.to_string(),
                live: live(recording, it),
                live_error_bytes: last(recording, it).samples.live_error_bytes,
                grown_bytes: it.change.bytes,
                growth_bytes_per_s: it.growth_bytes_per_s,
                share: weight(it) as f64 / all_bytes.max(1) as f64,
                is_complete,
            }
        };
        let stacks: Vec<TopStack> = sites.iter().map(stack).collect();
        let why_none = stacks.is_empty().then(|| self.why_none().to_owned());
        Evidence { by_growth: self.by_growth, stacks, why_none }
    }

    fn why_none(&self) -> &'static str {
        match (self.is_exact, self.by_growth) {
            (true, true) => "no call stack of it has grown since its allocator is followed",
            (true, false) => "nothing that it has allocated since its allocator is followed is live",
            (false, true) => {
                "its allocator is not followed, and no page fault was sampled in what it has taken lately"
            }
            (false, false) => {
                "its allocator is not followed, and no page fault was sampled: its memory is from before the watch"
            }
        }
    }
}

/// All that is live, from before the window too.
fn live(recording: &Recording, site: &Site) -> Cost {
    last(recording, site).live()
}

fn last(recording: &Recording, site: &Site) -> Point {
    recording.sites.get(&site.id).and_then(|it| it.points.last()).copied().unwrap_or_default()
}
