//! Where the control flow of a function leads: to which returns, and to which other functions.
//!
//! A function is followed through its jumps, also into other functions (a tail call), through the procedure
//! linkage table to names. What cannot be followed, as a jump through a table, is said to be so.

use std::collections::{BTreeSet, HashMap, HashSet};

use iced_x86::{
    Code as Opcode, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};

use super::{Image, links::Slot};

/// Instructions of one function, with what it jumps to: jemalloc's slow paths have some hundreds. Beyond this it
/// is no allocator function that was followed.
const MAX_INSTRUCTIONS: usize = 20_000;

/// How deep calls are followed. Functions that wrap others do so on their first levels.
const MAX_DEPTH: u32 = 4;

/// The longest instruction.
const INSTRUCTION_BYTES: usize = 15;

/// Functions that do not return.
const NEVER_RETURN: [&str; 8] = [
    "abort",
    "_exit",
    "exit",
    "__stack_chk_fail",
    "__assert_fail",
    "__cxa_throw",
    "__cxa_rethrow",
    "_Unwind_Resume",
];

/// Where a jump or a call leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target<'data> {
    Inside(u64),
    /// To a function of this name in another object.
    Outside(&'data [u8]),
    Unknown,
}

/// How many ways through a function lead to one of the functions that were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ways {
    /// It does not return at all.
    Never,
    None,
    Some,
    All,
}

/// The code of an object.
pub(super) struct Code<'data> {
    image: Image<'data>,
    starts: BTreeSet<u64>,
    slots: HashMap<u64, Slot<'data>>,
    defined: HashMap<&'data [u8], u64>,
}

impl<'data> Code<'data> {
    pub(super) fn of(image: &Image<'data>) -> Self {
        let functions = image.functions();
        let mut starts: BTreeSet<u64> = functions.iter().map(|it| it.address).collect();
        starts.extend(image.unwound_starts());
        Self {
            image: *image,
            starts,
            slots: image.slots(),
            defined: functions.into_iter().map(|it| (it.name, it.address)).collect(),
        }
    }

    /// Code without names, with functions that begin at these addresses.
    #[cfg(test)]
    pub(super) fn of_starts(image: &Image<'data>, starts: impl Iterator<Item = u64>) -> Self {
        Self { image: *image, starts: starts.collect(), slots: HashMap::new(), defined: HashMap::new() }
    }

    /// Each `ret` by which the function at `entry` ends, in it or in one that it jumps to; functions of which
    /// `is_seen` need not be followed. `None` if there are others.
    pub(super) fn returns(&self, entry: u64, is_seen: &dyn Fn(Target<'_>) -> bool) -> Option<Vec<u64>> {
        let mut returns = BTreeSet::new();
        let mut walk = Walk::from(entry);
        // A jump through a register leads to a function whose address was taken: there is no other in such code.
        let (mut taken, mut jumps_anywhere) = (BTreeSet::new(), false);
        loop {
            while let Some(it) = walk.next(self) {
                let it = it.ok()?;
                match it.flow_control() {
                    FlowControl::Return => _ = returns.insert(it.ip()),
                    FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                        match self.target(&it) {
                            target if is_seen(target) => {}
                            Target::Inside(address) => walk.push(address),
                            Target::Outside(name) if never_returns(name) => {}
                            _ => return None,
                        }
                    }
                    FlowControl::IndirectBranch => match self.target(&it) {
                        target if is_seen(target) => {}
                        Target::Inside(address) => walk.push(address),
                        Target::Outside(name) if never_returns(name) => {}
                        Target::Outside(_) => return None,
                        Target::Unknown => jumps_anywhere = true,
                    },
                    FlowControl::Call | FlowControl::IndirectCall => {
                        if matches!(self.target(&it), Target::Outside(name) if never_returns(name)) {
                            walk.stop();
                        }
                    }
                    _ => taken.extend(self.taken(&it)),
                }
            }
            if !jumps_anywhere {
                break;
            }
            if taken.is_empty() {
                return None;
            }
            if taken.iter().all(|it| walk.seen.contains(it)) {
                break;
            }
            taken.iter().for_each(|it| walk.push(*it));
        }
        Some(returns.into_iter().collect())
    }

