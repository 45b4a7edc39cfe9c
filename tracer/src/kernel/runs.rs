//! What the kernel counts of our own programs: how often they ran and how long, while it is told to look.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use aya::{
    programs::Program,
    sys::{Stats, enable_stats},
};

use super::{Kernel, sys};

/// Totals since the start, of those times in which the kernel was counting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// Calls that began, as far as a probe stands where they begin.
    pub calls: u64,
    /// Time in all programs of calls that allocate.
    pub alloc_ns: u64,
    pub frees: u64,
    pub free_ns: u64,
}

impl Runs {
    /// What has been added since `before`.
    pub fn since(self, before: Self) -> Self {
        Self {
            calls: self.calls - before.calls,
            alloc_ns: self.alloc_ns - before.alloc_ns,
            frees: self.frees - before.frees,
            free_ns: self.free_ns - before.free_ns,
        }
    }

    fn note(&mut self, program: &str, runs: u64, time_ns: u64) {
        match program {
            "free" | "pool_free" => {
                self.frees += runs;
                self.free_ns += time_ns;
            }
            "enter" | "whole" | "pool_enter" => {
                self.calls += runs;
                self.alloc_ns += time_ns;
            }
            "leave" | "leave_at_exit" | "pool_leave" | "pool_exit" | "throw" | "unfollowed" => {
                self.alloc_ns += time_ns;
            }
            // Tracepoints: of rare things, and no trap belongs to them.
            _ => {}
        }
    }
}

impl std::ops::AddAssign for Runs {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.alloc_ns += other.alloc_ns;
        self.frees += other.frees;
        self.free_ns += other.free_ns;
    }
}

/// As long as it is there, the kernel counts. Each run of any program costs some 20 ns more meanwhile.
pub(crate) struct Counting(#[expect(dead_code, reason = "what it is for is to be open")] OwnedFd);

impl Counting {
    /// `None` if the kernel does not (before Linux 5.8).
    pub(crate) fn start() -> Option<Self> {
        enable_stats(Stats::RunTime)
            .inspect_err(|it| log::info!("runs are not counted: {it:#}"))
            .ok()
            .map(Self)
    }
}

impl Kernel {
    /// Has the kernel count from now on, or not any more.
    pub fn count_runs(&mut self, counts: bool) {
        self.counting = if counts { self.counting.take().or_else(Counting::start) } else { None };
    }

    pub fn counts_runs(&self) -> bool {
        self.counting.is_some()
    }

    /// Of the programs in allocator functions.
    pub fn runs(&self) -> Runs {
        let mut runs = Runs::default();
        let mut add = |name: &str, program: BorrowedFd<'_>| {
            if let Ok((count, time_ns)) = sys::program_runs(program) {
                runs.note(name, count, time_ns);
            }
        };
        for (name, program) in self.state.ebpf.programs() {
            if let Program::UProbe(it) = program
                && let Ok(fd) = it.fd()
            {
                add(name, fd.as_fd());
            }
        }
        if let Some(multi) = self.state.probes.multi() {
            multi.programs().iter().for_each(|(name, program)| add(name, program.as_fd()));
        }
        runs
    }
}

/// The CPU time of a process, all its threads together; `None` if there is no such process.
pub fn cpu_ns(tgid: u32) -> Option<u64> {
    sys::cpu_ns(tgid)
}
