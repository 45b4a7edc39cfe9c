//! The frames of the sites that are shown, each once.

use std::{collections::HashMap, sync::Arc};

use super::Site;
use crate::{capture::Recording, symbol::Places};

/// A place in [`Stacks::frames`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FrameId(pub u32);

/// One function of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Frame {
    pub function: Option<Arc<str>>,
    /// Path of the file; empty for memory without one.
    pub module: Arc<str>,
    pub build_id: Option<Arc<str>>,
    pub offset: u64,
    pub file: Option<Arc<str>>,
    pub line: Option<u32>,
    /// The compiler has put the function into the next one; there is no frame of its own on the stack.
    pub inlined: bool,
}

impl Frame {
    /// The function, or where it would be.
    pub fn label(&self) -> String {
        match &self.function {
            Some(function) => function.to_string(),
            None => format!("{}+{:#x}", self.module_name(), self.offset),
        }
    }

    /// Inlined code of the Rust standard library and what it is built from: ten such frames may lie between an
    /// allocation and the function that wanted it.
    pub fn is_plumbing(&self) -> bool {
        const SOURCES: [&str; 2] = ["/rustc/", "/rust/deps/"];
        self.inlined && self.file.as_ref().is_some_and(|file| SOURCES.iter().any(|it| file.starts_with(it)))
    }

    /// Whoever called this wanted the memory.
    pub fn serves_others(&self) -> bool {
        self.is_plumbing() || serves_others(self.function.as_deref(), &self.module)
    }

    /// See [`is_library`].
    pub fn is_library(&self) -> bool {
        self.function.as_deref().is_some_and(is_library)
    }

    /// The last part of the module's path.
    pub fn module_name(&self) -> &str {
        match file_name(&self.module) {
            "" => "[anonymous]",
            name => name,
        }
    }
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// A function of a library that takes and touches memory for whoever calls it: those of [`is_library`], and all of a C
/// library, its loader or an allocator. `module` is a path.
pub fn serves_others(function: Option<&str>, module: &str) -> bool {
    const BEGINNINGS: [&str; 8] =
        ["libc.", "libc-", "ld-", "libstdc++.", "libjemalloc", "libtcmalloc", "libmimalloc", "libsnmalloc"];
    let name = file_name(module);
    function.is_some_and(is_library) || BEGINNINGS.iter().any(|it| name.starts_with(it))
}

/// A function of the standard libraries of C++ and Rust, of Go's runtime, or one of the wrappers of `malloc` that C programs have in
/// common (gnulib, GLib), by name: it allocates for whoever called it.
pub fn is_library(function: &str) -> bool {
    const WRAPPERS: [&str; 14] = [
        "xmalloc",
        "xzalloc",
        "xcalloc",
        "xrealloc",
        "xmemdup",
        "xstrdup",
        "strdup",
        "strndup",
        "g_malloc",
        "g_malloc0",
        "g_realloc",
        "g_strdup",
        "g_slice_alloc",
        "g_slice_alloc0",
    ];
    // The last is Go's.
    const PREFIXES: [&str; 8] =
        ["alloc::", "core::", "std::", "hashbrown::", "operator new", "__gnu_cxx::", "__rust_", "runtime."];
    // `<alloc::vec::Vec<T> as …>` and `void std::vector<…>` too.
    let is_of = |name: &str| PREFIXES.iter().any(|it| name.starts_with(it));
    is_of(function.trim_start_matches('<'))
        || function.strip_prefix("void ").is_some_and(is_of)
        || WRAPPERS.contains(&function)
}

/// Distinct frames; sites name them by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stacks {
    frames: Vec<Frame>,
}

impl Stacks {
    pub fn frame(&self, id: FrameId) -> &Frame {
        &self.frames[id.0 as usize]
    }

