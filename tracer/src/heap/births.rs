//! When blocks were born: the ends of the intervals, as blocks name them by number.

use std::collections::VecDeque;

use super::table::LAST_BIRTH;

/// In a run without an end, so many intervals are known to the last; of older ones every so many end is.
const FINE: usize = 1 << 12;
const COARSE: usize = 1 << 6;

/// The intervals in which blocks are born. They are those that [`super::Heap::interval`] ends, so that cohorts and
/// counters of a recording agree on what lies in a window of time.
pub(super) struct Births {
    started_ns: u64,
    /// Of the intervals that are over, from number `first` on. Eight bytes each: a day of seconds is 700 kB.
    ends_ns: VecDeque<u64>,
    first: usize,
    /// Of the [`COARSE`] intervals each before that: when the last one ended.
    older_ns: Vec<u64>,
    /// Of those that are older than [`FINE`] intervals not every end is kept.
    is_lean: bool,
    /// The latest event.
    pub(super) latest_ns: u64,
}

impl Births {
    pub(super) fn new(started_ns: u64) -> Self {
        Self {
            started_ns,
            ends_ns: VecDeque::new(),
            first: 0,
            older_ns: Vec::new(),
            is_lean: false,
            latest_ns: started_ns,
        }
    }

    pub(super) fn keep_lean(&mut self) {
        self.is_lean = true;
    }

    /// The interval that is not over.
    #[inline]
    pub(super) fn current(&self) -> u32 {
        (self.first + self.ends_ns.len()) as u32
    }

    pub(super) fn end(&mut self, time_ns: u64) {
        // A clock that is read in two places may differ by a little.
        let end_ns = time_ns.max(self.start_ns(self.current()));
        // Nobody has so many intervals; the last one has no end then.
        if self.current() < LAST_BIRTH {
            self.ends_ns.push_back(end_ns);
        }
        if self.is_lean && self.ends_ns.len() >= FINE + COARSE {
            self.older_ns.extend(self.ends_ns.drain(..COARSE).next_back());
            self.first += COARSE;
        }
    }

    /// The interval before ended here, or somewhat later.
    pub(super) fn start_ns(&self, birth: u32) -> u64 {
        let birth = birth as usize;
        let before = if birth > self.first {
            self.ends_ns.get(birth - self.first - 1)
        } else {
            (birth / COARSE).checked_sub(1).map(|it| &self.older_ns[it])
        };
        before.copied().unwrap_or(self.started_ns)
    }

    /// It ended here, or somewhat earlier.
    pub(super) fn end_ns(&self, birth: u32) -> u64 {
        let birth = birth as usize;
        let end = match birth.checked_sub(self.first) {
            Some(place) => self.ends_ns.get(place),
            None => self.older_ns.get(birth / COARSE),
        };
        end.copied().unwrap_or(self.latest_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_is_known_to_a_minute() {
        const INTERVALS: u64 = 3 * FINE as u64 + 17;
        let (mut exact, mut lean) = (Births::new(5), Births::new(5));
        lean.keep_lean();
        for interval in 1..=INTERVALS {
            for births in [&mut exact, &mut lean] {
                births.latest_ns = 10 * interval + 3;
                births.end(10 * interval);
            }
        }
        assert_eq!(lean.current(), exact.current());
        for birth in 0..=exact.current() {
            let off =
                (exact.start_ns(birth) - lean.start_ns(birth), lean.end_ns(birth) - exact.end_ns(birth));
            let most = if birth as usize >= INTERVALS as usize - FINE { 0 } else { 10 * COARSE as u64 };
            assert!(off.0 <= most && off.1 <= most, "{birth}: {off:?}");
        }
        assert_eq!((lean.start_ns(0), lean.end_ns(INTERVALS as u32)), (5, 10 * INTERVALS + 3));
        assert!(lean.ends_ns.len() + lean.older_ns.len() < FINE + 3 * COARSE + INTERVALS as usize / COARSE);
    }
}
