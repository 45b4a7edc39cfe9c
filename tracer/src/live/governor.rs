//! When to look less closely, and when closely again: what tracing costs goes in, steps come out. Pure.
//!
//! What is promised is an average over some ten seconds. So a cost beyond the limit is borne as long as it may turn out to be
//! a peak of the last three seconds, and no longer: what costs thirty times too much is known to in a tenth of one.

use std::{collections::VecDeque, fmt};

use crate::report::{units, words};

/// The time over which costs are summed up.
const WINDOW_S: f64 = 3.0;

/// The same for a look, which is short.
const LEAST_LOOK_S: f64 = 0.002;

/// CPU time without which nothing is said: the kernel's clock ticks and our own reading are not finer than a millisecond.
const LEAST_CPU_S: f64 = 0.01;

/// Whoever was let go because of its cost has to be this far below the limit before it is taken back …
const CALM_SHARE: f64 = 0.6;

/// … at so many looks in a row …
const CALM_LOOKS: u32 = 3;

/// … which are so far apart.
const CALM_PAUSE_S: f64 = 1.0;

/// The first look comes after this time, or after more if the cost was many times too high; and each that was in vain doubles
/// it. With the placing and taking out of probes a look slows the process down for a tenth of a second.
const FIRST_PAUSE_S: f64 = 5.0;
const LONGEST_PAUSE_S: f64 = 160.0;

/// How many times too high a cost is many times: what costs twice that is looked at after twice the time, up to eight times.
const TIMES_TOO_DEAR: f64 = 20.0;
const MOST_TIMES: f64 = 8.0;

/// What was used in a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spent {
    pub(super) wall_s: f64,
    /// By the process, tracing included.
    pub(super) cpu_s: f64,
    /// By tracing.
    pub(super) tracing_s: f64,
    /// Allocations and frees.
    pub(super) calls: f64,
}

/// What remains for the process, however wrong the estimate: a program that does nothing but allocate does a tenth of
/// the work.
const LEAST_WORK: f64 = 0.05;

impl Spent {
    /// What the process would have needed alone.
    pub(super) fn work_s(self) -> f64 {
        (self.cpu_s - self.tracing_s).max(LEAST_WORK * self.cpu_s)
    }

    /// How much slower tracing makes it; `None` of one that does nothing.
    pub(super) fn share(self) -> Option<f64> {
        (self.cpu_s >= LEAST_CPU_S).then(|| self.tracing_s.min(self.cpu_s) / self.work_s())
    }

    /// Whether it is enough for a look.
    pub(super) fn says_enough(self) -> bool {
        self.cpu_s >= LEAST_LOOK_S
    }

    fn share_of_look(self) -> Option<f64> {
        self.says_enough().then(|| self.tracing_s.min(self.cpu_s) / self.work_s())
    }

    fn calls_per_s(self) -> f64 {
        self.calls / self.work_s().max(f64::EPSILON)
    }
}

impl std::ops::AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.wall_s += other.wall_s;
        self.cpu_s += other.cpu_s;
        self.tracing_s += other.tracing_s;
        self.calls += other.calls;
    }
}

/// What to do from now on, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// Follow the allocator no more.
    Down { share: f64, calls_per_s: f64, limit: f64 },
    /// Follow it again.
    Up { share: f64, limit: f64 },
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Down { share, calls_per_s, limit } => {
                let (share, limit) = (words::share(share), words::share(limit));
                let rate = units::count(calls_per_s as i64);
                write!(
                    out,
                    "to follow each call of the allocator adds {share} to its CPU time, more than {limit} \
                     (it allocates and frees {rate} times in a second of it)"
                )
            }
            Self::Up { share, limit } => {
                let (share, limit) = (words::share(share), words::share(limit));
                write!(
                    out,
                    "to follow each call of the allocator would add {share} to its CPU time, of {limit} allowed"
                )
            }
        }
    }
}

/// Decides for one process, or for all that share their probes.
#[derive(Clone, Debug)]
pub(super) struct Governor {
    limit: f64,
    state: State,
    /// How long to wait before the first look, when it is let go next.
    pause_s: f64,
}

#[derive(Clone, Debug)]
enum State {
    /// What was spent lately.
    Followed(VecDeque<Spent>),
    LetGo {
        next_look_s: f64,
        calm_looks: u32,
    },
}

impl Governor {
    pub(super) fn new(limit: f64) -> Self {
        Self { limit, state: State::Followed(VecDeque::new()), pause_s: FIRST_PAUSE_S }
    }

    pub(super) fn is_followed(&self) -> bool {
        matches!(self.state, State::Followed(_))
    }

