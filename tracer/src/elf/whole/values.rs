//! Which register holds what the function was called with, at each of its instructions.

use iced_x86::{Code as Opcode, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};
use tracer_ebpf::call::Frame;

use super::{
    ARGUMENTS, SAVED,
    choice::{Node, successors},
    flow::{Flow, Then},
    position,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Unknown,
    /// What this register held at the entry.
    Entry(Register),
    /// An address on the stack, in bytes from where the return address lies.
    Stack(i64),
}

const REGISTERS: usize = 16;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Values {
    held: [Value; REGISTERS],
    /// Where on the stack the caller's rbp lies.
    caller_fp: Option<i64>,
}

fn number(register: Register) -> Option<usize> {
    let register = register.full_register();
    (register.is_gpr64()).then(|| register as usize - Register::RAX as usize)
}

impl Values {
    fn at_entry() -> Self {
        let mut held = [Value::Unknown; REGISTERS];
        for (number, value) in held.iter_mut().enumerate() {
            *value = Register::try_from(Register::RAX as usize + number).map_or(Value::Unknown, Value::Entry);
        }
        let mut values = Self { held, caller_fp: None };
        values.set(Register::RSP, Value::Stack(0));
        values
    }

    fn get(&self, register: Register) -> Value {
        number(register).map_or(Value::Unknown, |it| self.held[it])
    }

    fn set(&mut self, register: Register, value: Value) {
        if let Some(it) = number(register) {
            self.held[it] = value;
        }
    }

    /// What both agree on.
    fn join(&mut self, other: &Self) -> bool {
        let before = *self;
        for (mine, theirs) in self.held.iter_mut().zip(other.held) {
            if *mine != theirs {
                *mine = Value::Unknown;
            }
        }
        if self.caller_fp != other.caller_fp {
            self.caller_fp = None;
        }
        *self != before
    }

    /// Of the stack pointer, in bytes from the return address: never above it.
    pub(super) fn depth(&self) -> Option<i64> {
        match self.get(Register::RSP) {
            Value::Stack(depth) => Some(depth),
            _ => None,
        }
    }

    pub(super) fn frame(&self) -> Option<Frame> {
        let depth = self.depth()?;
        let caller_fp = match self.get(Register::RBP) {
            Value::Entry(Register::RBP) => None,
            _ => Some(self.caller_fp?.checked_sub(depth)?),
        };
        let words = |bytes: i64| (bytes % 8 == 0).then_some(()).and_then(|()| u16::try_from(bytes / 8).ok());
        Frame::new(words(depth.checked_neg()?)?, caller_fp.map_or(Some(None), |it| words(it).map(Some))?)
    }

    /// Where argument number `argument` lies, as a position in a cookie; 0 is "none".
    pub(super) fn position(&self, argument: u8) -> Option<u8> {
        let Some(index) = argument.checked_sub(1) else { return Some(0) };
        let wanted = Value::Entry(*ARGUMENTS.get(usize::from(index))?);
        SAVED.into_iter().chain(ARGUMENTS).find(|it| self.get(*it) == wanted).and_then(position)
    }

    /// The stack address of a memory operand without an index.
    fn address(&self, it: &Instruction) -> Option<i64> {
        if it.memory_index() != Register::None || it.memory_segment() == Register::FS {
            return None;
        }
        match self.get(it.memory_base()) {
            Value::Stack(at) if it.memory_base().is_gpr64() => {
                Some(at.wrapping_add(it.memory_displacement64() as i64))
            }
            _ => None,
        }
    }

