//! When to look less closely, and when closely again: what tracing costs goes in, steps come out. Pure.
//!
//! What is promised is an average over some ten seconds. So a cost beyond the limit is borne as long as it may turn out to be
//! a peak of the last three seconds, and no longer: what costs thirty times too much is known to in a tenth of one.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, fmt};

use super::spent::{Level, Spent};
use crate::{
    estimate::Rate,
    report::{units, words},
};

/// The time over which costs are summed up.
const WINDOW_S: f64 = 3.0;

/// A process that runs already is taken at its first moments, if it costs many times too much in them: to wait for the
/// rest of the window would cost it more than it may be slowed down in ten seconds.
const FIRST_CPU_S: f64 = 0.02;
const MANY_TIMES: f64 = 10.0;

/// Allocations are sampled if that is so far below the limit; else it would not be kept for long.
const SAMPLED_SHARE: f64 = 0.9;

/// Whoever was let go because of its cost has to be this far below the limit before it is taken back …
const CALM_SHARE: f64 = 0.6;

/// … at so many looks in a row …
const CALM_LOOKS: u32 = 3;

/// … which are so far apart …
const CALM_PAUSE_S: f64 = 1.0;

/// … or, while it is sampled, for so long; and each time that it did not last doubles it.
const FIRST_CALM_S: f64 = 5.0;

/// The first look comes after this time, and each that was in vain doubles it.
const FIRST_PAUSE_S: f64 = 5.0;
const LONGEST_PAUSE_S: f64 = 160.0;

/// What looks may take of what tracing may take altogether. Placing the probes and taking them out takes longer than the look
/// itself, and the process meets them meanwhile.
const LOOKS_SHARE: f64 = 0.2;

/// What to do from now on, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) from: Level,
    pub(super) to: Level,
    /// What tracing adds as it is done, if that was too much; otherwise what it would add.
    share: f64,
    calls_per_s: f64,
    limit: f64,
    rate: Rate,
}

impl Step {
    fn is_down(self) -> bool {
        self.to == Level::Growth || self.from == Level::Exact
    }
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { share, limit, .. } = *self;
        let (share, limit) = (words::share(share), words::share(limit));
        let what = match if self.is_down() { self.from } else { self.to } {
            Level::Sampled => {
                format!(
                    "to follow all frees and a sample of allocations, one in {},",
                    units::bytes(self.rate.bytes())
                )
            }
            _ => "to follow each call of the allocator".to_owned(),
        };
        if !self.is_down() {
            return write!(out, "{what} would add {share} to its CPU time, of {limit} allowed");
        }
        let rate = units::count(self.calls_per_s as i64);
        write!(
            out,
            "{what} adds {share} to its CPU time, more than {limit} \
             (it allocates and frees {rate} times in a second of it)"
        )
    }
}

/// The level within a limit for a process that tracing makes so much slower.
pub(super) fn level_within(limit: f64, exact: f64, sampled: f64) -> Level {
    if exact <= limit {
        Level::Exact
    } else if sampled <= SAMPLED_SHARE * limit {
        Level::Sampled
    } else {
        Level::Growth
    }
}

/// Decides for one process, or for all that share their probes.
#[derive(Clone, Debug)]
pub(super) struct Governor {
    limit: f64,
    /// The closest look that is wanted.
    finest: Level,
    rate: Rate,
    state: State,
    /// How long to wait before the first look, when it is let go next.
    pause_s: f64,
    /// How long it has to be calm before sampling ends.
    calm_s: f64,
}

#[derive(Clone, Debug)]
enum State {
    Followed(Followed),
    LetGo(LetGo),
}

#[derive(Clone, Debug)]
struct Followed {
    level: Level,
    /// What was spent lately.
    lately: VecDeque<Spent>,
    /// It runs already, and it is not known yet what it costs.
    is_new: bool,
    /// Since when a closer look would be cheap.
    calm_since_s: Option<f64>,
}

#[derive(Clone, Debug)]
struct LetGo {
    next_look_s: f64,
    calm_looks: u32,
    /// Of them, those at which the closest look would have been cheap, in a row.
    calmest_looks: u32,
    /// What tracing has taken beyond what it may, and what looks have: they wait until it has been made good.
    debt_s: f64,
}

impl Governor {
    /// `is_new`: the process runs already, and is met now.
    pub(super) fn new(limit: f64, finest: Level, rate: Rate, is_new: bool) -> Self {
        let state = State::Followed(Followed { is_new, ..Followed::at(finest) });
        Self { limit, finest, rate, state, pause_s: FIRST_PAUSE_S, calm_s: FIRST_CALM_S }
    }

    pub(super) fn level(&self) -> Level {
        match &self.state {
            State::Followed(it) => it.level,
            State::LetGo(_) => Level::Growth,
        }
    }

