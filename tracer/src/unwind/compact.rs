//! Rows in any order to the shortest ascending list with the same meaning.

use std::ops::Range;

use rustc_hash::FxHashMap;
use tracer_ebpf::unwind::Rule;

/// A hole between functions that is shorter than this is padding: nothing runs there.
const PADDING_BYTES: u32 = 16;

/// Rows as they come, and the distinct rules.
#[derive(Default)]
pub(super) struct Rows {
    /// (offset, position in `rules` plus 1, or 0 for the end of a function)
    rows: Vec<(u32, u32)>,
    rules: Vec<Rule>,
    positions: Option<FxHashMap<Rule, u32>>,
}

impl Rows {
    /// `rule` holds from `offset` on.
    pub(super) fn push(&mut self, offset: u32, rule: Rule) {
        let positions = self.positions.get_or_insert_with(super::rule_map);
        let position = *positions.entry(rule).or_insert_with(|| {
            self.rules.push(rule);
            self.rules.len() as u32
        });
        self.rows.push((offset, position));
    }

    /// A function ends before `offset`.
    pub(super) fn end(&mut self, offset: u32) {
        self.rows.push((offset, 0));
    }

    /// `rule` holds from `offset` on up to the next function, for `bytes` at most, if no function is there.
    pub(super) fn push_if_uncovered(&mut self, offset: u32, bytes: u32, rule: Rule) {
        self.rows.sort();
        let behind = self.rows.partition_point(|(it, _)| *it <= offset);
        if behind.checked_sub(1).is_some_and(|before| self.rows[before].1 != 0) {
            return;
        }
        let end = offset.saturating_add(bytes);
        let end = self.rows.get(behind).map_or(end, |(next, _)| end.min(*next));
        self.push(offset, rule);
        self.end(end);
    }

    /// `rule` holds wherever no function is in `range`, over `least_bytes` and more.
    pub(super) fn fill_holes(&mut self, range: Range<u32>, least_bytes: u32, rule: Rule) {
        self.rows.sort();
        let mut hole = Some(range.start);
        let mut holes = Vec::new();
        for &(offset, position) in self.rows.iter().take_while(|it| it.0 < range.end) {
            match (position, hole) {
                (0, _) => hole = Some(offset.max(range.start)),
                (_, Some(start)) => {
                    holes.push((start, offset));
                    hole = None;
                }
                (_, None) => {}
            }
        }
        holes.extend(hole.map(|start| (start, range.end)));
        for (start, end) in holes.into_iter().filter(|(start, end)| end.saturating_sub(*start) >= least_bytes)
        {
            self.push(start, rule);
            self.end(end);
        }
    }

    /// Offsets, for each the position of its rule, and the rules.
    pub(super) fn finish(mut self) -> (Vec<u32>, Vec<u32>, Vec<Rule>) {
        // Ends sort before beginnings at the same offset, and are then overwritten by them. Objects are
        // mostly in order already, which a stable sort is quick to see.
        self.rows.sort();
        let none = self.rules.len() as u32;
        self.rules.push(Rule::default());
        let (mut offsets, mut positions) =
            (Vec::with_capacity(self.rows.len()), Vec::with_capacity(self.rows.len()));
        for (at, (offset, position)) in self.rows.iter().enumerate() {
            if let Some((next, _)) = self.rows.get(at + 1) {
                let is_padding = *position == 0 && next - offset < PADDING_BYTES;
                if is_padding || next == offset {
                    continue;
                }
            }
            let position = position.checked_sub(1).unwrap_or(none);
            if positions.last() != Some(&position) {
                offsets.push(*offset);
                positions.push(position);
            }
        }
        (offsets, positions, self.rules)
    }
}

#[cfg(test)]
mod tests {
    use tracer_ebpf::unwind::CFA_SP;

    use super::*;

    /// Functions as (start, [(offset, cfa offset)], end); the result as (offset, cfa offset or 0 for none).
    fn check(functions: &[(&[(u32, i32)], u32)], expected: &[(u32, i32)]) {
        let mut rows = Rows::default();
        for (starts, end) in functions {
            for (offset, cfa_offset) in *starts {
                rows.push(*offset, Rule { cfa: CFA_SP, cfa_offset: *cfa_offset, ..Rule::default() });
            }
            rows.end(*end);
        }
        let (offsets, positions, rules) = rows.finish();
        let found: Vec<_> =
            offsets.into_iter().zip(positions.iter().map(|it| rules[*it as usize].cfa_offset)).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn neighbours_with_one_rule_become_one_row() {
        check(&[(&[(0, 8), (4, 16), (9, 16), (12, 8)], 64)], &[(0, 8), (4, 16), (12, 8), (64, 0)]);
    }

    #[test]
    fn padding_is_no_hole_but_a_hole_is() {
        check(&[(&[(0, 8)], 60), (&[(64, 16)], 70)], &[(0, 8), (64, 16), (70, 0)]);
        check(&[(&[(0, 8)], 60), (&[(96, 16)], 110)], &[(0, 8), (60, 0), (96, 16), (110, 0)]);
    }

    #[test]
    fn holes_are_filled_if_they_are_large() {
        let mut rows = Rows::default();
        let rule = |cfa_offset| Rule { cfa: CFA_SP, cfa_offset, ..Rule::default() };
        for (start, end) in [(120, 200), (200, 210), (1000, 1100)] {
            rows.push(start, rule(8));
            rows.end(end);
        }
        rows.fill_holes(100..1500, 100, rule(16));
        let (offsets, positions, rules) = rows.finish();
        let found: Vec<_> =
            offsets.into_iter().zip(positions.iter().map(|it| rules[*it as usize].cfa_offset)).collect();
        assert_eq!(found, [(120, 8), (210, 16), (1000, 8), (1100, 16), (1500, 0)]);
    }

    #[test]
    fn functions_come_in_any_order() {
        check(&[(&[(100, 16)], 200), (&[(0, 8)], 100)], &[(0, 8), (100, 16), (200, 0)]);
    }
}
