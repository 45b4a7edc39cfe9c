//! Medians with their spread, and tables for people.

use std::fmt;

use serde_json::{Value, json};

/// What several rounds of one measurement say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

impl Spread {
    /// `None` if nothing was measured.
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (&min, &max) = (sorted.first()?, sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            sorted[middle]
        } else {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        };
        Some(Self { median, min, max })
    }

    /// Of `a / b`, round by round, so that what disturbs a whole round disturbs both alike. Rounds in which
    /// either is missing do not count.
    pub(super) fn ratio(a: &[Option<f64>], b: &[Option<f64>]) -> Option<Self> {
        Self::of(a.iter().zip(b).filter_map(|(a, b)| Some((*a)? / (*b)?)))
    }

    /// Of a ratio: by how much it is more than one.
    pub(super) fn percent(self) -> Self {
        let percent = |ratio: f64| (ratio - 1.0) * 100.0;
        Self { median: percent(self.median), min: percent(self.min), max: percent(self.max) }
    }

    pub(super) fn json(self) -> Value {
        json!({ "median": self.median, "min": self.min, "max": self.max })
    }
}

/// `median (min..max)`, with the precision that the caller gives; one number if there is only one.
impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(2);
        if self.min == self.max {
            return write!(f, "{:.digits$}", self.median);
        }
        write!(f, "{:.digits$} ({:.digits$}..{:.digits$})", self.median, self.min, self.max)
    }
}

/// A spread as a cell: `-` where nothing was measured.
pub(super) fn cell(spread: Option<Spread>, digits: usize, unit: &str) -> String {
    spread.map_or_else(|| "-".to_owned(), |it| format!("{it:.digits$}{unit}"))
}

pub(super) fn json_or_null(spread: Option<Spread>) -> Value {
    spread.map_or(Value::Null, Spread::json)
}

/// `1 round`, `3 rounds`
pub(super) fn rounds(count: u64) -> String {
    format!("{count} {}", if count == 1 { "round" } else { "rounds" })
}

/// `1,000,000`
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect::<Vec<_>>();
    groups.join(",")
}

/// Rows under headings, the first column to the left and the others to the right.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(headings: &[&str]) -> Self {
        Self { rows: vec![headings.iter().map(|&it| it.to_owned()).collect()] }
    }

    pub(super) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            self.rows.iter().filter_map(|row| row.get(column)).map(|it| it.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                if column == 0 {
                    line += &format!("  {cell:<width$}");
                } else {
                    line += &format!("   {cell:>width$}");
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_and_even_numbers_of_rounds() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]), Some(Spread { median: 2.5, min: 1.0, max: 4.0 }));
        assert_eq!(Spread::of([7.0]), Some(Spread { median: 7.0, min: 7.0, max: 7.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn a_ratio_is_taken_within_each_round() {
        // Each round is twice as slow as the one before; the ratio does not see it.
        let a = [Some(2.0), Some(4.0), Some(8.0)];
        let b = [Some(1.0), Some(2.0), Some(4.0)];
        assert_eq!(Spread::ratio(&a, &b), Some(Spread { median: 2.0, min: 2.0, max: 2.0 }));
    }

    #[test]
    fn numbers_are_grouped_by_thousands() {
        assert_eq!([7, 1234, 1_000_000].map(grouped), ["7", "1,234", "1,000,000"]);
    }

    #[test]
    fn a_ratio_leaves_out_rounds_that_miss_a_side() {
        let a = [Some(2.0), None, Some(9.0)];
        let b = [Some(1.0), Some(2.0), None];
        assert_eq!(Spread::ratio(&a, &b), Some(Spread { median: 2.0, min: 2.0, max: 2.0 }));
        assert_eq!(Spread::ratio(&[None], &[Some(1.0)]), None);
    }

    #[test]
    fn a_spread_is_printed_with_the_asked_precision() {
        let spread = Spread { median: 1.234, min: 1.0, max: 20.5 };
        assert_eq!(format!("{spread:.1}"), "1.2 (1.0..20.5)");
        assert_eq!(cell(Some(spread), 0, "x"), "1 (1..20)x");
        assert_eq!(cell(None, 0, "x"), "-");
    }

    #[test]
    fn columns_of_a_table_line_up() {
        let mut table = Table::new(&["tool", "ns"]);
        table.row(vec!["untraced".to_owned(), "5".to_owned()]);
        table.row(vec!["floor".to_owned(), "1790".to_owned()]);
        assert_eq!(table.to_string(), "  tool         ns\n  untraced      5\n  floor      1790\n");
    }
}
