//! The numbers behind one redraw: totals, curves and every site, with growth over the chosen window.

use std::collections::{BTreeMap, HashMap};

use super::{names::Names, state::Id};
use crate::{
    capture::{Recording, SiteHistory, Stack},
    cost::Cost,
    event::{Kind, Loss},
    profile::{Process, Profile, Query, Site, Sort, Verdict, trust::Grade},
};

/// What a recording says at its last interval.
pub(super) struct Picture {
    pub(super) at_s: f64,
    /// Where the window begins.
    pub(super) from_s: f64,
    pub(super) target: String,
    /// Heap blocks and mappings of all processes.
    pub(super) live: Cost,
    pub(super) rss_bytes: Option<u64>,
    /// Allocations and frees since the tracing began.
    pub(super) events: u64,
    pub(super) grade: Grade,
    /// Of so many bytes one is sampled; `None` if every block is seen.
    pub(super) sample_bytes: Option<i64>,
    /// Of the live heap.
    pub(super) live_error_bytes: i64,
    pub(super) losses: Vec<(Loss, u64)>,
    pub(super) processes: Vec<Process>,
    /// In the window.
    pub(super) curve: Vec<Moment>,
    pub(super) marks_s: Vec<f64>,
    /// Processes that ended so long ago that nothing of them is here.
    pub(super) forgotten: usize,
    /// Why the tracing has ended, if it has.
    pub(super) ended: Option<String>,
    /// Those that hold something, and the one that is looked into. Live is everything that a site holds; growth and
    /// verdict are over the window.
    pub(super) sites: Vec<Site>,
    /// Whether any site was seen at all.
    pub(super) has_sites: bool,
}

/// All processes at the end of an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Moment {
    pub(super) t_s: f64,
    pub(super) live_bytes: i64,
    /// `None` once all have ended.
    pub(super) rss_bytes: Option<u64>,
}

/// A line of the list.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub(super) id: Id,
    pub(super) live: Cost,
    /// Of a function: what it allocates itself, and not through those that it calls.
    pub(super) own: Option<Cost>,
    /// Of a process.
    pub(super) rss_bytes: Option<u64>,
    pub(super) growth_bytes_per_s: f64,
    pub(super) oldest_s: Option<f64>,
    /// Of a function: that of its largest site.
    pub(super) verdict: Verdict,
}

impl Picture {
    /// `span_s` is how far back the window reaches; `None`: to the beginning.
    pub(super) fn new(recording: &Recording, span_s: Option<f64>, open: Option<u32>) -> Self {
        let overlapping = Query { overlapping: true, ..Query::default() };
        let all = Profile::new(recording, &overlapping, 0);
        let from_s = span_s.map(|it| all.at_s - it).filter(|it| *it > 0.0);
        let windowed = from_s.map(|_| Profile::new(recording, &Query { from_s, ..overlapping.clone() }, 0));
        let sample_bytes = all.sample_bytes();
        let curve = curve(&windowed.as_ref().unwrap_or(&all).timeline);
        let mut sites = all.sites;
        if let Some(windowed) = &windowed {
            let recent: HashMap<u32, &Site> = windowed.sites.iter().map(|it| (it.id, it)).collect();
            for site in &mut sites {
                if let Some(recent) = recent.get(&site.id) {
                    (site.growth_bytes_per_s, site.verdict) = (recent.growth_bytes_per_s, recent.verdict);
                }
            }
        }
        let events: i64 = sites.iter().map(|it| it.allocated.blocks + it.freed.blocks).sum();
        let has_sites = !sites.is_empty();
        // A compiler has four times as many that hold nothing any more.
        sites.retain(|it| it.live.blocks != 0 || Some(it.id) == open);
        sites.shrink_to_fit();
        let unknown_frees: u64 = all.processes.iter().map(|it| it.unknown_frees).sum();
        let living = || all.processes.iter().filter(|it| it.row.ended.is_none());
        let heap = sites.iter().filter(|it| &*it.kind == "heap");
        let live_error_bytes = sample_bytes.map_or(0, |_| Profile::error_of(heap).1.bytes);
        Self {
            at_s: all.at_s,
            from_s: windowed.map_or(0.0, |it| it.from_s),
            live: sites.iter().map(|it| it.live).sum(),
            rss_bytes: living().filter_map(|it| it.rss_last_bytes).reduce(|a, b| a + b),
            events: events as u64 + unknown_frees,
            grade: all.grade,
            sample_bytes,
            live_error_bytes,
            losses: Loss::ALL
                .into_iter()
                .filter_map(|it| Some((it, *all.losses.get(it.name())?)).filter(|(_, count)| *count > 0))
                .collect(),
            target: all.header.target,
            processes: all.processes,
            curve,
            marks_s: all.marks.iter().map(|it| it.t_s).collect(),
            forgotten: recording.forgotten,
            ended: recording.end.as_ref().map(|it| it.reason.clone()),
            sites,
            has_sites,
        }
    }

