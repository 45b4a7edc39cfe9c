//! Remove DWARF from a BPF object and keep everything that a loader reads.
//!
//! BTF (`.BTF`, `.BTF.ext`) stays: types, names of functions, and our source lines, which the verifier quotes.

use anyhow::{Context as _, Result, ensure};
use object::{
    build::elf::{Builder, SectionData},
    elf,
};

/// Without these aya does not load the object.
const NEEDED: [&[u8]; 4] = [b"license", b"maps", b".BTF", b".BTF.ext"];

pub(super) fn strip_dwarf(linked: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read64(linked).context("read the linked object")?;
    for section in &mut builder.sections {
        let name = &section.name;
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    builder.delete_orphans();
    // LLVM writes one string table for the names of sections and symbols; the builder wants two.
    if !builder.sections.iter().any(|it| matches!(it.data, SectionData::SectionString)) {
        let names = builder.sections.add();
        names.name = b".shstrtab"[..].into();
        names.sh_type = elf::SHT_STRTAB;
        names.data = SectionData::SectionString;
    }
    for needed in NEEDED {
        let found = builder.sections.iter().any(|it| *it.name == *needed && !it.delete);
        ensure!(found, "the object has no section {}", String::from_utf8_lossy(needed));
    }
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("write the object without DWARF")?;
    Ok(stripped)
}

#[cfg(test)]
mod tests {
    use super::strip_dwarf;

    #[test]
    fn the_committed_object_is_stripped() {
        let committed = include_bytes!("../../../tracer/bpf/probes.o");
        assert!(strip_dwarf(committed).unwrap() == committed);
    }
}
