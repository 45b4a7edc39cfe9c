//! Curves made of characters.

/// From nothing to a full cell, in eighths.
const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A curve that moves by less than this share of its height is flat: it is not stretched to fill its lines.
const FLAT_SHARE: f64 = 0.1;

/// One line of text for each of `height` lines, the highest first. Where nothing is known there is nothing.
pub(super) fn lines(values: &[Option<i64>], height: usize) -> Vec<String> {
    let known = || values.iter().flatten();
    let (Some(&min), Some(&max)) = (known().min(), known().max()) else {
        return vec![" ".repeat(values.len()); height];
    };
    let range = ((max - min) as f64).max(max as f64 * FLAT_SHARE).max(1.0);
    let low = max as f64 - range;
    let eighths = height * 8;
    // What is there is seen, even where it is lowest.
    let level = |it: i64| ((it as f64 - low) / range * (eighths - 1) as f64).round() as usize + 1;
    let cell = |value: &Option<i64>, line: usize| {
        let full = value.map_or(0, level).saturating_sub((height - 1 - line) * 8);
        LEVELS[full.min(8)]
    };
    (0..height).map(|line| values.iter().map(|it| cell(it, line)).collect()).collect()
}

/// One line.
pub(super) fn line(values: &[Option<i64>]) -> String {
    lines(values, 1).pop().unwrap_or_default()
}

/// The ends of `count` equal parts of the time from `from_s` to `to_s`.
pub(super) fn times(from_s: f64, to_s: f64, count: usize) -> Vec<f64> {
    // The last is the end itself, whatever rounding does.
    (1..=count).map(|it| to_s - (to_s - from_s) * (count - it) as f64 / count as f64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[i64], expected: &[&str]) {
        let values: Vec<_> = values.iter().map(|it| (*it >= 0).then_some(*it)).collect();
        assert_eq!(lines(&values, expected.len()), expected);
    }

    #[test]
    fn from_the_lowest_to_the_highest() {
        check(&[0, 1, 2, 3, 4, 5, 6, 7], &["▁▂▃▄▅▆▇█"]);
        check(&[0, 15], &[" █", "▁█"]);
    }

    #[test]
    fn what_hardly_moves_is_flat() {
        check(&[1000, 1001, 1000], &["███"]);
        check(&[0, 0], &["██"]);
    }

    #[test]
    fn the_unknown_is_empty() {
        check(&[-1, 0, 10], &[" ▁█"]);
        check(&[-1, -1], &["  ", "  "]);
        check(&[], &[""]);
    }
}
