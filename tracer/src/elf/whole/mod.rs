//! Functions whose calls can be seen without a return probe: at places inside of them where the result is final.
//!
//! A return probe costs a second entry into the kernel. Many calls can do without: at the jump behind the moment at which
//! glibc's `malloc` has taken a block from the thread's cache, the block is in rax and stays there until the `ret`, and the
//! requested size is still in a register. One probe at such an *end* sees the whole call. The control flow of the function
//! must prove it, and what is proved is, for every way from the entry to a `ret`:
//!
//! 1. A way that returns a block passes exactly one end; there rax is what will be returned, and no call follows but such
//!    that never come back. A way on which rax is zero at an end returns NULL, or goes on to the end that counts.
//! 2. Before anything is called that may allocate, map or unmap memory, the way passes a *begin*, where the size is known.
//!    From there on the call is one in progress, as with a probe at the entry, so that what happens inside belongs to it;
//!    and every way from there to a `ret`, also one that returns NULL, passes exactly one end. A begin that is
//!    passed twice in a call says the same thing twice.
//! 3. An end that can be reached without a begin knows the size: the argument lies in the same register on all ways.
//! 4. Where the stack pointer is, and where the caller's rbp, is known at each: so the caller is found as at the entry.
//! 5. Ends and begins lie in code that only this function runs: in itself, or in parts that it jumps to with a frame.
//!
//! Hence a call is reported before it has returned, but after its last instruction that could matter: nobody else
//! knows the block. A signal that comes between end and `ret` changes nothing; one that comes before the end of a call
//! without a begin is no part of it, and its own calls count. A child that is forked in a handler continues in a
//! copy of the frame and so passes the same ends. A jump out of the function (`longjmp`, an exception) leaves it before the
//! end, so there is no block, or after a begin, which the next one of another size or at another place replaces and counts as
//! stale. Only functions that do not throw are looked at.
//!
//! What cannot be followed is refused, with the reason. PURE.

mod callees;
mod choice;
mod constants;
mod flow;
mod values;

use std::fmt;

use iced_x86::Register;
use tracer_ebpf::call::{Cookie, FIRST_SAVED, Frame, Roles};

use self::flow::Flow;
use super::code::Code;

/// Counted up when an analysis may come to other places than the one before: verdicts on the old ones are then void.
pub const VERSION: u32 = 1;

/// Ends and begins of one function: each is a breakpoint. glibc 2.36 needs six for malloc.
const MAX_SITES: usize = 24;

/// Where a call is seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Where it becomes a call in progress.
    pub begins: Vec<Place>,
    /// Where its result is final.
    pub ends: Vec<Place>,
}

/// A place for a probe in a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// In bytes from the function's first instruction.
    pub offset: i64,
    /// Where size and count lie; neither if the place is behind a begin always.
    pub roles: Roles,
    pub frame: Frame,
    pub instruction: String,
}

impl Place {
    /// What its probe is told beyond `cookie`, which says what function this is.
    pub fn cookie(&self, cookie: Cookie) -> Cookie {
        cookie.with_roles(self.roles).with_frame(self.frame)
    }
}

impl fmt::Display for Whole {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |places: &[Place]| {
            let places: Vec<String> =
                places.iter().map(|it| format!("{:+#x} {}", it.offset, it.instruction)).collect();
            places.join(", ")
        };
        write!(out, "ends ({})", list(&self.ends))?;
        if !self.begins.is_empty() {
            write!(out, ", and where it begins to do more ({})", list(&self.begins))?;
        }
        Ok(())
    }
}

/// Why a function is seen by entry and return.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it is no plain allocation")]
    OtherKind,
    #[error("it has too much code")]
    TooLong,
    #[error("its code cannot be read")]
    Unreadable,
    #[error("it jumps through a register or a table")]
    IndirectJump,
    #[error("it may end in another function")]
    EndsElsewhere,
    #[error("what it calls may allocate, and no cheap instruction before knows the size")]
    CallBeforeBegin,
    #[error("a way to its return has no cheap instruction where result and size are known")]
    NoEnd,
    #[error("each call would need two probes")]
    NoGain,
    #[error("it would need too many probes")]
    TooManySites,
}

/// What the proof is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) entry: u64,
    /// Bytes of the function; 0 if the object does not say.
    pub(super) size: u64,
    pub(super) roles: Roles,
}

/// Where the calls of the function can be seen whole.
pub(super) fn find(code: &Code<'_>, question: Question) -> Result<Whole, Refusal> {
    let Roles { size, count, old, out } = question.roles;
    if old != 0 || out != 0 || size == 0 {
        return Err(Refusal::OtherKind);
    }
    let flow = Flow::of(code, question)?;
    let values = values::solve(&flow);
    let place = |index: usize| {
        let op = &flow.ops[index];
        let instruction = op.emulated.clone()?;
        let values = values.at(&flow, index)?;
        let frame = values.frame()?;
        let roles =
            Roles { size: values.position(size)?, count: values.position(count)?, ..Roles::default() };
        Some((instruction, frame, roles))
    };
    let known = |index: usize| place(index).is_some();
    let framed = |index: usize| {
        flow.ops[index].emulated.is_some() && values.at(&flow, index).is_some_and(|it| it.frame().is_some())
    };
    let is_own = |index: usize| flow.is_own(index, &values);
    let (begins, ends) =
        choice::choose(&flow, &|it| is_own(it) && known(it), &|it| is_own(it) && framed(it))?;
    if begins.len() + ends.len() > MAX_SITES {
        return Err(Refusal::TooManySites);
    }
    let places = |indices: Vec<(usize, bool)>| {
        let make = |(index, with_size): (usize, bool)| {
            let op = &flow.ops[index];
            let roles = if with_size { place(index)?.2 } else { Roles::default() };
            Some(Place {
                offset: op.address.wrapping_sub(question.entry) as i64,
                roles,
                frame: values.at(&flow, index)?.frame()?,
                instruction: op.emulated.clone()?,
            })
        };
        indices.into_iter().map(make).collect::<Option<Vec<_>>>()
    };
    let begins = places(begins.into_iter().map(|it| (it, true)).collect()).ok_or(Refusal::NoEnd)?;
    Ok(Whole { begins, ends: places(ends).ok_or(Refusal::NoEnd)? })
}

/// The registers that a function keeps for its caller, in the order of [`Cookie`].
const SAVED: [Register; 6] =
    [Register::RBX, Register::RBP, Register::R12, Register::R13, Register::R14, Register::R15];

/// How arguments are passed (System V ABI for x86-64, 3.2.3).
const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

/// The position of a register in a [`Cookie`].
fn position(register: Register) -> Option<u8> {
    let place = |all: [Register; 6]| all.iter().position(|it| *it == register);
    place(SAVED).map(|it| FIRST_SAVED + it as u8).or_else(|| place(ARGUMENTS).map(|it| it as u8 + 1))
}

#[cfg(test)]
mod tests;