    /// What was spent since the last call, while all was followed.
    pub(super) fn spent(&mut self, now_s: f64, spent: Spent) -> Option<Step> {
        let State::Followed(lately) = &mut self.state else { return None };
        lately.push_back(spent);
        let mut sum = Spent::default();
        lately.iter().for_each(|it| sum += *it);
        while let Some(oldest) = lately.front()
            && sum.wall_s - oldest.wall_s >= WINDOW_S
        {
            sum.wall_s -= oldest.wall_s;
            sum.cpu_s -= oldest.cpu_s;
            sum.tracing_s -= oldest.tracing_s;
            sum.calls -= oldest.calls;
            lately.pop_front();
        }
        let share = sum.share()?;
        // Had it the rest of the window, it might do as much work and cost nothing more.
        let whole = (WINDOW_S / sum.wall_s.max(f64::EPSILON)).max(1.0);
        if share <= self.limit * whole {
            return None;
        }
        let times = (share / self.limit / TIMES_TOO_DEAR).clamp(1.0, MOST_TIMES);
        self.pause_s = (self.pause_s * times).min(LONGEST_PAUSE_S);
        self.state = State::LetGo { next_look_s: now_s + self.pause_s, calm_looks: 0 };
        self.lengthen();
        Some(Step::Down { share, calls_per_s: sum.calls_per_s(), limit: self.limit })
    }

    /// Whether it is time to look what following would cost.
    pub(super) fn wants_look(&self, now_s: f64) -> bool {
        matches!(self.state, State::LetGo { next_look_s, .. } if now_s >= next_look_s)
    }

    /// What was spent during such a look. One that does nothing meanwhile costs nothing.
    pub(super) fn looked(&mut self, now_s: f64, spent: Spent) -> Option<Step> {
        let State::LetGo { next_look_s, calm_looks } = &mut self.state else { return None };
        let share = spent.share_of_look().unwrap_or(0.0);
        if share > CALM_SHARE * self.limit {
            (*next_look_s, *calm_looks) = (now_s + self.pause_s, 0);
            self.lengthen();
            return None;
        }
        *calm_looks += 1;
        if *calm_looks < CALM_LOOKS {
            *next_look_s = now_s + CALM_PAUSE_S;
            return None;
        }
        self.state = State::Followed(VecDeque::new());
        Some(Step::Up { share, limit: self.limit })
    }

