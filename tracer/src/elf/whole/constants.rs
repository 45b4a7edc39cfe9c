//! Whether a function that gets a certain number as its first argument comes back: glibc's `__libc_message` ends the program
//! if that says so.

use std::collections::HashMap;

use iced_x86::{
    Code as Opcode, ConditionCode, FlowControl, Instruction, InstructionInfoFactory, OpAccess, OpKind,
    Register,
};

use super::{SAVED, callees::Callee};
use crate::elf::code::{Code, Target};

/// Instructions that are looked at.
const MAX_INSTRUCTIONS: usize = 600;

/// Registers whose value is known, and the zero flag.
#[derive(Clone, Copy, PartialEq, Eq)]
struct State {
    held: [Option<u64>; 16],
    zero: Option<bool>,
}

impl State {
    fn get(&self, register: Register) -> Option<u64> {
        let full = register.full_register();
        if !full.is_gpr64() {
            return None;
        }
        let value = self.held[full as usize - Register::RAX as usize]?;
        match register.size() {
            8 => Some(value),
            4 => Some(value & u64::from(u32::MAX)),
            1 if !matches!(register, Register::AH | Register::BH | Register::CH | Register::DH) => {
                Some(value & 0xff)
            }
            _ => None,
        }
    }

    fn set(&mut self, register: Register, value: Option<u64>) {
        let full = register.full_register();
        if full.is_gpr64() {
            self.held[full as usize - Register::RAX as usize] = value.filter(|_| register.size() >= 4);
        }
    }

    fn join(&mut self, other: &Self) -> bool {
        let before = *self;
        for (mine, theirs) in self.held.iter_mut().zip(other.held) {
            *mine = mine.filter(|it| Some(*it) == theirs);
        }
        self.zero = self.zero.filter(|it| Some(*it) == other.zero);
        *self != before
    }

    fn step(&mut self, it: &Instruction, info: &mut InstructionInfoFactory) {
        let first = it.op0_register();
        let second = match it.op_count() {
            2 if it.op1_kind() == OpKind::Register => self.get(it.op1_register()),
            2 if is_immediate(it.op1_kind()) => Some(it.immediate(1)),
            _ => None,
        };
        let both = || Some((self.get(first)?, second?));
        let is_plain = it.op0_kind() == OpKind::Register && first.is_gpr() && first.size() != 2;
        let is_same = it.op1_kind() == OpKind::Register && it.op1_register() == first;
        let mnemonic = it.mnemonic();
        use iced_x86::Mnemonic::{And, Cmp, Mov, Test, Xor};
        match mnemonic {
            Mov if is_plain => self.set(first, second),
            Xor if is_plain && is_same => {
                self.set(first, Some(0));
                self.zero = Some(true);
            }
            And if is_plain => {
                let result = both().map(|(a, b)| a & b);
                self.zero = result.map(|it| it == 0);
                self.set(first, result);
            }
            Test if is_plain => self.zero = both().map(|(a, b)| a & b & mask(first) == 0),
            Cmp if is_plain => self.zero = both().map(|(a, b)| a & mask(first) == b & mask(first)),
            _ => {
                for used in info.info(it).used_registers() {
                    if !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess) {
                        self.set(used.register(), None);
                    }
                }
                if it.rflags_modified() != 0 {
                    self.zero = None;
                }
            }
        }
    }

    fn call(&mut self) {
        for (number, held) in self.held.iter_mut().enumerate() {
            if !SAVED.iter().any(|it| *it as usize - Register::RAX as usize == number) {
                *held = None;
            }
        }
        self.zero = None;
    }
}

fn mask(register: Register) -> u64 {
    if register.size() == 8 { u64::MAX } else { (1 << (8 * register.size())) - 1 }
}

fn is_immediate(kind: OpKind) -> bool {
    matches!(
        kind,
        OpKind::Immediate8
            | OpKind::Immediate32
            | OpKind::Immediate8to32
            | OpKind::Immediate8to64
            | OpKind::Immediate32to64
            | OpKind::Immediate64
    )
}

/// The number that the instruction puts into the register of the first argument.
pub(super) fn first_argument(it: &Instruction) -> Option<u32> {
    (it.code() == Opcode::Mov_r32_imm32 && it.op0_register() == Register::EDI).then(|| it.immediate32())
}

/// Whether no way through the function at `entry` leads back, if `first` is its first argument.
pub(super) fn never_returns(
    code: &Code<'_>,
    entry: u64,
    first: u32,
    mut callee: impl FnMut(Target<'_>) -> Callee,
) -> bool {
    let mut state = State { held: [None; 16], zero: None };
    state.set(Register::EDI, Some(first.into()));
    let mut before: HashMap<u64, State> = HashMap::from([(entry, state)]);
    let mut info = InstructionInfoFactory::new();
    let mut todo = vec![entry];
    while let Some(address) = todo.pop() {
        let (Some(mut state), Some(it)) = (before.get(&address).copied(), code.decode(address)) else {
            return false;
        };
        if before.len() > MAX_INSTRUCTIONS {
            return false;
        }
        let (mut next, mut jump) = (true, None);
        match it.flow_control() {
            FlowControl::Next => state.step(&it, &mut info),
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                match code.target(&it) {
                    to if code.never_returns(to) => {}
                    Target::Inside(to) => jump = Some(to),
                    _ => return false,
                }
                next = it.flow_control() == FlowControl::ConditionalBranch;
                match (it.condition_code(), state.zero) {
                    (ConditionCode::e, Some(zero)) | (ConditionCode::ne, Some(zero)) => {
                        let is_taken = zero == (it.condition_code() == ConditionCode::e);
                        next = !is_taken;
                        jump = jump.filter(|_| is_taken);
                    }
                    _ => {}
                }
            }
            FlowControl::Call if it.op0_kind() != OpKind::NearBranch64 => state.call(),
            FlowControl::Call | FlowControl::IndirectCall => {
                next = callee(code.target(&it)) != Callee::Never;
                state.call();
            }
            FlowControl::Exception => next = false,
            FlowControl::Return
            | FlowControl::IndirectBranch
            | FlowControl::Interrupt
            | FlowControl::XbeginXabortXend => return false,
        }
        let next = Some(it.next_ip()).filter(|it| next && !code.is_start(*it));
        for to in next.into_iter().chain(jump) {
            match before.get_mut(&to) {
                Some(known) => {
                    if known.join(&state) {
                        todo.push(to);
                    }
                }
                None => {
                    before.insert(to, state);
                    todo.push(to);
                }
            }
        }
    }
    true
}