    /// Every frame, in the order of the ids.
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Gives `sites` their frames.
    pub(super) fn of<'a>(recording: &Recording, sites: impl Iterator<Item = &'a mut Site>) -> Self {
        let mut modules: HashMap<u32, (Arc<str>, Option<Arc<str>>)> = HashMap::new();
        let mut ids: HashMap<u32, FrameId> = HashMap::new();
        let mut frames = Vec::new();
        for site in sites {
            let Some(stack) = recording.stacks.get(&site.stack) else { continue };
            let mut id_of = |&recorded: &u32| {
                *ids.entry(recorded).or_insert_with(|| {
                    let row = &recording.frames[recorded as usize];
                    let (module, build_id) = modules.entry(row.module).or_insert_with(|| {
                        let module = recording.modules.get(&row.module);
                        let path = module.map_or("", |it| &it.path);
                        (path.into(), module.and_then(|it| it.build_id.as_deref().map(Arc::from)))
                    });
                    frames.push(Frame {
                        function: row.function.clone(),
                        module: Arc::clone(module),
                        build_id: build_id.clone(),
                        offset: row.offset,
                        ..Frame::default()
                    });
                    FrameId(frames.len() as u32 - 1)
                })
            };
            site.frames = stack.frames.iter().map(&mut id_of).collect();
        }
        Self { frames }
    }

    /// The frames of one site, innermost first, with whatever `places` knows of them.
    pub fn of_site(recording: &Recording, site: &Site, places: Option<&mut dyn Places>) -> Vec<Frame> {
        let mut site = site.clone();
        let mut stacks = Self::of(recording, std::iter::once(&mut site));
        if let Some(places) = places {
            stacks.add_places(std::slice::from_mut(&mut site), places);
        }
        site.frames.iter().map(|it| stacks.frame(*it).clone()).collect()
    }

    /// Adds source lines, and the functions that were inlined at each frame before it. The capture's names
    /// stay: they are of the functions that have frames of their own.
    pub(super) fn add_places(&mut self, sites: &mut [Site], places: &mut dyn Places) {
        let mut frames = Vec::with_capacity(self.frames.len());
        let mut chains: Vec<std::ops::Range<u32>> = Vec::with_capacity(self.frames.len());
        for frame in std::mem::take(&mut self.frames) {
            let first = frames.len() as u32;
            let mut found = places.places(&frame.module, frame.build_id.as_deref(), frame.offset);
            let outer = found.pop();
            frames.extend(found.into_iter().map(|it| Frame {
                function: it.function.map(Arc::from),
                file: it.file.map(Arc::from),
                line: it.line,
                inlined: true,
                ..frame.clone()
            }));
            frames.push(match outer {
                Some(outer) => Frame {
                    function: frame.function.or(outer.function.map(Arc::from)),
                    file: outer.file.map(Arc::from),
                    line: outer.line,
                    ..frame
                },
                None => frame,
            });
            chains.push(first..frames.len() as u32);
        }
        self.frames = frames;
        for site in sites {
            site.frames =
                site.frames.iter().flat_map(|it| chains[it.0 as usize].clone()).map(FrameId).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_allocates_for_others_is_told_from_who_wants_the_memory() {
        let is_library = |name: &str| Frame { function: Some(name.into()), ..Frame::default() }.is_library();
        for name in [
            "operator new(unsigned long)",
            "void std::vector<int>::_M_realloc_insert<int>(int&&)",
            "<alloc::vec::Vec<u8> as core::clone::Clone>::clone",
            "std::rt::lang_start::{{closure}}",
            "xmalloc",
            "runtime.mallocgc",
        ] {
            assert!(is_library(name), "{name}");
        }
        for name in
            ["main", "Parser::grow(std::string)", "<app::Cache as std::ops::Drop>::drop", "xmalloc_all"]
        {
            assert!(!is_library(name), "{name}");
        }
    }

    #[test]
    fn who_serves_others() {
        for (function, module, expected) in [
            (Some("malloc"), "/usr/lib/x86_64-linux-gnu/libc.so.6", true),
            (None, "/lib/ld-musl-x86_64.so.1", true),
            (Some("arena_malloc"), "/usr/lib/libjemalloc.so.2", true),
            (Some("std::vec::Vec<T>::push"), "/opt/server", true),
            (Some("malloc_session"), "/opt/server", false),
            (None, "/opt/libcache.so", false),
        ] {
            assert_eq!(serves_others(function, module), expected, "{function:?} in {module}");
        }
    }
}
