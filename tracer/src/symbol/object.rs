//! Names and lines out of ELF and DWARF, by blazesym.

use std::{collections::HashMap, path::Path};

use blazesym::symbolize::{
    Input, Sym, Symbolized, Symbolizer,
    source::{Elf, Source},
};

use super::{Place, Places, Symbol};
use crate::elf::demangle::demangle;

/// Function names, without lines and inlined functions.
pub struct NameTable {
    symbolizer: Symbolizer,
}

impl Default for NameTable {
    fn default() -> Self {
        let symbolizer = Symbolizer::builder()
            .enable_code_info(false)
            .enable_inlined_fns(false)
            .enable_demangling(false)
            .build();
        Self { symbolizer }
    }
}

impl NameTable {
    /// The names of the functions at `offsets` of one file, demangled; all `None` if it cannot be read.
    pub fn functions(&self, path: &str, offsets: &[u64]) -> Vec<Option<String>> {
        self.look_up(path, offsets, false).into_iter().map(|it| it.map(|it| it.name)).collect()
    }

    /// The functions at `offsets` of one file. What its symbol table does not know is looked for in its debug
    /// information, which may lie elsewhere and takes long to read: for the stacks that somebody looks at.
    pub fn symbols(&self, path: &str, offsets: &[u64]) -> Vec<Option<Symbol>> {
        let mut symbols = self.look_up(path, offsets, false);
        let unknown = || offsets.iter().zip(&symbols).filter(|(_, it)| it.is_none());
        let offsets: Vec<u64> = unknown().map(|(offset, _)| *offset).collect();
        let mut found = self.look_up(path, &offsets, true).into_iter();
        symbols.iter_mut().filter(|it| it.is_none()).for_each(|it| *it = found.next().flatten());
        symbols
    }

    fn look_up(&self, path: &str, offsets: &[u64], debug_syms: bool) -> Vec<Option<Symbol>> {
        if offsets.is_empty() {
            return Vec::new();
        }
        let source = Source::Elf(Elf { debug_syms, ..Elf::new(path) });
        let Ok(found) = self.symbolizer.symbolize(&source, Input::FileOffset(offsets)) else {
            return vec![None; offsets.len()];
        };
        let symbol =
            |it: &Sym<'_>| Symbol { name: demangle(&it.name).into_owned(), offset: it.offset as u64 };
        found.iter().map(|it| it.as_sym().map(symbol)).collect()
    }
}

/// Lines and inlined functions from DWARF.
pub struct LineTable {
    symbolizer: Symbolizer,
    /// Whether the file at a path is the build that was recorded.
    same_build: HashMap<String, bool>,
    known: HashMap<(String, u64), Vec<Place>>,
}

impl Default for LineTable {
    fn default() -> Self {
        let symbolizer = Symbolizer::builder()
            .enable_code_info(true)
            .enable_inlined_fns(true)
            .enable_demangling(false)
            .build();
        Self { symbolizer, same_build: HashMap::new(), known: HashMap::new() }
    }
}

impl LineTable {
    fn is_same_build(&mut self, path: &str, build_id: &str) -> bool {
        if let Some(same) = self.same_build.get(path) {
            return *same;
        }
        let read = blazesym::helper::read_elf_build_id(Path::new(path)).ok().flatten();
        let same =
            read.is_some_and(|it| it.iter().map(|it| format!("{it:02x}")).collect::<String>() == build_id);
        self.same_build.insert(path.to_owned(), same);
        same
    }
}

impl Places for LineTable {
    fn places(&mut self, path: &str, build_id: Option<&str>, offset: u64) -> Vec<Place> {
        let Some(build_id) = build_id else { return Vec::new() };
        if !self.is_same_build(path, build_id) {
            return Vec::new();
        }
        let key = (path.to_owned(), offset);
        if let Some(places) = self.known.get(&key) {
            return places.clone();
        }
        let source = Source::Elf(Elf::new(path));
        let found = self.symbolizer.symbolize_single(&source, Input::FileOffset(offset));
        let places = match &found {
            Ok(Symbolized::Sym(sym)) => places_of(sym),
            _ => Vec::new(),
        };
        self.known.insert(key, places.clone());
        places
    }
}

fn places_of(sym: &Sym<'_>) -> Vec<Place> {
    let place = |function: &str, code: Option<&blazesym::symbolize::CodeInfo<'_>>, inlined| Place {
        function: Some(demangle(function).into_owned()),
        file: code.map(|it| it.to_path().to_string_lossy().into_owned()),
        line: code.and_then(|it| it.line),
        inlined,
    };
    // blazesym lists inlined functions from the outermost to the innermost.
    let mut places: Vec<Place> =
        sym.inlined.iter().rev().map(|it| place(&it.name, it.code_info.as_ref(), true)).collect();
    places.push(place(&sym.name, sym.code_info.as_deref(), false));
    places
}
