//! Who is traced, as the kernel half knows it: the processes that user space puts in, and the selection by which the
//! kernel half takes in others.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, MapError},
};
use rustix::thread::{MembarrierCommand, membarrier};
use tracer_ebpf::{
    config::{Config, NAME_BYTES, SELECT_ALL, SELECT_GROUPS, SELECT_NAMES},
    mapping::{MAX_PROCESSES, Member, Process, USER_SIDE, process_number, process_slot},
};

use super::selection::Selection;
use crate::event::ProcessId;

/// `BPF_NOEXIST` of include/uapi/linux/bpf.h.
const ONLY_NEW: u64 = 1;

pub(crate) struct Members {
    members: HashMap<MapData, u32, Member>,
    processes: Array<MapData, Process>,
    names: HashMap<MapData, [u8; NAME_BYTES], u8>,
    groups: HashMap<MapData, u64, u8>,
    config: Array<MapData, Config>,
    /// Numbers that user space has given so far; the first is 1.
    given: u32,
    /// Places of those that live.
    taken: HashSet<u32>,
    /// Of those that are put in.
    sample_shift: u32,
}

impl Members {
    /// # Errors
    /// If the maps are not as expected.
    pub(crate) fn new(ebpf: &mut Ebpf) -> Result<Self> {
        let mut take = |name: &str| ebpf.take_map(name).with_context(|| format!("map {name}"));
        Ok(Self {
            members: HashMap::try_from(take("MEMBERS")?)?,
            processes: Array::try_from(take("PROCESSES")?)?,
            names: HashMap::try_from(take("NAMES")?)?,
            groups: HashMap::try_from(take("GROUPS")?)?,
            config: Array::try_from(take("CONFIG")?)?,
            given: 0,
            taken: HashSet::new(),
            sample_shift: 0,
        })
    }

    /// Of the bytes that processes allocate which begin from now on, one in 2^`shift` is sampled; 0: every block is
    /// reported.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub(crate) fn sample(&mut self, shift: u32) -> Result<()> {
        self.sample_shift = shift;
        let config = self.config.get(&0, 0)?;
        self.config.set(0, Config { sample_shift: shift, ..config }, 0)?;
        Ok(())
    }

    pub(crate) fn sample_shift(&self) -> u32 {
        self.sample_shift
    }

    /// From now on the kernel half takes in whoever is selected.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub(crate) fn select(&mut self, selection: &Selection) -> Result<()> {
        let select = match selection {
            Selection::All => SELECT_ALL,
            Selection::Names(names) => {
                for name in names {
                    self.names.insert(padded(name), 1, 0).context("select by names")?;
                }
                SELECT_NAMES
            }
            Selection::Groups(_) => {
                self.renew(selection);
                SELECT_GROUPS
            }
        };
        let config = self.config.get(&0, 0)?;
        self.config.set(0, Config { select, ..config }, 0)?;
        Ok(())
    }

    /// From now on every program returns at once. Those that run at this moment have come to their end when this returns: the
    /// kernel waits for all that its read-copy-update protects, as the programs of uprobes and tracepoints are.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub(crate) fn switch_off(&mut self) -> Result<()> {
        let config = self.config.get(&0, 0)?;
        self.config.set(0, Config { off: 1, ..config }, 0)?;
        if let Err(error) = membarrier(MembarrierCommand::Global) {
            log::debug!("wait for the programs: {error}");
        }
        Ok(())
    }

    /// Of so many page faults one is looked at from now on.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub(crate) fn sample_faults(&mut self, fault_every: u32) -> Result<()> {
        let config = self.config.get(&0, 0)?;
        self.config.set(0, Config { fault_every, ..config }, 0)?;
        Ok(())
    }

    /// A group that was removed and made again in its place is another one to the kernel.
    pub(crate) fn renew(&mut self, selection: &Selection) {
        let Selection::Groups(groups) = selection else { return };
        for id in groups.ids() {
            if let Err(error) = self.groups.insert(id, 1, 0) {
                log::warn!("select the control group {id}: {error}");
            }
        }
    }

    /// Puts a process in, in a `state`; `None` if it is in, or if there is no place.
    ///
    /// # Errors
    /// Those of `bpf(2)`.
    pub(crate) fn add(&mut self, tgid: u32, state: u32) -> Result<Option<ProcessId>> {
        if self.members.get(&tgid, 0).is_ok() {
            return Ok(None);
        }
        let Some(number) = self.free_number() else { return Ok(None) };
        let slot = process_slot(number);
        self.processes.set(
            slot,
            Process { state, sample_shift: self.sample_shift, ..Process::default() },
            0,
        )?;
        match self.members.insert(tgid, Member { process: number, borrowed: 0 }, ONLY_NEW) {
            Ok(()) => {
                self.taken.insert(slot);
                Ok(Some(ProcessId(number)))
            }
            Err(error) => {
                self.processes.set(slot, Process::default(), 0)?;
                match error {
                    // The kernel half was first.
                    MapError::SyscallError(ref call)
                        if call.io_error.kind() == std::io::ErrorKind::AlreadyExists =>
                    {
                        Ok(None)
                    }
                    error => Err(error.into()),
                }
            }
        }
    }

    /// Takes out a process that had ended before it was put in.
    pub(crate) fn remove(&mut self, tgid: u32, process: ProcessId) {
        let _ = self.members.remove(&tgid);
        let slot = process_slot(process.0);
        let _ = self.processes.set(slot, Process::default(), 0);
        self.end(process);
    }

    /// A process has ended: its place can be given again. Those of the other side give theirs back themselves.
    pub(crate) fn end(&mut self, process: ProcessId) {
        self.taken.remove(&process_slot(process.0));
    }

    fn free_number(&mut self) -> Option<u32> {
        for _ in 0..MAX_PROCESSES {
            self.given += 1;
            let number = process_number(self.given, USER_SIDE);
            if !self.taken.contains(&process_slot(number)) {
                return Some(number);
            }
        }
        None
    }
}

/// A name as the kernel has it: cut to fifteen bytes, and filled up.
fn padded(name: &str) -> [u8; NAME_BYTES] {
    let mut bytes = [0; NAME_BYTES];
    let length = name.len().min(NAME_BYTES - 1);
    bytes[..length].copy_from_slice(&name.as_bytes()[..length]);
    bytes
}
