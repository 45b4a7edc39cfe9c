//! Finishes the stacks that the probes could not: the same steps, over a copy of the stack.

use std::collections::BTreeMap;

use tracer_ebpf::{
    mapping::Mapped,
    record::{Frame, MAX_FRAMES, RawStack},
    unwind::{Regs, Rule, Stop, frameless, step},
};

/// The executable mappings of one process, by start address.
pub(crate) type Mappings = BTreeMap<u64, Mapped>;

/// All frames of the stack, innermost first, and why it ends.
///
/// `rule` gives the rule for an offset of an object. An address that no mapping holds ends the walk with
/// [`Stop::Gone`]: the process's mappings are not known any more.
pub(crate) fn finish(
    raw: &RawStack,
    mappings: &Mappings,
    rule: impl Fn(u32, u32) -> Result<Rule, Stop>,
) -> (Vec<Frame>, Stop) {
    let known = (raw.stack.count as usize).min(MAX_FRAMES);
    let mut frames: Vec<Frame> = raw.stack.frames[..known].iter().map(|it| Frame(*it)).collect();
    let mut regs = Regs { ip: raw.ip, sp: raw.sp, fp: raw.fp, exact: raw.exact != 0 };
    let window = &raw.window[..(raw.window_bytes as usize / 8).min(raw.window.len())];
    let read = |address: u64| {
        let at = address.checked_sub(raw.sp)?;
        if at % 8 == 0 { window.get(usize::try_from(at / 8).ok()?).copied() } else { None }
    };
    loop {
        if frames.len() == MAX_FRAMES {
            return (frames, Stop::Truncated);
        }
        let address = regs.lookup();
        let Some(mapped) = find(mappings, address) else {
            frames.push(Frame::new(0, address));
            return (frames, Stop::Gone);
        };
        let offset = address.wrapping_add(mapped.file_delta);
        frames.push(Frame::new(mapped.object, offset));
        let code = mapped.start..mapped.end;
        let next =
            rule(mapped.object, offset as u32).and_then(|rule| match frameless(regs, rule, code, read) {
                Some(caller) => Ok(caller),
                None => step(regs, rule, read),
            });
        match next {
            Ok(caller) => regs = caller,
            Err(stop) => return (frames, stop),
        }
    }
}

fn find(mappings: &Mappings, address: u64) -> Option<&Mapped> {
    let (_, mapped) = mappings.range(..=address).next_back()?;
    (address < mapped.end).then_some(mapped)
}

#[cfg(test)]
mod tests {
    use tracer_ebpf::{
        record::RAW_WINDOW_BYTES,
        unwind::{CFA_END, CFA_SP},
    };
    use zerocopy::FromZeros as _;

    use super::*;

    const STACK: u64 = 0x7f00_0000;

    /// Two frames of 32 bytes in object 3, mapped at 0x1000, and the outermost in object 4 at 0x9000.
    fn check(window_bytes: u32, mappings: &[(u64, u32)], expected: (&[(u32, u64)], Stop)) {
        let mut raw = RawStack::new_zeroed();
        raw.stack.count = 1;
        raw.stack.frames[0] = Frame::new(9, 0x77).0;
        (raw.ip, raw.sp, raw.window_bytes) = (0x1011, STACK, window_bytes);
        (raw.window[3], raw.window[7]) = (0x1021, 0x9031);
        let mappings = mappings.iter().map(|&(start, object)| {
            let file_delta = 0x100u64.wrapping_sub(start);
            (start, Mapped { start, end: start + 0x1000, file_delta, object, pad: 0 })
        });
        let rule = |object, _| match object {
            3 => Ok(Rule { cfa: CFA_SP, cfa_offset: 32, ..Rule::default() }),
            _ => Ok(Rule { cfa: CFA_END, ..Rule::default() }),
        };
        let (frames, stop) = finish(&raw, &mappings.collect(), rule);
        let frames: Vec<_> = frames.iter().map(|it| (it.object(), it.offset())).collect();
        assert_eq!((&frames[..], stop), expected);
    }

    #[test]
    fn goes_on_where_the_probe_stopped() {
        let expected = [(9, 0x77), (3, 0x110), (3, 0x120), (4, 0x130)];
        check(RAW_WINDOW_BYTES as u32, &[(0x1000, 3), (0x9000, 4)], (&expected, Stop::Complete));
    }

    #[test]
    fn says_what_is_missing() {
        let expected = [(9, 0x77), (3, 0x110), (3, 0x120), (0, 0x9030)];
        check(RAW_WINDOW_BYTES as u32, &[(0x1000, 3)], (&expected, Stop::Gone));
        check(32, &[(0x1000, 3), (0x9000, 4)], (&expected[..3], Stop::Unreadable));
    }
}
