//! One step of a walk, with what it depends on.

use core::ops::Range;

use super::{KEEPS_FP, OPAQUE, USES_FP};
use crate::unwind::{
    CFA_DEREF_FP, CFA_DEREF_SP, CFA_END, CFA_FP, CFA_FRAME, CFA_GO, CFA_NONE, CFA_SIGNAL, CFA_SP,
    CFA_UNSUPPORTED, FP_AT_CFA, FP_SAME, Regs, Rule, Stop, frameless, step,
};

/// What a step read, and what it says of the frame pointer.
pub(super) struct Link {
    pub(super) ip_at: u64,
    pub(super) fp_at: u64,
    pub(super) flags: u64,
}

/// A step out of a frame, with what it depends on.
#[inline(always)]
pub(super) fn leave(
    regs: Regs,
    rule: Result<Rule, Stop>,
    code: Range<u64>,
    mut word: impl FnMut(u64) -> Option<u64>,
) -> (Result<Regs, Stop>, Link) {
    let opaque = Link { ip_at: 0, fp_at: 0, flags: OPAQUE };
    let rule = match rule {
        Ok(rule) => rule,
        // A mapping may come where there is none.
        Err(Stop::NoTable) => return (Err(Stop::NoTable), Link { flags: 0, ..opaque }),
        Err(stop) => return (Err(stop), opaque),
    };
    if let Some(caller) = frameless(regs, rule, code, &mut word) {
        return (Ok(caller), opaque);
    }
    let outcome = step(regs, rule, &mut word);
    let uses_fp = if matches!(rule.cfa, CFA_FP | CFA_FRAME) { USES_FP } else { 0 };
    let cfa = match (outcome, rule.cfa) {
        (Err(_), CFA_END | CFA_NONE | CFA_UNSUPPORTED) => return (outcome, Link { flags: 0, ..opaque }),
        (_, CFA_GO | CFA_DEREF_SP | CFA_DEREF_FP | CFA_SIGNAL) => return (outcome, opaque),
        (Ok(next), _) => next.sp,
        // The return address was null.
        (Err(Stop::Complete), CFA_SP) => regs.sp.wrapping_add(rule.cfa_offset as i64 as u64),
        (Err(Stop::Complete), CFA_FP) => regs.fp.wrapping_add(rule.cfa_offset as i64 as u64),
        (Err(Stop::Complete), CFA_FRAME) => regs.fp.wrapping_add(16),
        (Err(_), _) => return (outcome, opaque),
    };
    let (fp_at, keeps) = match (rule.cfa, rule.fp) {
        (CFA_FRAME, _) => (regs.fp, 0),
        (_, FP_SAME) => (0, KEEPS_FP),
        (_, FP_AT_CFA) => (cfa.wrapping_add(rule.fp_offset as i64 as u64), 0),
        // Where it is read depends on the frame pointer, too.
        _ => return (outcome, opaque),
    };
    (outcome, Link { ip_at: cfa.wrapping_sub(8), fp_at, flags: uses_fp | keeps })
}
