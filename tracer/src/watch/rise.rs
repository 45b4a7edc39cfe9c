//! One budget and one process: when a warning is due, when an error, and when it is over. No flapping: what has been told is
//! over only if it has been clearly better for some time.

use super::Severity;

/// Where somebody stands, as shares of what is allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Level {
    pub(super) share: f64,
    /// What surely is there: only that raises an alert.
    pub(super) sure_share: f64,
}

/// When what is due.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rules {
    /// A warning is due at this share of what is allowed; an error at all of it.
    pub(super) warn_at: f64,
    /// It must have been so for so long.
    pub(super) hold_s: f64,
    pub(super) resolve_after_s: f64,
    pub(super) repeat_s: Option<f64>,
}

/// It is better only below this share of what had made it worse.
const BETTER_SHARE: f64 = 0.9;

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Raised,
    /// For the so-manieth time again.
    Repeated(u32),
    Resolved,
}

/// How far it has come.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Rise {
    severity: Option<Severity>,
    /// Since when it has been as bad as that without a break, by severity.
    bad_since_s: [Option<f64>; 2],
    /// Since when it has been better than its severity asks for.
    better_since_s: Option<f64>,
    raised_s: f64,
    told_s: f64,
    repeats: u32,
    last_severity: Option<Severity>,
}

impl Rise {
    /// The severity of the alert that lasts.
    pub(super) fn severity(&self) -> Option<Severity> {
        self.severity
    }

    /// Of the alert that lasts or has just been resolved.
    pub(super) fn last_severity(&self) -> Severity {
        self.last_severity.unwrap_or(Severity::Warning)
    }

    /// When it was first told.
    pub(super) fn since_s(&self) -> f64 {
        self.raised_s
    }

    /// There is nothing to remember.
    pub(super) fn is_fine(&self) -> bool {
        self.severity.is_none() && self.bad_since_s == [None; 2]
    }

    pub(super) fn step(&mut self, now_s: f64, level: Level, rules: &Rules) -> Option<Turn> {
        let bound = |it: Severity| if it == Severity::Error { 1.0 } else { rules.warn_at };
        let mut due = None;
        for (severity, since_s) in Severity::ALL.into_iter().zip(&mut self.bad_since_s) {
            if level.sure_share < bound(severity) {
                *since_s = None;
            } else if now_s - *since_s.get_or_insert(now_s) >= rules.hold_s {
                due = Some(severity);
            }
        }
        if due > self.severity {
            if self.severity.is_none() {
                self.raised_s = now_s;
            }
            (self.severity, self.last_severity) = (due, due);
            (self.told_s, self.repeats, self.better_since_s) = (now_s, 0, None);
            return Some(Turn::Raised);
        }
        let severity = self.severity?;
        let is_better = |it: Severity| level.share < BETTER_SHARE * bound(it);
        if !is_better(severity) {
            self.better_since_s = None;
        } else if now_s - *self.better_since_s.get_or_insert(now_s) >= rules.resolve_after_s {
            self.better_since_s = None;
            if is_better(Severity::Warning) {
                self.severity = None;
                return Some(Turn::Resolved);
            }
            // No error any more, but a warning still; nobody need be told.
            self.severity = Some(Severity::Warning);
        }
        if rules.repeat_s.is_some_and(|it| now_s - self.told_s >= it) {
            (self.told_s, self.repeats) = (now_s, self.repeats + 1);
            return Some(Turn::Repeated(self.repeats));
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules = Rules { warn_at: 0.8, hold_s: 0.0, resolve_after_s: 3.0, repeat_s: None };

    /// One share a second; what is told: `w`, `e`, `r`, or a number for a repetition.
    fn check(rules: Rules, percent: &[u32], expected: &str) {
        let mut rise = Rise::default();
        let mut told = String::new();
        for (now_s, percent) in percent.iter().enumerate() {
            let share = f64::from(*percent) / 100.0;
            told += &match rise.step(now_s as f64, Level { share, sure_share: share }, &rules) {
                None => ".".to_owned(),
                Some(Turn::Raised) => rise.severity().unwrap().name()[..1].to_owned(),
                Some(Turn::Repeated(times)) => times.to_string(),
                Some(Turn::Resolved) => "r".to_owned(),
            };
        }
        assert_eq!(told, expected, "{percent:?}");
    }

    #[test]
    fn each_is_told_once() {
        check(RULES, &[10, 79, 80, 90, 99, 100, 120, 500, 120], "..w..e...");
        check(RULES, &[10, 100, 100], ".e.");
        check(RULES, &[79, 79, 79], "...");
    }

    #[test]
    fn it_is_over_when_it_has_been_better_for_a_while() {
        check(RULES, &[85, 71, 71, 71, 71, 71], "w...r.");
        check(RULES, &[85, 71, 71, 73, 71, 71, 71, 71], "w......r");
        check(RULES, &[85, 50, 50, 50, 50, 85], "w...rw");
        check(Rules { resolve_after_s: 0.0, ..RULES }, &[85, 71], "wr");
    }

    #[test]
    fn what_wavers_is_told_once() {
        check(RULES, &[79, 81, 79, 81, 79, 81, 75, 79, 75, 73], ".w........");
        check(RULES, &[99, 101, 99, 101, 91, 101, 95], "we.....");
    }

    #[test]
    fn an_error_that_becomes_a_warning_is_an_error_again_when_it_is_worse() {
        check(RULES, &[100, 85, 85, 85, 85, 85, 100], "e.....e");
        check(RULES, &[100, 85, 85, 85, 85, 50, 50, 50, 50], "e.......r");
    }

    #[test]
    fn it_must_last_for_as_long_as_asked_for() {
        let rules = Rules { hold_s: 2.0, ..RULES };
        check(rules, &[85, 50, 85, 85, 50, 85, 85, 85, 110, 110, 110], ".......w..e");
        // The time of a warning counts for an error only if it was one.
        check(rules, &[110, 85, 85, 110, 110, 110], "..w..e");
    }

    #[test]
    fn it_is_told_again_only_if_asked_for() {
        let rules = Rules { repeat_s: Some(2.0), ..RULES };
        check(rules, &[85, 85, 85, 85, 85, 100, 100, 100, 10, 10, 10, 10], "w.1.2e.1.2.r");
    }

    #[test]
    fn what_is_not_sure_raises_nothing_and_ends_nothing() {
        let mut rise = Rise::default();
        let unsure = Level { share: 2.0, sure_share: 0.0 };
        assert_eq!(rise.step(0.0, unsure, &RULES), None);
        assert!(rise.is_fine());
        assert_eq!(rise.step(1.0, Level { share: 2.0, sure_share: 2.0 }, &RULES), Some(Turn::Raised));
        assert!((2..99).all(|now| rise.step(f64::from(now), unsure, &RULES).is_none()));
        assert_eq!(rise.severity(), Some(Severity::Error));
    }
}
