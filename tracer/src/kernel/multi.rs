//! Links of many probes (`uprobe_multi`, Linux 6.6), which aya 0.14 does not have: the same programs, loaded once more
//! for this kind of link.
//!
//! Taking out a link, the kernel waits until nobody can be inside of it any more. Here it waits once for all the probes of
//! a file, and links do not wait for each other.

use std::{
    collections::HashMap,
    ffi::CString,
    io,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd, RawFd},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{Ebpf, maps::Map};
use aya_obj::{Object, ProgramSection};

use super::{load, sys};

/// The programs, loaded for links of many probes: some at once, others when they are attached.
pub(crate) struct Multi {
    object: Object,
    /// Describes the programs' functions.
    types: OwnedFd,
    loaded: Mutex<HashMap<String, Arc<OwnedFd>>>,
}

/// Where a probe goes in a file, and its cookie.
pub(crate) type Point = (u64, u64);

impl Multi {
    /// Loads the `wanted` probes of `object` with the maps of `ebpf`, which was made from it and has a loaded program.
    ///
    /// # Errors
    /// If the kernel does not have such links, or what it said.
    pub(crate) fn load(ebpf: &Ebpf, object: &[u8], wanted: impl Fn(&str) -> bool) -> Result<Self> {
        let mut object = Object::parse(object).context("parse the BPF object")?;
        let maps = std::mem::take(&mut object.maps);
        let fds = maps.iter().filter_map(|(name, map)| Some((name.as_str(), map_fd(ebpf.map(name)?)?, map)));
        let sections = object.functions.keys().map(|(section, _)| *section).collect();
        object.relocate_maps(fds, &sections)?;
        object.relocate_calls(&sections)?;
        object.sanitize_functions(aya::features());

        let id = ebpf.programs().find_map(|(_, it)| it.info().ok()?.btf_id());
        let types =
            sys::btf_by_id(id.context("no loaded program tells its types")?).context("open the types")?;
        let multi = Self { object, types, loaded: Mutex::default() };
        let at_once = multi.object.programs.iter().filter(|(name, it)| is_probe(it) && wanted(name));
        let at_once: Vec<&str> = at_once.map(|(name, _)| name.as_str()).collect();
        load::side_by_side(at_once, |name| multi.program(name).map(|_| ()))?;
        multi.check()?;
        Ok(multi)
    }

    /// The program of that name, which is loaded if it was not yet.
    fn program(&self, name: &str) -> Result<Arc<OwnedFd>> {
        let loaded = || self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(program) = loaded().get(name) {
            return Ok(program.clone());
        }
        let program = self.object.programs.get(name).with_context(|| format!("program {name}"))?;
        let function =
            self.object.functions.get(&program.function_key()).context("a program without code")?;
        let load = |log: &mut [u8]| {
            sys::load_uprobe_multi(name, function, &program.license, self.types.as_fd(), log)
        };
        let program = Arc::new(load(&mut []).or_else(|_| explained(name, load))?);
        loaded().insert(name.to_owned(), program.clone());
        Ok(program)
    }

    /// A directory cannot be probed, and a kernel that has such links says just that; others know neither the attach type nor
    /// the structure.
    fn check(&self) -> Result<()> {
        /// The one that does nothing.
        const PROGRAM: &str = "floor_enter";
        match self.attach(PROGRAM, "/", &[(1, 0)], None) {
            Err(error)
                if error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error)
                    == Some(libc::EBADF) =>
            {
                Ok(())
            }
            Err(error) => Err(error.context("this kernel has no uprobe_multi links")),
            Ok(_) => bail!("the kernel took a directory for a program"),
        }
    }

    /// The programs that are loaded so far, by name.
    pub(crate) fn programs(&self) -> Vec<(String, Arc<OwnedFd>)> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.iter().map(|(name, it)| (name.clone(), Arc::clone(it))).collect()
    }

    pub(crate) fn is_at_return(&self, program: &str) -> bool {
        let program = self.object.programs.get(program);
        program.is_some_and(|it| matches!(it.section, ProgramSection::URetProbe { .. }))
    }

    /// Attaches a program to places of one file, in one process or in every one, until the descriptor is closed.
    ///
    /// # Errors
    /// What the kernel said; then none of the probes is there.
    pub(crate) fn attach(
        &self,
        program: &str,
        path: &str,
        points: &[Point],
        tgid: Option<u32>,
    ) -> Result<OwnedFd> {
        let at_return = self.is_at_return(program);
        let program = self.program(program)?;
        Ok(sys::link_uprobe_multi(program.as_fd(), &CString::new(path)?, points, at_return, tgid)?)
    }
}

fn is_probe(program: &aya_obj::Program) -> bool {
    matches!(program.section, ProgramSection::UProbe { .. } | ProgramSection::URetProbe { .. })
}

/// Whether such links can be told to see one process. Before Linux 6.10 they saw one thread of it (46ba0e49b642, "bpf: fix
/// multi-uprobe PID filtering logic").
pub(crate) fn sees_one_process() -> bool {
    const SINCE: (u32, u32) = (6, 10);
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy();
    let mut numbers = release.split(['.', '-']).map(|it| it.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= SINCE
}

/// Loads again for the verifier's words, which cost time and memory.
fn explained(name: &str, load: impl Fn(&mut [u8]) -> io::Result<OwnedFd>) -> Result<OwnedFd> {
    /// The reason is at the end; the verifier keeps the end.
    const LOG_BYTES: usize = 64 << 10;
    let mut log = vec![0; LOG_BYTES];
    load(&mut log).map_err(|error| {
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.trim_end_matches('\0').lines().collect();
        let tail = lines[lines.len().saturating_sub(super::load::LOG_TAIL_LINES)..].join("\n");
        anyhow!(error).context(format!("load the BPF program {name} for uprobe_multi\n{tail}"))
    })
}

fn map_fd(map: &Map) -> Option<RawFd> {
    let (Map::Array(data)
    | Map::PerCpuArray(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::RingBuf(data)) = map
    else {
        return None;
    };
    Some(data.fd().as_fd().as_raw_fd())
}
