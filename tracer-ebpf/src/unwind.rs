//! One step of stack unwinding without frame pointers, pure: memory and table rows come in through
//! closures. Used in the probes, on the host for stacks that the probes could not finish, and in tests.
//!
//! A table belongs to one object file and is ordered by *file offset*, so that an address becomes a
//! table position by one addition, whatever the load address. The text is cut into blocks of 256
//! bytes; a block index gives the rows of each block, so that a search takes at most nine steps.
//! A row is the low eight bits of its offset and the number of its [`Rule`], which are shared by
//! all objects: whole distributions use some hundred different ones.

use core::ops::Range;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Bytes of text per block of the index, as a power of two.
pub const BLOCK_SHIFT: u32 = 8;

/// Steps of the search in one block: a block of 256 bytes has at most 256 rows.
pub const SEARCH_STEPS: u32 = 9;

/// How to find the caller; valid from its row's offset up to the next row's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Rule {
    pub cfa_offset: i32,
    pub fp_offset: i32,
    /// Added after the dereference of `CFA_DEREF_*`.
    pub addend: i16,
    /// One of the `CFA_*` constants.
    pub cfa: u8,
    /// One of the `FP_*` constants.
    pub fp: u8,
}

/// No code is described here.
pub const CFA_NONE: u8 = 0;
/// The outermost function: the return address is undefined.
pub const CFA_END: u8 = 1;
/// cfa = sp + cfa_offset
pub const CFA_SP: u8 = 2;
/// cfa = fp + cfa_offset
pub const CFA_FP: u8 = 3;
/// A procedure linkage table: cfa = sp + 8 + (8 if ip % 16 >= cfa_offset)
pub const CFA_PLT: u8 = 4;
/// cfa = *(sp + cfa_offset) + addend
pub const CFA_DEREF_SP: u8 = 5;
/// cfa = *(fp + cfa_offset) + addend
pub const CFA_DEREF_FP: u8 = 6;
/// A signal trampoline: the kernel's `struct rt_sigframe` lies at sp.
pub const CFA_SIGNAL: u8 = 7;
/// The rule exists but cannot be expressed here.
pub const CFA_UNSUPPORTED: u8 = 8;

/// Nothing describes the code, but its functions keep frame pointers: made at run time, or for it.
pub const CFA_FRAME: u8 = 9;
/// Code of the Go compiler: frame pointers that lead from stack to stack, to 0 where a goroutine began.
pub const CFA_GO: u8 = 10;

/// A frame pointer that does not lie within this much of the stack is none.
const MAX_FRAME_BYTES: u64 = 1 << 20;

/// The caller's fp is ours.
pub const FP_SAME: u8 = 0;
/// fp = *(cfa + fp_offset)
pub const FP_AT_CFA: u8 = 1;
/// fp = *(fp + fp_offset)
pub const FP_AT_FP: u8 = 2;

/// Where `struct sigcontext` lies above sp in a signal trampoline (`ucontext.uc_mcontext`), and the
/// registers in it: arch/x86/include/uapi/asm/sigcontext.h and ucontext.h.
const SIGNAL_CONTEXT: u64 = 40;
const SIGNAL_FP: u64 = SIGNAL_CONTEXT + 80;
const SIGNAL_SP: u64 = SIGNAL_CONTEXT + 120;
const SIGNAL_IP: u64 = SIGNAL_CONTEXT + 128;

/// Where a walk stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Regs {
    pub ip: u64,
    pub sp: u64,
    pub fp: u64,
    /// `ip` is an interrupted instruction, not a return address.
    pub exact: bool,
}

impl Regs {
    /// The address that identifies the instruction: a return address may already belong to the next
    /// function, the byte before it lies inside the call.
    #[inline(always)]
    pub fn lookup(&self) -> u64 {
        if self.exact { self.ip } else { self.ip.wrapping_sub(1) }
    }
}

/// Why a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Stop {
    /// The stack is complete: it ends where the thread began.
    Complete = 0,
    /// More frames than a record holds.
    Truncated = 1,
    /// The address belongs to no executable mapping.
    NoMapping = 2,
    /// The object has no unwind information for this address.
    NoTable = 3,
    /// The rule is one that this tool cannot express.
    Unsupported = 4,
    /// The target's stack could not be read.
    Unreadable = 5,
    /// The table is not there yet; user space finishes the walk.
    Pending = 6,
    /// The process ended before its mappings could be read.
    Gone = 7,
    /// Nothing describes the code, and the frame pointer leads nowhere.
    NoFramePointer = 8,
}

