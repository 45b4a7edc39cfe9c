//! Bytes of `.eh_frame` to the rows that the probes search. Pure.
//!
//! The call frame information (DWARF 5 section 6.4, and the Linux Standard Base for `.eh_frame`) is a small
//! program per function. It is run here, once per object, and what comes out is translated into
//! [`Rule`]s that a probe can apply in a few instructions, or into a rule that says that it cannot.

mod compact;
mod rule;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use gimli::{BaseAddresses, CieOrFde, EhFrame, LittleEndian, UnwindContext, UnwindSection as _};
use rustc_hash::{FxBuildHasher, FxHashMap};
use tracer_ebpf::unwind::{
    BLOCK_SHIFT, CFA_END, CFA_FRAME, CFA_GO, CFA_NONE, CFA_SIGNAL, CFA_UNSUPPORTED, Rule, find_row, row,
    rule_of,
};

use crate::elf::{Image, Section, Segment};

/// Start-up code without a description, such as the dynamic loader's, is shorter than this.
const MAX_START_BYTES: u32 = 256;

/// A jump is all there is at the start of a Go program; other functions follow.
const GO_START_BYTES: u32 = 16;

/// What holds where nothing is described.
#[derive(Clone, Copy)]
struct Filler {
    cfa: u8,
    /// In holes of so much and more.
    least_bytes: u32,
}

/// Go's compiler keeps frame pointers and writes no `.eh_frame`.
const GO: Filler = Filler { cfa: CFA_GO, least_bytes: 4 << 10 };

/// Functions that a library has generated into itself, such as V8's built-in ones, which take 1.5 MiB in a row. The largest
/// piece of undescribed assembler elsewhere is far smaller.
const GENERATED: Filler = Filler { cfa: CFA_FRAME, least_bytes: 64 << 10 };

/// How to find the caller from every instruction of one object.
pub struct Table {
    /// File offsets, ascending; each row is valid up to the next one's.
    offsets: Vec<u32>,
    /// By row, the position in `rules`.
    rule_of_row: Vec<u32>,
    rules: Vec<Rule>,
    /// Functions whose description could not be read.
    pub skipped_functions: usize,
}

impl Table {
    /// `None` if nothing is known of the file's code.
    pub fn from_image(image: &Image<'_>) -> Option<Self> {
        let segments: Vec<_> = image.segments().collect();
        let section = image.eh_frame().unwrap_or(Section { address: 0, data: &[] });
        let filler = if image.is_go() { GO } else { GENERATED };
        let table = Self::build(section, &segments, image.entry_offset(), Some(filler));
        (!table.offsets.is_empty()).then_some(table)
    }

    /// Rows for everything that `section` describes and that lies in `segments`. `entry` is the file offset
    /// of the program's first instruction: nothing calls it, whether the section says so or not.
    pub fn from_eh_frame(section: Section<'_>, segments: &[Segment], entry: Option<u64>) -> Self {
        Self::build(section, segments, entry, None)
    }

