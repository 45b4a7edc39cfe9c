//! What the bytes of an ELF object say: its identity, its code, its unwinding data, what it loads.
//!
//! PURE: a slice in, facts out. The loader's view (program headers, dynamic section) comes first,
//! since that is what runs; section headers only add to it, and an object without any, or with bad
//! ones, still gives everything but its full symbol table. Only 64-bit x86 objects are read.
//!
//! Addresses are those that the file states; `file_offset` is a position in the file.

pub mod allocators;
pub mod closure;
mod code;
pub mod demangle;
mod exits;
mod ld_cache;
mod links;
pub mod pools;
pub mod site;
pub mod whole;

use std::ops::Range;

use object::{
    LittleEndian, ReadRef, StringTable,
    elf::{self, FileHeader64, ProgramHeader64},
    read::elf::{Dyn, FileHeader, GnuHashTable, HashTable, NoteIterator, ProgramHeader, SectionHeader},
    read::elf::{SectionTable, Sym},
};

type Header = FileHeader64<LittleEndian>;
type Segments<'data> = &'data [ProgramHeader64<LittleEndian>];

const LE: LittleEndian = LittleEndian;

/// Why an object cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    #[error("not an ELF object")]
    NotElf,
    #[error("a 32-bit program; only 64-bit x86 programs can be traced")]
    Class32,
    #[error("built for {0}; only 64-bit x86 programs can be traced")]
    ForeignMachine(String),
    #[error("cut off: it states more than its {0} bytes")]
    Truncated(usize),
    #[error("malformed: {0}")]
    Malformed(String),
}

/// An object whose headers have been read and found consistent.
#[derive(Clone, Copy, Debug)]
pub struct Image<'data> {
    data: &'data [u8],
    header: &'data Header,
    segments: Segments<'data>,
    sections: SectionTable<'data, Header>,
    dynamic: &'data [elf::Dyn64<LittleEndian>],
    dynamic_strings: StringTable<'data>,
}

/// A part of the file that is mapped as code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub address: u64,
    pub file_offset: u64,
    pub file_size: u64,
}

/// Bytes of the file and the address at which they are mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Section<'data> {
    pub address: u64,
    pub data: &'data [u8],
}

/// A function that the object itself defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'data> {
    pub name: &'data [u8],
    pub address: u64,
    /// 0 if the object does not say.
    pub size: u64,
}

impl<'data> Image<'data> {
    /// # Errors
    ///
    /// If this is no 64-bit x86 object, or one that the kernel could not map either.
    pub fn parse(data: &'data [u8]) -> Result<Self, ElfError> {
        if !data.starts_with(&elf::ELFMAG) {
            return Err(ElfError::NotElf);
        }
        let (&class, &order) = data.get(4).zip(data.get(5)).ok_or(ElfError::Truncated(data.len()))?;
        if class == elf::ELFCLASS32 {
            return Err(ElfError::Class32);
        }
        let machine = data.get(18..20).ok_or(ElfError::Truncated(data.len()))?;
        let machine = match order {
            elf::ELFDATA2MSB => u16::from_be_bytes([machine[0], machine[1]]),
            _ => u16::from_le_bytes([machine[0], machine[1]]),
        };
        if machine != elf::EM_X86_64 {
            return Err(ElfError::ForeignMachine(machine_name(machine)));
        }
        if data.len() < size_of::<Header>() {
            return Err(ElfError::Truncated(data.len()));
        }
        let header = Header::parse(data).map_err(malformed)?;
        if !header.is_little_endian() {
            return Err(ElfError::Malformed("big-endian x86-64".into()));
        }
        let segments_end = header.e_phoff(LE).saturating_add(
            u64::from(header.e_phnum(LE)) * size_of::<ProgramHeader64<LittleEndian>>() as u64,
        );
        if segments_end > data.len() as u64 {
            return Err(ElfError::Truncated(data.len()));
        }
        let segments = header.program_headers(LE, data).map_err(malformed)?;
        for segment in segments.iter().filter(|it| it.p_type(LE) == elf::PT_LOAD) {
            let (offset, size) = segment.file_range(LE);
            if offset.checked_add(size).is_none_or(|end| end > data.len() as u64) {
                return Err(ElfError::Truncated(data.len()));
            }
        }

        let sections = header.sections(LE, data).unwrap_or_default();
        let dynamic = segments.iter().find_map(|it| it.dynamic(LE, data).ok().flatten()).unwrap_or_default();
        let mut image =
            Self { data, header, segments, sections, dynamic, dynamic_strings: StringTable::default() };
        image.dynamic_strings = image.read_dynamic_strings().unwrap_or_default();
        Ok(image)
    }

