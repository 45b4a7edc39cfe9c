//! Bytes of an ELF file to what tracing needs of it: its identity, its code, its unwind information, its
//! symbols and what it will load. Pure: it is given bytes.

pub mod allocators;
pub mod closure;
pub mod site;

use std::ops::Range;

use object::{
    Object as _, ObjectSection as _, ObjectSymbol as _, elf,
    read::elf::{Dyn as _, ElfFile64, FileHeader as _, ProgramHeader as _},
};

/// Why a file cannot be traced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    #[error("not an ELF file")]
    NotElf,
    #[error("a 32-bit program; only 64-bit programs can be traced")]
    Class32,
    #[error("made for another processor (ELF machine {0}); only x86-64 programs can be traced")]
    ForeignMachine(u16),
    #[error("damaged ELF file: {0}")]
    Malformed(String),
}

/// A loadable segment with code. Virtual addresses are those stated in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    pub address: u64,
    pub file_offset: u64,
    pub size_bytes: u64,
}

/// A part of the file and the virtual address that the file gives it.
#[derive(Clone, Copy, Debug)]
pub struct Section<'data> {
    pub address: u64,
    pub data: &'data [u8],
}

/// A 64-bit x86 ELF file.
pub struct Image<'data> {
    data: &'data [u8],
    file: ElfFile64<'data, object::LittleEndian>,
}

impl<'data> Image<'data> {
    /// # Errors
    /// If the file is not what can be traced; see [`ElfError`].
    pub fn parse(data: &'data [u8]) -> Result<Self, ElfError> {
        if data.get(..4) != Some(b"\x7fELF") {
            return Err(ElfError::NotElf);
        }
        if data.get(4) == Some(&elf::ELFCLASS32) {
            return Err(ElfError::Class32);
        }
        let malformed = |error: object::Error| ElfError::Malformed(error.to_string());
        let file = ElfFile64::<object::LittleEndian>::parse(data).map_err(malformed)?;
        let machine = file.elf_header().e_machine(object::LittleEndian);
        if machine != elf::EM_X86_64 {
            return Err(ElfError::ForeignMachine(machine));
        }
        Ok(Self { data, file })
    }

    /// In lower-case hexadecimal.
    pub fn build_id(&self) -> Option<String> {
        let id = self.file.build_id().ok()??;
        Some(id.iter().map(|it| format!("{it:02x}")).collect())
    }

    fn program_headers(&self) -> impl Iterator<Item = &elf::ProgramHeader64<object::LittleEndian>> {
        self.file.elf_program_headers().iter()
    }

    /// Loadable segments with code.
    pub fn code_segments(&self) -> Vec<Segment> {
        let endian = object::LittleEndian;
        self.program_headers()
            .filter(|it| it.p_type(endian) == elf::PT_LOAD && it.p_flags(endian) & elf::PF_X != 0)
            .map(|it| Segment {
                address: it.p_vaddr(endian),
                file_offset: it.p_offset(endian),
                size_bytes: it.p_filesz(endian),
            })
            .collect()
    }

    /// The bytes that a virtual address of the file refers to, up to the end of its segment.
    pub fn bytes_at(&self, address: u64) -> Option<&'data [u8]> {
        let endian = object::LittleEndian;
        self.program_headers().filter(|it| it.p_type(endian) == elf::PT_LOAD).find_map(|it| {
            let within = address.checked_sub(it.p_vaddr(endian)).filter(|at| *at < it.p_filesz(endian))?;
            let start = it.p_offset(endian).checked_add(within)?;
            let end = it.p_offset(endian).checked_add(it.p_filesz(endian))?;
            self.data.get(start as usize..end as usize)
        })
    }

    /// Where in the file the code at a virtual address is.
    pub fn file_offset(&self, address: u64) -> Option<u64> {
        self.code_segments().iter().find_map(|it| {
            let within = address.checked_sub(it.address).filter(|at| *at < it.size_bytes)?;
            it.file_offset.checked_add(within)
        })
    }

    /// `.eh_frame`; in a file without section headers it is found through the program headers.
    pub fn eh_frame(&self) -> Option<Section<'data>> {
        if let Some(section) = self.file.section_by_name(".eh_frame") {
            let data = section.data().ok().filter(|it| !it.is_empty())?;
            return Some(Section { address: section.address(), data });
        }
        let endian = object::LittleEndian;
        let header = self.program_headers().find(|it| it.p_type(endian) == elf::PT_GNU_EH_FRAME)?;
        let bases = gimli::BaseAddresses::default().set_eh_frame_hdr(header.p_vaddr(endian));
        let parsed = gimli::EhFrameHdr::new(header.data(endian, self.data).ok()?, gimli::LittleEndian);
        let gimli::Pointer::Direct(address) = parsed.parse(&bases, 8).ok()?.eh_frame_ptr() else {
            return None;
        };
        Some(Section { address, data: self.bytes_at(address)? })
    }

    /// File offset of the first instruction that runs.
    pub fn entry_offset(&self) -> Option<u32> {
        u32::try_from(self.file_offset(self.file.entry())?).ok()
    }

    /// Made by the Go compiler; true for stripped programs too.
    pub fn is_go(&self) -> bool {
        [".go.buildinfo", ".note.go.buildid"].iter().any(|it| self.file.section_by_name(it).is_some())
    }

    /// The dynamic loader.
    pub fn interpreter(&self) -> Option<String> {
        let endian = object::LittleEndian;
        let header = self.program_headers().find(|it| it.p_type(endian) == elf::PT_INTERP)?;
        let path = header.data(endian, self.data).ok()?;
        Some(String::from_utf8_lossy(path.split(|it| *it == 0).next()?).into_owned())
    }

    /// The strings of a `DT_*` entry: needed libraries, search paths.
    pub fn dynamic_strings(&self, tag: i64) -> Vec<String> {
        let endian = object::LittleEndian;
        let entries =
            self.program_headers().find_map(|it| it.dynamic(endian, self.data).ok()?).unwrap_or(&[]);
        let with_tag =
            |tag: i64| entries.iter().filter(move |it| it.d_tag(endian) == tag).map(|it| it.d_val(endian));
        let strings = with_tag(elf::DT_STRTAB).next().and_then(|it| self.bytes_at(it)).unwrap_or(&[]);
        with_tag(tag)
            .filter_map(|at| strings.get(at as usize..)?.split(|it| *it == 0).next())
            .map(|it| String::from_utf8_lossy(it).into_owned())
            .collect()
    }

    /// Every function that the file defines: (name, virtual address, size). Undefined symbols are imports;
    /// an indirect function's symbol is that of its resolver, not of the function.
    fn functions(&self) -> impl Iterator<Item = (&'data str, u64, u64)> + '_ {
        self.file.dynamic_symbols().chain(self.file.symbols()).filter_map(|symbol| {
            let is_function = symbol.elf_symbol().st_type() == elf::STT_FUNC;
            (is_function && !symbol.is_undefined() && symbol.address() != 0)
                .then(|| Some((symbol.name().ok()?, symbol.address(), symbol.size())))?
        })
    }

    /// File offsets of the functions with these names.
    pub fn function_ranges(&self, names: &[&str]) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = self
            .functions()
            .filter(|(name, ..)| names.contains(name))
            .filter_map(|(_, address, size)| {
                let start = self.file_offset(address)?;
                Some(start..start + size)
            })
            .collect();
        ranges.sort_by_key(|it| (it.start, it.end));
        ranges.dedup();
        ranges
    }
}
