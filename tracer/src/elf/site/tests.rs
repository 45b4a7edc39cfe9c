//! Entries as compilers write them, and the site each must get.

use std::fs;

use super::*;
use crate::elf::{Image, allocators, tests::libc_path};

const NONE: Roles = Roles { size: 0, count: 0, old: 0, out: 0 };
const ALLOC: Needs = Needs { roles: Roles { size: 1, ..NONE }, non_null: false };
const FREE: Needs = Needs { roles: Roles { old: 1, ..NONE }, non_null: true };
const REALLOC: Needs = Needs { roles: Roles { old: 1, size: 2, ..NONE }, non_null: false };

fn bytes(hex: &str) -> Vec<u8> {
    let hex: String = hex.split_whitespace().collect();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// `code` in hex, blanks between instructions; `expected` is offset, class and instruction.
fn check(needs: Needs, code: &str, expected: &str) {
    let code = bytes(code);
    let Site { offset, class, instruction, .. } = choose(&code, needs);
    assert_eq!(format!("+{offset:#x} {class:?} {instruction}"), expected, "{code:02x?}");
}

#[test]
fn glibc_malloc_begins_with_a_push() {
    check(ALLOC, "4154 55 53 4889fb 4883ec10", "+0x0 Emulated push r12");
}

#[test]
fn glibc_free_is_probed_behind_its_null_check() {
    check(FREE, "4885ff 0f84bf000000 55 488d77f0 53 4883ec18", "+0x9 Emulated push rbp");
    check(FREE, "f30f1efa 4885ff 740d 55 53", "+0x9 Emulated push rbp");
    check(FREE, "4883ff00 740d 488b0500000000 55", "+0xd Emulated push rbp");
}

#[test]
fn malloc_of_nothing_is_an_allocation() {
    check(ALLOC, "4885ff 740d 55 53", "+0x3 Emulated je +0x12");
}

#[test]
fn a_null_check_without_a_push_behind_it_is_the_site() {
    check(FREE, "4885ff 740d 4883ec18 55", "+0x3 Emulated je +0x12");
    check(FREE, "4885ff 740d 31ff 55", "+0x3 Emulated je +0x12");
    check(FREE, "4885ff 740d e800000000 55", "+0x3 Emulated je +0x12");
}

#[test]
fn other_conditions_are_not_passed() {
    check(FREE, "4885ff 750d 55", "+0x3 Emulated jne +0x12");
    check(FREE, "4885f6 740d 55", "+0x3 Emulated je +0x12");
    check(FREE, "4885ff 4883c001 740d 55", "+0x7 Emulated je +0x16");
    check(FREE, "4885ff 4889f8 740d 55", "+0x8 Emulated push rbp");
}

#[test]
fn endbr64_is_passed() {
    check(ALLOC, "f30f1efa 4157 4156", "+0x4 Emulated push r15");
    check(ALLOC, "f30f1efa 803d0000000000 55", "+0xb Emulated push rbp");
    check(ALLOC, "f30f1efa c3", "+0x0 SingleStep endbr64");
}

#[test]
fn the_stack_pointer_must_be_that_of_the_entry() {
    check(ALLOC, "4883ec18 55", "+0x0 SingleStep sub");
    check(ALLOC, "6a01 55", "+0x0 SingleStep push");
    check(ALLOC, "58 55", "+0x0 SingleStep pop");
}

#[test]
fn the_arguments_must_be_those_of_the_call() {
    check(ALLOC, "4889f7 55", "+0x0 SingleStep mov");
    check(ALLOC, "bf01000000 55", "+0x0 SingleStep mov");
    check(ALLOC, "4887f7 55", "+0x0 SingleStep xchg");
    // A register that is no argument here may change.
    check(ALLOC, "4889fe 55", "+0x3 Emulated push rbp");
    check(REALLOC, "4889fe 55", "+0x0 SingleStep mov");
    check(ALLOC, "4889fe 89ff 89f6 55", "+0x0 SingleStep mov");
}

#[test]
fn arguments_are_followed_into_other_registers() {
    let roles = |needs: Needs, code: &str| choose(&bytes(code), needs).roles;
    // mimalloc 2.0 malloc: the size moves on, the heap takes its place.
    let malloc = "488b0549b40000 4889fe 64488b38 4881fe00040000 7729";
    check(ALLOC, malloc, "+0x15 Emulated ja +0x40");
    assert_eq!(roles(ALLOC, malloc), Roles { size: 2, ..NONE });
    // mimalloc 2.0 realloc
    let realloc = "488b0549a90000 4889f2 4889fe 64488b00 4889c7 e9f7aeffff";
    check(REALLOC, realloc, "+0x14 Emulated jmp -0x50f0");
    assert_eq!(roles(REALLOC, realloc), Roles { old: 2, size: 3, ..NONE });
    // A copy is no reason to leave the register of the call.
    assert_eq!(roles(ALLOC, "4889fe 55"), ALLOC.roles);
    check(FREE, "4889f9 31ff 4885c9 740d 55", "+0xa Emulated push rbp");
}

#[test]
fn a_jump_target_is_refused() {
    check(ALLOC, "4889f8 53 ebfd", "+0x0 SingleStep mov");
    check(ALLOC, "53 75fd", "+0x0 SingleStep push rbx");
    // So is what lies in the loop behind the target.
    check(ALLOC, "4889f8 4889c1 53 ebfa", "+0x0 SingleStep mov");
    // A call of itself makes a frame of its own.
    check(ALLOC, "53 e8faffffff", "+0x0 Emulated push rbx");
    // The NULL path comes back to where the push is.
    check(FREE, "4885ff 7403 4889f8 55", "+0x3 Emulated je +0x8");
}

#[test]
fn a_stub_is_its_jump() {
    check(ALLOC, "e96b190000", "+0x0 Emulated jmp +0x1970");
    check(ALLOC, "f30f1efa e9f0ffffff", "+0x4 Emulated jmp -0x7");
    check(ALLOC, "ff2500000000", "+0x0 SingleStep jmp");
}

#[test]
fn calls_and_refused_prefixes_are_no_sites() {
    check(ALLOC, "e800000000 55", "+0x0 SingleStep call");
    check(ALLOC, "2e740d 55", "+0x0 SingleStep je +0x10");
}

#[test]
fn only_short_nops_are_emulated() {
    check(ALLOC, "90 55", "+0x0 Emulated nop");
    check(ALLOC, "6690 55", "+0x0 Emulated nop");
    check(ALLOC, "0f1f00 55", "+0x3 Emulated push rbp");
}

#[test]
fn jemalloc_looks_far_before_it_branches() {
    let free = "4889f8 488b1500000000 4889f9 48c1e81a 4881e1000000c0 25f0000000 \
                644803042500000000 4801d0 483b88b0010000 0f858a000000";
    check(FREE, free, "+0x30 Emulated jne +0xc0");
}

#[test]
fn nothing_beyond_the_function_is_looked_at() {
    let stub = [0x48, 0x89, 0xf8, 0xc3, 0x55];
    assert_eq!(choose(&stub[..4], ALLOC).class, Class::SingleStep);
    assert_eq!(choose(&[], ALLOC).instruction, "nothing");
}

#[test]
fn every_function_of_the_libc_has_a_cheap_site() {
    let bytes = fs::read(libc_path()).unwrap();
    let functions = allocators::find(&Image::parse(&bytes).unwrap()).functions;
    assert!(functions.len() >= 6, "{functions:?}");
    for function in functions {
        let site = &function.site;
        assert_eq!(site.class, Class::Emulated, "{} {site:?}", function.name);
    }
}
