//! What is proved of small functions, and what must hold of whatever is proved of the allocators of this machine.

use std::fs;

use super::*;
use crate::elf::{
    Image, allocators, site,
    tests::{BASE, SLOT, assemble, libc_path},
};

const SIZE: Roles = Roles { size: 1, count: 0, old: 0, out: 0 };
const RBX: u8 = FIRST_SAVED;

/// They may do anything, and do nothing that matters.
const LOUD: &str = "ffd0 c3";
const QUIET: &str = "c3";
const NEVER: &str = "0f0b";

fn look(functions: &[&str], roles: Roles) -> Result<Whole, Refusal> {
    let bytes = assemble(functions);
    let starts = (0..functions.len()).map(|it| BASE + (it * SLOT) as u64);
    let code = Code::of_starts(&Image::parse(&bytes).unwrap(), starts);
    find(&code, Question { entry: BASE, size: SLOT as u64, roles })
}

/// Where the first function begins to do more, and the ends with the position of the size.
fn check(functions: &[&str], begins: &[i64], ends: &[(i64, u8)]) {
    let found = look(functions, SIZE).unwrap_or_else(|it| panic!("{functions:?}: {it}"));
    let offsets: Vec<i64> = found.begins.iter().map(|it| it.offset).collect();
    let mut sizes: Vec<(i64, u8)> = found.ends.iter().map(|it| (it.offset, it.roles.size)).collect();
    sizes.sort_unstable();
    assert_eq!((&offsets[..], &sizes[..]), (begins, ends), "{functions:?}");
}

fn refuse(functions: &[&str], expected: Refusal) {
    assert_eq!(look(functions, SIZE), Err(expected), "{functions:?}");
}

#[test]
fn the_last_jump_before_the_return() {
    // push rbx; mov rbx,rdi; mov rax,[rdx]; test al,15; jne; pop rbx; ret; ud2
    let code = "53 4889fb 488b02 a80f 7502 5b c3 0f0b";
    check(&[code], &[], &[(9, RBX)]);
    let place = look(&[code], SIZE).unwrap().ends[0].clone();
    assert_eq!((place.frame, place.instruction.as_str()), (Frame::new(1, None).unwrap(), "jne +0xd"));
    // Without a call between, the size is where it was.
    check(&["488b02 7500 c3"], &[], &[(3, 1)]);
    // With the caller's rbp on the stack: push rbp; mov rbp,rsp; sub rsp,16; mov rax,[rdx]; jne; leave; ret
    let code = "55 4889e5 4883ec10 488b02 7500 c9 c3";
    check(&[code], &[], &[(11, 1)]);
    assert_eq!(look(&[code], SIZE).unwrap().ends[0].frame, Frame::new(3, Some(2)).unwrap());
}

#[test]
fn what_is_written_late_is_not_final() {
    refuse(&["7500 488b02 c3"], Refusal::NoEnd);
    refuse(&["488b02 7500 b001 c3"], Refusal::NoEnd);
    refuse(&["488b02 c3"], Refusal::NoEnd);
    // NULL needs no end.
    check(&["4885ff 7403 31c0 c3 488b02 7500 c3"], &[], &[(11, 1)]);
}

#[test]
fn the_size_must_be_known() {
    refuse(&["31ff 488b02 7500 c3"], Refusal::NoEnd);
    // On one way only: test rsi,rsi; je; mov rdi,rsi
    refuse(&["4885f6 7403 4889f7 488b02 7500 c3"], Refusal::NoEnd);
    // After a call it is not where it was.
    refuse(&["e8 f1 488b02 7500 c3", QUIET], Refusal::NoEnd);
    check(&["53 4889fb e8 f1 488b02 7500 5b c3", QUIET], &[], &[(12, RBX)]);
    assert_eq!(look(&["488b02 7500 c3"], Roles { old: 1, ..SIZE }), Err(Refusal::OtherKind));
}

