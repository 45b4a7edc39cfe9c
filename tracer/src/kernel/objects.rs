//! All objects of a run and where each process has them: what frames refer to.

mod frames;
mod news;
mod own_pools;
mod targets;
mod unused;

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use anyhow::Context as _;
use aya::{Ebpf, maps::MapData};
use tracer_ebpf::{
    loss::Loss,
    mapping::{FIRST_KERNEL_OBJECT, Mapped, ObjectKey},
    record::{self, Mapping},
};

use self::unused::Unused;
use super::{
    MemoryBound, PerfMap, StartError, launch,
    load::Sizes,
    missing,
    object::{self, Object},
    process::{self, CodeMapping},
    raw::Mappings,
    tables::Tables,
    whereabouts::Whereabouts,
};
use crate::{elf::pools::Pools, event::ProcessId, interval::Losses};

/// Room for objects that come into view later, in rows of unwinding tables: 16 MiB. Measured: libc takes 131 KB,
/// libLLVM 4.5 MB, rustc's driver 6 MB.
const SPARE_ROWS: usize = 4 << 20;

/// The same for blocks of 256 bytes: half a gigabyte of text.
const SPARE_BLOCKS: usize = 2 << 20;

/// Under a smaller bound of our memory there is as much less room.
const SPARE_BOUND_BYTES: u64 = 512 << 20;

#[derive(Default)]
pub(crate) struct Objects {
    /// By object number. An object that could not be read is a name without a body.
    objects: HashMap<u32, Result<Object, String>>,
    numbers: HashMap<ObjectKey, u32>,
    images: HashMap<ProcessId, ProcessImage>,
    /// Processes whose images have changed since somebody asked for their allocators.
    changed: BTreeSet<ProcessId>,
    /// The allocators of those that have ended since.
    gone_allocators: Vec<(ProcessId, Vec<String>)>,
    /// What the targets are, for messages.
    targets: Vec<TargetFacts>,
    news: Vec<u32>,
    whereabouts: Whereabouts,
    /// Numbers of the memory in which processes make code, and where its names may be.
    generated: HashMap<ProcessId, u32>,
    perf_maps: HashMap<u32, PerfMap>,
    kernel: Option<KernelSide>,
    /// How many numbers we have given.
    last_number: u32,
    unused: Unused,
    /// The user's own.
    pools: Pools,
    /// Functions of them that cannot be probed: the position in `pools`, the file and the reason.
    pool_problems: Vec<(usize, String, String)>,
}

/// Where the objects of one process lie.
#[derive(Clone, Default)]
struct ProcessImage {
    tgid: u32,
    mappings: Mappings,
}

struct TargetFacts {
    /// "process 7 (name)" or the command.
    label: String,
    objects: Vec<u32>,
    problem: Option<String>,
}

struct KernelSide {
    tables: Tables,
    numbers: aya::maps::HashMap<MapData, ObjectKey, u32>,
}

impl Objects {
    /// Room for what is known and for what may come.
    pub(crate) fn sizes(&self, ring_bytes: u32, memory: MemoryBound) -> Sizes {
        let tables = || self.iter().filter_map(|(_, it)| it.table.as_ref());
        let rows: usize = tables().map(|it| it.packed_rows()).sum();
        let blocks: usize = tables().map(|it| it.packed_blocks()).sum();
        // Of a selection nobody knows which programs will come; a browser's table alone has tens of megabytes.
        let spare = if self.targets.is_empty() { 4 } else { 1 };
        let spare_of = |count: usize| memory.scaled(spare * count, SPARE_BOUND_BYTES);
        let (rows, blocks) = (rows + spare_of(SPARE_ROWS), blocks + spare_of(SPARE_BLOCKS));
        Sizes { ring_bytes, rows: rows as u32, blocks: blocks as u32, memory }
    }

