//! Small functions as compilers write them, in an object that is nothing but code.

use std::collections::HashMap;

use super::*;
use crate::elf::tests::{BASE, SLOT, assemble};

fn code<'a>(bytes: &'a [u8], functions: usize) -> Code<'a> {
    let image = Image::parse(bytes).unwrap();
    let starts = (0..functions).map(|it| BASE + (it * SLOT) as u64).collect();
    Code { image, starts, slots: HashMap::new(), defined: HashMap::new() }
}

fn is_second(target: Target<'_>) -> bool {
    target == Target::Inside(BASE + SLOT as u64)
}

/// How many ways of the first function lead to the second.
fn check_ways(functions: &[&str], expected: Ways) {
    let bytes = assemble(functions);
    assert_eq!(code(&bytes, functions.len()).ways(BASE, &is_second), expected, "{functions:?}");
}

/// The returns of the first function; the second need not be followed.
fn check_returns(functions: &[&str], expected: Option<&[u64]>) {
    let bytes = assemble(functions);
    let found = code(&bytes, functions.len()).returns(BASE, &is_second);
    let expected = expected.map(|it| it.iter().map(|it| BASE + it).collect::<Vec<_>>());
    assert_eq!(found, expected, "{functions:?}");
}

#[test]
fn a_jump_or_a_call_on_every_way() {
    check_ways(&["e9 f1", "c3"], Ways::All);
    check_ways(&["e8 f1 c3", "c3"], Ways::All);
    check_ways(&["4885ff 7405 e8 f1 c3", "c3"], Ways::Some);
    check_ways(&["4885ff 7405 e9 f1 e9 f1", "c3"], Ways::All);
    check_ways(&["c3", "c3"], Ways::None);
    check_ways(&["0f0b", "c3"], Ways::Never);
}

#[test]
fn ways_lead_through_others() {
    check_ways(&["e8 f2 c3", "c3", "e9 f1"], Ways::All);
    check_ways(&["e8 f2 c3", "c3", "4885ff 7405 e8 f1 c3"], Ways::Some);
    // The one that it calls does not return.
    check_ways(&["4885ff 7405 e8 f2 e9 f1", "c3", "0f0b"], Ways::All);
    // It calls itself.
    check_ways(&["e8 f0 c3", "c3"], Ways::None);
    // Nobody knows where to.
    check_ways(&["ffe0", "c3"], Ways::None);
}

#[test]
fn returns_of_a_function_and_of_those_it_jumps_to() {
    check_returns(&["4885ff 7401 c3 31c0 c3", "c3"], Some(&[5, 8]));
    check_returns(&["4885ff 7405 e9 f2 c3", "c3", "90 c3"], Some(&[10, 0x81]));
    check_returns(&["4885ff 7405 e9 f1 c3", "c3"], Some(&[10]));
    check_returns(&["f3c3", "c3"], Some(&[0]));
}

#[test]
fn what_lies_behind_a_call_that_does_not_return_is_another_function() {
    let nops = "90".repeat(SLOT - 5);
    check_returns(&[&format!("e8 f2 {nops}"), "c3", "0f0b"], Some(&[]));
}

#[test]
fn a_jump_through_a_register_leads_to_what_was_taken() {
    // lea rcx, [f2]; jmp rcx
    check_returns(&["488d0d f2 ffe1", "c3", "90 c3"], Some(&[0x81]));
    check_returns(&["ffe1", "c3", "90 c3"], None);
}

#[test]
fn a_stub_moves_arguments_and_jumps() {
    let target = |functions: &[&str]| {
        let bytes = assemble(functions);
        code(&bytes, functions.len()).stub_target(BASE).map(is_second)
    };
    assert_eq!(target(&["e9 f1", "c3"]), Some(true));
    assert_eq!(target(&["f30f1efa 4889fe 31c9 e9 f1", "c3"]), Some(true));
    assert_eq!(target(&["53 e9 f1", "c3"]), None);
    assert_eq!(target(&["4885ff 7405 e9 f1 c3", "c3"]), None);
}

#[test]
fn names_of_what_does_not_return() {
    assert!(never_returns(b"abort") && never_returns(b"_ZSt17__throw_bad_allocv"));
    assert!(!never_returns(b"_ZSt15get_new_handlerv") && !never_returns(b"free"));
}
