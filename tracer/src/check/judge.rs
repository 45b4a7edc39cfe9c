//! One budget after the other against a recording.

use std::{collections::HashMap, ops::RangeInclusive};

use super::{
    Bounds, Budget, Finding, Judgement, Suspect,
    rules::{Evidence, undecided},
    series::{Most, Series},
};
use crate::{
    capture::{Point, ProcessRow, Recording, SiteHistory},
    cost::Cost,
    profile::{self, Profile, Site},
    report::units,
};

/// A recording on its way through the budgets. Interval numbers are places in [`Recording::times_s`].
pub(super) struct Judging<'a> {
    pub(super) recording: &'a Recording,
    profile: &'a Profile,
    /// The state at the end of this interval is the first that is judged.
    pub(super) from: u32,
    pub(super) to: u32,
    pub(super) series: Series<'a>,
    /// The most that each site ever held, for the forks of its process.
    peaks: HashMap<Origin<'a>, i64>,
}

/// (process, stack, kind, via)
type Origin<'a> = (u32, u32, &'a str, &'a str);

fn origin(process: u32, site: &SiteHistory) -> Origin<'_> {
    (process, site.stack, &site.kind, &site.via)
}

impl<'a> Judging<'a> {
    /// `counts` says of a site of the heap, by its place, whether it does.
    pub(super) fn new(
        evidence: &'a Evidence,
        intervals: RangeInclusive<u32>,
        counts: impl Fn(usize) -> bool,
    ) -> Self {
        let Evidence { recording, profile } = evidence;
        let peak = |it: &'a SiteHistory| Some((origin(it.process, it), it.points.last()?.peak_bytes));
        Self {
            recording,
            profile,
            from: *intervals.start(),
            to: *intervals.end(),
            series: Series::new(recording, &profile.sites, |at, site| &*site.kind == "heap" && counts(at)),
            peaks: recording.sites.values().filter_map(peak).collect(),
        }
    }

    pub(super) fn budget(&self, budget: Budget) -> Finding {
        let points = (self.to - self.from) as usize + 1;
        if budget.is_rate() && points < profile::MIN_POINTS {
            let s = if points == 1 { "" } else { "s" };
            let why = format!(
                "{points} interval{s} say nothing of growth: run longer, or sample more often (-i), or warm up for less"
            );
            return undecided(budget, why);
        }
        let (measured, detail, sites) = match budget {
            Budget::Growth(_) => self.growth(),
            Budget::GrowthPerSite(_) => self.growth_per_site(budget.allowed()),
            Budget::Live(_) => self.live(),
            Budget::LivePerSite(_) => self.live_per_site(budget.allowed()),
            Budget::Leaked(_) => self.leaked(),
            Budget::Rss(_) => match self.rss() {
                Some(it) => it,
                None => {
                    return undecided(
                        budget,
                        "no process lived long enough for a sample of its RSS".to_owned(),
                    );
                }
            },
        };
        let bounds = self.bounds(budget, measured);
        let exactly = Bounds { low: measured, high: measured };
        let result = bounds.unwrap_or(exactly).judge(budget.allowed());
        let sites = if result == Judgement::Breached { sites } else { Vec::new() };
        let detail = match bounds {
            Some(Bounds { low, high }) => {
                let [low, high] = [low, high].map(|it| budget.show(it));
                format!("{detail}; estimated, between {low} and {high}")
            }
            None => detail,
        };
        Finding { budget, result, measured: Some(measured), bounds, detail, sites }
    }

