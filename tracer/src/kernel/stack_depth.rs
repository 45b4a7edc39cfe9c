//! What the stacks of functions that call one another take together, in each program of the object: older kernels allow 512 bytes.
//! Linux 6.13 gives each its own, so that loading here would not tell.

use std::collections::BTreeSet;

use aya_obj::Object;

/// `MAX_BPF_STACK` of include/linux/filter.h.
const MOST_BYTES: u32 = 512;

/// What each function's share was rounded up to before Linux 6.8 (`check_max_stack_depth_subprog`, kernel/bpf/verifier.c).
const ROUNDED_TO: u32 = 32;

const FRAME_POINTER: u8 = 10;
const CALL: u8 = 0x85;
const LOAD_64: u8 = 0x18;
const MOVE: u8 = 0xbf;
const ADD: u8 = 0x07;
/// `BPF_PSEUDO_CALL` and `BPF_PSEUDO_FUNC` of include/uapi/linux/bpf.h.
const PSEUDO_CALL: u8 = 1;
const PSEUDO_FUNC: u8 = 4;

struct Instruction {
    code: u8,
    to: u8,
    from: u8,
    offset: i32,
    value: i32,
}

impl Instruction {
    /// Where the function begins that the instruction at `at` calls, or gives to a helper to be called.
    fn callee(&self, at: usize) -> Option<usize> {
        let is_one =
            self.code == CALL && self.from == PSEUDO_CALL || self.code == LOAD_64 && self.from == PSEUDO_FUNC;
        is_one.then(|| at.wrapping_add_signed(self.value as isize + 1))
    }
}

/// The stack of one function: as deep as it reaches below the frame pointer.
fn own_bytes(function: &[Instruction]) -> u32 {
    let direct = function.iter().map(|it| {
        let (is_load, is_store) = (it.code & 7 == 1, matches!(it.code & 7, 2 | 3));
        let reaches = is_load && it.from == FRAME_POINTER || is_store && it.to == FRAME_POINTER;
        if reaches { it.offset } else { 0 }
    });
    let by_pointer = function.windows(2).map(|pair| {
        let [copy, add] = pair else { return 0 };
        let is_one = copy.code == MOVE && copy.from == FRAME_POINTER && add.code == ADD && add.to == copy.to;
        if is_one { add.value } else { 0 }
    });
    let lowest = direct.chain(by_pointer).min().unwrap_or(0).min(0);
    lowest.unsigned_abs().max(1).next_multiple_of(ROUNDED_TO)
}

/// With all that it calls.
fn bytes_from(start: usize, starts: &BTreeSet<usize>, all: &[Instruction]) -> u32 {
    let end = starts.range(start + 1..).next().copied().unwrap_or(all.len());
    let function = &all[start..end];
    let callees = function.iter().enumerate().filter_map(|(at, it)| it.callee(start + at));
    own_bytes(function) + callees.map(|it| bytes_from(it, starts, all)).max().unwrap_or(0)
}

#[test]
fn every_chain_of_calls_fits_the_stack_of_an_older_kernel() {
    let mut object = Object::parse(super::load::OBJECT).expect("an object");
    let sections = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&sections).expect("calls");
    let mut deepest = 0;
    for (name, program) in &object.programs {
        let function = &object.functions[&program.function_key()];
        let all: Vec<Instruction> = function
            .instructions
            .iter()
            .map(|it| Instruction {
                code: it.code,
                to: it.dst_reg(),
                from: it.src_reg(),
                offset: it.off.into(),
                value: it.imm,
            })
            .collect();
        let callees = all.iter().enumerate().filter_map(|(at, it)| it.callee(at));
        let starts: BTreeSet<usize> = callees.chain([0]).collect();
        let bytes = bytes_from(0, &starts, &all);
        assert!(bytes <= MOST_BYTES, "{name}: {bytes} bytes");
        deepest = deepest.max(bytes);
    }
    assert!(deepest > MOST_BYTES / 2, "calls are found");
}
