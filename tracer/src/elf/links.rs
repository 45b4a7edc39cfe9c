//! How code finds other code: where functions begin, and what the loader writes for calls into other objects.

use std::collections::HashMap;

use object::{LittleEndian, ReadRef, elf, read::elf::Sym};

use super::{Image, LE, Section};

/// What the loader writes into a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot<'data> {
    /// The address of the function or variable with this name.
    Name(&'data [u8]),
    /// An address of this object.
    Address(u64),
}

impl<'data> Image<'data> {
    /// Where functions begin, as the search table of the unwinding data has it: also those without a name.
    pub(super) fn unwound_starts(&self) -> Vec<u64> {
        let starts = |hdr: Section<'_>| {
            // Version 1, a count in four bytes (DW_EH_PE_udata4), and pairs relative to the header
            // (DW_EH_PE_datarel | DW_EH_PE_sdata4): the only form that linkers write.
            let [1, _, 3, 0x3b, _, _, _, _, count @ ..] = hdr.data else { return None };
            let (count, pairs) = count.split_first_chunk::<4>()?;
            let pairs = pairs.chunks_exact(8).take(u32::from_le_bytes(*count) as usize);
            let start = |pair: &[u8]| {
                let distance = i32::from_le_bytes(*pair.first_chunk()?);
                Some(hdr.address.wrapping_add_signed(distance.into()))
            };
            Some(pairs.filter_map(start).collect())
        };
        self.eh_frame_hdr().and_then(starts).unwrap_or_default()
    }

    /// What the loader writes where.
    pub(super) fn slots(&self) -> HashMap<u64, Slot<'data>> {
        let mut slots = HashMap::new();
        let tables = [(elf::DT_RELA, elf::DT_RELASZ), (elf::DT_JMPREL, elf::DT_PLTRELSZ)];
        let (symbols, strings) = self.dynamic_symbols();
        for (table, size) in tables {
            let entries = || {
                let (table, size) = (self.dynamic_value(table)?, self.dynamic_value(size)?);
                let count = usize::try_from(size).ok()? / size_of::<elf::Rela64<LittleEndian>>();
                self.at(table)?.read_slice_at::<elf::Rela64<LittleEndian>>(0, count).ok()
            };
            for entry in entries().unwrap_or_default() {
                let slot = match entry.r_type(LE, false) {
                    elf::R_X86_64_RELATIVE => Some(Slot::Address(entry.r_addend.get(LE) as u64)),
                    elf::R_X86_64_JUMP_SLOT | elf::R_X86_64_GLOB_DAT => symbols
                        .get(entry.r_sym(LE, false) as usize)
                        .and_then(|it| it.name(LE, strings).ok())
                        .map(Slot::Name),
                    _ => None,
                };
                slots.extend(slot.map(|it| (entry.r_offset.get(LE), it)));
            }
        }
        slots
    }

    /// The names that other objects are to define.
    pub fn imports(&self) -> impl Iterator<Item = &'data [u8]> {
        let (symbols, strings) = self.dynamic_symbols();
        let undefined = symbols.iter().filter(|it| it.st_shndx(LE) == elf::SHN_UNDEF);
        undefined.filter_map(move |it| it.name(LE, strings).ok()).filter(|it| !it.is_empty())
    }
}