    fn growth(&self) -> (f64, String, Vec<Suspect>) {
        let window = self.from as usize..=self.to as usize;
        let times_s = &self.recording.times_s[window.clone()];
        // What only took the place of blocks from before the attach is no growth, and neither is what left such places.
        let [live, own] = [self.series.total(|it| it.live().bytes), self.series.total(Point::own_bytes)];
        let (live, values) = (&live[window.clone()], &own[window]);
        let slope = |values: &[i64]| profile::growth_bytes_per_s(times_s, values);
        let (first, last) = (values.first().copied().unwrap_or(0), values.last().copied().unwrap_or(0));
        let span_s = times_s.last().unwrap_or(&0.0) - times_s.first().unwrap_or(&0.0);
        let (change, span) = (units::bytes(last - first), units::seconds(span_s));
        match slope(live).zip(slope(values)).map(|(live, own)| live.min(own)) {
            Some(slope) => (slope, format!("by {change} in {span}"), self.growing(|_| true)),
            // What is filled and emptied in turns has a slope that depends on when it was looked at.
            None => (0.0, format!("no upward trend; {change} more after {span}"), Vec::new()),
        }
    }

    /// A site that only comes and goes has a slope as well, so the verdict counts too.
    fn growth_per_site(&self, allowed: f64) -> (f64, String, Vec<Suspect>) {
        let growing = self.growing(Site::is_growing);
        let rate = |it: &Suspect| self.profile.sites[it.site].growth_bytes_per_s;
        let measured = growing.first().map_or(0.0, rate);
        let detail = match growing.len() {
            0 => "no site grows to the end".to_owned(),
            1 => "1 site grows to the end".to_owned(),
            count => format!("the most of {} sites that grow to the end", units::count(count as i64)),
        };
        (measured, detail, growing.into_iter().filter(|it| rate(it) > allowed).collect())
    }

    /// The place of the site that grows fastest to the end.
    pub(super) fn fastest(&self) -> Option<usize> {
        self.growing(Site::is_growing).first().map(|it| it.site)
    }

    /// The fastest first; shares are of all growth.
    fn growing(&self, is_wanted: impl Fn(&Site) -> bool) -> Vec<Suspect> {
        let alive = |it: &(usize, &SiteHistory)| self.series.last_interval(it.1.process) == self.to;
        let suspect = |(site, history): (usize, &SiteHistory)| {
            let (first, last) = (history.at(self.from), history.at(self.to));
            let bytes = last.own_bytes() - first.own_bytes();
            let cost = Cost { bytes, blocks: last.live().blocks - first.live().blocks };
            Suspect { site, cost, share: self.profile.sites[site].growth_bytes_per_s.max(0.0) }
        };
        let mut suspects: Vec<Suspect> = self.series.sites().filter(alive).map(suspect).collect();
        let all: f64 = suspects.iter().map(|it| it.share).sum();
        suspects.retain(|it| it.share > 0.0 && is_wanted(&self.profile.sites[it.site]));
        suspects.iter_mut().for_each(|it| it.share /= all);
        suspects.sort_by(|a, b| b.share.total_cmp(&a.share));
        suspects
    }

    fn live(&self) -> (f64, String, Vec<Suspect>) {
        let Some(most) = self.series.most(self.from) else {
            return (0.0, "nothing was live".to_owned(), Vec::new());
        };
        (most.bytes as f64, self.place(&most), self.held(&most))
    }

    /// What the sites of a process held at a moment.
    fn held(&self, most: &Most) -> Vec<Suspect> {
        let costs = self.series.sites_of(most.process).map(|(at, it)| (at, it.at(most.interval).live()));
        suspects(costs)
    }

    /// When each site held most, the largest first.
    pub(super) fn peaks_of_sites(&self) -> Vec<(usize, &'a SiteHistory, Most, Cost)> {
        let peak = |(at, history): (usize, &'a SiteHistory)| {
            let later = history.points.iter().filter(|it| it.interval > self.from).copied();
            let points = std::iter::once(history.at(self.from)).chain(later);
            let mosts = points.map(|it| {
                let (interval, live) = (it.interval, it.live());
                (Most { process: history.process, interval, bytes: live.bytes }, live)
            });
            mosts.max_by_key(|(it, _)| it.key()).map(|(most, live)| (at, history, most, live))
        };
        let mut peaks: Vec<_> = self.series.sites().filter_map(peak).collect();
        peaks.sort_by_key(|(at, _, most, _)| (std::cmp::Reverse(most.key()), *at));
        peaks
    }

