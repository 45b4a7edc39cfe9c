//! The live blocks of a site by age: cohorts of blocks that were born in the same intervals.
//!
//! A site holds at most [`MAX_COHORTS`] of them, however long the run. When one more is needed, the
//! two neighbours are merged whose union is narrowest in proportion to its age: ages are asked for by
//! magnitude ("older than an hour"), so it is the relative error that has to stay small. Widths then
//! grow exponentially with age, and 32 cohorts over 11 days of one-second intervals are each about
//! half as wide as they are old. Merging moves sums and never changes them: every live block lies in
//! exactly one cohort, and so a free always finds the cohort that its block is in.

use crate::cost::Cost;

/// 24 bytes each, so that a site stays below a kilobyte.
pub(super) const MAX_COHORTS: usize = 32;

/// Blocks born in the intervals `first..=last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Born {
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) live: Cost,
}

/// Ordered by birth, without overlaps; none is empty.
#[derive(Clone, Debug, Default)]
pub(super) struct Cohorts(Vec<Born>);

impl Cohorts {
    pub(super) fn iter(&self) -> impl Iterator<Item = Born> + '_ {
        self.0.iter().copied()
    }

    pub(super) fn clear(&mut self) {
        self.0 = Vec::new();
    }

    pub(super) fn add(&mut self, birth: u32, cost: Cost) {
        match self.find(birth) {
            Ok(at) => self.0[at].live += cost,
            Err(at) if self.0.len() < MAX_COHORTS => {
                self.0.insert(at, Born { first: birth, last: birth, live: cost });
            }
            // The merged cohort may cover the gap that `birth` lies in, so look again.
            Err(_) => {
                self.merge();
                self.add(birth, cost);
            }
        }
    }

    pub(super) fn remove(&mut self, birth: u32, cost: Cost) {
        let Ok(at) = self.find(birth) else {
            debug_assert!(false, "a live block is in a cohort");
            return;
        };
        self.0[at].live -= cost;
        if self.0[at].live.blocks == 0 {
            self.0.remove(at);
        }
    }

    /// The cohort with `birth`, or where it would be.
    #[inline]
    fn find(&self, birth: u32) -> Result<usize, usize> {
        // Most blocks are born now and die young.
        if let Some(youngest) = self.0.last() {
            if youngest.last < birth {
                return Err(self.0.len());
            }
            if youngest.first <= birth {
                return Ok(self.0.len() - 1);
            }
        }
        let at = self.0.partition_point(|it| it.last < birth);
        match self.0.get(at) {
            Some(it) if it.first <= birth => Ok(at),
            _ => Err(at),
        }
    }

    fn merge(&mut self) {
        let Some(now) = self.0.last().map(|it| u128::from(it.last)) else { return };
        let width_and_age = |pair: &[Born]| {
            (u128::from(pair[1].last - pair[0].first) + 1, now - u128::from(pair[1].last) + 1)
        };
        let narrowest = self.0.windows(2).enumerate().min_by(|(_, a), (_, b)| {
            let ((width_a, age_a), (width_b, age_b)) = (width_and_age(a), width_and_age(b));
            (width_a * age_b).cmp(&(width_b * age_a))
        });
        if let Some((at, _)) = narrowest {
            let younger = self.0.remove(at + 1);
            self.0[at].last = younger.last;
            self.0[at].live += younger.live;
        }
    }
}