    fn step(&mut self, it: &Instruction, then: Then, info: &mut InstructionInfoFactory) {
        if let Then::Call(_) = then {
            let kept = |register: &Register| SAVED.contains(register) || *register == Register::RSP;
            for number in 0..REGISTERS {
                if Register::try_from(Register::RAX as usize + number).is_ok_and(|it| !kept(&it)) {
                    self.held[number] = Value::Unknown;
                }
            }
            return;
        }
        let moved = |values: &Self, by: i64| match values.depth() {
            Some(depth) => Value::Stack(depth.wrapping_add(by)),
            None => Value::Unknown,
        };
        match it.code() {
            Opcode::Push_r64 => {
                let value = self.get(it.op0_register());
                let to = moved(self, -8);
                self.set(Register::RSP, to);
                self.note_store(to, value);
            }
            Opcode::Pop_r64 => {
                let value = self.load(self.depth());
                let to = moved(self, 8);
                self.set(Register::RSP, to);
                self.set(it.op0_register(), value);
            }
            Opcode::Leaveq => {
                let from = self.get(Register::RBP);
                let at = if let Value::Stack(at) = from { Some(at) } else { None };
                let value = self.load(at);
                self.set(Register::RSP, at.map_or(Value::Unknown, |it| Value::Stack(it.wrapping_add(8))));
                self.set(Register::RBP, value);
            }
            Opcode::Sub_rm64_imm8 | Opcode::Sub_rm64_imm32 if it.op0_register() == Register::RSP => {
                let to = moved(self, (it.immediate(1) as i64).wrapping_neg());
                self.set(Register::RSP, to);
            }
            Opcode::Add_rm64_imm8 | Opcode::Add_rm64_imm32 if it.op0_register() == Register::RSP => {
                let to = moved(self, it.immediate(1) as i64);
                self.set(Register::RSP, to);
            }
            Opcode::Lea_r64_m => {
                let to = self.address(it).map_or(Value::Unknown, Value::Stack);
                self.set(it.op0_register(), to);
            }
            Opcode::Mov_r64_rm64 | Opcode::Mov_rm64_r64
                if it.op0_kind() == OpKind::Register && it.op1_kind() == OpKind::Register =>
            {
                let value = self.get(it.op1_register());
                self.set(it.op0_register(), value);
            }
            Opcode::Mov_r64_rm64 if it.op1_kind() == OpKind::Memory => {
                let value = self.load(self.address(it));
                self.set(it.op0_register(), value);
            }
            Opcode::Mov_rm64_r64 => {
                let to = self.address(it).map_or(Value::Unknown, Value::Stack);
                self.note_store(to, self.get(it.op1_register()));
            }
            _ => {
                // A comparison of the stack pointer and the like change nothing; the rest is not understood.
                if it.mnemonic() == Mnemonic::Pushfq || it.is_stack_instruction() && !is_flow(then) {
                    self.set(Register::RSP, Value::Unknown);
                }
                for used in info.info(it).used_registers() {
                    if !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess) {
                        self.set(used.register(), Value::Unknown);
                    }
                }
            }
        }
    }

    /// Only where the caller's rbp lies is remembered; compilers write nothing else there.
    fn note_store(&mut self, to: Value, value: Value) {
        let Value::Stack(at) = to else { return };
        if value == Value::Entry(Register::RBP) {
            self.caller_fp = Some(at);
        } else if self.caller_fp == Some(at) {
            self.caller_fp = None;
        }
    }

    fn load(&self, at: Option<i64>) -> Value {
        if at.is_some() && at == self.caller_fp { Value::Entry(Register::RBP) } else { Value::Unknown }
    }
}

fn is_flow(then: Then) -> bool {
    matches!(then, Then::Return | Then::Jump | Then::Branch(_) | Then::Nothing | Then::Elsewhere)
}

/// What is known before each instruction.
pub(super) struct Solved {
    /// By [`Node::index`]; `None`: it is not reached.
    before: Vec<Option<Values>>,
}

impl Solved {
    /// What holds on all ways to an instruction.
    pub(super) fn at(&self, flow: &Flow, index: usize) -> Option<Values> {
        debug_assert!(index < flow.ops.len());
        let mut all = Node::all_at(index).filter_map(|it| self.before[it.index()]);
        let mut joined = all.next()?;
        all.for_each(|it| _ = joined.join(&it));
        Some(joined)
    }
}

/// Follows the values from the entry until nothing changes.
pub(super) fn solve(flow: &Flow) -> Solved {
    let mut before: Vec<Option<Values>> = vec![None; Node::count(flow)];
    let mut info = InstructionInfoFactory::new();
    before[Node::ENTRY.index()] = Some(Values::at_entry());
    let mut todo = vec![Node::ENTRY];
    while let Some(node) = todo.pop() {
        let Some(mut values) = before[node.index()] else { continue };
        let op = &flow.ops[node.op];
        values.step(&op.instruction, op.then, &mut info);
        for next in successors(flow, node, &[]) {
            match &mut before[next.index()] {
                Some(known) => {
                    if known.join(&values) {
                        todo.push(next);
                    }
                }
                empty => {
                    *empty = Some(values);
                    todo.push(next);
                }
            }
        }
    }
    Solved { before }
}
