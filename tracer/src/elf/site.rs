//! At which instruction of a function a probe costs least and still sees everything.
//!
//! Linux executes some instructions under a uprobe itself; all others it copies elsewhere and
//! single-steps, which costs about ten times as much in a virtual machine, where every debug
//! exception leaves the guest. Emulated on x86-64 since 4.15 (`arch/x86/kernel/uprobes.c`,
//! `branch_setup_xol_ops` and `push_setup_xol_ops`): one-byte `nop`, `jmp` and `jcc` with a
//! displacement, `call` with a displacement, `push` of a 64-bit register. Not `endbr64`, `mov`,
//! `test`, `sub`; longer nops only since 6.18.
//!
//! A probe hits *before* its instruction runs. The same offset also carries the return probe, for
//! which `rsp` must still point to the return address. So a site is reached from the entry in a
//! straight line, on which `rsp` was not written, nothing was called, and each argument still lies in
//! an argument register: in its own, or in another into which it was moved.
//!
//! Not seen: jumps back to the site from code that the compiler split off (`.cold`) or through a
//! jump table. Compilers place neither before the registers are saved.

use iced_x86::{
    Code, ConditionCode, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, Register,
};
use tracer_ebpf::call::Roles;

/// How far a site may lie behind the entry, in instructions. jemalloc 5.3 looks up its cache before
/// it branches: the first jump of its `free` is the tenth.
const SEARCH_INSTRUCTIONS: usize = 16;

/// How arguments are passed (System V ABI for x86-64, 3.2.3).
const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

/// What the probe is to be told at its site.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The arguments that must still be there, at their positions in the call.
    pub roles: Roles,
    /// Calls whose first argument is NULL need not be seen: `free(NULL)` does nothing.
    pub non_null: bool,
}

/// Where to put a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// From the symbol, in bytes.
    pub offset: u32,
    pub class: Class,
    /// Where the arguments lie here. mimalloc 2 and musl's `valloc` move them on to make room for a
    /// further argument of the function that does the work.
    pub roles: Roles,
    /// What is there, as in `push r12` or `je +0xc8`; targets are relative to the symbol. For people.
    pub instruction: String,
}

/// What the kernel does with the instruction under a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// About 0.5 µs per hit.
    Emulated,
    /// About 5 µs per hit in a virtual machine.
    SingleStep,
}

impl Site {
    pub fn is_single_step(&self) -> bool {
        self.class == Class::SingleStep
    }
}

/// The cheapest site of the function with this code.
///
/// The first emulated instruction wins, except that the probe of a `non_null` function goes behind its
/// NULL check if it can. Without any, the site is the entry.
pub fn choose(code: &[u8], needs: Needs) -> Site {
    emulated_site(code, needs).unwrap_or_else(|| Site {
        offset: 0,
        class: Class::SingleStep,
        roles: needs.roles,
        instruction: Decoder::with_ip(64, code, 0, DecoderOptions::NONE)
            .iter()
            .next()
            .map_or_else(|| "nothing".into(), |it| describe(&it)),
    })
}

/// The first instruction that the kernel single-steps and that every call comes by: where it is measured what that costs.
pub fn single_stepped(code: &[u8]) -> Option<u32> {
    Decoder::with_ip(64, code, 0, DecoderOptions::NONE)
        .iter()
        .take(SEARCH_INSTRUCTIONS)
        .take_while(|it| !it.is_invalid() && it.flow_control() == FlowControl::Next)
        .find(|it| {
            // Linux 6.18 emulates all of these.
            it.mnemonic() != Mnemonic::Nop && !is_emulated(&code[it.ip() as usize..it.next_ip() as usize])
        })
        .map(|it| it.ip() as u32)
}

fn emulated_site(code: &[u8], needs: Needs) -> Option<Site> {
    let targets = jump_targets(code);
    let mut arguments = Arguments::at_entry();
    // `ZF` says whether the first argument is NULL.
    let mut flags_say_null = false;
    let mut null_check = None;
    for it in Decoder::with_ip(64, code, 0, DecoderOptions::NONE).iter().take(SEARCH_INSTRUCTIONS) {
        // What can be jumped to is a loop, or where paths meet again.
        if it.is_invalid() || targets.contains(&it.ip()) {
            break;
        }
        let Some(roles) = arguments.locate(needs.roles) else { break };
        if is_emulated(&code[it.ip() as usize..it.next_ip() as usize]) {
            let (class, instruction) = (Class::Emulated, describe(&it));
            let site = Site { offset: it.ip() as u32, class, roles, instruction };
            // Taken for NULL only, hence what follows sees every other call.
            if needs.non_null && flags_say_null && it.condition_code() == ConditionCode::e {
                null_check.get_or_insert(site);
                continue;
            }
            return Some(site);
        }
        if it.flow_control() != FlowControl::Next {
            break;
        }
        if it.rflags_modified() != 0 {
            flags_say_null = arguments.compares_first_with_null(&it);
        }
        if arguments.step(&it).is_err() {
            break;
        }
    }
    null_check
}

