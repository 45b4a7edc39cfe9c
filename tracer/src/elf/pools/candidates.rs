//! Functions that look like a pool's by their names, for a user who is told that nothing was found.

use std::collections::BTreeMap;

use iced_x86::{Decoder, DecoderOptions, FlowControl, InstructionInfoFactory, OpAccess, Register};

use crate::elf::Image;

/// What hands out, and what takes back, in names that are otherwise the same.
const PAIRS: [(&str, &str); 10] = [
    ("malloc", "free"),
    ("Malloc", "Free"),
    ("alloc", "free"),
    ("Alloc", "Free"),
    ("allocate", "deallocate"),
    ("alloc", "dealloc"),
    ("alloc", "release"),
    ("get", "put"),
    ("get", "release"),
    ("acquire", "release"),
];

/// Options that are worth a try, such as `--alloc 'pool_get:size=arg1,ptr=ret' --free 'pool_put:ptr=arg1'`: which arguments
/// a function has is guessed from the registers that it reads. Functions in `known` are none to try.
pub fn suggest(image: &Image<'_>, known: &[&str]) -> Vec<String> {
    /// More would be a list to search in.
    const MOST: usize = 3;
    let symbols = image.functions();
    let by_name: BTreeMap<&str, u64> = symbols
        .iter()
        .filter_map(|it| Some((std::str::from_utf8(it.name).ok()?, it.address)))
        .filter(|(name, _)| !name.starts_with('_') && !name.contains("realloc") && !known.contains(name))
        .collect();
    let mut pairs: Vec<(&str, String)> = Vec::new();
    for name in by_name.keys() {
        let partner = PAIRS.iter().find_map(|(alloc, free)| {
            let partner = name.contains(alloc).then(|| name.replacen(alloc, free, 1))?;
            by_name.contains_key(partner.as_str()).then_some(partner)
        });
        pairs.extend(partner.map(|it| (*name, it)));
    }
    // A pair that says "alloc" is a likelier one than any that says "get".
    pairs.sort_by_key(|(name, _)| (!name.to_lowercase().contains("alloc"), name.len()));
    let arguments = |name: &str| {
        let code = by_name.get(name).and_then(|it| image.at(*it)).unwrap_or_default();
        arguments_read(code).clamp(1, 3) - 1
    };
    let option = |(alloc, free): (&str, String)| {
        let pointer = arguments(&free);
        // A pool comes first in both, if it does in one.
        let size = match arguments(alloc).max(pointer) {
            last if alloc.contains("calloc") && last > 0 => format!("count=arg{},size=arg{last}", last - 1),
            last => format!("size=arg{last}"),
        };
        format!("--alloc '{alloc}:{size},ptr=ret' --free '{free}:ptr=arg{pointer}'")
    };
    pairs.into_iter().take(MOST).map(option).collect()
}

/// How many arguments the beginning of a function reads; those that only a later part reads are not seen.
fn arguments_read(code: &[u8]) -> usize {
    /// Compilers save arguments at the beginning.
    const INSTRUCTIONS: usize = 24;
    const ARGUMENTS: [Register; 4] = [Register::RDI, Register::RSI, Register::RDX, Register::RCX];
    let mut info = InstructionInfoFactory::new();
    let (mut read, mut written) = (0, [false; ARGUMENTS.len()]);
    for it in Decoder::with_ip(64, code, 0, DecoderOptions::NONE).iter().take(INSTRUCTIONS) {
        for used in info.info(&it).used_registers() {
            let at = ARGUMENTS.iter().position(|it| *it == used.register().full_register());
            let Some(at) = at.filter(|it| !written[*it]) else { continue };
            match used.access() {
                OpAccess::Read | OpAccess::CondRead | OpAccess::ReadWrite | OpAccess::ReadCondWrite => {
                    read = read.max(at + 1);
                }
                _ => {}
            }
            written[at] |= matches!(used.access(), OpAccess::Write | OpAccess::ReadWrite);
        }
        if !matches!(it.flow_control(), FlowControl::Next | FlowControl::ConditionalBranch) {
            break;
        }
    }
    read
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_registers_that_are_read_before_they_are_written() {
        let check = |code: &[u8], expected| assert_eq!(arguments_read(code), expected, "{code:02x?}");
        check(&[0x53, 0x48, 0x89, 0xfb, 0xe8, 0, 0, 0, 0], 1); // push rbx; mov rbx, rdi; call
        check(&[0x48, 0x8d, 0x04, 0x37, 0xc3], 2); // lea rax, [rdi+rsi]; ret
        check(&[0x31, 0xf6, 0x48, 0x89, 0xf0, 0xc3], 0); // xor esi, esi; mov rax, rsi; ret
    }
}
