//! How far an estimate of live bytes may be off: error bars that hold for few samples too.
//!
//! Let the sampled live blocks of a site have S bytes each, be taken with probability p, and be counted as S/p. What was not
//! seen of the estimate is m = Σ S(1-p)/p, and the variance of the estimate is v = Σ S²(1-p)/p². Where all blocks are
//! alike and small, there are n = m²/v samples of weight v/m, and their number is Poisson's: its mean lies between
//! χ²(α/2; 2n)/2 and χ²(1-α/2; 2n+2)/2 (Garwood, "Fiducial limits for the Poisson distribution", 1936). With n from m
//! and v, and one sample more of the heaviest kind for the upper end, the same holds for sums of unequal weights (Fay and
//! Feuer, "Confidence intervals for directly standardized rates", 1997): nothing weighs more than a small block, which is
//! the mean distance R. The seen bytes are certain, and stand outside of it.
//!
//! A site is shown because it was sampled. Given that, the number is a Poisson one without its zero, and the lower end is that
//! of such a one; without this, of the sites that were sampled once by luck all would be said to be too large.

use super::{Profile, Resident, Site, site};
use crate::{capture::Point, cost::Cost};

/// Of twenty bars nineteen hold the truth; half of the rest lies on each side.
const TAIL: f64 = 0.025;
/// The normal deviate of that.
const DEVIATE: f64 = 1.959_964;

/// From so many samples on the zero that is left out weighs nothing, and the root formula is right to half a percent.
const FEW: f64 = 10.0;

/// What an estimate of live bytes rests on. Those of different blocks add up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Samples {
    /// 0: not sampled by bytes.
    rate_bytes: i64,
    unseen_bytes: f64,
    bytes_variance: f64,
    blocks_variance: f64,
    allocated_variance: f64,
}

/// The bytes between which the truth lies, nineteen times of twenty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    pub low_bytes: i64,
    pub high_bytes: i64,
}

impl Samples {
    /// Of what `share` of is looked at, as if the samples were spread evenly over it. `from` is where the window begins.
    pub(super) fn of(from: &Point, at: &Point, share: f64) -> Self {
        let variance = |error: i64| (error as f64 / 2.0).powi(2);
        let of = |it: &Point| variance(it.samples.allocated_error_bytes);
        Self {
            rate_bytes: at.samples.rate_bytes,
            unseen_bytes: at.samples.unseen_bytes as f64 * share,
            bytes_variance: variance(at.samples.live_error_bytes) * share,
            blocks_variance: variance(at.samples.live_error_blocks) * share,
            allocated_variance: (of(at) - of(from)).max(0.0),
        }
    }

    pub(super) fn is_by_bytes(&self) -> bool {
        self.rate_bytes > 0
    }

    pub(super) fn rate_bytes(&self) -> i64 {
        self.rate_bytes
    }

    /// Samples err independently of each other.
    pub(super) fn add(&mut self, other: &Self) {
        self.rate_bytes = self.rate_bytes.max(other.rate_bytes);
        self.unseen_bytes += other.unseen_bytes;
        self.bytes_variance += other.bytes_variance;
        self.blocks_variance += other.blocks_variance;
        self.allocated_variance += other.allocated_variance;
    }

    /// Of what is live a share is looked at.
    pub(super) fn scale(&mut self, share: f64) {
        for it in [&mut self.unseen_bytes, &mut self.bytes_variance, &mut self.blocks_variance] {
            *it *= share;
        }
    }

    /// Nothing is live any more.
    pub(super) fn free_all(&mut self) {
        *self = Self { rate_bytes: 0, allocated_variance: self.allocated_variance, ..Self::default() };
    }

    /// Two standard errors.
    pub(super) fn error_bytes(&self) -> i64 {
        twice_root(self.bytes_variance)
    }

    pub(super) fn error_blocks(&self) -> i64 {
        twice_root(self.blocks_variance)
    }

    pub(super) fn allocated_error_bytes(&self) -> i64 {
        twice_root(self.allocated_variance)
    }

    /// Where the truth lies, if `live_bytes` are estimated.
    pub(super) fn range(&self, live_bytes: i64) -> Range {
        if !self.is_by_bytes() {
            let error_bytes = self.error_bytes();
            let low_bytes = (live_bytes - error_bytes).max(live_bytes.min(0));
            return Range { low_bytes, high_bytes: live_bytes + error_bytes };
        }
        let seen = live_bytes as f64 - self.unseen_bytes;
        let low = seen.max(self.lowest(live_bytes as f64, seen));
        let heaviest = self.rate_bytes as f64;
        let mean = self.unseen_bytes + heaviest;
        let variance = self.bytes_variance + heaviest * heaviest;
        let high = seen + variance / mean * gamma_quantile(mean * mean / variance, DEVIATE);
        Range {
            low_bytes: (low.floor() as i64).min(live_bytes),
            high_bytes: (high.ceil() as i64).max(live_bytes),
        }
    }

