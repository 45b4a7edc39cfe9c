//! Facts of real objects of this machine, and of headers made for a case.

use std::{fs, path::PathBuf};

use super::*;

/// The libc of this very process.
pub(super) fn libc_path() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let path = maps.lines().filter_map(|it| it.split_whitespace().nth(5)).find(|it| {
        let name = it.rsplit('/').next().unwrap_or_default();
        name.starts_with("libc.so") || name.starts_with("libc-") || name.starts_with("ld-musl")
    });
    path.expect("a libc is mapped").into()
}

fn libc() -> Vec<u8> {
    fs::read(libc_path()).unwrap()
}

/// As `sstrip` leaves it.
fn without_sections(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[0x28..0x30].fill(0); // e_shoff
    bytes[0x3c..0x40].fill(0); // e_shnum, e_shstrndx
    bytes
}

/// A header with one program header of this type over `content`.
fn object(kind: u32, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 64 + 56];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    put(16, &[2, 0, 62, 0, 1]); // ET_EXEC, EM_X86_64, version
    put(0x20, &[64]); // e_phoff
    put(0x34, &[64, 0, 56, 0, 1]); // sizes, e_phnum
    put(64, &kind.to_le_bytes());
    put(64 + 8, &[120]); // p_offset
    put(64 + 0x20, &(content.len() as u64).to_le_bytes()); // p_filesz
    put(64 + 0x30, &[4]); // p_align
    bytes.extend(content);
    bytes
}

/// An object with this code at `address`, and nothing else.
pub(super) fn code_object(address: u64, code: &[u8]) -> Vec<u8> {
    let mut bytes = object(elf::PT_LOAD, code);
    bytes[64 + 4] = 5; // p_flags: readable, executable
    bytes[64 + 0x10..][..8].copy_from_slice(&address.to_le_bytes()); // p_vaddr
    bytes
}

/// Where [`assemble`] puts code; the functions begin at multiples of `SLOT` from here.
pub(super) const BASE: u64 = 0x1000;
pub(super) const SLOT: usize = 0x40;

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The functions' codes; `f1` stands for a displacement of four bytes to the function with that number.
pub(super) fn assemble(functions: &[&str]) -> Vec<u8> {
    let mut code = vec![0xcc; functions.len() * SLOT];
    for (number, text) in functions.iter().enumerate() {
        let mut at = number * SLOT;
        for word in text.split_whitespace() {
            let encoded = match word.strip_prefix('f') {
                Some(other) if word.len() == 2 => {
                    let target = other.parse::<i32>().unwrap() * SLOT as i32;
                    (target - (at as i32 + 4)).to_le_bytes().to_vec()
                }
                _ => bytes(word),
            };
            code[at..at + encoded.len()].copy_from_slice(&encoded);
            at += encoded.len();
        }
    }
    code_object(BASE, &code)
}

fn check_error(bytes: &[u8], expected: &str) {
    assert_eq!(Image::parse(bytes).unwrap_err().to_string(), expected);
}

#[test]
fn refuses_with_a_reason() {
    check_error(b"", "not an ELF object");
    check_error(b"#!/bin/sh\n", "not an ELF object");
    check_error(b"\x7fELF", "cut off: it states more than its 4 bytes");
    let whole = object(elf::PT_NOTE, b"");
    let changed = |at: usize, value: u8| {
        let mut bytes = whole.clone();
        bytes[at] = value;
        bytes
    };
    check_error(&changed(4, 1), "a 32-bit program; only 64-bit x86 programs can be traced");
    check_error(&changed(18, 183), "built for aarch64; only 64-bit x86 programs can be traced");
    check_error(&changed(0x36, 55), "malformed: Invalid ELF program header entry size");
    check_error(&whole[..100], "cut off: it states more than its 100 bytes");
    let mut loaded = object(elf::PT_LOAD, b"code");
    loaded.pop();
    check_error(&loaded, "cut off: it states more than its 123 bytes");
}

#[test]
fn never_panics_on_a_cut_object() {
    let bytes = libc();
    for length in (0..2000).chain((2000..bytes.len()).step_by(40_009)) {
        // What follows the last segment may be missing: section headers and debug information.
        if let Ok(image) = Image::parse(&bytes[..length]) {
            assert!(image.eh_frame().is_some());
            allocators::find(&image);
        }
    }
}

#[test]
fn knows_the_libc() {
    let bytes = libc();
    let image = Image::parse(&bytes).unwrap();
    assert!(image.soname().is_some_and(|it| it.starts_with("libc.")));
    assert!(image.build_id().is_none_or(|it| it.len() == 40 && it == it.to_lowercase()));
    assert!(!image.is_go() && !image.is_static());
    assert_eq!(image.rpath(), None);
    for segment in image.segments() {
        assert_eq!(image.file_offset(segment.address), Some(segment.file_offset));
        assert_eq!(image.file_offset(segment.address + segment.file_size), None);
    }
}

#[test]
fn section_headers_are_not_needed() {
    let bytes = libc();
    let image = Image::parse(&bytes).unwrap();
    let bare = without_sections(bytes.clone());
    let bare = Image::parse(&bare).unwrap();

    let (frames, bare_frames) = (image.eh_frame().unwrap(), bare.eh_frame().unwrap());
    assert_eq!(frames.address, bare_frames.address);
    assert!(bare_frames.data.starts_with(frames.data));
    assert_eq!(image.build_id(), bare.build_id());
    assert_eq!(image.needed(), bare.needed());
    assert_eq!(image.interpreter(), bare.interpreter());
    let offsets = |image| {
        allocators::find(image)
            .functions
            .iter()
            .map(|it| (it.name.clone(), it.file_offset))
            .collect::<Vec<_>>()
    };
    assert_eq!(offsets(&image), offsets(&bare));
}

#[test]
fn knows_this_program() {
    let bytes = fs::read("/proc/self/exe").unwrap();
    let image = Image::parse(&bytes).unwrap();
    assert!(image.needed().iter().any(|it| it.starts_with("libc.")));
    assert!(image.interpreter().is_some_and(|it| it.starts_with("/lib")));
    assert!(!image.is_static() && !image.is_go());
    assert!(image.eh_frame().is_some());
}

#[test]
fn go_leaves_a_note_that_outlives_section_headers() {
    let note = b"\x04\0\0\0\x04\0\0\0\x04\0\0\0Go\0\0abcd";
    let bytes = object(elf::PT_NOTE, note);
    let image = Image::parse(&bytes).unwrap();
    assert!(image.is_go() && image.is_static());
    assert_eq!(image.build_id(), None);
}