impl Stop {
    pub const ALL: [Self; 9] = [
        Self::Complete,
        Self::Truncated,
        Self::NoMapping,
        Self::NoTable,
        Self::Unsupported,
        Self::Unreadable,
        Self::Pending,
        Self::Gone,
        Self::NoFramePointer,
    ];

    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.get(code as usize).copied()
    }

    /// As captures and reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Truncated => "truncated",
            Self::NoMapping => "no_mapping",
            Self::NoTable => "no_table",
            Self::Unsupported => "unsupported",
            Self::Unreadable => "unreadable",
            Self::Pending => "pending",
            Self::Gone => "gone",
            Self::NoFramePointer => "no_frame_pointer",
        }
    }
}

/// Packs a row: `offset` in its file, `rule` in the common table of rules.
pub fn row(offset: u32, rule: u32) -> u32 {
    rule << BLOCK_SHIFT | offset & ((1 << BLOCK_SHIFT) - 1)
}

/// The rule of a packed row.
#[inline(always)]
pub fn rule_of(row: u32) -> u32 {
    row >> BLOCK_SHIFT
}

/// The last row at or below `offset`, of the rows `low..high` of its block. With none in the block
/// it is the last row before it; a table begins with a `CFA_NONE` row, so there always is one.
#[inline(always)]
pub fn find_row(
    mut low: u32,
    mut high: u32,
    offset: u32,
    row_at: impl Fn(u32) -> Option<u32>,
) -> Option<u32> {
    let wanted = offset & ((1 << BLOCK_SHIFT) - 1);
    for _ in 0..SEARCH_STEPS {
        if low >= high {
            break;
        }
        let middle = low + (high - low) / 2;
        if row_at(middle)? & ((1 << BLOCK_SHIFT) - 1) <= wanted {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    row_at(low.wrapping_sub(1))
}

/// The caller's registers.
///
/// # Errors
/// The reason why there is none: [`Stop::Complete`] at the outermost frame.
#[inline(always)]
pub fn step(regs: Regs, rule: Rule, mut read: impl FnMut(u64) -> Option<u64>) -> Result<Regs, Stop> {
    let cfa = match rule.cfa {
        CFA_SP => offset(regs.sp, rule.cfa_offset),
        CFA_FP => offset(regs.fp, rule.cfa_offset),
        CFA_END => return Err(Stop::Complete),
        CFA_NONE => return Err(Stop::NoTable),
        CFA_PLT => regs.sp.wrapping_add(if regs.ip & 15 >= rule.cfa_offset as u64 { 16 } else { 8 }),
        CFA_DEREF_SP | CFA_DEREF_FP => {
            let base = if rule.cfa == CFA_DEREF_SP { regs.sp } else { regs.fp };
            let Some(word) = read(offset(base, rule.cfa_offset)) else { return Err(Stop::Unreadable) };
            word.wrapping_add(rule.addend as i64 as u64)
        }
        CFA_SIGNAL => return signal_frame(regs, read),
        CFA_FRAME if regs.fp & 7 != 0 || regs.fp.wrapping_sub(regs.sp) > MAX_FRAME_BYTES => {
            return Err(Stop::NoFramePointer);
        }
        CFA_GO if regs.fp == 0 => return Err(Stop::Complete),
        CFA_GO if regs.fp & 7 != 0 => return Err(Stop::NoFramePointer),
        CFA_FRAME | CFA_GO => return framed(regs, read),
        _ => return Err(Stop::Unsupported),
    };
    let fp = match rule.fp {
        FP_SAME => regs.fp,
        kind => {
            let base = if kind == FP_AT_CFA { cfa } else { regs.fp };
            let Some(fp) = read(offset(base, rule.fp_offset)) else { return Err(Stop::Unreadable) };
            fp
        }
    };
    let Some(ip) = read(cfa.wrapping_sub(8)) else { return Err(Stop::Unreadable) };
    // Start-up code without annotations pushes a null return address.
    if ip == 0 {
        return Err(Stop::Complete);
    }
    // Every call pushes its return address: a caller's frame lies above ours, or the rule was wrong.
    if cfa <= regs.sp {
        return Err(Stop::Unreadable);
    }
    Ok(Regs { ip, sp: cfa, fp, exact: false })
}

/// A function that has pushed the caller's frame pointer below its return address.
#[inline(always)]
fn framed(regs: Regs, mut read: impl FnMut(u64) -> Option<u64>) -> Result<Regs, Stop> {
    let (Some(fp), Some(ip)) = (read(regs.fp), read(regs.fp.wrapping_add(8))) else {
        return Err(Stop::NoFramePointer);
    };
    if ip == 0 {
        return Err(Stop::Complete);
    }
    Ok(Regs { ip, sp: regs.fp.wrapping_add(16), fp, exact: false })
}

/// The caller of an interrupted function of Go that keeps no frame, or not yet: the return address is then the topmost
/// word of the stack. `code` is where the function's program has its code; data that lies on top does not point there.
#[inline(always)]
pub fn frameless(
    regs: Regs,
    rule: Rule,
    code: Range<u64>,
    mut read: impl FnMut(u64) -> Option<u64>,
) -> Option<Regs> {
    if rule.cfa != CFA_GO || !regs.exact {
        return None;
    }
    let ip = read(regs.sp)?;
    let is_code = ip >= code.start && ip < code.end;
    is_code.then_some(Regs { ip, sp: regs.sp.wrapping_add(8), fp: regs.fp, exact: false })
}

#[inline(always)]
fn offset(base: u64, by: i32) -> u64 {
    base.wrapping_add(by as i64 as u64)
}

/// The interrupted function's registers, out of the signal frame. Its stack may be another one.
#[inline(always)]
fn signal_frame(regs: Regs, mut read: impl FnMut(u64) -> Option<u64>) -> Result<Regs, Stop> {
    let mut word = |at: u64| read(regs.sp.wrapping_add(at)).ok_or(Stop::Unreadable);
    Ok(Regs { ip: word(SIGNAL_IP)?, sp: word(SIGNAL_SP)?, fp: word(SIGNAL_FP)?, exact: true })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STACK: u64 = 0x7000;

    fn read_from(words: &[u64]) -> impl Fn(u64) -> Option<u64> + '_ {
        |addr| words.get((addr.checked_sub(STACK)? / 8) as usize).copied()
    }

    fn check(stack: &[u64], rule: Rule, expected: Result<(u64, u64, u64), Stop>) {
        let regs = Regs { ip: 0x4000, sp: STACK, fp: STACK + 16, exact: false };
        let caller = step(regs, rule, read_from(stack)).map(|it| (it.ip, it.sp - STACK, it.fp));
        assert_eq!(caller, expected, "{rule:?}");
    }

    #[test]
    fn frames_by_stack_pointer_and_frame_pointer() {
        let stack = [1, 2, 0x99, 0x4010, 5];
        let sp = Rule { cfa: CFA_SP, cfa_offset: 32, ..Rule::default() };
        check(&stack, sp, Ok((0x4010, 32, STACK + 16)));
        check(&stack, Rule { fp: FP_AT_CFA, fp_offset: -16, ..sp }, Ok((0x4010, 32, 0x99)));
        let fp = Rule { cfa: CFA_FP, cfa_offset: 16, fp: FP_AT_FP, fp_offset: 0, ..Rule::default() };
        check(&stack, fp, Ok((0x4010, 32, 0x99)));
    }

    #[test]
    fn realigned_frames_go_through_memory() {
        let stack = [1, STACK + 48, 2, 3, 0x4010, 0];
        let rule = Rule { cfa: CFA_DEREF_FP, cfa_offset: -8, addend: -8, ..Rule::default() };
        check(&stack, rule, Ok((0x4010, 40, STACK + 16)));
    }

    #[test]
    fn a_plt_stub_has_pushed_or_not() {
        let stack = [0x4010, 0x5010];
        check(&stack, Rule { cfa: CFA_PLT, cfa_offset: 11, ..Rule::default() }, Ok((0x4010, 8, STACK + 16)));
        check(&stack, Rule { cfa: CFA_PLT, cfa_offset: 0, ..Rule::default() }, Ok((0x5010, 16, STACK + 16)));
    }

    #[test]
    fn a_signal_frame_restores_the_interrupted_registers() {
        let mut stack = [0; 32];
        (stack[15], stack[20], stack[21]) = (0xf9, STACK + 0x500, 0x6001);
        let regs = Regs { ip: 0x4000, sp: STACK, fp: 0, exact: false };
        let caller = step(regs, Rule { cfa: CFA_SIGNAL, ..Rule::default() }, read_from(&stack));
        assert_eq!(caller, Ok(Regs { ip: 0x6001, sp: STACK + 0x500, fp: 0xf9, exact: true }));
        assert_eq!(caller.map(|it| it.lookup()), Ok(0x6001));
    }

    #[test]
    fn frame_pointers_where_nothing_is_described() {
        let jit = Rule { cfa: CFA_FRAME, ..Rule::default() };
        check(&[1, 2, 0x7040, 0x4010], jit, Ok((0x4010, 32, 0x7040)));
        check(&[1, 2, 0x7040, 0], jit, Err(Stop::Complete));
        check(&[1, 2], jit, Err(Stop::NoFramePointer));
        let far = Regs { ip: 1, sp: STACK, fp: STACK - 8, exact: false };
        assert_eq!(step(far, jit, |_| Some(9)), Err(Stop::NoFramePointer));
        // A goroutine's stack may lie below the system's.
        let go = Rule { cfa: CFA_GO, ..Rule::default() };
        assert_eq!(step(far, go, |_| Some(9)).map(|it| it.sp), Ok(STACK + 8));
        assert_eq!(step(Regs { fp: 0, ..far }, go, |_| Some(9)), Err(Stop::Complete));
        assert_eq!(step(Regs { fp: 3, ..far }, go, |_| Some(9)), Err(Stop::NoFramePointer));
    }

    #[test]
    fn a_function_of_go_without_a_frame_has_its_return_address_on_top() {
        let go = Rule { cfa: CFA_GO, ..Rule::default() };
        let regs = Regs { ip: 0x4000, sp: STACK, fp: STACK + 16, exact: true };
        let find = |regs, rule, top: u64| {
            frameless(regs, rule, 0x4000..0x5000, read_from(&[top])).map(|it| (it.ip, it.sp - STACK, it.fp))
        };
        assert_eq!(find(regs, go, 0x4321), Some((0x4321, 8, STACK + 16)));
        assert_eq!(find(regs, go, 0x5321), None, "data");
        assert_eq!(find(Regs { exact: false, ..regs }, go, 0x4321), None, "it has called, so it has a frame");
        assert_eq!(find(regs, Rule::default(), 0x4321), None);
    }

    #[test]
    fn every_end_has_a_name() {
        check(&[], Rule::default(), Err(Stop::NoTable));
        check(&[], Rule { cfa: CFA_END, ..Rule::default() }, Err(Stop::Complete));
        check(&[], Rule { cfa: CFA_UNSUPPORTED, ..Rule::default() }, Err(Stop::Unsupported));
        check(&[], Rule { cfa: CFA_SP, cfa_offset: 800, ..Rule::default() }, Err(Stop::Unreadable));
        check(&[0, 0], Rule { cfa: CFA_SP, cfa_offset: 8, ..Rule::default() }, Err(Stop::Complete));
        check(&[7, 7], Rule { cfa: CFA_DEREF_SP, ..Rule::default() }, Err(Stop::Unreadable));
    }

    #[test]
    fn the_search_finds_every_offset_of_every_block() {
        // Rows at every third byte of three blocks; rule = position of the row.
        let offsets: [u32; 256] = core::array::from_fn(|i| i as u32 * 3);
        let first_of = |block: u32| offsets.iter().position(|it| it >> 8 >= block).unwrap_or(256) as u32;
        for wanted in 0..768 {
            let block = wanted >> 8;
            let found = find_row(first_of(block), first_of(block + 1), wanted, |at| {
                Some(row(*offsets.get(at as usize)?, at))
            });
            assert_eq!(found.map(rule_of), Some(wanted / 3), "offset {wanted}");
        }
    }
}
