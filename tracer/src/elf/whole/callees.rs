//! What a function that is called may do, as far as a proof must know.

use std::collections::{HashMap, HashSet};

use iced_x86::{Code as Opcode, FlowControl, Instruction, OpKind, Register};

use crate::elf::code::{Code, Target};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::elf) enum Callee {
    /// It does not come back.
    Never,
    /// It neither allocates nor frees nor maps.
    Quiet,
    /// It may do anything.
    Loud,
}

/// How deep calls are followed: glibc's `malloc_printerr` never returns since `__libc_message` does not, since `abort` does not.
const MAX_DEPTH: u32 = 3;

/// Instructions of one callee that are looked at. What has more is not proved to be anything.
const MAX_INSTRUCTIONS: usize = 600;

/// They neither allocate nor map, whatever they look like: with locks, clocks, and settings as arguments.
const QUIET: [&str; 20] = [
    "__clock_gettime",
    "__errno_location",
    "__lll_lock_wait",
    "__lll_lock_wait_private",
    "__lll_lock_wake",
    "__lll_lock_wake_private",
    "__pthread_mutex_lock",
    "__pthread_mutex_unlock",
    "__sched_yield",
    "__tunable_get_val",
    "clock_gettime",
    "getrandom",
    "memcpy",
    "memmove",
    "memset",
    "pthread_mutex_lock",
    "pthread_mutex_trylock",
    "pthread_mutex_unlock",
    "pthread_self",
    "sched_yield",
];

/// Of system calls: mmap, munmap, brk, mremap, madvise, clone, fork, vfork, execve, process_madvise, clone3
/// (`arch/x86/entry/syscalls/syscall_64.tbl`).
const LOUD_CALLS: [u32; 11] = [9, 11, 12, 25, 28, 56, 57, 58, 59, 440, 435];

pub(super) struct Callees<'code, 'data> {
    code: &'code Code<'data>,
    known: HashMap<(u64, u32), Callee>,
}

impl<'code, 'data> Callees<'code, 'data> {
    pub(super) fn new(code: &'code Code<'data>) -> Self {
        Self { code, known: HashMap::new() }
    }

    pub(super) fn of(&mut self, target: Target<'_>) -> Callee {
        self.within(target, MAX_DEPTH)
    }

    fn within(&mut self, target: Target<'_>, depth: u32) -> Callee {
        if self.code.never_returns(target) {
            return Callee::Never;
        }
        if self.code.is_named(target, &QUIET) {
            return Callee::Quiet;
        }
        let Target::Inside(address) = target else { return Callee::Loud };
        if depth == 0 {
            return Callee::Loud;
        }
        if let Some(known) = self.known.get(&(address, depth)) {
            return *known;
        }
        // For those that call themselves.
        self.known.insert((address, depth), Callee::Loud);
        let callee = self.follow(address, depth);
        self.known.insert((address, depth), callee);
        callee
    }

    fn follow(&mut self, entry: u64, depth: u32) -> Callee {
        let (mut returns, mut is_loud) = (false, false);
        let mut seen = HashSet::new();
        let mut todo = vec![entry];
        while let Some(mut address) = todo.pop() {
            // The number of a system call, if the last instructions say it.
            let mut number = None;
            while seen.insert(address) {
                // It is known to be neither of the two better things.
                if returns && is_loud || seen.len() > MAX_INSTRUCTIONS {
                    return Callee::Loud;
                }
                let Some(it) = self.code.decode(address) else { return Callee::Loud };
                let goes_on = match it.flow_control() {
                    FlowControl::Next => {
                        number = system_call(&it).or(number.filter(|_| !writes_number(&it)));
                        true
                    }
                    FlowControl::UnconditionalBranch
                    | FlowControl::ConditionalBranch
                    | FlowControl::IndirectBranch => {
                        match self.code.target(&it) {
                            to if self.code.never_returns(to) => {}
                            to if self.code.is_named(to, &QUIET) => returns = true,
                            Target::Inside(to) => todo.push(to),
                            _ => (returns, is_loud) = (true, true),
                        }
                        it.flow_control() == FlowControl::ConditionalBranch
                    }
                    FlowControl::Return => {
                        returns = true;
                        false
                    }
                    FlowControl::Call if it.op0_kind() != OpKind::NearBranch64 => {
                        is_loud |= number.is_none_or(|it| LOUD_CALLS.contains(&it));
                        true
                    }
                    FlowControl::Call | FlowControl::IndirectCall => {
                        let callee = self.within(self.code.target(&it), depth - 1);
                        is_loud |= callee == Callee::Loud;
                        number = None;
                        callee != Callee::Never
                    }
                    FlowControl::Exception => false,
                    FlowControl::Interrupt | FlowControl::XbeginXabortXend => return Callee::Loud,
                };
                if !goes_on || self.code.is_start(it.next_ip()) {
                    break;
                }
                address = it.next_ip();
            }
        }
        match (returns, is_loud) {
            (false, _) => Callee::Never,
            (true, false) => Callee::Quiet,
            (true, true) => Callee::Loud,
        }
    }
}

fn system_call(it: &Instruction) -> Option<u32> {
    (it.code() == Opcode::Mov_r32_imm32 && it.op0_register() == Register::EAX).then(|| it.immediate32())
}

fn writes_number(it: &Instruction) -> bool {
    it.op0_kind() == OpKind::Register && it.op0_register().full_register() == Register::RAX
}
