//! What keeps a recording of days small: the further back, the coarser in time.

use rustc_hash::FxHashSet;

use super::Recording;

const MINUTE_S: f64 = 60.0;
const HOUR_S: f64 = 60.0 * MINUTE_S;
const DAY_S: f64 = 24.0 * HOUR_S;

impl Recording {
    /// How many points all sites have.
    pub fn points(&self) -> usize {
        self.sites.values().map(|it| it.points.len()).sum()
    }

    /// Forgets the processes that ended first, with their sites, if there are many more than `kept` that have ended.
    pub fn forget_ended(&mut self, kept: usize) {
        let ended = self.processes.values().filter_map(|it| Some((it.ended.as_ref()?.t_s, it.id)));
        let mut ended: Vec<(f64, u32)> = ended.collect();
        // Not one by one: each time all sites are looked at.
        if ended.len() <= kept + kept / 4 {
            return;
        }
        ended.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
        let gone: FxHashSet<u32> = ended.split_off(kept).into_iter().map(|(_, id)| id).collect();
        self.processes.retain(|id, _| !gone.contains(id));
        self.samples.retain(|id, _| !gone.contains(id));
        self.sites.retain(|_, it| !gone.contains(&it.process));
        self.forgotten += gone.len();
    }

    /// Forgets what is finer than anybody asks for so long after: of the last minute one interval a second stays, of the last hour
    /// one a minute, of the last day one an hour, and what was before is told by the first alone. The last one stays, and
    /// so do those at which a mark was placed. As true as [`Recording::thin`].
    pub fn thin_by_age(&mut self) {
        let Some(&now_s) = self.times_s.last() else { return };
        // Steps are counted from the beginning and not from now, so that the same intervals stay each time.
        let step = |t_s: f64| {
            let (number, span_s) = match now_s - t_s {
                age_s if age_s < MINUTE_S => (0, 1.0),
                age_s if age_s < HOUR_S => (1, MINUTE_S),
                age_s if age_s < DAY_S => (2, HOUR_S),
                _ => (3, f64::INFINITY),
            };
            (number, (t_s / span_s) as u64)
        };
        let steps: Vec<(u32, u64)> = self.times_s.iter().map(|it| step(*it)).collect();
        // The last of each step, but for the days before.
        let is_last = |at: usize| steps.get(at + 1) != Some(&steps[at]);
        let kept = (0..steps.len()).map(|at| at == 0 || is_last(at) && steps[at].0 < 3);
        self.keep(kept.collect());
    }

    /// Forgets every second interval of the older half. Counters are totals, so what is left is as true as before: a change is
    /// then known to lie in a longer interval. The first interval stays, and those at which a mark was placed.
    pub fn thin(&mut self) {
        let count = self.times_s.len();
        self.keep((0..count).map(|it| it == 0 || it >= count / 2 || it % 2 == 1).collect());
    }

    /// Forgets the other intervals, but for those of marks. The last one is kept.
    fn keep(&mut self, mut kept: Vec<bool>) {
        for interval in self.marks.iter().filter_map(|it| self.interval_near(it.t_s)) {
            kept[interval as usize] = true;
        }
        // What changed in a forgotten interval has changed by the end of the next that is kept.
        let mut next = 0;
        let place: Vec<u32> = kept
            .iter()
            .map(|is_kept| {
                let here = next;
                next += u32::from(*is_kept);
                here
            })
            .collect();
        let mut at = 0;
        self.times_s.retain(|_| {
            at += 1;
            kept[at - 1]
        });
        for site in self.sites.values_mut() {
            move_to(&place, &mut site.points, |it| &mut it.interval);
        }
        for samples in self.samples.values_mut() {
            move_to(&place, samples, |it| &mut it.interval);
        }
        for samples in self.cgroups.values_mut() {
            move_to(&place, samples, |it| &mut it.0);
        }
    }
}

