//! Whether a process grows so that a closer look pays: from what it had resident at the last intervals. Pure.

use std::{collections::VecDeque, fmt};

use crate::{profile::growth_bytes_per_s, report::units};

/// Intervals that are looked at, and without which nothing is said.
const MOST_SAMPLES: usize = 30;
const LEAST_SAMPLES: usize = 8;

/// Growth that counts: an allocator takes memory in steps of up to a megabyte.
const LEAST_BYTES: f64 = 1048576.0;

/// … and as a share of what is resident: what a large process does all the time is more.
const LEAST_SHARE: f64 = 0.02;

/// How much of the growth must lie in the last half: what has stopped growing needs no closer look.
const LATE_SHARE: f64 = 0.25;

/// For how many intervals in a row it must look so. One calm interval begins the count again.
const STRIKES: u32 = 3;

/// What a process had resident lately.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// Seconds and bytes.
    samples: VecDeque<(f64, i64)>,
    strikes: u32,
}

/// Growth that is worth a closer look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suspicion {
    bytes: f64,
    span_s: f64,
    share: f64,
}

impl fmt::Display for Suspicion {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, span) = (units::bytes(self.bytes as i64), units::seconds(self.span_s));
        write!(
            out,
            "its resident memory grew by {bytes} in {span}, {:.0} % of it, and goes on",
            // A slope is no more exact than what it is of.
            self.share.min(1.0) * 100.0
        )
    }
}

impl Watch {
    /// Adds a sample; says what is suspicious if it has been so for some time.
    pub fn add(&mut self, t_s: f64, rss_bytes: i64) -> Option<Suspicion> {
        if self.samples.len() == MOST_SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((t_s, rss_bytes));
        let suspicion = suspicion(self.samples.make_contiguous());
        self.strikes = if suspicion.is_some() { self.strikes + 1 } else { 0 };
        suspicion.filter(|_| self.strikes >= STRIKES)
    }
}

/// By the slope of most pairs of samples, so that a single step or a peak says nothing.
fn suspicion(samples: &[(f64, i64)]) -> Option<Suspicion> {
    if samples.len() < LEAST_SAMPLES {
        return None;
    }
    let grown = |samples: &[(f64, i64)]| {
        let (times_s, bytes): (Vec<f64>, Vec<i64>) = samples.iter().copied().unzip();
        let span_s = times_s.last()? - times_s.first()?;
        Some((growth_bytes_per_s(&times_s, &bytes)? * span_s, span_s))
    };
    let (bytes, span_s) = grown(samples)?;
    let (_, now_bytes) = *samples.last()?;
    let (_, middle_bytes) = samples[samples.len() / 2];
    let share = bytes / now_bytes.max(1) as f64;
    let is_large = bytes >= LEAST_BYTES && share >= LEAST_SHARE;
    let goes_on = (now_bytes - middle_bytes) as f64 >= LATE_SHARE * bytes;
    (is_large && goes_on).then_some(Suspicion { bytes, span_s, share })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: f64 = 1048576.0;

    /// After how many seconds of `rss_mib` a second it is suspicious first.
    fn first(rss_mib: impl Fn(f64) -> f64) -> Option<usize> {
        let mut watch = Watch::default();
        (1..=60).find(|second| {
            let t_s = *second as f64;
            watch.add(t_s, (rss_mib(t_s) * MIB) as i64).is_some()
        })
    }

    fn check(rss_mib: impl Fn(f64) -> f64, expected: Option<usize>) {
        assert_eq!(first(rss_mib), expected);
    }

    #[test]
    fn a_leak_is_suspicious_after_some_intervals() {
        check(|t| 10.0 + t, Some(10));
        check(|t| 10.0 + 0.25 * t, Some(10));
        // It takes longer to grow by a megabyte, or by a share of much.
        check(|t| 10.0 + 0.05 * t, Some(23));
        check(|t| 1000.0 + t, Some(24));
    }

    #[test]
    fn a_leak_with_noise_or_in_steps_is_one() {
        check(|t| 10.0 + t + 2.0 * (t * 2.6).sin(), Some(12));
        assert!((8..20).contains(&first(|t| 10.0 + 8.0 * (t / 4.0).floor()).unwrap_or(0)));
    }

    #[test]
    fn what_is_quiet_or_stops_is_none() {
        check(|_| 100.0, None);
        check(|t| 100.0 + 5.0 * (t * 1.7).sin(), None);
        check(|t| 10.0 + 20.0 * t.min(4.0), None);
        check(|t| 50.0 - t.min(30.0), None);
        check(|t| if t < 30.0 { 10.0 } else { 90.0 }, None);
        // A sawtooth of a collector.
        check(|t| 50.0 + 10.0 * (t % 7.0), None);
    }

    #[test]
    fn little_is_none() {
        check(|t| 10.0 + 0.01 * t, None);
        check(|t| 4000.0 + t, None);
    }

    #[test]
    fn it_says_how_much() {
        let samples: Vec<_> = (0..11).map(|it| (f64::from(it), (10 + i64::from(it)) << 20)).collect();
        let said = suspicion(&samples).map(|it| it.to_string());
        let expected = "its resident memory grew by 10.0 MiB in 10.0 s, 50 % of it, and goes on";
        assert_eq!(said.as_deref(), Some(expected));
    }
}
