//! The call stacks that an alert names: what holds, or takes, the memory that is too much.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::Watched;
use crate::{
    capture::{Part, Recording, SiteHistory},
    cost::Cost,
    profile::{Frame, Profile, Query, Site, Stacks},
    report::words,
};

/// More stacks than anybody reads in an alert are in the recording.
const MOST_STACKS: usize = 5;

/// Frames of each: what is further out says little of who allocates.
const MOST_FRAMES: usize = 32;

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
    /// In one line, without those that serve others: pages are touched inside of them.
    pub(super) fn headline(&self) -> String {
        let inner = self.frames.iter().take_while(|it| it.serves_others()).count();
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

/// Sites that are looked at more closely: of a process with a hundred thousand of them that would take seconds.
const CANDIDATES: usize = 32;

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
    fn is_of(self, site: &SiteHistory) -> bool {
        match self {
            Self::Blocks => &*site.kind == "heap",
            Self::BlocksAndMappings => &*site.kind != "resident",
            Self::Pages => &*site.kind == "resident",
            Self::Mappings => &*site.kind == "mmap",
        }
    }
}

impl Wanted {
    pub(super) fn gather(&self, watched: &Watched) -> Evidence {
        let recording = &watched.recording;
        // What there was when the watch began has not grown since.
        let from = recording.interval_near(watched.now_s() - self.window_s).unwrap_or(0);
        let from = Some(from).filter(|it| *it as usize + 1 < recording.times_s.len());
        let from_s = from.map(|it| recording.times_s[it as usize]);
        let weight = |it: &SiteHistory| {
            let before = from.filter(|_| self.by_growth).map(|from| it.at(from).live().bytes);
            live(it).bytes - before.unwrap_or(0)
        };
        let all = recording.sites.iter().filter(|(_, it)| self.processes.contains(&it.process));
        let own: Vec<(u32, &SiteHistory, i64)> =
            all.map(|(id, it)| (*id, it, weight(it))).filter(|it| it.2 > 0).collect();
        let of = |kind: Kind| own.iter().filter(move |it| kind.is_of(it.1)).map(|it| it.2);
        let is_exact = ["", "exact"].contains(&&*recording.header.tier);
        let blocks = if is_exact { Kind::BlocksAndMappings } else { Kind::Blocks };
        // Blocks say more than pages, unless they have been looked at for a short time only.
        let kind = match (of(blocks).sum::<i64>(), of(Kind::Pages).sum::<i64>()) {
            (0, 0) => Kind::Mappings,
            (blocks_bytes, pages_bytes) if pages_bytes > 2 * blocks_bytes => Kind::Pages,
            _ => blocks,
        };
        let mut worst: Vec<(i64, u32)> =
            own.iter().filter(|it| kind.is_of(it.1)).map(|it| (-it.2, it.0)).collect();
        worst.sort_unstable();
        worst.truncate(CANDIDATES);
        let wants_site = |id: u32, _: &SiteHistory| worst.iter().any(|it| it.1 == id);
        let part = Part { processes: &self.processes, wants_site: &wants_site, moments: None };
        let stacks = self.worst(&recording.excerpt(&part), from_s, of(kind).sum());
        let why_none = stacks.is_empty().then(|| self.why_none().to_owned());
        Evidence { by_growth: self.by_growth, stacks, why_none }
    }

    /// Of those that are in `recording`; all that are asked for weigh `all_bytes`.
    fn worst(&self, recording: &Recording, from_s: Option<f64>, all_bytes: i64) -> Vec<TopStack> {
        let query = Query { from_s, overlapping: true, ..Query::default() };
        let profile = Profile::new(recording, &query, 0);
        let last = |it: &Site| recording.sites.get(&it.id).and_then(|it| it.points.last()).copied();
        let live = |it: &Site| last(it).unwrap_or_default().live();
        let mut sites: Vec<&Site> = profile.sites.iter().collect();
        if self.by_growth {
            let rate = |it: &Site| it.growth_bytes_per_s;
            sites.sort_by(|a, b| {
                b.is_growing().cmp(&a.is_growing()).then_with(|| rate(b).total_cmp(&rate(a)))
            });
        } else {
            sites.sort_by_key(|it| -live(it).bytes);
        }
        sites.truncate(MOST_STACKS);
        let stack = |it: &&Site| {
            let mut frames = Stacks::of_site(recording, it, None);
            let is_complete = it.is_complete() && frames.len() <= MOST_FRAMES;
            frames.truncate(MOST_FRAMES);
            let weight = if self.by_growth { it.change.bytes } else { live(it).bytes };
            TopStack {
                frames,
                via: it.via.to_string(),
                kind: it.kind.to_string(),
                live: live(it),
                live_error_bytes: last(it).unwrap_or_default().samples.live_error_bytes,
                grown_bytes: it.change.bytes,
                growth_bytes_per_s: it.growth_bytes_per_s,
                share: weight as f64 / all_bytes.max(1) as f64,
                is_complete,
            }
        };
        sites.iter().map(stack).collect()
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
fn live(site: &SiteHistory) -> Cost {
    site.points.last().map(|it| it.live()).unwrap_or_default()
}