    /// What was spent since the last call: while it was followed, or by probes that have been placed for a look.
    pub(super) fn spent(&mut self, now_s: f64, spent: Spent) -> Option<Step> {
        let (limit, finest) = (self.limit, self.finest);
        let followed = match &mut self.state {
            State::Followed(followed) => followed,
            State::LetGo(it) => {
                let (looks_s, work_s) = (spent.tracing_s(finest), spent.work_s(finest).max(spent.wall_s));
                it.debt_s = (it.debt_s + looks_s - LOOKS_SHARE * limit * work_s).max(0.0);
                return None;
            }
        };
        let sum = followed.add(spent);
        let level = followed.level;
        let Some(share) = sum.share(level) else { return self.judge_calm(now_s, sum) };
        // Had it the rest of the window, it might do as much work and cost nothing more.
        let whole = (WINDOW_S / sum.wall_s.max(f64::EPSILON)).max(1.0);
        followed.is_new &= whole > 1.0;
        let is_far_too_dear = followed.is_new && sum.cpu_s >= FIRST_CPU_S && share > MANY_TIMES * limit;
        if share <= limit * whole && !is_far_too_dear {
            return self.judge_calm(now_s, sum);
        }
        let sampled = sum.share_if(level, Level::Sampled).filter(|_| level == Level::Exact);
        let calls_per_s = sum.calls_per_s(level);
        let to = if sampled.is_some_and(|it| it <= SAMPLED_SHARE * limit) {
            self.state = State::Followed(Followed::at(Level::Sampled));
            Level::Sampled
        } else {
            let debt_s = (sum.tracing_s(level) - limit * sum.work_s(level)).max(0.0);
            let next_look_s = now_s + self.pause_s;
            self.state = State::LetGo(LetGo { next_look_s, calm_looks: 0, calmest_looks: 0, debt_s });
            self.lengthen();
            Level::Growth
        };
        if finest == Level::Exact && (to, level) != (Level::Growth, Level::Exact) {
            self.calm_s = (2.0 * self.calm_s).min(LONGEST_PAUSE_S);
        }
        Some(Step { from: level, to, share, calls_per_s, limit, rate: self.rate })
    }

    /// Whether sampling can end.
    fn judge_calm(&mut self, now_s: f64, sum: Spent) -> Option<Step> {
        let State::Followed(followed) = &mut self.state else { return None };
        let level = followed.level;
        if level == self.finest {
            return None;
        }
        let share = sum.share_if(level, self.finest).unwrap_or(0.0);
        if share > CALM_SHARE * self.limit {
            followed.calm_since_s = None;
            return None;
        }
        let since_s = *followed.calm_since_s.get_or_insert(now_s);
        if now_s - since_s < self.calm_s {
            return None;
        }
        self.state = State::Followed(Followed::at(self.finest));
        Some(self.up(level, self.finest, share))
    }

    /// Whether it is time to look what following would cost.
    pub(super) fn wants_look(&self, now_s: f64) -> bool {
        matches!(&self.state, State::LetGo(it) if now_s >= it.next_look_s && it.debt_s <= 0.0)
    }

    /// What was spent during such a look, at the closest level. One that does nothing meanwhile costs nothing.
    pub(super) fn looked(&mut self, now_s: f64, spent: Spent) -> Option<Step> {
        let State::LetGo(it) = &mut self.state else { return None };
        let share = |level| spent.share_of_look(self.finest, level);
        let is_calm = |level| share(level) <= CALM_SHARE * self.limit;
        let (calmest, calm) = (is_calm(self.finest), is_calm(Level::Sampled) || is_calm(self.finest));
        it.calmest_looks = if calmest { it.calmest_looks + 1 } else { 0 };
        if !calm {
            (it.next_look_s, it.calm_looks) = (now_s + self.pause_s, 0);
            self.lengthen();
            return None;
        }
        it.calm_looks += 1;
        if it.calm_looks < CALM_LOOKS {
            it.next_look_s = now_s + CALM_PAUSE_S;
            return None;
        }
        let level = if it.calmest_looks >= CALM_LOOKS { self.finest } else { Level::Sampled };
        let share = share(level);
        self.state = State::Followed(Followed::at(level));
        Some(self.up(Level::Growth, level, share))
    }

    fn up(&self, from: Level, to: Level, share: f64) -> Step {
        Step { from, to, share, calls_per_s: 0.0, limit: self.limit, rate: self.rate }
    }

    fn lengthen(&mut self) {
        self.pause_s = (2.0 * self.pause_s).min(LONGEST_PAUSE_S);
    }
}

impl Followed {
    fn at(level: Level) -> Self {
        Self { level, lately: VecDeque::new(), is_new: false, calm_since_s: None }
    }

    /// What was spent in the window that ends now.
    fn add(&mut self, spent: Spent) -> Spent {
        self.lately.push_back(spent);
        let sum_of = |lately: &VecDeque<Spent>| {
            let mut sum = Spent::default();
            lately.iter().for_each(|it| sum += *it);
            sum
        };
        let mut wall_s = sum_of(&self.lately).wall_s;
        while let Some(oldest) = self.lately.front()
            && wall_s - oldest.wall_s >= WINDOW_S
        {
            wall_s -= oldest.wall_s;
            self.lately.pop_front();
        }
        sum_of(&self.lately)
    }
}