    /// Where few blocks were sampled: what is seen at least. Their number is binomial, which spreads less than Poisson's, so
    /// that the limits of the latter hold for it; where there are many, what was not seen is as good as normal.
    fn lowest(&self, live: f64, seen: f64) -> f64 {
        let (mean, variance) = (self.unseen_bytes, self.bytes_variance);
        if mean <= 0.0 || variance <= 0.0 {
            return live;
        }
        let (weight, count) = (variance / mean, mean * mean / variance);
        if count > FEW {
            seen + weight * gamma_quantile(count, -DEVIATE)
        } else {
            weight * lowest_mean(live / weight)
        }
    }
}

impl Profile {
    /// By how much the live bytes of all sites may be wrong.
    pub fn live_error(&self) -> Cost {
        let sum = site::sum_of_errors(self.disjoint().filter(|it| !it.is_resident()));
        let sampled = Resident::of(self.disjoint()).error_bytes;
        Cost { bytes: sum.live_error.bytes + sampled, ..sum.live_error }
    }

    /// The bytes between which the live ones of these sites lie, and by how much they may be wrong.
    pub fn error_of<'a>(sites: impl Iterator<Item = &'a Site>) -> (Range, Cost) {
        let sum = site::sum_of_errors(sites);
        (sum.live_range, sum.live_error)
    }

    /// Of so many allocated bytes one was sampled, where that was coarsest; `None` if every block was seen.
    pub fn sample_bytes(&self) -> Option<i64> {
        let sites = self.sites.iter().map(Site::sample_bytes);
        sites.chain([self.header.sample_bytes]).max().filter(|it| *it > 0)
    }

    /// Frees of blocks that were not sampled, or are from before the attach.
    pub fn unsampled_frees(&self) -> u64 {
        self.processes.iter().map(|it| it.unsampled_frees).sum()
    }
}

/// What is live of sites whose counters stand so, if it is estimated as `live_bytes`.
pub fn range_of(points: impl Iterator<Item = Point>, live_bytes: i64) -> Range {
    let mut sum = Samples::default();
    points.for_each(|it| sum.add(&Samples::of(&Point::default(), &it, 1.0)));
    sum.range(live_bytes)
}

/// A site that was never sampled may hold so much, nineteen times of twenty: with a mean of three samples there is none once in
/// twenty times (the rule of three).
pub fn missed_bytes(rate_bytes: i64) -> i64 {
    3 * rate_bytes
}

fn twice_root(variance: f64) -> i64 {
    (2.0 * variance.sqrt()).ceil() as i64
}

/// The mean of a Poisson number without its zero of which `count` or more come with probability [`TAIL`].
fn lowest_mean(count: f64) -> f64 {
    if count <= 1.0 {
        return 0.0;
    }
    if count > FEW {
        return gamma_quantile(count, -DEVIATE);
    }
    let (mut low, mut high) = (0.0, count);
    for _ in 0..48 {
        let middle: f64 = (low + high) / 2.0;
        if gamma_share(count, middle) > TAIL * -(-middle).exp_m1() { high = middle } else { low = middle }
    }
    low
}

/// Of the gamma distribution with a shape of 1 or more: the quantile that belongs to a normal deviate (Wilson and Hilferty,
/// "The distribution of chi-square", 1931). For a shape of 1 it is half a percent too small, for 2 an eighth.
fn gamma_quantile(shape: f64, deviate: f64) -> f64 {
    let ninth = 1.0 / (9.0 * shape);
    shape * (1.0 - ninth + deviate * ninth.sqrt()).max(0.0).powi(3)
}

/// How much of the gamma distribution of that shape lies below `limit`, as a power series; for shapes up to [`FEW`].
fn gamma_share(shape: f64, limit: f64) -> f64 {
    let (mut term, mut sum, mut divisor) = (1.0, 1.0, shape);
    while term > sum * 1e-12 {
        divisor += 1.0;
        term *= limit / divisor;
        sum += term;
    }
    sum * (shape * limit.ln() - limit - ln_gamma(shape + 1.0)).exp()
}