    pub(super) fn site(&self, id: u32) -> Option<&Site> {
        self.sites.iter().find(|it| it.id == id)
    }

    /// Live bytes of a kind, or of heap and mappings.
    pub(super) fn live_of(&self, kind: Option<&str>) -> Cost {
        self.of_kind(kind).map(|it| it.live).sum()
    }

    fn of_kind(&self, kind: Option<&str>) -> impl Iterator<Item = &Site> {
        self.sites.iter().filter(move |it| kind.map_or(!it.is_resident(), |kind| kind == &*it.kind))
    }

    /// Sites that hold something and have a function that is wanted.
    pub(super) fn site_lines(
        &self,
        recording: &Recording,
        names: &Names,
        kind: Option<Kind>,
        filter: &Filter,
        process: Option<u32>,
    ) -> Vec<Line> {
        let wanted = filter.wanted(names);
        let is_wanted = |it: &&Site| match (&wanted, stack(recording, it.id)) {
            (None, _) => true,
            (Some(wanted), Some(stack)) => names.along(stack).any(|it| wanted[it as usize]),
            (Some(_), None) => false,
        };
        let holding = self.of_kind(kind.map(Kind::name)).filter(|it| it.live.blocks != 0);
        let holding = holding.filter(|it| process.is_none_or(|process| process == it.process));
        let line = |it: &Site| Line {
            id: Id::Site(it.id),
            live: it.live,
            own: None,
            rss_bytes: None,
            growth_bytes_per_s: it.growth_bytes_per_s,
            oldest_s: it.oldest_s,
            verdict: it.verdict,
        };
        holding.filter(is_wanted).map(line).collect()
    }

    /// Functions, each with the sites that have it in their stack. Growth is the sum of theirs.
    pub(super) fn function_lines(
        &self,
        recording: &Recording,
        names: &Names,
        kind: Option<Kind>,
        filter: &Filter,
        process: Option<u32>,
    ) -> Vec<Line> {
        let mut lines: Vec<Option<(Line, i64)>> = vec![None; names.count()];
        let mut along = Vec::new();
        let holding = self.of_kind(kind.map(Kind::name)).filter(|it| it.live.blocks != 0);
        for site in holding.filter(|it| process.is_none_or(|process| process == it.process)) {
            let Some(stack) = stack(recording, site.id) else { continue };
            along.clear();
            along.extend(names.shown(stack));
            along.sort_unstable();
            along.dedup();
            let own = names.shown(stack).next();
            for &name in &along {
                let (line, largest) = lines[name as usize].get_or_insert_with(|| {
                    let line = Line {
                        id: Id::Function(name),
                        live: Cost::default(),
                        own: Some(Cost::default()),
                        rss_bytes: None,
                        growth_bytes_per_s: 0.0,
                        oldest_s: None,
                        verdict: site.verdict,
                    };
                    (line, i64::MIN)
                });
                line.live += site.live;
                if own == Some(name) {
                    line.own = line.own.map(|it| it + site.live);
                }
                line.growth_bytes_per_s += site.growth_bytes_per_s;
                line.oldest_s = older(line.oldest_s, site.oldest_s);
                if site.live.bytes > *largest {
                    (line.verdict, *largest) = (site.verdict, site.live.bytes);
                }
            }
        }
        let wanted = filter.wanted(names);
        let is_wanted = |it: &Line| match (it.id, &wanted) {
            (Id::Function(name), Some(wanted)) => wanted[name as usize],
            _ => true,
        };
        lines.into_iter().flatten().map(|(line, _)| line).filter(is_wanted).collect()
    }
}