/// Gives states their new intervals; of two in the same one the later holds.
fn move_to<T: Clone>(place: &[u32], states: &mut Vec<T>, interval: impl Fn(&mut T) -> &mut u32) {
    for state in states.iter_mut() {
        let interval = interval(state);
        *interval = place[*interval as usize];
    }
    states.dedup_by(|later, earlier| {
        let same = interval(later) == interval(earlier);
        if same {
            earlier.clone_from(later);
        }
        same
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{EndedRow, IntervalRow, MarkRow, ProcessRow, ProcessSample, Row, SiteRow};

    /// Ten seconds: site 0 changes in each, site 1 in those of `changes`.
    fn recording(changes: &[i64]) -> Recording {
        let mut recording = Recording::default();
        for second in 0..10 {
            let site = |site, allocated_bytes| SiteRow { site, allocated_bytes, ..SiteRow::default() };
            let mut sites = vec![site(0, second * 10 + 10)];
            if changes.contains(&second) {
                sites.push(site(1, second));
            }
            let processes =
                vec![ProcessSample { rss_bytes: Some(second as u64), ..ProcessSample::default() }];
            let t_s = second as f64;
            recording.add(Row::Interval(IntervalRow { t_s, processes, sites, ..IntervalRow::default() }));
        }
        recording
    }

    #[test]
    fn the_older_half_is_half_as_fine() {
        let mut recording = recording(&[]);
        recording.thin();
        assert_eq!(recording.times_s, [0.0, 1.0, 3.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        assert_eq!(recording.points(), 8);
        assert_eq!(recording.samples[&0].iter().map(|it| it.rss_bytes.unwrap()).sum::<u64>(), 39);
    }

    /// What is said of the intervals that are left is what was said of them before.
    #[test]
    fn what_is_left_is_true() {
        for changes in [&[4][..], &[3, 4], &[2], &[1, 2, 3, 4, 5], &[0], &[9], &[4, 5]] {
            let whole = recording(changes);
            let mut thin = whole.clone();
            for _ in 0..4 {
                thin.thin();
                for (interval, t_s) in (0..).zip(&thin.times_s) {
                    for (id, site) in &thin.sites {
                        let before = whole.sites[id].at(whole.interval_near(*t_s).unwrap());
                        assert_eq!(site.at(interval).live(), before.live(), "{changes:?} at {t_s}");
                        assert!(site.points.is_sorted_by(|a, b| a.interval < b.interval));
                    }
                }
            }
            assert_eq!(thin.times_s.last(), Some(&9.0));
        }
    }

    /// Intervals at these times; a site changes in every third, and another in those whose number is a square.
    fn aged(times_s: &[f64]) -> Recording {
        let mut recording = Recording::default();
        for (at, &t_s) in (0..).zip(times_s) {
            let site = |site, allocated_bytes| SiteRow { site, allocated_bytes, ..SiteRow::default() };
            let mut sites = if at % 3 == 0 { vec![site(0, at)] } else { Vec::new() };
            if (at as f64).sqrt().fract() == 0.0 {
                sites.push(site(1, at));
            }
            let processes = vec![ProcessSample { rss_bytes: Some(at as u64), ..ProcessSample::default() }];
            recording.add(Row::Interval(IntervalRow { t_s, processes, sites, ..IntervalRow::default() }));
        }
        recording
    }

    /// What is left says of its moments what the whole said of them.
    fn check_true(thin: &Recording, whole: &Recording) {
        for (interval, t_s) in (0..).zip(&thin.times_s) {
            let before = whole.times_s.iter().rposition(|it| it == t_s).unwrap() as u32;
            for (id, site) in &thin.sites {
                assert_eq!(site.at(interval).live(), whole.sites[id].at(before).live(), "{t_s}");
            }
            let rss = |it: &Recording, interval| {
                it.samples[&0].iter().find(|it| it.interval == interval).unwrap().rss_bytes
            };
            assert_eq!(rss(thin, interval), rss(whole, before), "{t_s}");
        }
    }

    #[test]
    fn a_ladder_of_seconds_minutes_and_hours() {
        let times_s: Vec<f64> = (0..2 * 24 * 3600).step_by(20).map(f64::from).collect();
        let mut ladder = aged(&times_s);
        ladder.thin_by_age();
        check_true(&ladder, &aged(&times_s));
        let now_s = ladder.times_s.last().copied().unwrap();
        let ages = |from_s: f64, to_s: f64| {
            ladder.times_s.iter().filter(|it| (from_s..to_s).contains(&(now_s - **it))).count()
        };
        assert_eq!(
            (ages(0.0, 60.0), ages(60.0, 3600.0), ages(3600.0, 86_400.0)),
            (3, 59, 23),
            "with the finer ones before them 60 and 24"
        );
        assert_eq!((ages(86_400.0, f64::MAX), ladder.times_s[0]), (1, 0.0));
        let again = ladder.clone();
        ladder.thin_by_age();
        assert_eq!(ladder, again);
    }

    proptest::proptest! {
        /// However the intervals lie, and however often it is done in between: what is left is true, and little.
        #[test]
        fn thinned_by_age_it_is_true_and_small(
            gaps in proptest::collection::vec(0.01_f64..900.0, 1..400),
            fine in 0.01_f64..2.0,
            often in 1..40_usize,
        ) {
            let mut now_s = 0.0;
            let times_s: Vec<f64> = gaps.iter().map(|it| { now_s += it * fine; now_s }).collect();
            let whole = aged(&times_s);
            let mut thin = Recording::default();
            for (at, row) in whole.rows("").filter(|it| matches!(it, Row::Interval(_))).enumerate() {
                thin.add(row);
                if at % often == 0 {
                    thin.thin_by_age();
                    proptest::prop_assert!(thin.times_s.len() <= 1 + 61 + 61 + 25);
                }
            }
            thin.thin_by_age();
            check_true(&thin, &whole);
            proptest::prop_assert_eq!(thin.times_s.last(), whole.times_s.last());
            proptest::prop_assert_eq!(thin.times_s.first(), whole.times_s.first());
        }
    }

    #[test]
    fn marks_keep_their_moments() {
        let mut recording = recording(&[]);
        recording.add(Row::Mark(MarkRow { t_s: 2.0, label: String::new() }));
        recording.thin();
        assert_eq!(recording.times_s, [0.0, 1.0, 2.0, 3.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
    }

    #[test]
    fn those_that_ended_last_are_kept() {
        let mut recording = Recording::default();
        for id in 0..30 {
            // The first ten live, and of the others the first end last.
            let ended = (id >= 10).then(|| EndedRow { t_s: f64::from(100 - id), ..EndedRow::default() });
            recording.add(Row::Process(ProcessRow { id, ended, ..ProcessRow::default() }));
            let sites = vec![SiteRow { site: id, process: id, ..SiteRow::default() }];
            let processes = vec![ProcessSample { process: id, ..ProcessSample::default() }];
            recording.add(Row::Interval(IntervalRow { processes, sites, ..IntervalRow::default() }));
        }
        recording.forget_ended(16);
        assert_eq!((recording.processes.len(), recording.forgotten), (30, 0), "not many more");
        recording.forget_ended(5);
        let kept: Vec<u32> = (0..15).collect();
        assert_eq!(recording.processes.keys().copied().collect::<Vec<_>>(), kept);
        assert_eq!(recording.samples.keys().copied().collect::<Vec<_>>(), kept);
        assert_eq!(recording.sites.keys().copied().collect::<Vec<_>>(), kept);
        assert_eq!(recording.forgotten, 15);
    }

    #[test]
    fn nothing_is_thinned_to_nothing() {
        let mut empty = Recording::default();
        empty.thin();
        assert_eq!(empty, Recording::default());
    }
}