/// Stirling's series, from ten on.
fn ln_gamma(argument: f64) -> f64 {
    let (mut at, mut factor) = (argument, 1.0);
    while at < 10.0 {
        factor *= at;
        at += 1.0;
    }
    let series = 1.0 / (12.0 * at) - 1.0 / (360.0 * at.powi(3)) + 1.0 / (1260.0 * at.powi(5));
    (at - 0.5) * at.ln() - at + 0.5 * (2.0 * std::f64::consts::PI).ln() + series - factor.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::estimate::Rate;

    /// By bytes: from samples of `sizes` at a rate.
    fn samples(rate: Rate, sizes: &[u64]) -> (i64, Samples) {
        let mut sum = Samples { rate_bytes: rate.bytes(), ..Samples::default() };
        let mut live = 0.0;
        for size in sizes {
            let weight = rate.weight(*size);
            live += weight.bytes;
            sum.unseen_bytes += weight.bytes - *size as f64;
            sum.bytes_variance += weight.bytes_variance;
        }
        (live.round() as i64, sum)
    }

    #[test]
    fn alike_and_small_blocks_have_the_known_limits() {
        // Of 1, 3 and 10 samples: half the quantiles of chi-square with 2 n + 2 degrees, 11.143, 17.535 and 36.781.
        let rate = Rate::of_shift(20);
        for (count, high) in [(1, 5.572), (3, 8.767), (10, 18.390)] {
            let (live, samples) = samples(rate, &vec![1; count]);
            let range = samples.range(live);
            let found = range.high_bytes as f64 / rate.bytes() as f64;
            assert!((found / high - 1.0).abs() < 0.002, "{count}: {found}");
        }
        // One sample says nothing of how few there may be; for many the zero that cannot be seen does not matter: 9.591.
        assert_eq!(lowest_mean(1.0), 0.0);
        assert!((lowest_mean(10.0) / (9.591 / 2.0) - 1.0).abs() < 0.01, "{}", lowest_mean(10.0));
        assert!((lowest_mean(10.001) / lowest_mean(10.0) - 1.0).abs() < 0.01);
        // Two of a Poisson number without its zero: 1 - m exp(-m) / (1 - exp(-m)) = 0.025.
        let mean = lowest_mean(2.0);
        let share = 1.0 - mean * (-mean).exp() / -(-mean).exp_m1();
        assert!((share - TAIL).abs() < 1e-9, "{mean}: {share}");
    }

    #[test]
    fn large_blocks_are_known_as_they_are() {
        let (live, samples) = samples(Rate::of_shift(12), &[1 << 20; 5]);
        let range = samples.range(live);
        assert_eq!((live, range.low_bytes), (5 << 20, 5 << 20));
        // But for one sample more of a small block.
        assert!(range.high_bytes - live < 4 << 12, "{range:?}");
    }

    /// Even numbers below 1 that are the same each time: splitmix64 (Steele, Lea and Flood 2014).
    fn random(state: &mut u64) -> f64 {
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// How many of many sites with such blocks that are seen at all have their truth within the bars; and how much the mean
    /// of all estimates is of the truth.
    fn check(rate: Rate, sizes: &dyn Fn(usize) -> u64, blocks: usize) {
        const SITES: usize = 3000;
        let mut state = blocks as u64 + sizes(0);
        let truth: i64 = (0..blocks).map(|it| sizes(it) as i64).sum();
        let all: Vec<(u64, f64)> =
            (0..blocks).map(sizes).map(|it| (it, 1.0 / rate.weight(it).blocks)).collect();
        let (mut seen, mut held, mut sum, mut variance) = (0, 0, 0.0, 0.0);
        for _ in 0..SITES {
            let taken = all.iter().filter(|(_, share)| random(&mut state) < *share);
            let taken: Vec<u64> = taken.map(|(size, _)| *size).collect();
            if taken.is_empty() {
                continue;
            }
            let (live, samples) = samples(rate, &taken);
            let range = samples.range(live);
            seen += 1;
            held += usize::from((range.low_bytes..=range.high_bytes).contains(&truth));
            sum += live as f64;
            variance += samples.bytes_variance;
        }
        if seen > 200 {
            // The rule asks for 0.95; what chance makes of that in so many is five standard errors at most.
            let chance = 5.0 * (0.95 * 0.05 / seen as f64).sqrt();
            let share = held as f64 / seen as f64;
            assert!(share > 0.95 - chance, "{rate:?}, {blocks} blocks of {}: {share} of {seen}", sizes(0));
        }
        let mean = sum / SITES as f64;
        let error = variance.sqrt() / SITES as f64;
        assert!((mean - truth as f64).abs() < 5.0 * error + 1.0, "{mean} instead of {truth} ± {error}");
    }

    #[test]
    fn the_truth_lies_within_the_bars_whatever_the_blocks() {
        let rate = Rate::of_shift(16);
        for blocks in [1, 2, 3, 5, 10, 30, 200] {
            for size in [16, 1 << 10, 1 << 14, 1 << 16, 100_000, 1 << 18, 1 << 20] {
                check(rate, &|_| size, blocks);
            }
            // Small and large ones in one site.
            check(rate, &|it| [64, 500, 40_000][it % 3], blocks);
            check(rate, &|it| [1 << 12, 1 << 17][it % 2], blocks);
            check(rate, &|it| 16 << (it % 17), blocks);
        }
    }
}