    /// Tells the kernel half what is known so far, and from now on of what comes.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub(crate) fn connect(&mut self, ebpf: &mut Ebpf, counted: &mut Losses) -> anyhow::Result<()> {
        let numbers = aya::maps::HashMap::try_from(ebpf.take_map("OBJECTS").context("map OBJECTS")?)?;
        self.kernel = Some(KernelSide { tables: Tables::new(ebpf)?, numbers });
        let known: Vec<(ObjectKey, u32)> = self.numbers.iter().map(|(key, number)| (*key, *number)).collect();
        for (key, number) in known {
            self.tell_kernel(key, number, counted)?;
        }
        Ok(())
    }

    fn tell_kernel(&mut self, key: ObjectKey, number: u32, counted: &mut Losses) -> anyhow::Result<()> {
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        let object = self.objects.get_mut(&number).and_then(|it| it.as_mut().ok());
        if object.is_none() {
            counted.add(Loss::UnnamedModules, 1);
        }
        let mut nothing = None;
        let table = object.map_or(&mut nothing, |it| &mut it.table);
        let fits = kernel.tables.set(number, table.as_ref())?;
        if table.is_none() || !fits {
            counted.add(Loss::SkippedTables, 1);
        }
        if fits {
            // From now on it is read where the probes read it.
            *table = None;
        }
        kernel.numbers.insert(key, number, 0)?;
        Ok(())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Object)> {
        self.objects.iter().filter_map(|(number, it)| it.as_ref().ok().map(|it| (*number, it)))
    }

    /// The object that lies at a path.
    pub(crate) fn at(&self, path: &Path) -> Option<&Object> {
        self.get(*self.numbers.get(&object::key_at(path).ok()?)?)
    }

    /// Files that could not be read.
    pub(crate) fn unreadable(&self) -> impl Iterator<Item = &str> {
        self.objects.values().filter_map(|it| it.as_ref().err()).map(String::as_str)
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Object> {
        self.objects.get(&number)?.as_ref().ok()
    }

    /// An object that may already have a number from the kernel half. Returns it if it is new here.
    fn adopt(&mut self, key: ObjectKey, object: Object, counted: &mut Losses) -> Option<u32> {
        let known = self.kernel.as_ref().and_then(|it| it.numbers.get(&key, 0).ok());
        let known = known.or_else(|| self.numbers.get(&key).copied());
        if known.is_some_and(|it| self.get(it).is_some()) {
            return None;
        }
        let number = known.or_else(|| self.new_number())?;
        self.enter(key, number, Ok(object), counted);
        Some(number)
    }

    /// Puts an object in, and has the kernel half know it.
    fn enter(
        &mut self,
        key: ObjectKey,
        number: u32,
        mut object: Result<Object, String>,
        counted: &mut Losses,
    ) {
        self.add_pools(&mut object);
        self.numbers.insert(key, number);
        self.whereabouts.forget(number);
        self.objects.insert(number, object);
        self.news.push(number);
        if let Err(error) = self.tell_kernel(key, number, counted) {
            log::warn!("unwinding table: {error:#}");
            counted.add(Loss::SkippedTables, 1);
        }
    }

    /// What a process has mapped that was found running. Returns the objects that are new.
    pub(crate) fn add_running(&mut self, tgid: u32, counted: &mut Losses) -> Vec<u32> {
        let mappings = process::code_mappings(tgid).unwrap_or_default();
        let unknown = |it: &CodeMapping, numbers: &HashMap<ObjectKey, u32>| !numbers.contains_key(&it.key);
        let mut added = Vec::new();
        for mapping in mappings {
            if unknown(&mapping, &self.numbers)
                && let Ok(object) = Object::of_mapping(tgid, &mapping)
            {
                added.extend(self.adopt(mapping.key, object, counted));
            }
        }
        added
    }

    /// What a program that nobody has met before will map, as far as it can be told. Returns the objects that are new.
    pub(crate) fn foresee(&mut self, tgid: u32, counted: &mut Losses) -> Vec<u32> {
        let mut added = Vec::new();
        for path in process::closure(tgid) {
            // Most are known; then the file is not read.
            if let Some(number) = object::key_at(&path).ok().and_then(|it| self.numbers.get(&it)) {
                self.unused.is_met(*number);
                continue;
            }
            if let Ok((key, object)) = Object::of_path(&path) {
                added.extend(self.adopt(key, object, counted));
            }
        }
        added
    }

    /// Where an object's file lies, if user space has not opened it yet.
    pub(crate) fn note_path(&mut self, record: &record::Path) {
        self.whereabouts.note(record);
    }

    /// The file of an object, as far as it can be named without a process that maps it.
    pub(crate) fn path(&self, number: u32) -> Option<String> {
        match self.objects.get(&number) {
            Some(Ok(object)) => Some(object.path.clone()),
            _ => self.open_elsewhere(number).map(|it| it.path),
        }
    }

    fn open_elsewhere(&self, number: u32) -> Option<Object> {
        let (key, candidates) = self.whereabouts.candidates(number)?;
        candidates
            .iter()
            .find_map(|it| Object::of_path(it).ok().filter(|(found, _)| *found == key))
            .map(|it| it.1)
    }

    /// The object behind a mapping, read if it is new, and what was wrong with it.
    fn add_code(&mut self, tgid: u32, mapping: &CodeMapping) -> (Option<u32>, Option<String>) {
        if let Some(number) = self.numbers.get(&mapping.key) {
            return (Some(*number), None);
        }
        let object = Object::of_mapping(tgid, mapping);
        let problem = object.as_ref().err().map(|error| format!("{}: {error}", mapping.path));
        if let Some(problem) = &problem {
            log::warn!("{problem}");
        }
        (self.insert(mapping.key, object.map_err(|_| mapping.path.clone())), problem)
    }

    /// The objects that a process has mapped now.
    ///
    /// # Errors
    /// If it has ended.
    pub(crate) fn of_process(
        &mut self,
        tgid: u32,
        counted: &mut Losses,
    ) -> Result<Vec<u32>, procfs::ProcError> {
        let mut numbers = Vec::new();
        for mapping in process::code_mappings(tgid)? {
            let is_new = !self.numbers.contains_key(&mapping.key);
            let (Some(number), _) = self.add_code(tgid, &mapping) else { continue };
            if is_new && let Err(error) = self.tell_kernel(mapping.key, number, counted) {
                log::warn!("unwinding table: {error:#}");
                counted.add(Loss::SkippedTables, 1);
            }
            numbers.push(number);
        }
        Ok(numbers)
    }

    fn insert(&mut self, key: ObjectKey, mut object: Result<Object, String>) -> Option<u32> {
        if let Some(number) = self.numbers.get(&key) {
            return Some(*number);
        }
        self.add_pools(&mut object);
        let number = self.new_number()?;
        self.numbers.insert(key, number);
        self.objects.insert(number, object);
        self.news.push(number);
        Some(number)
    }

    /// Below the numbers that the kernel half gives. `None` if there is none left: objects get one when the kernel half meets
    /// them.
    fn new_number(&mut self) -> Option<u32> {
        let number = self.last_number + 1;
        if number == FIRST_KERNEL_OBJECT {
            return None;
        }
        self.last_number = number;
        Some(number)
    }

    /// A mapping that the kernel half has met. Returns the number of an object that was new.
    pub(crate) fn add_mapping(&mut self, record: &Mapping, counted: &mut Losses) -> Option<u32> {
        let Mapping { start, end, file_offset, key, object: number, tgid, head } = *record;
        let mapping = CodeMapping { start, end, file_offset, key, path: String::new() };
        let image = self.images.entry(ProcessId(head.process)).or_default();
        image.tgid = tgid;
        image.mappings.insert(start, mapping.mapped(number));
        self.changed.insert(ProcessId(head.process));
        self.unused.is_met(number);
        if self.get(number).is_some() {
            return None;
        }
        // New, or the process that it was first seen in ended too soon: try again with this one.
        let seen =
            process::code_mappings(tgid).ok().and_then(|it| it.into_iter().find(|it| it.start == start));
        let path = seen.map_or_else(|| format!("[inode {} of device {:#x}]", key.ino, key.dev), |it| it.path);
        let object = Object::of_mapping(tgid, &CodeMapping { path: path.clone(), ..mapping });
        let object = object.or_else(|error| self.open_elsewhere(number).ok_or(error));
        if let Err(error) = &object {
            log::debug!("{path}: {error}");
            if self.objects.contains_key(&number) {
                return None;
            }
        }
        self.enter(key, number, object.map_err(|_| path), counted);
        Some(number)
    }

    /// A target process: its mappings are known from `/proc`.
    pub(crate) fn begin_process(&mut self, process: ProcessId, tgid: u32) {
        self.images.insert(process, ProcessImage { tgid, mappings: Mappings::new() });
        self.read_mappings(process);
        self.changed.insert(process);
    }

    pub(crate) fn fork_process(&mut self, parent: ProcessId, child: ProcessId, child_tgid: u32) {
        let mappings = self.images.get(&parent).map(|it| it.mappings.clone()).unwrap_or_default();
        self.images.insert(child, ProcessImage { tgid: child_tgid, mappings });
        self.changed.insert(child);
    }

    /// The new image's mappings are reported one by one.
    pub(crate) fn exec_process(&mut self, process: ProcessId, tgid: u32) {
        self.generated.remove(&process);
        self.images.insert(process, ProcessImage { tgid, mappings: Mappings::new() });
    }

    pub(crate) fn end_process(&mut self, process: ProcessId) {
        if self.changed.remove(&process) {
            self.gone_allocators.push((process, self.allocators(process)));
        }
        self.generated.remove(&process);
        self.images.remove(&process);
    }

    /// Adds what `/proc` says to a process's mappings; false if it has ended.
    fn read_mappings(&mut self, process: ProcessId) -> bool {
        let Some(tgid) = self.images.get(&process).map(|it| it.tgid) else { return false };
        let Ok(mappings) = process::code_mappings(tgid) else { return false };
        for (start, end) in process::generated_code(tgid) {
            if let Some(image) = self.images.get_mut(&process) {
                image.mappings.insert(start, Mapped { start, end, ..Mapped::default() });
            }
        }
        for mapping in mappings {
            // Objects that the kernel half has not met yet get their number from it.
            let Some(number) = self.numbers.get(&mapping.key) else { continue };
            let mapped: Mapped = mapping.mapped(*number);
            if let Some(image) = self.images.get_mut(&process) {
                image.mappings.insert(mapping.start, mapped);
            }
        }
        true
    }
}