    /// The GNU build id in lower-case hex.
    pub fn build_id(&self) -> Option<String> {
        let id = self.note(elf::ELF_NOTE_GNU, elf::NT_GNU_BUILD_ID)?;
        Some(id.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The parts that are mapped as code.
    pub fn segments(&self) -> impl Iterator<Item = Segment> + use<'data> {
        let loaded = self.segments.iter().filter(|it| it.p_type(LE) == elf::PT_LOAD);
        loaded.filter(|it| it.p_flags(LE) & elf::PF_X != 0).map(|it| Segment {
            address: it.p_vaddr(LE),
            file_offset: it.p_offset(LE),
            file_size: it.p_filesz(LE),
        })
    }

    /// Where in the file the first instruction lies that runs in it.
    pub fn entry_offset(&self) -> Option<u64> {
        self.file_offset(self.header.e_entry(LE))
    }

    /// Where in the file the functions with one of these names lie; one that does not state its size is left
    /// out.
    pub fn function_ranges(&self, names: &[&str]) -> Vec<Range<u64>> {
        let range = |it: &Symbol<'_>| {
            let start = self.file_offset(it.address)?;
            Some(start..start + it.size)
        };
        let named = |it: &Symbol<'_>| names.iter().any(|name| name.as_bytes() == it.name);
        let mut ranges: Vec<Range<u64>> =
            self.functions().iter().filter(|it| named(it)).filter_map(range).collect();
        ranges.sort_by_key(|it| (it.start, it.end));
        ranges.dedup();
        ranges
    }

