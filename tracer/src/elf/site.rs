//! Where in a function to probe.
//!
//! On x86 the kernel emulates some instructions (push, nop, relative jumps: `push_setup_xol_ops` and
//! `branch_setup_xol_ops` in arch/x86/kernel/uprobes.c, Linux 4.15) and single-steps every other one
//! in a copy, which costs ten times as much under a hypervisor. So the first emulated instruction is
//! taken at which the arguments are still in their registers and the stack is as it was at the entry;
//! the second is what lets the return probe share the place.

use iced_x86::{
    Code, ConditionCode, Decoder, DecoderOptions, FlowControl, Formatter as _, Instruction,
    InstructionInfoFactory, IntelFormatter, Mnemonic, OpAccess, OpKind, Register,
};

/// Decoded when the symbol does not say how long the function is.
pub const UNKNOWN_SIZE_BYTES: usize = 64;

/// Instructions from the entry on that are considered: behind them the arguments are rarely intact.
const MAX_INSTRUCTIONS: usize = 8;

/// Argument registers that some allocator function uses.
const ARGUMENTS: [Register; 4] = [Register::RDI, Register::RSI, Register::RDX, Register::RCX];

/// A place for a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// Bytes from the function's first instruction.
    pub offset: u32,
    pub class: Class,
    /// As disassembled, for people.
    pub instruction: String,
}

impl Site {
    pub fn is_single_step(&self) -> bool {
        self.class == Class::SingleStep
    }
}

/// What the trap costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    Emulated,
    SingleStep,
}

/// The best place in a function whose code begins with `code`.
pub fn choose(code: &[u8]) -> Site {
    let instructions = decode(code);
    let targets = inner_targets(&instructions);
    let mut behind_null_check = None;
    let mut info = InstructionInfoFactory::new();
    for (at, instruction) in instructions.iter().enumerate().take(MAX_INSTRUCTIONS) {
        // A loop back to here would count one call many times.
        if targets.contains(&instruction.ip()) && at > 0 {
            break;
        }
        if is_null_check(&instructions[..at], instruction) {
            // Good enough, but what lies behind it spares the calls with a null pointer their trap.
            behind_null_check.get_or_insert(at);
            continue;
        }
        if is_emulated(instruction) {
            return site(instruction, Class::Emulated);
        }
        if instruction.flow_control() != FlowControl::Next || disturbs(&mut info, instruction) {
            break;
        }
    }
    match (behind_null_check, instructions.first()) {
        (Some(at), _) => site(&instructions[at], Class::Emulated),
        (None, Some(first)) => site(first, Class::SingleStep),
        (None, None) => Site { offset: 0, class: Class::SingleStep, instruction: "(unreadable)".to_owned() },
    }
}

fn decode(code: &[u8]) -> Vec<Instruction> {
    Decoder::with_ip(64, code, 0, DecoderOptions::NONE)
        .into_iter()
        .take_while(|it| !it.is_invalid())
        .collect()
}

fn site(instruction: &Instruction, class: Class) -> Site {
    let mut text = String::new();
    IntelFormatter::new().format(instruction, &mut text);
    Site { offset: instruction.ip() as u32, class, instruction: text }
}

/// Where jumps inside the function lead.
fn inner_targets(instructions: &[Instruction]) -> Vec<u64> {
    let is_jump = |it: &&Instruction| {
        matches!(it.flow_control(), FlowControl::ConditionalBranch | FlowControl::UnconditionalBranch)
    };
    instructions
        .iter()
        .filter(is_jump)
        .filter(|it| it.op0_kind() == OpKind::NearBranch64)
        .map(Instruction::near_branch_target)
        .collect()
}

/// `je` behind `test rdi, rdi`: the branch is taken when the first argument is null.
fn is_null_check(before: &[Instruction], instruction: &Instruction) -> bool {
    let Some(test) = before.last() else { return false };
    test.mnemonic() == Mnemonic::Test
        && test.op0_register() == Register::RDI
        && test.op1_register() == Register::RDI
        && instruction.flow_control() == FlowControl::ConditionalBranch
        && instruction.condition_code() == ConditionCode::e
}