    fn build(section: Section<'_>, segments: &[Segment], entry: Option<u64>, filler: Option<Filler>) -> Self {
        let mut rows = compact::Rows::default();
        let mut skipped_functions = 0;
        let eh_frame = EhFrame::new(section.data, LittleEndian);
        // Only pointers relative to the section or to themselves occur outside of the kernel.
        let bases = BaseAddresses::default().set_eh_frame(section.address);
        let mut context = UnwindContext::new();
        let mut cies = HashMap::new();
        let mut entries = eh_frame.entries(&bases);
        // An entry that cannot be read leaves no way to find the next one.
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else { continue };
            let fde = partial.parse(|section, bases, offset| match cies.get(&offset) {
                Some(cie) => Ok(Clone::clone(cie)),
                None => {
                    let cie = section.cie_from_offset(bases, offset)?;
                    cies.insert(offset, cie.clone());
                    Ok(cie)
                }
            });
            let Ok(fde) = fde else {
                skipped_functions += 1;
                continue;
            };
            let (start, end) = (fde.initial_address(), fde.initial_address().wrapping_add(fde.len()));
            let Some(shift) = shift(segments, start, end) else {
                skipped_functions += 1;
                continue;
            };
            let offset = |address: u64| address.wrapping_sub(shift) as u32;
            if fde.cie().is_signal_trampoline() {
                rows.push(offset(start), Rule { cfa: CFA_SIGNAL, ..Rule::default() });
            } else {
                let Ok(mut table) = fde.rows(&eh_frame, &bases, &mut context) else {
                    skipped_functions += 1;
                    continue;
                };
                loop {
                    match table.next_row() {
                        Ok(Some(cfi)) => {
                            rows.push(offset(cfi.start_address()), rule::translate(cfi, &eh_frame))
                        }
                        Ok(None) => break,
                        Err(_) => {
                            rows.push(offset(start), Rule { cfa: CFA_UNSUPPORTED, ..Rule::default() });
                            skipped_functions += 1;
                            break;
                        }
                    }
                }
            }
            rows.end(offset(end));
        }
        if let Some(entry) = entry.and_then(|it| u32::try_from(it).ok()) {
            let bytes =
                if filler.is_some_and(|it| it.cfa == CFA_GO) { GO_START_BYTES } else { MAX_START_BYTES };
            rows.push_if_uncovered(entry, bytes, Rule { cfa: CFA_END, ..Rule::default() });
        }
        for (segment, Filler { cfa, least_bytes }) in
            segments.iter().flat_map(|it| filler.map(|filler| (it, filler)))
        {
            let end = segment.file_offset.saturating_add(segment.file_size);
            if let (Ok(start), Ok(end)) = (u32::try_from(segment.file_offset), u32::try_from(end)) {
                rows.fill_holes(start..end, least_bytes, Rule { cfa, ..Rule::default() });
            }
        }
        let (offsets, rule_of_row, rules) = rows.finish();
        Self { offsets, rule_of_row, rules, skipped_functions }
    }

    /// The rule at a file offset, by the same law as the probes.
    pub fn lookup(&self, offset: u32) -> Rule {
        match self.offsets.partition_point(|it| *it <= offset).checked_sub(1) {
            Some(row) => self.rules[self.rule_of_row[row] as usize],
            None => Rule::default(),
        }
    }

    /// File offset of the first block.
    pub fn start(&self) -> u32 {
        self.offsets.first().map_or(0, |it| it >> BLOCK_SHIFT << BLOCK_SHIFT)
    }

    /// How many rows [`Table::pack`] makes.
    pub fn packed_rows(&self) -> usize {
        self.offsets.len() + 1
    }

    /// How many block entries [`Table::pack`] makes.
    pub fn packed_blocks(&self) -> usize {
        let last = self.offsets.last().copied().unwrap_or(0);
        ((last - self.start()) >> BLOCK_SHIFT) as usize + 2
    }

    /// The form that the probes search, to be placed in the common array from `first_row` on; `None` if
    /// there is no room for its rules.
    pub fn pack(&self, known: &mut Rules, first_row: u32) -> Option<Packed> {
        let ids: Vec<u32> = self.rules.iter().map(|it| known.id(*it)).collect::<Option<_>>()?;
        let none = known.id(Rule { cfa: CFA_NONE, ..Rule::default() })?;
        let start = self.start();
        let mut rows = Vec::with_capacity(self.packed_rows());
        // What is found for an offset before the first row.
        rows.push(row(start, none));
        rows.extend(
            self.offsets.iter().zip(&self.rule_of_row).map(|(offset, it)| row(*offset, ids[*it as usize])),
        );
        let count = self.packed_blocks();
        let mut blocks = Vec::with_capacity(count);
        let mut at = 0;
        for block in 0..count as u32 {
            let block_start = start as u64 + ((block as u64) << BLOCK_SHIFT);
            while self.offsets.get(at).is_some_and(|it| (*it as u64) < block_start) {
                at += 1;
            }
            blocks.push(first_row + 1 + at as u32);
        }
        Some(Packed { start, blocks, rows })
    }
}

/// What turns a virtual address of the file into a file offset, if all of the function lies in one segment
/// below 4 GiB.
fn shift(segments: &[Segment], start: u64, end: u64) -> Option<u64> {
    let segment =
        segments.iter().find(|it| start >= it.address && end > start && end <= it.address + it.file_size)?;
    let shift = segment.address.wrapping_sub(segment.file_offset);
    (end.wrapping_sub(shift) <= u32::MAX as u64).then_some(shift)
}

/// A table in the form that the probes search.
#[derive(Debug, PartialEq, Eq)]
pub struct Packed {
    /// File offset of the first block.
    pub start: u32,
    /// For each block the number of its first row, and one more entry for the end.
    pub blocks: Vec<u32>,
    pub rows: Vec<u32>,
}

impl Packed {
    /// The number of the rule at `offset`, exactly as a probe finds it; `first_row` as in [`Table::pack`].
    pub fn find(&self, first_row: u32, offset: u32) -> Option<u32> {
        let block = (offset.checked_sub(self.start)? >> BLOCK_SHIFT) as usize;
        let (low, high) = (*self.blocks.get(block)?, *self.blocks.get(block + 1)?);
        let row = find_row(low, high, offset, |at| self.rows.get((at - first_row) as usize).copied())?;
        Some(rule_of(row))
    }
}

/// The distinct rules of all objects.
#[derive(Default)]
pub struct Rules {
    ids: FxHashMap<Rule, u32>,
    rules: Vec<Rule>,
}

/// Entries of the probes' array of rules; measured need: 680 for rustc's driver, 302 for libc.
const MAX_RULES: usize = 1 << 16;

impl Rules {
    /// The rule's number; `None` when there are too many.
    pub fn id(&mut self, rule: Rule) -> Option<u32> {
        if let Some(id) = self.ids.get(&rule) {
            return Some(*id);
        }
        if self.rules.len() == MAX_RULES {
            return None;
        }
        let id = self.rules.len() as u32;
        self.ids.insert(rule, id);
        self.rules.push(rule);
        Some(id)
    }

    pub fn get(&self, id: u32) -> Option<Rule> {
        self.rules.get(id as usize).copied()
    }

    /// In the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = Rule> + '_ {
        self.rules.iter().copied()
    }
}

/// A map for the few hundred rules of one object.
fn rule_map() -> FxHashMap<Rule, u32> {
    FxHashMap::with_capacity_and_hasher(1 << 10, FxBuildHasher)
}