/// Which argument each of [`ARGUMENTS`] holds, counted from 1; 0 is "something else".
struct Arguments {
    held: [u8; ARGUMENTS.len()],
    info: InstructionInfoFactory,
}

/// The stack pointer was written.
struct StackMoved;

impl Arguments {
    fn at_entry() -> Self {
        Self { held: [1, 2, 3, 4, 5, 6], info: InstructionInfoFactory::new() }
    }

    fn held_by(&self, register: Register) -> u8 {
        ARGUMENTS.iter().position(|it| *it == register).map_or(0, |index| self.held[index])
    }

    /// `roles` with the positions of the moment; `None` if one of the arguments is gone.
    fn locate(&self, roles: Roles) -> Option<Roles> {
        let locate = |argument: u8| match argument {
            0 => Some(0),
            _ if self.held.get(usize::from(argument) - 1) == Some(&argument) => Some(argument),
            _ => self.held.iter().position(|it| *it == argument).map(|index| index as u8 + 1),
        };
        Some(Roles {
            size: locate(roles.size)?,
            count: locate(roles.count)?,
            old: locate(roles.old)?,
            out: locate(roles.out)?,
        })
    }

    fn step(&mut self, it: &Instruction) -> Result<(), StackMoved> {
        let moved = match it.code() {
            Code::Mov_r64_rm64 | Code::Mov_rm64_r64 => self.held_by(it.op1_register()),
            _ => 0,
        };
        for used in self.info.info(it).used_registers() {
            let register = used.register().full_register();
            match used.access() {
                OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite => {}
                _ => continue,
            }
            if register == Register::RSP {
                return Err(StackMoved);
            }
            if let Some(index) = ARGUMENTS.iter().position(|it| *it == register) {
                self.held[index] = moved;
            }
        }
        Ok(())
    }

    fn compares_first_with_null(&self, it: &Instruction) -> bool {
        let first = self.held_by(it.op0_register()) == 1;
        match it.code() {
            Code::Test_rm64_r64 => first && it.op0_register() == it.op1_register(),
            Code::Cmp_rm64_imm8 => first && it.immediate8() == 0,
            _ => false,
        }
    }
}

/// Whether the kernel emulates this one instruction.
///
/// Prefixes are not accepted, although some are harmless: with 66 the kernel refuses a branch, with
/// a segment override (`notrack`, branch hints) or `lock` it refuses any probe. `call` is emulated as
/// well, but before 6.18 without its copy on the shadow stack, so a probe would kill a CET program.
pub(super) fn is_emulated(bytes: &[u8]) -> bool {
    matches!(
        bytes,
        [0x50..=0x57]
            | [0x41, 0x50..=0x57]
            | [0x90]
            | [0x66, 0x90]
            | [0xeb | 0x70..=0x7f, _]
            | [0xe9, _, _, _, _]
            | [0x0f, 0x80..=0x8f, _, _, _, _]
    )
}

/// Where the jumps of this code lead, as offsets from its start. Calls do not count: they make a
/// frame of their own.
fn jump_targets(code: &[u8]) -> Vec<u64> {
    Decoder::with_ip(64, code, 0, DecoderOptions::NONE)
        .iter()
        .filter(|it| {
            matches!(it.flow_control(), FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch)
        })
        .map(|it| it.near_branch_target())
        .collect()
}

pub(super) fn describe(it: &Instruction) -> String {
    let name = format!("{:?}", it.mnemonic()).to_lowercase();
    match it.flow_control() {
        FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch => {
            let target = it.near_branch_target() as i64;
            let sign = if target < 0 { '-' } else { '+' };
            format!("{name} {sign}{:#x}", target.unsigned_abs())
        }
        _ if name == "push" && it.op0_register() != Register::None => {
            format!("push {:?}", it.op0_register()).to_lowercase()
        }
        _ => name,
    }
}

#[cfg(test)]
mod tests;