    fn lengthen(&mut self) {
        self.pause_s = (2.0 * self.pause_s).min(LONGEST_PAUSE_S);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_S: f64 = 0.1;

    /// A process that uses one CPU, and that tracing makes `slower(t)` times slower.
    struct Process {
        governor: Governor,
        now_s: f64,
        /// Time that tracing has taken in each tick.
        tracing_s: Vec<f64>,
        steps: Vec<(f64, bool)>,
    }

    impl Process {
        fn new(limit: f64) -> Self {
            Self { governor: Governor::new(limit), now_s: 0.0, tracing_s: Vec::new(), steps: Vec::new() }
        }

        fn run(mut self, until_s: f64, slower: impl Fn(f64) -> f64) -> Self {
            while self.now_s < until_s {
                self.now_s += TICK_S;
                let share = slower(self.now_s);
                let tracing_s = TICK_S * share / (1.0 + share);
                let spent = Spent { wall_s: TICK_S, cpu_s: TICK_S, tracing_s, calls: 1000.0 };
                let was_followed = self.governor.is_followed();
                let step = if was_followed {
                    self.governor.spent(self.now_s, spent)
                } else if self.governor.wants_look(self.now_s) {
                    // It takes a fifth of a tick.
                    self.governor.looked(self.now_s, spent)
                } else {
                    None
                };
                if let Some(step) = step {
                    self.steps.push((self.now_s, matches!(step, Step::Up { .. })));
                }
                self.tracing_s.push(if was_followed { tracing_s } else { 0.0 });
            }
            self
        }

        /// The highest average over ten seconds.
        fn worst(&self) -> f64 {
            let share = |it: &[f64]| {
                let tracing_s: f64 = it.iter().sum();
                tracing_s / (it.len() as f64 * TICK_S - tracing_s)
            };
            self.tracing_s.windows(100).map(share).fold(0.0, f64::max)
        }

        fn times(&self, up: bool) -> Vec<f64> {
            let times = self.steps.iter().filter(|it| it.1 == up).map(|it| (it.0 * 10.0).round() / 10.0);
            times.collect()
        }
    }

    #[test]
    fn what_costs_less_than_it_may_is_left_alone() {
        let process = Process::new(0.05).run(600.0, |_| 0.049);
        assert_eq!(process.steps, []);
    }

    #[test]
    fn what_is_far_too_dear_is_let_go_at_once() {
        let process = Process::new(0.05).run(4.0, |_| 2.0);
        assert_eq!(process.times(false), [0.1]);
    }

    #[test]
    fn what_is_a_little_too_dear_gets_the_whole_window() {
        assert_eq!(Process::new(0.05).run(4.9, |_| 0.06).times(false), [2.6]);
        assert_eq!(Process::new(0.05).run(4.9, |_| 0.2).times(false), [0.8]);
    }

    #[test]
    fn a_peak_is_borne() {
        let beginning = |t: f64| if t < 0.4 { 0.25 } else { 0.02 };
        assert_eq!(Process::new(0.05).run(60.0, beginning).steps, []);
        let often = |t: f64| if t % 5.0 < 0.3 { 0.4 } else { 0.01 };
        let process = Process::new(0.05).run(60.0, often);
        assert_eq!(process.steps, []);
        assert!(process.worst() < 0.05);
    }

    #[test]
    fn the_average_of_ten_seconds_is_kept() {
        let growing = |t: f64| t / 100.0;
        let rising = |t: f64| if t < 20.0 { 0.045 } else { 3.0 };
        let alternating = |t: f64| if t % 40.0 < 20.0 { 1.0 } else { 0.01 };
        for slower in [&growing as &dyn Fn(f64) -> f64, &rising, &alternating, &|_| 0.3, &|_| 3.0] {
            let process = Process::new(0.05).run(600.0, slower);
            assert!(!process.steps.is_empty());
            // A peak may come when the rest of the ten seconds was just below the limit.
            assert!(process.worst() < 0.055, "{}", process.worst());
        }
    }

    #[test]
    fn who_becomes_calm_is_followed_again_after_three_looks() {
        let process = Process::new(0.05).run(60.0, |t| if t < 3.0 { 1.0 } else { 0.02 });
        assert_eq!(process.times(false), [0.2]);
        let [up_s] = process.times(true)[..] else { panic!("{:?}", process.steps) };
        assert!((7.0..8.0).contains(&up_s), "{up_s}");
    }

    #[test]
    fn what_is_just_below_the_limit_is_not_taken_back() {
        let process = Process::new(0.05).run(600.0, |t| if t < 3.0 { 1.0 } else { 0.04 });
        assert_eq!(process.steps.len(), 1);
    }

    #[test]
    fn looks_in_vain_and_returns_become_rare() {
        let mut governor = Governor::new(0.05);
        let dear = Spent { wall_s: 3.0, cpu_s: 0.1, tracing_s: 0.03, calls: 1e5 };
        assert!(governor.spent(0.0, dear).is_some());
        let mut looks = Vec::new();
        for second in 0..700 {
            if governor.wants_look(f64::from(second)) {
                looks.push(second);
                assert_eq!(governor.looked(f64::from(second), dear), None);
            }
        }
        assert_eq!(looks, [5, 15, 35, 75, 155, 315, 475, 635]);

        let alternating = |t: f64| if t % 10.0 < 2.0 { 2.0 } else { 0.0 };
        let process = Process::new(0.05).run(600.0, alternating);
        assert!(process.steps.len() < 20, "{:?}", process.steps);
    }

    #[test]
    fn what_was_far_too_dear_is_looked_at_later() {
        let mut governor = Governor::new(0.05);
        let dear = Spent { wall_s: 0.1, cpu_s: 0.1, tracing_s: 0.09, calls: 1e5 };
        assert!(governor.spent(0.0, dear).is_some());
        assert!(!governor.wants_look(39.9) && governor.wants_look(40.0));
    }

    #[test]
    fn of_one_that_does_nothing_nothing_is_said() {
        let mut governor = Governor::new(0.05);
        let idle = Spent { wall_s: 1.0, cpu_s: 0.0001, tracing_s: 0.00009, calls: 50.0 };
        assert!((0..100).all(|it| governor.spent(f64::from(it), idle).is_none()));
        assert_eq!(idle.share(), None);
    }

    #[test]
    fn an_estimate_beyond_all_time_there_was_is_bounded() {
        let spent = Spent { wall_s: 1.0, cpu_s: 1.0, tracing_s: 1.5, calls: 1e6 };
        assert_eq!(spent.share(), Some(20.0));
    }

    #[test]
    fn it_says_why() {
        let step = Step::Down { share: 2.123, calls_per_s: 1_480_000.0, limit: 0.05 };
        let expected = "to follow each call of the allocator adds 212 % to its CPU time, more than 5.0 % \
                        (it allocates and frees 1,480,000 times in a second of it)";
        assert_eq!(step.to_string(), expected);
        let step = Step::Up { share: 0.0123, limit: 0.05 };
        let expected =
            "to follow each call of the allocator would add 1.2 % to its CPU time, of 5.0 % allowed";
        assert_eq!(step.to_string(), expected);
    }
}
