//! A process that is simulated: what it would cost to follow it goes in, and the steps are looked at.

use super::{super::spent::Costs, *};

const TICK_S: f64 = 0.1;
const RATE: Rate = Rate::EXACT;

/// What sampling takes of what each call takes.
const SAMPLED: f64 = 0.7;

/// A process that uses one CPU, and that tracing makes so many times slower.
struct Process {
    governor: Governor,
    now_s: f64,
    /// Time that tracing has taken in each tick.
    tracing_s: Vec<f64>,
    steps: Vec<(f64, Level)>,
}

fn governor() -> Governor {
    Governor::new(0.05, Level::Exact, RATE, false)
}

fn spent(cpu_s: f64, share: f64, level: Level) -> Spent {
    let at = match level {
        Level::Sampled => share * SAMPLED,
        _ => share,
    };
    let work_s = cpu_s / (1.0 + at);
    let costs = Costs { exact_s: work_s * share, sampled_s: work_s * share * SAMPLED };
    Spent { wall_s: TICK_S, cpu_s, calls: 1000.0, by_weights: costs, by_frees: costs }
}

impl Process {
    fn new() -> Self {
        Self::of(governor())
    }

    fn of(governor: Governor) -> Self {
        Self { governor, now_s: 0.0, tracing_s: Vec::new(), steps: Vec::new() }
    }

