//! Whether a process grows for as long as a budget looks: by what it does not give back. Pure.

use std::collections::VecDeque;

use crate::profile::growth_bytes_per_s;

/// A window is looked at in so many parts, of each of which only the least counts: what is taken and given back within one
/// is no growth.
const PARTS: f64 = 16.0;

/// Fewer say nothing, however short the window.
const LEAST_PARTS: usize = 8;

/// Of the third of the growth that each third of the window would have if it were even, each must have so much: one step, or
/// a batch job at work, is no growth.
const FAIR_SHARE: f64 = 0.25;

/// The last third must have so much of what the others have: a cache that fills ever more slowly has not.
const LATE_SHARE: f64 = 0.5;

/// What a process had at the end of each interval, as far as a budget of growth needs it.
#[derive(Clone, Debug)]
pub(super) struct Course {
    over_s: f64,
    began_s: Option<f64>,
    /// When the part that is being filled began, and the least in it.
    part: Option<(f64, Moment)>,
    /// The least in each part of the window, oldest first.
    parts: VecDeque<Moment>,
    growth: Option<Growth>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Moment {
    t_s: f64,
    bytes: i64,
}

/// How it grows in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Growth {
    /// The slope of what it had at each time and at no later time gave back.
    pub(super) bytes_per_s: f64,
    /// The same if it now gives back as much as it ever did in the window: a collector's next turn is no surprise.
    pub(super) sure_bytes_per_s: f64,
    /// It grows in all of the window, and has not become slower.
    pub(super) goes_on: bool,
}

impl Course {
    pub(super) fn new(over_s: f64) -> Self {
        Self { over_s, began_s: None, part: None, parts: VecDeque::new(), growth: None }
    }

    /// Adds what there is now; `None` until the window is full.
    pub(super) fn add(&mut self, t_s: f64, bytes: u64) -> Option<Growth> {
        let now = Moment { t_s, bytes: bytes as i64 };
        let began_s = *self.began_s.get_or_insert(t_s);
        match &mut self.part {
            Some((from_s, least)) if t_s < *from_s + self.over_s / PARTS => {
                if now.bytes < least.bytes {
                    *least = now;
                }
            }
            part => {
                let finished = part.replace((t_s, now));
                self.parts.extend(finished.map(|(_, least)| least));
                while self.parts.len() > LEAST_PARTS && self.parts[1].t_s <= t_s - self.over_s {
                    self.parts.pop_front();
                }
                let is_full = t_s - began_s >= self.over_s && self.parts.len() >= LEAST_PARTS;
                self.growth = is_full.then(|| growth(&self.parts));
            }
        }
        self.growth
    }
}

/// Of some parts.
fn growth(parts: &VecDeque<Moment>) -> Growth {
    let times_s: Vec<f64> = parts.iter().map(|it| it.t_s).collect();
    let least: Vec<i64> = parts.iter().map(|it| it.bytes).collect();
    let slope = |bytes: &[i64]| growth_bytes_per_s(&times_s, bytes).unwrap_or(0.0).max(0.0);
    let kept = kept(&least, i64::MAX);
    let last = least.last().copied().unwrap_or(0);
    let thirds = [0, kept.len() / 3, kept.len() * 2 / 3, kept.len() - 1].map(|it| kept[it]);
    let rise = |at: usize| (thirds[at + 1] - thirds[at]) as f64;
    let fair = (thirds[3] - thirds[0]) as f64 / 3.0;
    Growth {
        bytes_per_s: slope(&kept),
        sure_bytes_per_s: slope(&self::kept(&least, last - greatest_drop(&least))),
        goes_on: (0..3).all(|it| rise(it) >= FAIR_SHARE * fair)
            && rise(2) >= LATE_SHARE * rise(0).max(rise(1)),
    }
}

