//! `/etc/ld.so.cache`: which file glibc's loader takes for a library name.
//!
//! The loader never reads `/etc/ld.so.conf`; `ldconfig` does, and leaves its answer here. The layout
//! is that of glibc's `sysdeps/generic/dl-cache.h`: a header of 48 bytes, then entries of 24, then
//! texts that are addressed from the header. All numbers are little-endian here.

use std::path::PathBuf;

/// Where caches of every age have the header; before glibc 2.32 an older table comes first.
const MAGIC: &[u8] = b"glibc-ld.so.cache1.1";
const HEADER_BYTES: usize = 48;
const ENTRY_BYTES: usize = 24;

/// `FLAG_ELF_LIBC6 | FLAG_X8664_LIB64`. i386 libraries of the same name have another value.
const FLAGS_X86_64: u32 = 0x0303;

/// The names and files for 64-bit x86, in file order; empty if this is no such cache.
///
/// A name has several files if some are for newer processors (`glibc-hwcaps`). All are given: which
/// one is taken depends on the machine.
pub(super) fn read(cache: &[u8]) -> Vec<(String, PathBuf)> {
    let Some(start) = cache.windows(MAGIC.len()).position(|it| it == MAGIC) else { return Vec::new() };
    let cache = &cache[start..];
    let number = |at: usize| Some(u32::from_le_bytes(*cache.get(at..)?.first_chunk()?));
    let text = |at: u32| {
        let rest = cache.get(at as usize..)?;
        Some(String::from_utf8_lossy(rest.split(|byte| *byte == 0).next()?).into_owned())
    };
    let count = number(MAGIC.len()).unwrap_or(0) as usize;
    let entries = cache.get(HEADER_BYTES..).unwrap_or_default().len() / ENTRY_BYTES;
    (0..count.min(entries))
        .filter_map(|index| {
            let at = HEADER_BYTES + index * ENTRY_BYTES;
            (number(at)? == FLAGS_X86_64).then_some(())?;
            Some((text(number(at + 4)?)?, text(number(at + 8)?)?.into()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: &[(u32, &str, &str)]) -> Vec<u8> {
        let mut head = MAGIC.to_vec();
        head.extend((entries.len() as u32).to_le_bytes());
        head.resize(HEADER_BYTES, 0);
        let mut texts = Vec::new();
        let first_text = HEADER_BYTES + entries.len() * ENTRY_BYTES;
        for (flags, name, path) in entries {
            let name_at = (first_text + texts.len()) as u32;
            texts.extend(name.bytes().chain([0]));
            let path_at = (first_text + texts.len()) as u32;
            texts.extend(path.bytes().chain([0]));
            for number in [*flags, name_at, path_at, 0, 0, 0] {
                head.extend(number.to_le_bytes());
            }
        }
        head.extend(texts);
        head
    }

    fn check(cache: &[u8], expected: &[(&str, &str)]) {
        let read = read(cache);
        let read: Vec<_> = read.iter().map(|(name, path)| (&name[..], path.to_str().unwrap())).collect();
        assert_eq!(read, expected);
    }

    #[test]
    fn gives_the_files_of_this_architecture() {
        let entries = [(0x0303, "libc.so.6", "/lib/libc.so.6"), (0x0003, "libc.so.6", "/lib32/libc.so.6")];
        check(&cache(&entries), &[("libc.so.6", "/lib/libc.so.6")]);
    }

    #[test]
    fn finds_the_table_behind_an_older_one() {
        let mut bytes = b"ld.so-1.7.0\0\x01\0\0\0".to_vec();
        bytes.extend(cache(&[(0x0303, "liba.so", "/a")]));
        check(&bytes, &[("liba.so", "/a")]);
    }

    #[test]
    fn survives_what_is_no_cache() {
        check(b"", &[]);
        check(MAGIC, &[]);
        let whole = cache(&[(0x0303, "liba.so", "/a")]);
        for length in 0..whole.len() {
            read(&whole[..length]);
        }
        let mut count_too_high = whole;
        count_too_high[MAGIC.len()..MAGIC.len() + 4].fill(0xff);
        check(&count_too_high, &[("liba.so", "/a")]);
    }
}