    /// How many ways through the function at `entry` lead to a call of, or a jump to, a function that `is_wanted`.
    /// Of what cannot be followed the answer is that it does not lead there.
    pub(super) fn ways(&self, entry: u64, is_wanted: &dyn Fn(Target<'_>) -> bool) -> Ways {
        self.ways_known(entry, is_wanted, MAX_DEPTH, &mut HashMap::new())
    }

    fn ways_known(
        &self,
        entry: u64,
        is_wanted: &dyn Fn(Target<'_>) -> bool,
        depth: u32,
        known: &mut HashMap<u64, Ways>,
    ) -> Ways {
        if let Some(ways) = known.get(&entry) {
            return *ways;
        }
        // For those that call themselves.
        known.insert(entry, Ways::None);
        let (mut reached, mut missed) = (false, false);
        let mut walk = Walk::from(entry);
        while let Some(it) = walk.next(self) {
            let Ok(it) = it else {
                missed = true;
                continue;
            };
            match it.flow_control() {
                FlowControl::Return => missed = true,
                FlowControl::UnconditionalBranch
                | FlowControl::ConditionalBranch
                | FlowControl::IndirectBranch => match self.target(&it) {
                    target if is_wanted(target) => reached = true,
                    Target::Inside(address) => walk.push(address),
                    Target::Outside(name) if never_returns(name) => {}
                    _ => missed = true,
                },
                FlowControl::Call | FlowControl::IndirectCall => {
                    let target = self.target(&it);
                    let ways = match target {
                        _ if is_wanted(target) => Ways::All,
                        Target::Inside(address) if depth > 0 => {
                            self.ways_known(address, is_wanted, depth - 1, known)
                        }
                        Target::Outside(name) if never_returns(name) => Ways::Never,
                        _ => Ways::None,
                    };
                    reached |= matches!(ways, Ways::All | Ways::Some);
                    if matches!(ways, Ways::All | Ways::Never) {
                        walk.stop();
                    }
                }
                _ => {}
            }
        }
        let ways = match (reached, missed) {
            (false, false) => Ways::Never,
            (false, true) => Ways::None,
            (true, true) => Ways::Some,
            (true, false) => Ways::All,
        };
        known.insert(entry, ways);
        ways
    }

    /// The function that the one at `entry` does nothing but jump to, with its arguments moved perhaps.
    pub(super) fn stub_target(&self, entry: u64) -> Option<Target<'data>> {
        let mut walk = Walk::from(entry);
        loop {
            let it = walk.next(self)?.ok()?;
            match it.flow_control() {
                FlowControl::Next
                    if matches!(it.mnemonic(), Mnemonic::Mov | Mnemonic::Xor | Mnemonic::Endbr64) => {}
                FlowControl::UnconditionalBranch => return Some(self.target(&it)),
                _ => return None,
            }
        }
    }

    pub(super) fn decode(&self, address: u64) -> Option<Instruction> {
        let bytes = self.image.at(address)?;
        let bytes = &bytes[..bytes.len().min(INSTRUCTION_BYTES)];
        let it = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
        (!it.is_invalid()).then_some(it)
    }

    pub(super) fn target(&self, it: &Instruction) -> Target<'data> {
        match it.op0_kind() {
            OpKind::NearBranch64 => self.behind_stub(it.near_branch_target()),
            OpKind::Memory => self.in_slot(it),
            _ => Target::Unknown,
        }
    }