/// Of what there was at each time, what there was at all later times too, if it comes down to `end` next.
fn kept(bytes: &[i64], end: i64) -> Vec<i64> {
    let mut kept = bytes.to_vec();
    let mut least = end;
    for it in kept.iter_mut().rev() {
        least = least.min(*it);
        *it = least;
    }
    kept
}

fn greatest_drop(bytes: &[i64]) -> i64 {
    let mut highest = i64::MIN;
    let drops = bytes.iter().map(|it| {
        highest = highest.max(*it);
        highest - it
    });
    drops.max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1048576.0;
    const ALLOWED: f64 = MIB / 60.0;

    /// Numbers of no pattern, the same every time: xorshift.
    struct Chance(u64);

    impl Chance {
        /// Evenly from -1 to 1.
        fn even(&mut self) -> f64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        }

        /// Nearly normal, of deviation 1.
        fn normal(&mut self) -> f64 {
            (0..12).map(|_| self.even()).sum::<f64>() / 2.0
        }
    }

    /// Two hours, looked at every second over ten minutes: when 1 MiB/min is surpassed first.
    fn first_s(mib: &mut dyn FnMut(f64, &mut Chance) -> f64, seed: u64) -> Option<f64> {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut course = Course::new(600.0);
        (0..7200).map(f64::from).find(|t_s| {
            let growth = course.add(*t_s, (mib(*t_s, &mut chance) * MIB) as u64);
            growth.is_some_and(|it| it.goes_on && it.sure_bytes_per_s >= ALLOWED)
        })
    }

    fn check(
        what: &str,
        mut mib: impl FnMut(f64, &mut Chance) -> f64,
        expected: impl Fn(Option<f64>) -> bool,
    ) {
        for seed in 1..=5 {
            let first_s = first_s(&mut mib, seed);
            assert!(expected(first_s), "{what}, {seed}: {first_s:?}");
        }
    }

    fn healthy(what: &str, mib: impl FnMut(f64, &mut Chance) -> f64) {
        check(what, mib, |it| it.is_none());
    }

    /// It is found, and not before a window is full.
    fn leaks(what: &str, within_s: f64, mib: impl FnMut(f64, &mut Chance) -> f64) {
        check(what, mib, |it| it.is_some_and(|it| (600.0..=within_s).contains(&it)));
    }

    #[test]
    fn a_healthy_process_is_not_said_to_grow() {
        healthy("nothing", |_, _| 100.0);
        healthy("start-up, evenly", |t, _| 100.0 + t.min(300.0) / 3.0);
        healthy("start-up in half a window", |t, _| 2000.0 * (1.0 - (-t / 150.0).exp()));
        healthy("a cache that fills in an hour", |t, _| 4000.0 * (1.0 - (-t / 500.0).exp()));
        healthy("a cache of steps", |t, _| 100.0 + 200.0 * (t / 250.0).floor().min(2.0));
        healthy("noise", |_, chance| 100.0 + 5.0 * chance.normal());
        healthy("more noise", |_, chance| 100.0 + 20.0 * chance.even());
        healthy("slow waves", |t, _| 200.0 + 3.0 * (t / 570.0).sin());
        healthy("it shrinks", |t, _| 1000.0 - t / 10.0);
        healthy("within the budget", |t, chance| 100.0 + 0.9 * t / 60.0 + 0.2 * chance.even());
        let mut at = 100.0;
        healthy("it wanders about", move |_, chance| {
            at += 0.2 * chance.normal() + 0.005 * (100.0 - at);
            at
        });
    }

    #[test]
    fn a_sawtooth_is_none() {
        for period_s in [7.0, 30.0, 60.0, 100.0, 240.0, 400.0, 590.0] {
            healthy(&format!("{period_s} s"), |t, _| 100.0 + 50.0 * (t % period_s) / period_s);
            healthy(&format!("{period_s} s and noise"), |t, chance| {
                100.0 + 50.0 * (t % period_s) / period_s + chance.normal()
            });
        }
    }

    #[test]
    fn a_batch_job_is_none() {
        for (every_s, for_s) in
            [(60.0, 10.0), (300.0, 60.0), (1200.0, 480.0), (1200.0, 900.0), (3600.0, 720.0)]
        {
            for ramp_s in [1.0, 60.0, 180.0] {
                healthy(&format!("every {every_s} s for {for_s} s, {ramp_s} s"), |t, chance| {
                    let since_s = t % every_s;
                    let job = if since_s < for_s { 300.0 * (since_s / ramp_s).min(1.0) } else { 0.0 };
                    100.0 + job + 0.5 * chance.normal()
                });
            }
        }
    }

    #[test]
    fn a_leak_is_found_when_the_window_is_full() {
        leaks("steady", 650.0, |t, _| 100.0 + 1.2 * t / 60.0);
        leaks("fast", 650.0, |t, _| 100.0 + 100.0 * t / 60.0);
        leaks("below noise", 1200.0, |t, chance| 100.0 + 1.3 * t / 60.0 + 10.0 * chance.even());
        leaks("below normal noise", 1200.0, |t, chance| 100.0 + 1.3 * t / 60.0 + 2.0 * chance.normal());
        leaks("steps of a minute", 650.0, |t, _| 100.0 + 3.0 * (t / 60.0).floor());
        leaks("steps of three", 1200.0, |t, _| 100.0 + 5.0 * (t / 180.0).floor());
        leaks("a collector's floor", 650.0, |t, _| 100.0 + 1.3 * t / 60.0 + 50.0 * (t % 30.0) / 30.0);
        leaks("a slow collector's floor", 1500.0, |t, _| 100.0 + 2.0 * t / 60.0 + 50.0 * (t % 100.0) / 100.0);
        leaks("peaks", 650.0, |t, chance| 100.0 + 1.2 * t / 60.0 + 100.0 * chance.even().signum().max(0.0));
        leaks("after a start-up", 1200.0, |t, _| 100.0 + t.min(300.0) / 3.0 + 1.5 * t / 60.0);
        // Both copies are there for a moment.
        leaks("a buffer that doubles", 650.0, |t, _| {
            let len = (2.0 * t / 60.0).max(1.0);
            len + if len.log2().fract() < 0.02 { len / 2.0 } else { 0.0 }
        });
        leaks("a buffer that doubles and is touched at once", 650.0, |t, _| {
            (4.0 * t / 60.0).max(1.0).log2().ceil().exp2()
        });
    }

    /// What it is said to do is what it does.
    #[test]
    fn the_slope_is_the_leaks() {
        let mut course = Course::new(600.0);
        let growth = (0..900).filter_map(|t| course.add(f64::from(t), 1000 * t as u64)).last();
        let expected = Growth { bytes_per_s: 1000.0, sure_bytes_per_s: 1000.0, goes_on: true };
        assert_eq!(growth, Some(expected));
    }

    #[test]
    fn when_it_is_over_it_is_over() {
        let mut course = Course::new(60.0);
        let mut growth = |range: std::ops::Range<u32>, bytes: fn(u32) -> u32| {
            range.filter_map(|t| course.add(f64::from(t), u64::from(bytes(t)))).last().unwrap()
        };
        assert!(growth(0..100, |t| 1000 * t).goes_on);
        let over = growth(100..160, |_| 100_000);
        assert_eq!((over.bytes_per_s, over.sure_bytes_per_s, over.goes_on), (0.0, 0.0, false));
    }

    #[test]
    fn a_short_window_waits_for_enough_samples() {
        let mut course = Course::new(3.0);
        let first = (0..20).find(|t| course.add(f64::from(*t), 1000 * *t as u64).is_some());
        assert_eq!(first, Some(8));
    }

    #[test]
    fn what_it_remembers_is_bounded() {
        let mut course = Course::new(600.0);
        for t in 0..100_000 {
            course.add(f64::from(t) / 10.0, 1);
        }
        assert!(course.parts.len() <= PARTS as usize + 2, "{}", course.parts.len());
    }
}
