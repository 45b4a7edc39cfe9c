//! Which parts of an array are given out.

use std::{collections::BTreeMap, ops::Range};

/// The parts that are free, by where they start. No two of them touch.
pub(crate) struct Extents {
    free: BTreeMap<usize, usize>,
}

impl Extents {
    /// All of `len` is free.
    pub(crate) fn new(len: usize) -> Self {
        Self { free: BTreeMap::from([(0, len)]) }
    }

    /// How much is free.
    pub(crate) fn free_len(&self) -> usize {
        self.free.iter().map(|(start, end)| end - start).sum()
    }

    /// The first part that is large enough for `len`, which is not 0.
    pub(crate) fn take(&mut self, len: usize) -> Option<Range<usize>> {
        let (&start, &end) = self.free.iter().find(|(start, end)| *end - *start >= len)?;
        self.free.remove(&start);
        if start + len < end {
            self.free.insert(start + len, end);
        }
        Some(start..start + len)
    }

    /// Takes a part back that was given out.
    pub(crate) fn give_back(&mut self, part: Range<usize>) {
        let Range { mut start, mut end } = part;
        if let Some((&before, _)) = self.free.range(..start).next_back().filter(|(_, it)| **it == start) {
            self.free.remove(&before);
            start = before;
        }
        if let Some(after) = self.free.remove(&end) {
            end = after;
        }
        self.free.insert(start, end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_comes_back_becomes_one_again() {
        let mut extents = Extents::new(10);
        let parts: Vec<_> = (0..5).map(|_| extents.take(2).unwrap()).collect();
        assert_eq!(extents.take(1), None);
        for at in [3, 1, 2] {
            extents.give_back(parts[at].clone());
        }
        assert_eq!(extents.take(7), None);
        assert_eq!(extents.take(6), Some(2..8));
    }

    proptest! {
        /// `Some(n)` takes so many, `None` gives the oldest part back.
        #[test]
        fn no_part_is_given_out_twice(steps in prop::collection::vec(prop::option::weighted(0.6, 1..40_usize), 0..200)) {
            let mut extents = Extents::new(200);
            let mut out: Vec<Range<usize>> = Vec::new();
            for step in steps {
                match step {
                    Some(len) => if let Some(part) = extents.take(len) {
                        prop_assert_eq!(part.len(), len);
                        prop_assert!(part.end <= 200);
                        let meets = |it: &Range<usize>| it.start < part.end && part.start < it.end;
                        prop_assert!(!out.iter().any(meets));
                        out.push(part);
                    },
                    None => if !out.is_empty() { extents.give_back(out.remove(0)) },
                }
            }
            out.into_iter().for_each(|it| extents.give_back(it));
            prop_assert_eq!(extents.free_len(), 200);
            prop_assert_eq!(extents.take(200), Some(0..200));
        }
    }
}
