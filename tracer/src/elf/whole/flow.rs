//! The instructions that a call of a function can run, and what each means for the result.

use std::collections::HashMap;

use iced_x86::{
    Code as Opcode, ConditionCode, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess,
    OpKind, Register, RflagsBits,
};

use super::{
    Question, Refusal,
    callees::{Callee, Callees},
    constants,
    values::Solved,
};
use crate::elf::{
    code::{Code, Target},
    site,
};

/// Instructions of one function. glibc's malloc has 190, jemalloc's with its slow parts some thousands, which would take
/// longer to understand than they can save.
const MAX_OPS: usize = 800;

/// Before a call, arguments are put in place; a number stays there.
const ARGUMENT_SEARCH: usize = 8;

/// What happens after an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Then {
    Next,
    Jump,
    /// The jump is made if the zero flag has this value; `None`: on another condition.
    Branch(Option<bool>),
    Call(Callee),
    Return,
    /// Nothing: a call that never comes back, or a trap.
    Nothing,
    /// A jump to what is not known.
    Elsewhere,
}

/// What an instruction does to rax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Result_ {
    Stays,
    Zero,
    Other,
}

/// What an instruction does to the zero flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ZeroFlag {
    Stays,
    /// It says whether rax is zero.
    OfResult,
    Other,
}

pub(super) struct Op {
    pub(super) address: u64,
    pub(super) instruction: Instruction,
    pub(super) then: Then,
    pub(super) next: Option<usize>,
    pub(super) jump: Option<usize>,
    pub(super) result: Result_,
    pub(super) zero_flag: ZeroFlag,
    /// What it is called, if the kernel emulates it.
    pub(super) emulated: Option<String>,
    /// It lies in another function's code, or in a part of this one: the beginning of that.
    pub(super) part: Option<u64>,
}

pub(super) struct Flow {
    /// The first is the entry.
    pub(super) ops: Vec<Op>,
}

impl Flow {
    pub(super) fn of(code: &Code<'_>, question: Question) -> Result<Self, Refusal> {
        let mut indices: HashMap<u64, usize> = HashMap::new();
        let mut ops: Vec<Op> = Vec::new();
        let mut todo = vec![question.entry];
        let mut callees = Callees::new(code);
        let mut info = InstructionInfoFactory::new();
        let mut edges: Vec<(Option<u64>, Option<u64>)> = Vec::new();
        while let Some(address) = todo.pop() {
            if indices.contains_key(&address) {
                continue;
            }
            if ops.len() == MAX_OPS {
                return Err(Refusal::TooLong);
            }
            let it = code.decode(address).ok_or(Refusal::Unreadable)?;
            let (then, target) = then(code, &it, &mut callees)?;
            let goes_on = matches!(then, Then::Next | Then::Branch(_) | Then::Call(_));
            let next = Some(it.next_ip()).filter(|next| goes_on && !code.is_start(*next));
            // Nothing falls into another function; what seems to is behind a call that does not return.
            let then = match (then, next) {
                (Then::Call(_), None) => Then::Nothing,
                (Then::Next | Then::Branch(_), None) => return Err(Refusal::Unreadable),
                (then, _) => then,
            };
            indices.insert(address, ops.len());
            let (result, zero_flag) = effects(&it, &mut info);
            ops.push(Op {
                address,
                then,
                next: None,
                jump: None,
                result,
                zero_flag,
                emulated: emulated(code, &it, question.entry),
                part: part(code, address, question),
                instruction: it,
            });
            edges.push((next, target));
            todo.extend(target);
            todo.extend(next);
        }
        for (op, (next, jump)) in ops.iter_mut().zip(edges) {
            let index = |it: u64| indices.get(&it).copied();
            (op.next, op.jump) = (next.and_then(index), jump.and_then(index));
        }
        let mut flow = Self { ops };
        flow.stop_at_last_calls(code, &mut callees);
        Ok(flow)
    }

    /// Calls that do not come back with the first argument that they get.
    fn stop_at_last_calls(&mut self, code: &Code<'_>, callees: &mut Callees<'_, '_>) {
        let mut before: Vec<Vec<usize>> = vec![Vec::new(); self.ops.len()];
        for (from, op) in self.ops.iter().enumerate() {
            op.next.into_iter().chain(op.jump).for_each(|to| before[to].push(from));
        }
        for index in 0..self.ops.len() {
            let op = &self.ops[index];
            let (Then::Call(_), Target::Inside(to)) = (op.then, code.target(&op.instruction)) else {
                continue;
            };
            let mut at = index;
            for _ in 0..ARGUMENT_SEARCH {
                let [from] = before[at][..] else { break };
                let op = &self.ops[from];
                if op.then != Then::Next {
                    break;
                }
                if let Some(first) = constants::first_argument(&op.instruction) {
                    if constants::never_returns(code, to, first, |it| callees.of(it)) {
                        (self.ops[index].then, self.ops[index].next) = (Then::Nothing, None);
                    }
                    break;
                }
                at = from;
            }
        }
    }

