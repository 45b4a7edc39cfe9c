//! What stands at each level of a stack in the formats of other tools: the process, the functions, and marks for
//! stacks that end early and for mappings.

use std::borrow::Cow;

use rustc_hash::FxHashMap;

use super::{Options, escape};
use crate::profile::{By, Frame, FrameId, Profile, Site};

/// One level. Two levels that are equal are one box in a flame graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Level<'a> {
    /// Or the group of processes.
    Process(&'a str),
    /// Callers are missing from here outwards.
    EndsEarly,
    Function {
        name: &'a str,
        /// The source file, or the object if it is not known.
        file: &'a str,
    },
    /// Code without a name.
    Address { module: &'a str, offset: u64 },
    /// A mapping, by the call that made it; blocks of the heap have no such level.
    Mapping(&'a str),
}

/// The levels of the sites that are shown, each once, and the stacks as numbers of them.
pub(super) struct Levels<'a> {
    levels: Vec<Level<'a>>,
    numbers: FxHashMap<Level<'a>, u32>,
    /// What stands outermost, by group.
    roots: Vec<&'a str>,
    /// By frame id.
    frames: Vec<u32>,
}

impl<'a> Levels<'a> {
    pub(super) fn of(profile: &'a Profile) -> Self {
        let mut levels = Self {
            levels: Vec::new(),
            numbers: FxHashMap::default(),
            roots: roots(profile),
            frames: Vec::new(),
        };
        levels.frames = profile.stacks.frames().iter().map(|it| levels.number(Level::function(it))).collect();
        levels
    }

    /// Every level, by number.
    pub(super) fn all(&self) -> &[Level<'a>] {
        &self.levels
    }

    /// The numbers of a site's levels, from the process inwards.
    pub(super) fn stack(&mut self, site: &'a Site) -> Vec<u32> {
        self.stack_of(site, |_| true)
    }

    fn stack_of(&mut self, site: &'a Site, is_wanted: impl Fn(FrameId) -> bool) -> Vec<u32> {
        let root = self.roots.get(site.group_place()).copied().unwrap_or_default();
        let mut stack = Vec::with_capacity(site.frames.len() + 3);
        stack.push(self.number(Level::Process(root)));
        if !site.is_complete() {
            stack.push(self.number(Level::EndsEarly));
        }
        let frames = site.frames.iter().rev().filter(|it| is_wanted(**it));
        stack.extend(frames.map(|it| self.frames[it.0 as usize]));
        if &*site.kind == "mmap" {
            stack.push(self.number(Level::Mapping(&site.via)));
        }
        stack
    }

    /// The same without inlined functions, as levels.
    pub(super) fn real_stack(&mut self, profile: &Profile, site: &'a Site) -> Vec<Level<'a>> {
        let stack = self.stack_of(site, |it| !profile.stacks.frame(it).inlined);
        stack.into_iter().map(|it| self.levels[it as usize]).collect()
    }

    fn number(&mut self, level: Level<'a>) -> u32 {
        *self.numbers.entry(level).or_insert_with(|| {
            self.levels.push(level);
            self.levels.len() as u32 - 1
        })
    }
}

/// The name of the only process; of several, what tells them apart.
fn roots(profile: &Profile) -> Vec<&str> {
    match &profile.processes[..] {
        [process] if profile.by == By::Process => vec![&process.row.name; profile.groups().len()],
        _ => profile.groups().iter().map(|it| &*it.name).collect(),
    }
}

impl<'a> Level<'a> {
    pub(super) fn function(frame: &'a Frame) -> Self {
        match name(frame) {
            Some(name) => Self::Function { name, file: frame.file.as_deref().unwrap_or(&frame.module) },
            None => Self::Address { module: frame.module_name(), offset: frame.offset },
        }
    }

    pub(super) fn name(self) -> Cow<'a, str> {
        match self {
            Self::Process(name) if name.trim().is_empty() => "?".into(),
            Self::Process(name) | Self::Function { name, .. } => printable(name),
            Self::EndsEarly => "[stack ends early]".into(),
            Self::Address { module, offset } => {
                printable(&format!("{module}+{offset:#x}")).into_owned().into()
            }
            Self::Mapping(via) => format!("[{}]", printable(via)).into(),
        }
    }

    pub(super) fn file(self) -> Option<Cow<'a, str>> {
        match self {
            Self::Function { file, .. } if !file.is_empty() => Some(printable(file)),
            _ => None,
        }
    }
}

/// The sites that a report with `options` shows.
pub(super) fn shown<'a>(profile: &'a Profile, options: &Options) -> &'a [Site] {
    &profile.sites[..profile.sites.len().min(options.top.unwrap_or(usize::MAX))]
}

/// The function's name, unless it is blank.
pub(super) fn name(frame: &Frame) -> Option<&str> {
    frame.function.as_deref().filter(|it| !it.trim().is_empty())
}

/// Without what ends a line, what a terminal obeys and what XML cannot hold; and without blanks at the ends, which
/// other tools take away, too.
pub(super) fn printable(name: &str) -> Cow<'_, str> {
    escape::printable(name.trim())
}