pub(super) fn older(a: Option<f64>, b: Option<f64>) -> Option<f64> {
    a.zip(b).map(|(a, b)| a.max(b)).or(a).or(b)
}

fn stack(recording: &Recording, site: u32) -> Option<&Stack> {
    recording.stacks.get(&recording.sites.get(&site)?.stack)
}

/// Live bytes at `times_s`, of a site, of all sites with a function, or of a process's heap; `None` before the first interval.
pub(super) fn history(recording: &Recording, names: &Names, id: Id, times_s: &[f64]) -> Vec<Option<i64>> {
    let ended = |t_s: &f64| recording.times_s.partition_point(|it| it <= t_s);
    let unknown = times_s.iter().take_while(|it| ended(it) == 0).count();
    let intervals: Vec<u32> = times_s[unknown..].iter().map(|it| ended(it) as u32 - 1).collect();
    let mut sum = vec![0; intervals.len()];
    let mut add = |site: &SiteHistory| {
        sum.iter_mut().zip(live_along(site, &intervals)).for_each(|(sum, it)| *sum += it)
    };
    match id {
        Id::Process(process) => {
            let own = recording.sites.values().filter(|it| it.process == process && &*it.kind == "heap");
            own.for_each(&mut add);
        }
        Id::Site(site) => recording.sites.get(&site).into_iter().for_each(&mut add),
        Id::Function(name) => {
            let has = |it| names.shown(it).any(|it| it == name);
            let with = |it: &&SiteHistory| recording.stacks.get(&it.stack).is_some_and(has);
            recording.sites.values().filter(with).for_each(&mut add);
        }
    }
    std::iter::repeat_n(None, unknown).chain(sum.into_iter().map(Some)).collect()
}

/// Live bytes at the ends of `intervals`, which are in order.
fn live_along(site: &SiteHistory, intervals: &[u32]) -> Vec<i64> {
    let mut points = site.points.iter().peekable();
    let mut live_bytes = 0;
    let mut at = |interval: &u32| {
        while let Some(point) = points.next_if(|it| it.interval <= *interval) {
            live_bytes = point.live().bytes;
        }
        live_bytes
    };
    intervals.iter().map(&mut at).collect()
}

/// Sums over the processes at each time.
fn curve(timeline: &[crate::profile::Moment]) -> Vec<Moment> {
    let mut by_time: BTreeMap<u64, Moment> = BTreeMap::new();
    for it in timeline {
        // Positive floats are ordered like their bits.
        let moment =
            by_time.entry(it.t_s.to_bits()).or_insert(Moment { t_s: it.t_s, live_bytes: 0, rss_bytes: None });
        moment.live_bytes += it.live.bytes;
        let sum = moment.rss_bytes.into_iter().chain(it.rss_bytes).reduce(|a, b| a + b);
        moment.rss_bytes = sum;
    }
    by_time.into_values().collect()
}

/// What names must contain. Small letters stand for capitals too.
pub(super) struct Filter<'a>(pub(super) &'a str);

impl Filter<'_> {
    /// By name; `None`: all are wanted.
    fn wanted(&self, names: &Names) -> Option<Vec<bool>> {
        if self.0.is_empty() {
            return None;
        }
        let exactly = self.0.chars().any(char::is_uppercase);
        let is_wanted =
            |it: &str| if exactly { it.contains(self.0) } else { it.to_lowercase().contains(self.0) };
        Some(names.all().map(is_wanted).collect())
    }
}