/// Whether the kernel emulates it. It emulates calls too, but before 6.18 not correctly for programs with a
/// shadow stack.
fn is_emulated(instruction: &Instruction) -> bool {
    if instruction.is_jcc_short_or_near() {
        return true;
    }
    match instruction.code() {
        Code::Push_r64 => true,
        Code::Nopd | Code::Nopw | Code::Nopq => instruction.len() == 1,
        Code::Jmp_rel8_64 | Code::Jmp_rel32_64 => true,
        _ => false,
    }
}

/// Whether it changes an argument or the stack pointer.
fn disturbs(info: &mut InstructionInfoFactory, instruction: &Instruction) -> bool {
    info.info(instruction).used_registers().iter().any(|used| {
        let writes = !matches!(
            used.access(),
            OpAccess::Read | OpAccess::CondRead | OpAccess::None | OpAccess::NoMemAccess
        );
        let register = used.register().full_register();
        writes && (register == Register::RSP || ARGUMENTS.contains(&register))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &[u8], offset: u32, class: Class, instruction: &str) {
        let expected = Site { offset, class, instruction: instruction.to_owned() };
        assert_eq!(choose(code), expected, "{code:02x?}");
    }

    const RET: u8 = 0xc3;
    const NOP: u8 = 0x90;

    #[test]
    fn a_push_at_the_entry() {
        check(&[0x41, 0x54, 0x55, RET], 0, Class::Emulated, "push r12");
    }

    #[test]
    fn behind_endbr64() {
        check(&[0xf3, 0x0f, 0x1e, 0xfa, 0x41, 0x54, RET], 4, Class::Emulated, "push r12");
    }

    #[test]
    fn behind_the_null_check_of_free() {
        // test rdi,rdi; je +6; push rbp; push rbx; nop..; ret
        let code = [0x48, 0x85, 0xff, 0x74, 0x06, 0x55, 0x53, NOP, NOP, NOP, NOP, RET];
        check(&code, 5, Class::Emulated, "push rbp");
    }

    #[test]
    fn the_null_check_itself_if_nothing_better_follows() {
        // test rdi,rdi; je +4; mov rdi,rsi; nop; ret
        let code = [0x48, 0x85, 0xff, 0x74, 0x04, 0x48, 0x89, 0xf7, 0xcc, RET];
        check(&code, 3, Class::Emulated, "je short 9");
    }

    #[test]
    fn harmless_instructions_are_passed() {
        // mov eax,1; push rbx
        check(&[0xb8, 1, 0, 0, 0, 0x53, RET], 5, Class::Emulated, "push rbx");
    }

    #[test]
    fn a_jump_stub() {
        check(&[0xe9, 0x10, 0, 0, 0], 0, Class::Emulated, "jmp 0000000000000015h");
    }

    #[test]
    fn not_once_an_argument_or_the_stack_has_changed() {
        // sub rsp,8; push rbx
        check(&[0x48, 0x83, 0xec, 8, 0x53, RET], 0, Class::SingleStep, "sub rsp,8");
        // mov rdi,rsi; push rbx
        check(&[0x48, 0x89, 0xf7, 0x53, RET], 0, Class::SingleStep, "mov rdi,rsi");
        // xor ecx,ecx; push rbx: half of an argument is an argument
        check(&[0x31, 0xc9, 0x53, RET], 0, Class::SingleStep, "xor ecx,ecx");
    }

    #[test]
    fn not_where_a_loop_comes_back() {
        // mov eax,1; push rbx; pop rbx; jmp back to the push
        let code = [0xb8, 1, 0, 0, 0, 0x53, 0x5b, 0xeb, 0xfc];
        check(&code, 0, Class::SingleStep, "mov eax,1");
    }

    #[test]
    fn at_an_unknown_branch_but_not_behind_it() {
        // cmp rdi,8; ja +1; push rbx; ret
        check(&[0x48, 0x83, 0xff, 8, 0x77, 1, 0x53, RET], 4, Class::Emulated, "ja short 7");
    }

    #[test]
    fn no_code_at_all() {
        check(&[], 0, Class::SingleStep, "(unreadable)");
    }
}