#[test]
fn what_may_happen_inside_needs_a_begin() {
    // The slow way: je to it; jmp to the next instruction; call; test rax,rax; jne to the next; pop rbx; ret
    let code = "53 4889fb 488b02 4885c0 7406 a801 7500 5b c3 eb00 e8 f1 4885c0 7500 5b c3";
    check(&[code, LOUD], &[18], &[(10, RBX), (28, 0)]);
    // What it calls may come to the same place twice; one that is quiet needs none.
    check(&[code, QUIET], &[], &[(10, RBX), (28, RBX)]);
    refuse(&["53 4889fb e8 f1 4885c0 7402 5b c3 31c0 5b c3", LOUD], Refusal::NoGain);
    // A system call that maps memory, and one that does not.
    refuse(&["53 4889fb b809000000 0f05 488b02 7500 5b c3"], Refusal::NoGain);
    check(&["53 4889fb e8 f1 488b02 7500 5b c3", "b827000000 0f05 c3"], &[], &[(12, RBX)]);
    refuse(&["53 4889fb e8 f1 488b02 7500 5b c3", "b809000000 0f05 c3"], Refusal::NoGain);
    refuse(&["31ff e8 f1 c3", LOUD], Refusal::CallBeforeBegin);
}

#[test]
fn each_way_has_one_end() {
    // The jump back of a loop would be passed again and again; the one behind it is not.
    refuse(&["488b02 a801 75fc c3"], Refusal::NoEnd);
    check(&["488b02 a801 75fc 7500 c3"], &[], &[(7, 1)]);
    // Of two on one way it is the last, which another way leads to as well.
    check(&["4885ff 7405 488b02 7503 488b06 7500 c3"], &[], &[(13, 1)]);
}

#[test]
fn calls_that_do_not_come_back() {
    let call = "53 4889fb 488b02 a80f 7502 5b c3 e8 f1 ebf7";
    check(&[call, NEVER], &[], &[(9, RBX)]);
    check(&[call, "e8 f2 c3", NEVER], &[], &[(9, RBX)]);
    refuse(&[call, LOUD], Refusal::NoEnd);
    refuse(&[call, QUIET], Refusal::NoEnd);
    // One that comes back if its argument is zero: test edi,edi; je; ud2; ret
    let with = |number: &str| format!("53 4889fb 488b02 a80f 7502 5b c3 {number} e8 f1 ebf2");
    let callee = "85ff 7402 0f0b c3";
    check(&[&with("bf01000000"), callee], &[], &[(9, RBX)]);
    refuse(&[&with("bf00000000"), callee], Refusal::NoEnd);
}

#[test]
fn what_cannot_be_followed() {
    refuse(&["ffe0"], Refusal::IndirectJump);
    // Others may run that function, too.
    refuse(&["53 5b e9 f1", "488b02 7500 c3"], Refusal::NoEnd);
    // A part of this one lies elsewhere: it is jumped to with a frame.
    check(&["53 4889fb e9 f1", "488b02 7500 5b c3"], &[], &[(0x43, RBX)]);
    refuse(&["06"], Refusal::Unreadable);
    // It runs on into the next function; only a call that does not come back may seem to.
    refuse(&["90".repeat(SLOT).as_str(), QUIET], Refusal::Unreadable);
}

#[test]
fn what_is_proved_of_allocators_is_consistent() {
    const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";
    let others = ["libjemalloc.so.2", "libtcmalloc_minimal.so.4", "libmimalloc.so.2.0", "libmimalloc.so.3"];
    let others = others.map(|it| format!("{LIBRARIES}/{it}").into());
    let musl = format!("{LIBRARIES}-musl/libc.so").replace("gnu-musl", "musl").into();
    for path in [libc_path(), musl].into_iter().chain(others) {
        let Ok(bytes) = fs::read(&path) else { continue };
        let image = Image::parse(&bytes).unwrap();
        for function in allocators::find(&image).functions {
            let Some(Ok(whole)) = &function.whole else { continue };
            assert!(whole.ends.iter().any(|it| it.roles.size != 0), "{path:?} {whole:?}");
            for place in whole.ends.iter().chain(&whole.begins) {
                let offset = function.file_offset.wrapping_add_signed(place.offset) as usize;
                let kinds = (1..=6).filter(|it| site::is_emulated(&bytes[offset..offset + it]));
                assert_eq!(kinds.count(), 1, "{path:?} {place:?}");
                assert!(
                    place.frame.fp_bytes().is_none_or(|it| it < place.frame.bytes()),
                    "{path:?} {place:?}"
                );
            }
            assert!(whole.begins.iter().all(|it| it.roles.size != 0), "{path:?} {whole:?}");
        }
    }
}