/// Puts what the viewer wants to see first at the top; equal ones in the order of their numbers.
pub(super) fn sort(lines: &mut [Line], by: Sort) {
    match by {
        Sort::Bytes => lines.sort_by_key(|it| (-it.live.bytes, -it.live.blocks)),
        Sort::Blocks => lines.sort_by_key(|it| (-it.live.blocks, -it.live.bytes)),
        Sort::Growth => lines.sort_by(|a, b| b.growth_bytes_per_s.total_cmp(&a.growth_bytes_per_s)),
        Sort::Age => lines.sort_by(|a, b| b.oldest_s.unwrap_or(-1.0).total_cmp(&a.oldest_s.unwrap_or(-1.0))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::sample_recording;

    fn check(lines: impl Fn(&Picture, &Recording, &Names) -> Vec<Line>, expected: &[(&str, i64, i64)]) {
        let recording = sample_recording();
        let mut names = Names::default();
        names.learn(&recording);
        let picture = Picture::new(&recording, None, None);
        let mut lines = lines(&picture, &recording, &names);
        sort(&mut lines, Sort::Bytes);
        let name = |it: &Line| match it.id {
            Id::Site(site) => names.line(stack(&recording, site).unwrap()),
            Id::Function(name) => names.text(name).to_owned(),
            Id::Process(process) => process.to_string(),
        };
        let found: Vec<_> =
            lines.iter().map(|it| (name(it), it.live.bytes, it.own.map_or(-1, |it| it.bytes))).collect();
        let found: Vec<_> = found.iter().map(|(name, live, own)| (&**name, *live, *own)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn sites() {
        let sites = |kind, filter| {
            move |it: &Picture, recording: &Recording, names: &Names| {
                it.site_lines(recording, names, kind, &Filter(filter), None)
            }
        };
        let (leak, cache) = (("leak < main", 400, -1), ("cache < main", 1000, -1));
        check(sites(None, ""), &[cache, leak]);
        check(sites(Some(Kind::Mmap), ""), &[]);
        check(sites(Some(Kind::Heap), "lea"), &[leak]);
        check(sites(None, "Lea"), &[]);
        check(sites(None, "main"), &[cache, leak]);
    }

    #[test]
    fn functions_hold_what_their_sites_hold() {
        let functions = |filter| {
            move |it: &Picture, recording: &Recording, names: &Names| {
                it.function_lines(recording, names, None, &Filter(filter), None)
            }
        };
        check(functions(""), &[("main", 1400, 0), ("cache", 1000, 1000), ("leak", 400, 400)]);
        check(functions("cache"), &[("cache", 1000, 1000)]);
    }

    #[test]
    fn a_window_is_about_growth_and_not_about_what_is_live() {
        let mut recording = sample_recording();
        recording.end = None;
        let picture = Picture::new(&recording, Some(2.0), None);
        let mut lines: Vec<_> =
            picture.sites.iter().map(|it| (it.live.bytes, it.growth_bytes_per_s)).collect();
        lines.sort_by_key(|it| it.0);
        assert_eq!(lines, [(400, 100.0), (1000, 0.0)]);
        assert_eq!((picture.from_s, picture.at_s), (2.0, 4.0));
        assert_eq!(picture.curve.first().map(|it| (it.t_s, it.live_bytes)), Some((2.0, 1200)));
        assert_eq!((picture.live.bytes, picture.events), (1400, 4 * 4 + 1 + 5));
    }

    #[test]
    fn a_process_that_has_ended_has_no_resident_bytes() {
        let at = |t_s, pid, rss_bytes| crate::profile::Moment {
            t_s,
            process: pid,
            pid,
            live: Cost::default(),
            rss_bytes,
        };
        let moments = curve(&[
            at(1.0, 7, Some(10)),
            at(1.0, 8, Some(5)),
            at(2.0, 7, None),
            at(2.0, 8, Some(6)),
            at(3.0, 7, None),
        ]);
        let rss: Vec<_> = moments.iter().map(|it| it.rss_bytes).collect();
        assert_eq!(rss, [Some(15), Some(6), None]);
    }

    #[test]
    fn histories() {
        let recording = sample_recording();
        let mut names = Names::default();
        names.learn(&recording);
        let main = (0..).zip(names.all()).find(|(_, it)| *it == "main").unwrap().0;
        let check = |id, expected: [i64; 3]| {
            let found = history(&recording, &names, id, &[0.5, 1.0, 2.5, 4.0]);
            assert_eq!(found[0], None);
            assert_eq!(found[1..], expected.map(Some));
        };
        check(Id::Site(0), [100, 200, 400]);
        check(Id::Function(main), [1100, 1200, 1400]);
    }
}