    /// Where in the file the code at `address` lies; program headers decide, as they do for the kernel.
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        self.segments().find_map(|it| {
            let distance = address.checked_sub(it.address)?;
            (distance < it.file_size).then(|| it.file_offset + distance)
        })
    }

    /// The bytes from `address` to the end of its segment in the file.
    pub fn at(&self, address: u64) -> Option<&'data [u8]> {
        self.segments.iter().filter(|it| it.p_type(LE) == elf::PT_LOAD).find_map(|it| {
            let distance = address.checked_sub(it.p_vaddr(LE))?;
            it.data(LE, self.data).ok()?.get(usize::try_from(distance).ok()?..).filter(|it| !it.is_empty())
        })
    }

    /// The unwinding data.
    ///
    /// Without section headers it is found through `PT_GNU_EH_FRAME`, and then reaches to the end of
    /// its segment: its own zero terminator says where it really ends.
    pub fn eh_frame(&self) -> Option<Section<'data>> {
        if let Some((_, section)) = self.sections.section_by_name(LE, b".eh_frame") {
            let data = section.data(LE, self.data).ok().filter(|it| !it.is_empty());
            // Files that hold debug information only keep the header and drop the bytes.
            return data.map(|data| Section { address: section.sh_addr(LE), data });
        }
        // Version 1 and a pointer relative to itself in four bytes (DW_EH_PE_pcrel | DW_EH_PE_sdata4):
        // the only form that GNU ld, gold, lld and mold write.
        let hdr = self.eh_frame_hdr()?;
        let [1, 0x1b, _, _, pointer @ ..] = hdr.data else { return None };
        let distance = i32::from_le_bytes(*pointer.first_chunk()?);
        let address = hdr.address.checked_add(4)?.checked_add_signed(distance.into())?;
        self.at(address).map(|data| Section { address, data })
    }

    /// The search table of the unwinding data, which outlives the removal of section headers.
    pub fn eh_frame_hdr(&self) -> Option<Section<'data>> {
        let segment = self.segments.iter().find(|it| it.p_type(LE) == elf::PT_GNU_EH_FRAME)?;
        Some(Section { address: segment.p_vaddr(LE), data: segment.data(LE, self.data).ok()? })
    }

    /// Whether the Go linker had a hand in this. Such code must get no return probe: its runtime
    /// moves stacks and reads return addresses.
    pub fn is_go(&self) -> bool {
        let named = [&b".go.buildinfo"[..], b".note.go.buildid"];
        named.iter().any(|it| self.sections.section_by_name(LE, it).is_some())
            || self.note(elf::ELF_NOTE_GO, elf::NT_GO_BUILD_ID).is_some()
    }

    /// Whether exceptions pass through functions of this object that do something about them: an entry of the unwinding
    /// data then begins with an augmentation that names a personality (`P`; Linux Standard Base 5, 10.6.1.1.1).
    pub fn handles_exceptions(&self) -> bool {
        let data = self.eh_frame().map_or(&[][..], |it| it.data);
        data.windows(3).any(|it| it == b"zPL" || it == b"zPR")
    }

    /// Whether it has the full table of its functions, and not only those that others can ask for.
    pub fn has_symbol_table(&self) -> bool {
        !self.section_symbols(elf::SHT_SYMTAB).0.is_empty()
    }

    /// The program that the kernel starts in its stead: the dynamic loader.
    pub fn interpreter(&self) -> Option<String> {
        let path = self.segments.iter().find_map(|it| it.interpreter(LE, self.data).ok().flatten())?;
        Some(lossy(path))
    }

    /// The names of the libraries it asks for, in search order.
    pub fn needed(&self) -> Vec<String> {
        self.dynamic_texts(elf::DT_NEEDED)
    }

    /// `DT_RPATH`: directories for itself and all it loads; void if there is a [`Self::runpath`].
    pub fn rpath(&self) -> Option<String> {
        self.dynamic_texts(elf::DT_RPATH).into_iter().next()
    }

    /// `DT_RUNPATH`: directories for its own libraries only.
    pub fn runpath(&self) -> Option<String> {
        self.dynamic_texts(elf::DT_RUNPATH).into_iter().next()
    }

    /// The name by which others ask for it.
    pub fn soname(&self) -> Option<String> {
        self.dynamic_texts(elf::DT_SONAME).into_iter().next()
    }

    /// A program that runs without a dynamic loader, position-independent or not.
    pub fn is_static(&self) -> bool {
        let pie = || self.dynamic_value(elf::DT_FLAGS_1).is_some_and(|it| it & u64::from(elf::DF_1_PIE) != 0);
        let program = self.header.e_type(LE) == elf::ET_EXEC || pie();
        program && self.interpreter().is_none()
    }

    /// The functions that this object defines, from `.dynsym`, then `.symtab`.
    ///
    /// Left out: imports, `STT_GNU_IFUNC` (its address is that of the resolver, not of the
    /// function), absolute symbols and address 0.
    pub fn functions(&self) -> Vec<Symbol<'data>> {
        let (symbols, strings) = self.dynamic_symbols();
        let (more, more_strings) = self.section_symbols(elf::SHT_SYMTAB);
        let all = symbols.iter().map(|it| (it, strings)).chain(more.iter().map(|it| (it, more_strings)));
        all.filter(|(it, _)| {
            it.st_type() == elf::STT_FUNC
                && !matches!(it.st_shndx(LE), elf::SHN_UNDEF | elf::SHN_ABS)
                && it.st_value(LE) != 0
        })
        .filter_map(|(it, strings)| {
            let name = it.name(LE, strings).ok()?;
            // Some linkers write the version into the names of `.symtab`.
            let name = name.split(|byte| *byte == b'@').next()?;
            Some(Symbol { name, address: it.st_value(LE), size: it.st_size(LE) })
        })
        .collect()
    }

    fn dynamic_symbols(&self) -> (&'data [elf::Sym64<LittleEndian>], StringTable<'data>) {
        let (symbols, strings) = self.section_symbols(elf::SHT_DYNSYM);
        if symbols.is_empty() { self.loader_symbols().unwrap_or_default() } else { (symbols, strings) }
    }

    fn section_symbols(&self, kind: u32) -> (&'data [elf::Sym64<LittleEndian>], StringTable<'data>) {
        let table = self.sections.symbols(LE, self.data, kind).unwrap_or_default();
        (table.symbols(), table.strings())
    }

    /// The dynamic symbols as the loader finds them. It never needs their number: the hash tables
    /// imply it.
    fn loader_symbols(&self) -> Option<(&'data [elf::Sym64<LittleEndian>], StringTable<'data>)> {
        let table = self.at(self.dynamic_value(elf::DT_SYMTAB)?)?;
        let gnu = self.dynamic_value(elf::DT_GNU_HASH).and_then(|address| {
            GnuHashTable::<Header>::parse(LE, self.at(address)?).ok()?.symbol_table_length(LE)
        });
        let count = gnu.or_else(|| {
            let data = self.at(self.dynamic_value(elf::DT_HASH)?)?;
            Some(HashTable::<Header>::parse(LE, data).ok()?.symbol_table_length())
        })?;
        Some((table.read_slice_at(0, count as usize).ok()?, self.dynamic_strings))
    }

    fn read_dynamic_strings(&self) -> Option<StringTable<'data>> {
        let data = self.at(self.dynamic_value(elf::DT_STRTAB)?)?;
        let size = self.dynamic_value(elf::DT_STRSZ)?.min(data.len() as u64);
        Some(StringTable::new(data, 0, size))
    }

    fn dynamic_value(&self, tag: i64) -> Option<u64> {
        self.dynamic_entries().find(|(it, _)| *it == tag).map(|(_, value)| value)
    }

    fn dynamic_texts(&self, tag: i64) -> Vec<String> {
        self.dynamic_entries()
            .filter(|(it, _)| *it == tag)
            .filter_map(|(_, value)| self.dynamic_strings.get(u32::try_from(value).ok()?).ok())
            .map(lossy)
            .collect()
    }

    fn dynamic_entries(&self) -> impl Iterator<Item = (i64, u64)> + use<'data> {
        let entries = self.dynamic.iter().map(|it| (it.tag(LE), it.val(LE)));
        entries.take_while(|(tag, _)| *tag != elf::DT_NULL)
    }

    /// The first note of this name and type, in a segment, or in a section if it is not mapped.
    fn note(&self, name: &[u8], kind: u32) -> Option<&'data [u8]> {
        let mapped = self.segments.iter().filter_map(|it| it.notes(LE, self.data).ok().flatten());
        let others = self.sections.iter().filter_map(|it| it.notes(LE, self.data).ok().flatten());
        let find = |mut notes: NoteIterator<'data, Header>| {
            while let Ok(Some(note)) = notes.next() {
                if note.name() == name && note.n_type(LE) == kind {
                    return Some(note.desc());
                }
            }
            None
        };
        mapped.chain(others).find_map(find)
    }
}

fn machine_name(machine: u16) -> String {
    match machine {
        elf::EM_AARCH64 => "aarch64".into(),
        elf::EM_RISCV => "riscv64".into(),
        elf::EM_PPC64 => "ppc64".into(),
        elf::EM_S390 => "s390x".into(),
        elf::EM_LOONGARCH => "loongarch64".into(),
        elf::EM_BPF => "bpf".into(),
        other => format!("machine {other}"),
    }
}

fn malformed(error: object::read::Error) -> ElfError {
    ElfError::Malformed(error.to_string())
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests;
