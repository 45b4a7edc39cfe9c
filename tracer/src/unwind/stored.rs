//! A table as bytes, to be kept between runs; and from bytes, which are believed only if they are what was written.

use std::hash::Hasher as _;

use rustc_hash::FxHasher;
use tracer_ebpf::unwind::Rule;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Table;
use crate::elf::{Image, Section};

/// Another form of the bytes, or other rows for the same file, get another number.
const VERSION: u32 = 1;
const MAGIC: [u8; 4] = *b"atuw";

/// What everything else depends on.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Header {
    magic: [u8; 4],
    version: u32,
    /// Of all that follows.
    checksum: u64,
    /// See [`Table::identity`].
    identity: u64,
    rows: u32,
    rules: u32,
    skipped_functions: u64,
}

impl Table {
    /// What the rows of a file depend on: its build id, and where its code and its call frame information lie, since a file that was
    /// worked on afterwards keeps its build id. `None` without a build id.
    pub fn identity(image: &Image<'_>) -> Option<u64> {
        let mut hasher = FxHasher::default();
        hasher.write(image.build_id()?.as_bytes());
        for segment in image.segments() {
            hasher.write(
                &[segment.address, segment.file_offset, segment.file_size].map(u64::to_le_bytes).concat(),
            );
        }
        let Section { address, data } = image.eh_frame()?;
        hasher.write(
            &[address, data.len() as u64, image.entry_offset().unwrap_or(0)].map(u64::to_le_bytes).concat(),
        );
        hasher.write_u8(image.is_go().into());
        Some(hasher.finish())
    }

    /// `None` if it has too many rules for the form.
    pub fn to_bytes(&self, identity: u64) -> Option<Vec<u8>> {
        let (rows, rules) = (self.offsets.len(), self.rules.len());
        let positions: Vec<u16> =
            self.rule_of_row.iter().map(|it| u16::try_from(*it)).collect::<Result<_, _>>().ok()?;
        let header = Header {
            magic: MAGIC,
            version: VERSION,
            checksum: 0,
            identity,
            rows: u32::try_from(rows).ok()?,
            rules: u32::try_from(rules).ok()?,
            skipped_functions: self.skipped_functions as u64,
        };
        let mut bytes = Vec::with_capacity(size_of::<Header>() + rules * size_of::<Rule>() + rows * 6);
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(self.rules.as_bytes());
        bytes.extend_from_slice(self.offsets.as_bytes());
        bytes.extend_from_slice(positions.as_bytes());
        let checksum = checksum(&bytes[CHECKED..]);
        bytes[CHECKED - 8..CHECKED].copy_from_slice(&checksum.to_le_bytes());
        Some(bytes)
    }

    /// The table that was written for `identity`; `None` for any other bytes.
    pub fn from_bytes(bytes: &[u8], identity: u64) -> Option<Self> {
        let (header, rest) = Header::read_from_prefix(bytes).ok()?;
        let is_ours = (header.magic, header.version, header.identity) == (MAGIC, VERSION, identity);
        if !is_ours || checksum(&bytes[CHECKED..]) != header.checksum {
            return None;
        }
        let (rules, rest) = split::<Rule>(rest, header.rules)?;
        let (offsets, rest) = split::<u32>(rest, header.rows)?;
        let (positions, rest) = split::<u16>(rest, header.rows)?;
        let ascends = offsets.windows(2).all(|it| it[0] < it[1]);
        let has_rules = positions.iter().all(|it| usize::from(*it) < rules.len());
        if !rest.is_empty() || offsets.is_empty() || !ascends || !has_rules {
            return None;
        }
        let rule_of_row = positions.into_iter().map(u32::from).collect();
        let skipped_functions = usize::try_from(header.skipped_functions).ok()?;
        Some(Self { offsets, rule_of_row, rules, skipped_functions })
    }
}

/// Where the part begins that the checksum is of.
const CHECKED: usize = std::mem::offset_of!(Header, identity);

fn checksum(bytes: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    hasher.write(bytes);
    hasher.finish()
}

/// The first `count` values, wherever they lie in memory, and what follows.
fn split<T: FromBytes + IntoBytes + Immutable + Clone>(bytes: &[u8], count: u32) -> Option<(Vec<T>, &[u8])> {
    let (part, rest) = bytes.split_at_checked((count as usize).checked_mul(size_of::<T>())?)?;
    let mut values = vec![T::new_zeroed(); count as usize];
    values.as_mut_bytes().copy_from_slice(part);
    Some((values, rest))
}

#[cfg(test)]
mod tests {
    use tracer_ebpf::unwind::CFA_SP;

    use super::*;

    fn table() -> Table {
        let rule = |cfa_offset| Rule { cfa: CFA_SP, cfa_offset, ..Rule::default() };
        Table {
            offsets: vec![16, 20, 64],
            rule_of_row: vec![0, 1, 0],
            rules: vec![rule(8), rule(16)],
            skipped_functions: 3,
        }
    }

    #[test]
    fn comes_back_as_it_was() {
        let read = Table::from_bytes(&table().to_bytes(7).unwrap(), 7).unwrap();
        let wanted = table();
        assert_eq!((read.offsets, read.rule_of_row), (wanted.offsets, wanted.rule_of_row));
        assert_eq!((read.rules, read.skipped_functions), (wanted.rules, wanted.skipped_functions));
    }

    #[test]
    fn another_file_s_is_none() {
        assert!(Table::from_bytes(&table().to_bytes(7).unwrap(), 8).is_none());
    }

    #[test]
    fn no_byte_can_be_changed_or_missing() {
        let good = table().to_bytes(7).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(Table::from_bytes(&bad, 7).is_none(), "byte {at}");
            assert!(Table::from_bytes(&good[..at], 7).is_none(), "cut at {at}");
        }
        let longer = [&good[..], &[0]].concat();
        assert!(Table::from_bytes(&longer, 7).is_none(), "a byte too many");
    }

    /// Written by somebody who knows the checksum.
    #[test]
    fn rows_that_cannot_be_are_refused() {
        let check = |change: fn(&mut Table)| {
            let mut bad = table();
            change(&mut bad);
            assert!(Table::from_bytes(&bad.to_bytes(7).unwrap(), 7).is_none());
        };
        check(|it| it.offsets[1] = 16);
        check(|it| it.rule_of_row[2] = 2);
        check(|it| (it.offsets, it.rule_of_row) = (Vec::new(), Vec::new()));
    }
}