    fn live_per_site(&self, allowed: f64) -> (f64, String, Vec<Suspect>) {
        let peaks = self.peaks_of_sites();
        let Some((_, _, most, _)) = peaks.first() else {
            return (0.0, "nothing was live".to_owned(), Vec::new());
        };
        let (bytes, detail) = (most.bytes, self.place(most));
        let over = peaks.iter().filter(|(_, _, it, _)| it.bytes as f64 > allowed);
        let sites = over.map(|&(site, _, most, cost)| {
            let all: i64 = self.held(&most).iter().map(|it| it.cost.bytes).sum();
            Suspect { site, cost, share: cost.bytes as f64 / all.max(1) as f64 }
        });
        (bytes as f64, detail, sites.collect())
    }

    /// The process that left most behind.
    pub(super) fn worst_leak(&self) -> Option<(i64, &'a ProcessRow, Vec<Suspect>)> {
        let recording = self.recording;
        let of = |process: &'a ProcessRow| {
            let sites = self.series.sites_of(process.id);
            let costs = sites.map(|(at, history)| (at, self.never_freed(process, at, history)));
            let sites = suspects(costs);
            (sites.iter().map(|it| it.cost.bytes).sum::<i64>(), process, sites)
        };
        // The first of equal ones, hence the last of them in reverse.
        recording.processes.values().rev().map(of).max_by_key(|(bytes, ..)| *bytes)
    }

    fn leaked(&self) -> (f64, String, Vec<Suspect>) {
        let Some((bytes, process, sites)) = self.worst_leak() else {
            return (0.0, "no process was traced".to_owned(), Vec::new());
        };
        let end = match &process.ended {
            Some(_) => "at its end",
            None => "which is still running and may free it yet",
        };
        (bytes as f64, format!("by process {} {}, {end}", process.pid, process.name), sites)
    }

    /// What a process allocated in the window and never freed, without what a fork gave it: that is its parent's, and a
    /// child leaves it behind without a thought.
    fn never_freed(&self, process: &ProcessRow, at: usize, history: &SiteHistory) -> Cost {
        let live = self.profile.sites[at].live;
        let Some(parent) = process.parent else { return live };
        let Some(peak_bytes) = self.peaks.get(&origin(parent, history)) else { return live };
        // What is surely its own: born after the fork, or more than the parent can have had.
        let later = history.cohorts.iter().filter(|it| it.from_s >= process.began_s);
        let born: Cost = later.map(|it| Cost { bytes: it.bytes, blocks: it.blocks }).sum();
        let bytes = born.bytes.max(live.bytes - peak_bytes).clamp(0, live.bytes.max(0));
        Cost { bytes, blocks: if bytes == live.bytes { live.blocks } else { born.blocks.max(1) } }
    }

    fn rss(&self) -> Option<(f64, String, Vec<Suspect>)> {
        let samples = self.recording.samples.iter().flat_map(|(process, samples)| {
            samples.iter().filter(|it| it.interval >= self.from).filter_map(|it| {
                Some(Most { process: *process, interval: it.interval, bytes: it.rss_bytes? as i64 })
            })
        });
        let most = samples.max_by_key(Most::key)?;
        Some((most.bytes as f64, self.place(&most), self.held(&most)))
    }

    fn place(&self, most: &Most) -> String {
        let time = units::seconds(self.recording.times_s[most.interval as usize]);
        match self.recording.processes.get(&most.process) {
            Some(process) => format!("in process {} {}, at {time}", process.pid, process.name),
            None => format!("at {time}"),
        }
    }
}

/// The largest first, with their shares of all.
fn suspects(costs: impl Iterator<Item = (usize, Cost)>) -> Vec<Suspect> {
    let mut sites: Vec<Suspect> = costs
        .filter(|(_, cost)| cost.bytes > 0)
        .map(|(site, cost)| Suspect { site, cost, share: 0.0 })
        .collect();
    let all: i64 = sites.iter().map(|it| it.cost.bytes).sum();
    sites.iter_mut().for_each(|it| it.share = it.cost.bytes as f64 / all.max(1) as f64);
    sites.sort_by_key(|it| (-it.cost.bytes, it.site));
    sites
}
