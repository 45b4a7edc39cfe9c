//! One row of call frame information to one [`Rule`], or to the rule that says that there is none.

use gimli::{
    CfaRule, EhFrame, Encoding, EndianSlice, Expression, Format, LittleEndian, Operation, RegisterRule,
    UnwindExpression, UnwindTableRow, X86_64,
};
use tracer_ebpf::unwind::{
    CFA_DEREF_FP, CFA_DEREF_SP, CFA_END, CFA_FP, CFA_PLT, CFA_SP, CFA_UNSUPPORTED, FP_AT_CFA, FP_AT_FP,
    FP_SAME, Rule,
};

type Bytes<'data> = EndianSlice<'data, LittleEndian>;

const ENCODING: Encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 5 };

/// The rule for the instructions of `row`.
pub(super) fn translate<'data>(row: &UnwindTableRow<usize>, section: &EhFrame<Bytes<'data>>) -> Rule {
    let unsupported = Rule { cfa: CFA_UNSUPPORTED, ..Rule::default() };
    match row.register(X86_64::RA) {
        Some(RegisterRule::Undefined) => return Rule { cfa: CFA_END, ..Rule::default() },
        Some(RegisterRule::Offset(-8)) => {}
        // A return address that is kept elsewhere: hand-written code.
        _ => return unsupported,
    }
    let cfa = cfa(row.cfa(), section);
    let fp = frame_pointer(row.register(X86_64::RBP), section);
    match (cfa, fp) {
        (Some(cfa), Some((fp, fp_offset))) => Rule { fp, fp_offset, ..cfa },
        _ => unsupported,
    }
}

fn cfa(rule: &CfaRule<usize>, section: &EhFrame<Bytes<'_>>) -> Option<Rule> {
    match rule {
        CfaRule::RegisterAndOffset { register, offset } => {
            let cfa = match *register {
                X86_64::RSP => CFA_SP,
                X86_64::RBP => CFA_FP,
                _ => return None,
            };
            Some(Rule { cfa, cfa_offset: i32::try_from(*offset).ok()?, ..Rule::default() })
        }
        CfaRule::Expression(expression) => {
            let expression = get(expression, section)?;
            plt(expression.0.slice()).or_else(|| dereference(expression))
        }
    }
}

fn get<'data>(
    expression: &UnwindExpression<usize>,
    section: &EhFrame<Bytes<'data>>,
) -> Option<Expression<Bytes<'data>>> {
    expression.get(section).ok()
}

/// What linkers write for the procedure linkage table: `sp + 8 + ((ip & 15) >= N) << 3`.
fn plt(bytes: &[u8]) -> Option<Rule> {
    // breg7 8, breg16 0, lit15, and, litN, ge, lit3, shl, plus
    let [0x77, 8, 0x80, 0, 0x3f, 0x1a, literal @ 0x30..=0x4f, 0x2a, 0x33, 0x24, 0x22] = bytes else {
        return None;
    };
    Some(Rule { cfa: CFA_PLT, cfa_offset: (literal - 0x30).into(), ..Rule::default() })
}

/// What compilers write for realigned stacks: `*(register + n) + m`.
fn dereference(expression: Expression<Bytes<'_>>) -> Option<Rule> {
    let mut operations = expression.operations(ENCODING);
    let Some(Operation::RegisterOffset { register, offset, .. }) = operations.next().ok()? else {
        return None;
    };
    let Some(Operation::Deref { space: false, .. }) = operations.next().ok()? else { return None };
    let addend = match operations.next().ok()? {
        None => 0,
        Some(Operation::PlusConstant { value }) => {
            let None = operations.next().ok()? else { return None };
            i16::try_from(value).ok()?
        }
        Some(_) => return None,
    };
    let cfa = match register {
        X86_64::RSP => CFA_DEREF_SP,
        X86_64::RBP => CFA_DEREF_FP,
        _ => return None,
    };
    Some(Rule { cfa, cfa_offset: i32::try_from(offset).ok()?, addend, ..Rule::default() })
}

/// (kind, offset) of the caller's frame pointer.
fn frame_pointer(rule: Option<RegisterRule<usize>>, section: &EhFrame<Bytes<'_>>) -> Option<(u8, i32)> {
    let Some(rule) = rule else { return Some((FP_SAME, 0)) };
    match rule {
        RegisterRule::Undefined | RegisterRule::SameValue => Some((FP_SAME, 0)),
        RegisterRule::Offset(offset) => Some((FP_AT_CFA, i32::try_from(offset).ok()?)),
        RegisterRule::Expression(expression) => {
            let mut operations = get(&expression, section)?.operations(ENCODING);
            let Some(Operation::RegisterOffset { register: X86_64::RBP, offset, .. }) =
                operations.next().ok()?
            else {
                return None;
            };
            let None = operations.next().ok()? else { return None };
            Some((FP_AT_FP, i32::try_from(offset).ok()?))
        }
        _ => None,
    }
}