    /// Whether only calls of the function itself run this: it is within the function, or in a part of it that lies
    /// elsewhere. To such a part there are only jumps with a frame, and another function is entered without one.
    pub(super) fn is_own(&self, index: usize, values: &Solved) -> bool {
        let Some(part) = self.ops[index].part else { return true };
        self.ops.iter().enumerate().all(|(from, op)| {
            let leads = |to: Option<usize>| to.is_some_and(|it| self.ops[it].part == Some(part));
            op.part == Some(part)
                || !(leads(op.next) || leads(op.jump))
                || values.at(self, from).is_none_or(|it| it.depth().is_some_and(|depth| depth < 0))
        })
    }
}

/// The part in which the address lies; `None`: within the function.
fn part(code: &Code<'_>, address: u64, Question { entry, size, .. }: Question) -> Option<u64> {
    let start = code.start_of(address).unwrap_or(0);
    let within =
        address.checked_sub(entry).is_some_and(|it| if size == 0 { start == entry } else { it < size });
    (!within).then_some(start)
}

fn then(
    code: &Code<'_>,
    it: &Instruction,
    callees: &mut Callees<'_, '_>,
) -> Result<(Then, Option<u64>), Refusal> {
    let jump = |then: Then| match code.target(it) {
        target if code.never_returns(target) => Ok((Then::Nothing, None)),
        Target::Inside(address) => Ok((then, Some(address))),
        Target::Outside(_) if then == Then::Jump => Ok((Then::Elsewhere, None)),
        Target::Outside(_) => Err(Refusal::EndsElsewhere),
        Target::Unknown => Err(Refusal::IndirectJump),
    };
    Ok(match it.flow_control() {
        FlowControl::Next => (Then::Next, None),
        FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => return jump(Then::Jump),
        FlowControl::ConditionalBranch => {
            let zero = match it.condition_code() {
                ConditionCode::e => Some(true),
                ConditionCode::ne => Some(false),
                _ => None,
            };
            return jump(Then::Branch(zero));
        }
        FlowControl::Return => (Then::Return, None),
        FlowControl::Exception => (Then::Nothing, None),
        FlowControl::Call if it.op0_kind() == OpKind::NearBranch64 => match callees.of(code.target(it)) {
            Callee::Never => (Then::Nothing, None),
            callee => (Then::Call(callee), None),
        },
        FlowControl::IndirectCall => match callees.of(code.target(it)) {
            Callee::Never => (Then::Nothing, None),
            callee => (Then::Call(callee), None),
        },
        // A system call.
        FlowControl::Call => (Then::Call(Callee::Loud), None),
        FlowControl::Interrupt | FlowControl::XbeginXabortXend => return Err(Refusal::Unreadable),
    })
}

fn effects(it: &Instruction, info: &mut InstructionInfoFactory) -> (Result_, ZeroFlag) {
    let is_result = |register: Register| register.full_register() == Register::RAX;
    let zeroed = it.mnemonic() == Mnemonic::Xor
        && it.op0_kind() == OpKind::Register
        && it.op1_kind() == OpKind::Register
        && it.op0_register() == it.op1_register()
        && matches!(it.op0_register(), Register::EAX | Register::RAX);
    let result = if zeroed {
        Result_::Zero
    } else if info.info(it).used_registers().iter().any(|used| {
        is_result(used.register())
            && !matches!(used.access(), OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
    }) {
        Result_::Other
    } else {
        Result_::Stays
    };
    let tests = it.code() == Opcode::Test_rm64_r64
        && it.op0_register() == Register::RAX
        && it.op1_register() == Register::RAX;
    let zero_flag = if tests {
        ZeroFlag::OfResult
    } else if it.rflags_modified() & RflagsBits::ZF != 0 {
        ZeroFlag::Other
    } else {
        ZeroFlag::Stays
    };
    (result, zero_flag)
}

fn emulated(code: &Code<'_>, it: &Instruction, entry: u64) -> Option<String> {
    if !site::is_emulated(code.bytes(it)?) {
        return None;
    }
    let mut relative = *it;
    relative.set_ip(it.ip().wrapping_sub(entry));
    if it.op0_kind() == OpKind::NearBranch64 {
        relative.set_near_branch64(it.near_branch_target().wrapping_sub(entry));
    }
    Some(site::describe(&relative))
}
