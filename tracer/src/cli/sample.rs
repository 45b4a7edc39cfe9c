//! `--sample`: how closely allocations are looked at.

use clap::Args;

use super::settings;
use crate::{estimate::Rate, report::units};

/// Not every block is seen.
#[derive(Args, Clone, Copy, Default)]
pub(super) struct SampleArgs {
    /// See one allocation in about so many bytes, for example 512KiB, and estimate the others: less work for the target
    /// and for us. A power of two, or the next; 0 is every allocation.
    ///
    /// Large blocks are seen all the same: of those of ten times SIZE every one, of those of SIZE two in three. Each
    /// figure is right on average and is shown with the error that it may have.
    #[arg(long, value_name = "SIZE", value_parser = rate)]
    sample: Option<Rounded>,
}

/// A rate, and what was asked for.
#[derive(Clone, Copy)]
struct Rounded {
    rate: Rate,
    asked_bytes: u64,
}

/// Below it nothing is saved; above it nothing is seen of most programs.
const MIN_BYTES: u64 = 1 << 10;
const MAX_BYTES: u64 = 1 << 30;

fn rate(text: &str) -> Result<Rounded, String> {
    match settings::size(text)? {
        0 => Ok(Rounded { rate: Rate::EXACT, asked_bytes: 0 }),
        asked_bytes @ MIN_BYTES..=MAX_BYTES => {
            let rate = Rate::of_shift((asked_bytes as f64).log2().round() as u32);
            Ok(Rounded { rate, asked_bytes })
        }
        _ => Err("must be between 1KiB and 1GiB, or 0 for every allocation".to_owned()),
    }
}

impl SampleArgs {
    /// Says what becomes of the size, if it is another.
    pub(super) fn rate(self) -> Rate {
        let Some(Rounded { rate, asked_bytes }) = self.sample else { return Rate::EXACT };
        if !rate.is_exact() && rate.bytes() as u64 != asked_bytes {
            eprintln!("alloctrace: --sample is rounded to {}, a power of two", units::bytes(rate.bytes()));
        }
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<u32>) {
        assert_eq!(rate(text).ok().map(|it| it.rate.shift()), expected, "{text}");
    }

    #[test]
    fn sizes_become_powers_of_two() {
        check("0", Some(0));
        check("1KiB", Some(10));
        check("512KiB", Some(19));
        check("500kB", Some(19));
        check("1GiB", Some(30));
        for wrong in ["1", "1023", "2GiB", "often"] {
            check(wrong, None);
        }
    }
}