    /// The bytes of an instruction.
    pub(super) fn bytes(&self, it: &Instruction) -> Option<&'data [u8]> {
        self.image.at(it.ip())?.get(..it.len())
    }

    /// Whether a function begins at this address.
    pub(super) fn is_start(&self, address: u64) -> bool {
        self.starts.contains(&address)
    }

    /// The beginning of the last function that begins at this address or before it.
    pub(super) fn start_of(&self, address: u64) -> Option<u64> {
        self.starts.range(..=address).next_back().copied()
    }

    /// Whether the target has one of these names.
    pub(super) fn is_named(&self, target: Target<'_>, names: &[&str]) -> bool {
        match target {
            Target::Outside(name) => names.iter().any(|it| it.as_bytes() == name),
            Target::Inside(address) => {
                names.iter().any(|it| self.defined.get(it.as_bytes()) == Some(&address))
            }
            Target::Unknown => false,
        }
    }

    /// Whether the target is a function that does not return, as its name says.
    pub(super) fn never_returns(&self, target: Target<'_>) -> bool {
        self.is_named(target, &NEVER_RETURN) || matches!(target, Target::Outside(name) if never_returns(name))
    }

    /// An entry of the procedure linkage table is a jump through a slot.
    fn behind_stub(&self, address: u64) -> Target<'data> {
        let first = self.decode(address);
        let jump = match first {
            Some(it) if it.code() == Opcode::Endbr64 => self.decode(it.next_ip()),
            it => it,
        };
        match jump {
            Some(it)
                if it.flow_control() == FlowControl::IndirectBranch && it.op0_kind() == OpKind::Memory =>
            {
                match self.in_slot(&it) {
                    Target::Unknown => Target::Inside(address),
                    target => target,
                }
            }
            _ => Target::Inside(address),
        }
    }

    fn in_slot(&self, it: &Instruction) -> Target<'data> {
        if it.memory_base() != Register::RIP {
            return Target::Unknown;
        }
        match self.slots.get(&it.memory_displacement64()) {
            // Another object may come first with the name; it is followed as the one that was meant.
            Some(Slot::Name(name)) => {
                self.defined.get(name).map_or(Target::Outside(name), |it| Target::Inside(*it))
            }
            Some(Slot::Address(address)) => Target::Inside(*address),
            None => Target::Unknown,
        }
    }

    /// The function whose address this instruction takes.
    fn taken(&self, it: &Instruction) -> Option<u64> {
        let address = match it.code() {
            Opcode::Lea_r64_m if it.memory_base() == Register::RIP => it.memory_displacement64(),
            Opcode::Mov_r64_rm64 if it.op1_kind() == OpKind::Memory => match self.in_slot(it) {
                Target::Inside(address) => address,
                _ => return None,
            },
            _ => return None,
        };
        self.starts.contains(&address).then_some(address)
    }
}

/// One pass over the code that can be reached.
struct Walk {
    todo: Vec<u64>,
    seen: HashSet<u64>,
    at: Option<u64>,
}

/// There is something that is no instruction, or too much.
struct Unreadable;

impl Walk {
    fn from(entry: u64) -> Self {
        Self { todo: Vec::new(), seen: HashSet::new(), at: Some(entry) }
    }

    fn push(&mut self, address: u64) {
        self.todo.push(address);
    }

    /// What follows the last instruction does not run after it.
    fn stop(&mut self) {
        self.at = None;
    }

    fn next(&mut self, code: &Code<'_>) -> Option<Result<Instruction, Unreadable>> {
        let address = loop {
            let address = match self.at.take() {
                Some(it) => it,
                None => self.todo.pop()?,
            };
            if self.seen.insert(address) {
                break address;
            }
        };
        if self.seen.len() > MAX_INSTRUCTIONS {
            self.todo.clear();
            return Some(Err(Unreadable));
        }
        let Some(it) = code.decode(address) else { return Some(Err(Unreadable)) };
        let goes_on = match it.flow_control() {
            FlowControl::Next
            | FlowControl::ConditionalBranch
            | FlowControl::Call
            | FlowControl::IndirectCall
            | FlowControl::Interrupt
            | FlowControl::XbeginXabortXend => true,
            FlowControl::UnconditionalBranch
            | FlowControl::IndirectBranch
            | FlowControl::Return
            | FlowControl::Exception => false,
        };
        // Nothing falls into another function; what seems to is behind a call that does not return.
        if goes_on && !code.starts.contains(&it.next_ip()) {
            self.at = Some(it.next_ip());
        }
        Some(Ok(it))
    }
}

/// By its name. `std::__throw_bad_alloc()` and its relatives throw.
fn never_returns(name: &[u8]) -> bool {
    NEVER_RETURN.iter().any(|it| it.as_bytes() == name)
        || name.starts_with(b"_ZSt") && name.windows(7).any(|it| it == b"__throw")
}

#[cfg(test)]
mod tests;