    /// `slower`: by following each call.
    fn run(mut self, until_s: f64, slower: impl Fn(f64) -> f64) -> Self {
        while self.now_s < until_s {
            self.now_s += TICK_S;
            let share = slower(self.now_s);
            let looks = self.governor.wants_look(self.now_s);
            let level = if looks { self.governor.finest } else { self.governor.level() };
            let spent = spent(TICK_S, if level == Level::Growth { 0.0 } else { share }, level);
            // With the placing of the probes a look takes a tick.
            let step = self.governor.spent(self.now_s, spent);
            let step = if looks { self.governor.looked(self.now_s, spent) } else { step };
            if let Some(step) = step {
                self.steps.push(((self.now_s * 10.0).round() / 10.0, step.to));
            }
            self.tracing_s.push(spent.tracing_s(level));
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

    fn levels(&self) -> Vec<Level> {
        self.steps.iter().map(|it| it.1).collect()
    }
}

#[test]
fn what_costs_less_than_it_may_is_left_alone() {
    assert_eq!(Process::new().run(600.0, |_| 0.049).steps, []);
}

#[test]
fn what_is_far_too_dear_is_let_go_at_once() {
    assert_eq!(Process::new().run(4.0, |_| 2.0).steps, [(0.1, Level::Growth)]);
}

#[test]
fn one_that_runs_already_is_taken_at_its_first_moments() {
    let new = |limit| Governor::new(limit, Level::Exact, RATE, true);
    assert_eq!(Process::of(new(0.05)).run(1.0, |_| 0.6).steps, [(0.1, Level::Growth)]);
    assert_eq!(Process::new().run(1.0, |_| 0.6).steps, [(0.3, Level::Growth)]);
    // A peak is borne by it too, once it is known.
    let peak = |t: f64| if (5.0..5.2).contains(&t) { 0.6 } else { 0.001 };
    assert_eq!(Process::of(new(0.05)).run(60.0, peak).steps, []);
}

#[test]
fn what_is_a_little_too_dear_gets_the_whole_window() {
    assert_eq!(Process::new().run(4.9, |_| 0.2).steps, [(0.8, Level::Growth)]);
    assert_eq!(Process::new().run(4.9, |_| 0.07).steps, [(2.2, Level::Growth)]);
}

#[test]
fn what_is_cheap_enough_if_sampled_is_sampled() {
    let process = Process::new().run(600.0, |_| 0.055);
    assert_eq!(process.steps, [(2.8, Level::Sampled)]);
    assert!(process.worst() < 0.055, "{}", process.worst());
}

#[test]
fn who_becomes_calm_while_sampled_is_followed_again_and_nothing_is_lost() {
    let process = Process::new().run(60.0, |t| if t < 6.0 { 0.055 } else { 0.02 });
    let [(_, Level::Sampled), (up_s, Level::Exact)] = process.steps[..] else {
        panic!("{:?}", process.steps)
    };
    // It has to be seen to be calm, for twice the time since it has been sampled once.
    assert!((17.0..19.5).contains(&up_s), "{up_s}");
}

#[test]
fn what_becomes_dearer_while_sampled_is_let_go() {
    let process = Process::new().run(20.0, |t| if t < 10.0 { 0.055 } else { 0.5 });
    assert_eq!(process.levels(), [Level::Sampled, Level::Growth]);
}

#[test]
fn a_look_may_lead_to_sampling() {
    let process = Process::new().run(600.0, |t| if t < 3.0 { 1.0 } else { 0.04 });
    assert_eq!(process.levels(), [Level::Growth, Level::Sampled]);
}

#[test]
fn what_is_just_below_the_limit_even_if_sampled_is_not_taken_back() {
    let process = Process::new().run(600.0, |t| if t < 3.0 { 1.0 } else { 0.048 });
    assert_eq!(process.levels(), [Level::Growth]);
}

#[test]
fn who_is_near_the_limit_does_not_flap() {
    for period_s in [2.0, 5.0, 8.0, 13.0, 30.0] {
        let near = |t: f64| if t % period_s < period_s / 2.0 { 0.056 } else { 0.044 };
        let process = Process::new().run(600.0, near);
        assert!(process.steps.len() <= 3, "{period_s}: {:?}", process.steps);
        assert!(process.worst() < 0.055, "{period_s}: {}", process.worst());
    }
}

#[test]
fn with_a_rate_given_it_is_never_closer() {
    let begun = || Governor::new(0.05, Level::Sampled, RATE, false);
    assert_eq!(Process::of(begun()).run(60.0, |_| 0.02).steps, []);
    let process = Process::of(begun()).run(60.0, |t| if t < 3.0 { 1.0 } else { 0.02 });
    assert_eq!(process.levels(), [Level::Growth, Level::Sampled]);
}

#[test]
fn a_peak_is_borne() {
    let beginning = |t: f64| if t < 0.4 { 0.25 } else { 0.02 };
    assert_eq!(Process::new().run(60.0, beginning).steps, []);
    let often = |t: f64| if t % 5.0 < 0.3 { 0.4 } else { 0.01 };
    let process = Process::new().run(60.0, often);
    assert_eq!(process.steps, []);
    assert!(process.worst() < 0.05);
}

#[test]
fn the_average_of_ten_seconds_is_kept() {
    let growing = |t: f64| t / 100.0;
    let rising = |t: f64| if t < 20.0 { 0.045 } else { 3.0 };
    let alternating = |t: f64| if t % 40.0 < 20.0 { 1.0 } else { 0.01 };
    for slower in [&growing as &dyn Fn(f64) -> f64, &rising, &alternating, &|_| 0.3, &|_| 3.0, &|_| 0.065] {
        let process = Process::new().run(600.0, slower);
        assert!(!process.steps.is_empty());
        // A peak may come when the rest of the ten seconds was just below the limit.
        assert!(process.worst() < 0.06, "{}", process.worst());
    }
}

#[test]
fn looks_take_a_part_of_the_limit() {
    for share in [0.1, 0.5, 3.0, 10.0] {
        let process = Process::new().run(600.0, |_| share);
        let later: f64 = process.tracing_s[50..350].iter().sum();
        assert!(later / 30.0 < 0.3 * 0.05, "{share}: {later}");
    }
}

#[test]
fn who_becomes_calm_is_followed_again_after_three_looks() {
    let process = Process::new().run(60.0, |t| if t < 3.0 { 1.0 } else { 0.02 });
    let [(0.2, Level::Growth), (up_s, Level::Exact)] = process.steps[..] else {
        panic!("{:?}", process.steps)
    };
    assert!((7.0..14.0).contains(&up_s), "{up_s}");
    let process = Process::new().run(200.0, |t| if t < 20.0 { 3.0 } else { 0.001 });
    let [_, (up_s, Level::Exact)] = process.steps[..] else { panic!("{:?}", process.steps) };
    assert!((20.0..60.0).contains(&up_s), "{up_s}");
}

#[test]
fn looks_in_vain_and_returns_become_rare() {
    let mut governor = governor();
    let dear = Spent { wall_s: 3.0, ..spent(0.1, 0.4, Level::Exact) };
    assert!(governor.spent(0.0, dear).is_some());
    let mut looks = Vec::new();
    for second in 0..700 {
        if governor.wants_look(f64::from(second)) {
            looks.push(second);
            assert_eq!(governor.looked(f64::from(second), dear), None);
        }
        governor.spent(f64::from(second), Spent { wall_s: 1.0, ..Spent::default() });
    }
    assert_eq!(looks, [5, 15, 35, 75, 155, 315, 475, 635]);

    let alternating = |t: f64| if t % 10.0 < 2.0 { 2.0 } else { 0.0 };
    let process = Process::new().run(600.0, alternating);
    assert!(process.steps.len() < 20, "{:?}", process.steps);
}

#[test]
fn of_one_that_does_nothing_nothing_is_said() {
    let mut governor = governor();
    let idle = Spent::exact(1.0, 0.0001, 0.00009, 50.0);
    assert!((0..100).all(|it| governor.spent(f64::from(it), idle).is_none()));
}

#[test]
fn it_says_why() {
    let check = |from, to, share, expected: &str| {
        let step = Step { from, to, share, calls_per_s: 1_480_000.0, limit: 0.05, rate: Rate::of_shift(16) };
        assert_eq!(step.to_string(), expected);
    };
    let growth = Level::Growth;
    check(
        Level::Exact,
        growth,
        2.123,
        "to follow each call of the allocator adds 212 % to its CPU time, more than 5.0 % (it allocates and frees \
         1,480,000 times in a second of it)",
    );
    check(
        Level::Exact,
        Level::Sampled,
        0.06,
        "to follow each call of the allocator adds 6.0 % to its CPU time, more than 5.0 % (it allocates and frees \
         1,480,000 times in a second of it)",
    );
    check(
        Level::Sampled,
        growth,
        0.06,
        "to follow all frees and a sample of allocations, one in 64.0 KiB, adds 6.0 % to its CPU time, more than 5.0 % \
         (it allocates and frees 1,480,000 times in a second of it)",
    );
    let up = "to follow each call of the allocator would add 1.2 % to its CPU time, of 5.0 % allowed";
    check(growth, Level::Exact, 0.0123, up);
    check(Level::Sampled, Level::Exact, 0.0123, up);
    check(
        growth,
        Level::Sampled,
        0.0123,
        "to follow all frees and a sample of allocations, one in 64.0 KiB, would add 1.2 % to its CPU time, of 5.0 % \
         allowed",
    );
}
