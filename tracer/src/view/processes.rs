//! The page of processes: who holds how much, and the way into one of them.

use rustc_hash::FxHashMap;

use super::{
    picture::{Line, Picture, older},
    state::Id,
};
use crate::{
    cost::Cost,
    event::Kind,
    profile::{Process, Site, Verdict},
    report::escape::printable,
};

impl Picture {
    /// Those that live, and have `wanted` in their name or command. Growth is the sum of their growing sites'.
    pub(super) fn process_lines(&self, kind: Option<Kind>, wanted: &str) -> Vec<Line> {
        let mut sites: FxHashMap<u32, Vec<&Site>> = FxHashMap::default();
        let is_wanted = |it: &&Site| kind.is_none_or(|kind| kind.name() == &*it.kind);
        for site in self.sites.iter().filter(is_wanted) {
            sites.entry(site.process).or_default().push(site);
        }
        let living = self.processes.iter().filter(|it| it.row.ended.is_none() && has(it, wanted));
        living.map(|it| line(it, sites.get(&it.row.id).map_or(&[], |it| it))).collect()
    }

    pub(super) fn process(&self, id: u32) -> Option<&Process> {
        self.processes.iter().find(|it| it.row.id == id)
    }
}

/// Small letters stand for capitals too, as in other filters.
fn has(process: &Process, wanted: &str) -> bool {
    let text = format!("{} {} {}", process.row.pid, process.row.name, process.row.command);
    if wanted.chars().any(char::is_uppercase) {
        text.contains(wanted)
    } else {
        text.to_lowercase().contains(wanted)
    }
}

fn line(process: &Process, sites: &[&Site]) -> Line {
    let growing = || sites.iter().filter(|it| it.is_growing());
    let largest = growing().chain(sites).max_by_key(|it| (it.is_growing(), it.live.bytes));
    Line {
        id: Id::Process(process.row.id),
        live: sites.iter().map(|it| it.live).sum::<Cost>(),
        own: None,
        rss_bytes: process.rss_last_bytes,
        growth_bytes_per_s: growing().map(|it| it.growth_bytes_per_s).sum(),
        oldest_s: sites.iter().fold(None, |oldest, it| older(oldest, it.oldest_s)),
        verdict: largest.map_or(Verdict::Steady, |it| it.verdict),
    }
}

/// `7 postgres   postgres: writer`
pub(super) fn name(picture: &Picture, id: u32) -> String {
    let Some(process) = picture.process(id) else { return "(ended)".to_owned() };
    let row = &process.row;
    let command =
        if row.command == row.name { String::new() } else { format!("   {}", printable(&row.command)) };
    format!("{}{command}", printable(&row.name)).trim_end().to_owned()
}
