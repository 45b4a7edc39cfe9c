//! Where a function returns: for probes that see a return without a return probe, which replaces the return address
//! and so would end a program when an exception passes through. PURE.

use iced_x86::{Decoder, DecoderOptions, FlowControl};

/// How a function can end, as far as its code shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exits {
    /// Its `ret` instructions, in bytes from its start; `None` if it may also end by a jump to another function.
    pub(super) returns: Option<Vec<u32>>,
    /// It calls nothing, so nothing in it can throw.
    pub(super) is_leaf: bool,
}

/// `is_cold` says whether an address (relative to the start of `code`) is a part of the function that the compiler has
/// put elsewhere: a jump there is none to another function.
pub(super) fn find(code: &[u8], is_cold: impl Fn(i64) -> bool) -> Exits {
    let mut returns = Vec::new();
    let (mut is_complete, mut is_leaf) = (true, true);
    for it in &mut Decoder::with_ip(64, code, 0, DecoderOptions::NONE) {
        match it.flow_control() {
            _ if it.is_invalid() => (is_complete, is_leaf) = (false, false),
            FlowControl::Return => returns.push(it.ip() as u32),
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => {
                let target = it.near_branch_target();
                if target >= code.len() as u64 {
                    is_leaf = false;
                    is_complete &= is_cold(target as i64);
                }
            }
            // A jump table, or a call of another function by a jump: the code does not say which.
            FlowControl::IndirectBranch => (is_complete, is_leaf) = (false, false),
            FlowControl::Call | FlowControl::IndirectCall => is_leaf = false,
            _ => {}
        }
    }
    Exits { returns: (is_complete && !returns.is_empty()).then_some(returns), is_leaf }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `code` in hex; `expected` are the returns, and whether it is a leaf.
    fn check(code: &str, expected: Option<&[u32]>, is_leaf: bool) {
        let hex: String = code.split_whitespace().collect();
        let bytes: Vec<u8> = (0..hex.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex"))
            .collect();
        let found = find(&bytes, |target| target == 0x100);
        assert_eq!(found, Exits { returns: expected.map(<[u32]>::to_vec), is_leaf }, "{code}");
    }

    #[test]
    fn every_way_out() {
        check("488b07 c3", Some(&[3]), true);
        check("4885ff 7401 c3 31c0 c3", Some(&[5, 8]), true);
        check("53 e800000000 5b c3", Some(&[7]), false);
        check("53 ff10 5b f3c3", Some(&[4]), false);
    }

    #[test]
    fn a_jump_to_another_function_hides_an_end() {
        check("e9fb0f0000", None, false);
        check("4885ff 0f84000f0000 c3", None, false);
        check("ffe0", None, false);
        check("ff2500000000", None, false);
        check("0f0b", None, true);
    }

    #[test]
    fn a_jump_to_the_cold_part_hides_none() {
        check("4885ff 0f84f7000000 c3", Some(&[9]), false);
    }
}
